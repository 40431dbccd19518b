"""One Spark session for the whole suite, and the real ratings where they are present."""

import os
import time
from pathlib import Path

import pytest

from mfspark.session import spark_session

ROOT = Path(__file__).resolve().parent.parent
# Tables of few files, too. Sessions in processes of their own (Connect, the cluster, spark-submit) have none of this.
FEW_FILES = {
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.databricks.delta.stats.collect": "false",
    "spark.databricks.delta.stats.skipping": "false",
}
# Java for short programs: no second compiler, no collector in parallel. Programs that tests start inherit it. The first
# compiler's frames are larger: MLlib's lineages, which grow with its iterations, need a deeper stack.
QUICK_JAVA = "-Xss8m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:ReservedCodeCacheSize=256m"
os.environ.setdefault("JDK_JAVA_OPTIONS", QUICK_JAVA)
# Tests of minutes that start programs of their own: clusters, servers, jobs that are killed (make test-programs).
PROGRAMS = (
    "jobs/test_killed_training.py", "training/test_connect.py", "training/test_cluster.py",
    "jobs/test_spark_submit.py",
)  # fmt: skip
# Files of minutes come first, so that none is left for the end when the other process has nothing to do any more.
LONGEST_FIRST = (
    *PROGRAMS, "estimators/test_als.py", "estimators/test_combinations.py",
    "estimators/test_gradient_descent.py", "peers/", "estimators/", "jobs/", "training/",
)  # fmt: skip


# On a machine so slow that CI would be cut off without a result, what is left after this many seconds is skipped.
BUDGET, STARTED = float(os.environ.get("MFSPARK_TEST_SECONDS", "inf")), time.monotonic()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    if time.monotonic() - STARTED > BUDGET:
        pytest.skip(f"the tests took more than the {BUDGET:.0f} s of MFSPARK_TEST_SECONDS")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark what needs Java: whatever uses the session. (A test that starts a session elsewhere marks itself.)"""
    for item in items:
        if item.path.relative_to(ROOT / "tests").as_posix() in PROGRAMS:
            item.add_marker(pytest.mark.programs)
        if "spark" in item.fixturenames:
            item.add_marker(pytest.mark.java)
    items.sort(key=lambda item: _place(item.path.relative_to(ROOT / "tests").as_posix()))


def _place(file):
    """Return how early the tests of a file run."""
    found = (place for place, start in enumerate(LONGEST_FIRST) if file.startswith(start))
    return next(found, len(LONGEST_FIRST))


@pytest.fixture(scope="session")
def spark(tmp_path_factory):
    from mfspark.pipeline.small import SMALL_TABLES

    folder = tmp_path_factory.mktemp("spark")
    session = spark_session(
        "mfspark-tests",
        master="local[2]",
        config={
            "spark.sql.warehouse.dir": str(folder / "warehouse"),
            **SMALL_TABLES,
            **FEW_FILES,
            "spark.driver.memory": "2g",
            # This Java lives long: from about 100 tests on the second compiler pays.
            "spark.driver.extraJavaOptions": f"-Dderby.system.home={folder} -XX:TieredStopAtLevel=4",
        },
    )
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()


@pytest.fixture
def whole_plans(spark):
    """Plans written out in full: the suite's session cuts them off."""
    name = "spark.sql.maxPlanStringLength"
    before = spark.conf.get(name)
    spark.conf.set(name, 1_000_000)
    yield
    spark.conf.set(name, before)


@pytest.fixture
def fresh_mlflow(monkeypatch):
    """MLflow, the real package, as a new process finds it, whatever other tests have set; no server, no telemetry."""
    mlflow = pytest.importorskip("mlflow", reason="MLflow is tested with the real package: pip install mfspark[mlflow]")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.setenv(name, "")  # so that what a test sets is unset after it
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", None)
    monkeypatch.setattr("mlflow.tracking.fluent._active_experiment_id", None)
    return mlflow


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real ratings; a test that needs it skips where it is absent."""
    folder = Path(os.environ.get("MFSPARK_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"the real ratings are expected in CI, but {folder} does not exist")
        pytest.skip("the real ratings (MFSPARK_SHARED_DATA) are not on this machine")
    return folder
