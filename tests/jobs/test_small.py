"""Which sessions get the plans of small tables."""

import pytest

from mfspark.config import parse
from mfspark.pipeline.small import SHORT_RUN, SMALL, SMALL_TABLES, settings_for


def settings(tmp_path, path, **sections):
    return settings_for(
        parse({"source": {"path": str(path)}, "store": {"location": str(tmp_path / "store")}} | sections)
    )


def test_small_files_of_this_machine_and_small_tables(tmp_path):
    file = tmp_path / "a.csv"
    file.write_bytes(b"1,1,5\n" * 1000)
    stored = tmp_path / "store" / "ratings" / "run_id=1"
    stored.mkdir(parents=True)
    for path in (file, f"file:{file}", tmp_path, tmp_path / "*.csv"):
        assert settings(tmp_path, path) == SMALL_TABLES | SHORT_RUN
    (stored / "part").write_bytes(bytes(SMALL))
    assert settings(tmp_path, file) == {}


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """No spark-submit, no master from outside."""
    for name in ("PYSPARK_GATEWAY_PORT", "SPARK_REMOTE", "MASTER"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("path", ["missing.csv", "s3://bucket/a.csv", "catalog.schema.ratings"])
def test_what_is_not_seen_here_is_not_small(tmp_path, path):
    assert settings(tmp_path, path) == {}


def test_large_and_generated_ratings_and_other_inputs_are_not_small(tmp_path):
    file, large = tmp_path / "a.csv", tmp_path / "large.csv"
    file.write_bytes(b"1,1,5\n")
    large.write_bytes(bytes(SMALL + 1))
    assert settings(tmp_path, large) == {}
    assert settings(tmp_path, file, train={"path": str(large)}) == {}
    assert settings(tmp_path, "", source={"format": "synthetic"}) == {}


def test_sessions_elsewhere_are_left_alone(tmp_path, monkeypatch):
    file = tmp_path / "a.csv"
    file.write_bytes(b"1,1,5\n")
    assert settings(tmp_path, file, spark={"master": "local[2]"})
    assert settings(tmp_path, file, spark={"master": "spark://host:7077"}) == {}
    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")
    assert settings(tmp_path, file) == {}
