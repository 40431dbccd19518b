"""One Spark session for the whole suite, and the real ratings where they are present."""

import os
from pathlib import Path

import pytest

from mfspark.session import spark_session

ROOT = Path(__file__).resolve().parent.parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark what needs Java: whatever uses the session. (A test that starts a session elsewhere marks itself.)"""
    for item in items:
        if "spark" in item.fixturenames:
            item.add_marker(pytest.mark.java)


@pytest.fixture(scope="session")
def spark(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spark")
    session = spark_session(
        "mfspark-tests",
        master="local[2]",
        config={
            "spark.sql.warehouse.dir": str(folder / "warehouse"),
            "spark.sql.shuffle.partitions": "2",
            "spark.driver.memory": "3g",
            "spark.driver.extraJavaOptions": f"-Dderby.system.home={folder}",
        },
    )
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real ratings; a test that needs it skips where it is absent."""
    folder = Path(os.environ.get("MFSPARK_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"the real ratings are expected in CI, but {folder} does not exist")
        pytest.skip("the real ratings (MFSPARK_SHARED_DATA) are not on this machine")
    return folder
