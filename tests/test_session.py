"""What the session says of the machine it runs on."""

from types import SimpleNamespace

import pytest

from mfspark import session
from mfspark.session import driver_limit


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ({}, 512 << 20),
        ({"spark.driver.memory": "4g"}, 1 << 30),
        ({"spark.driver.memory": "16384m"}, 4 << 30),
        ({"spark.driver.memory": "16384"}, 4 << 30),
        ({"spark.driver.memory": "4gb", "spark.mfspark.driverLimit": "1000"}, 1000),
    ],
)
def test_the_driver_holds_a_quarter_of_its_memory_or_what_is_set(settings, limit):
    conf = SimpleNamespace(get=lambda name, default=None: settings.get(name, default))
    assert driver_limit(SimpleNamespace(conf=conf)) == limit


def test_what_was_submitted_is_not_overwritten(monkeypatch):
    partitions = "spark.databricks.delta.snapshotPartitions"
    monkeypatch.delenv("PYSPARK_GATEWAY_PORT", raising=False)
    assert session._undecided(session.CLUSTER_DEFAULTS) == session.CLUSTER_DEFAULTS
    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")
    monkeypatch.setattr("pyspark.SparkConf", lambda: SimpleNamespace(contains=partitions.__eq__))
    assert set(session._undecided(session.CLUSTER_DEFAULTS)) == set(session.CLUSTER_DEFAULTS) - {partitions}


def test_a_task_of_databricks_takes_the_session_that_is_there(monkeypatch):
    there = object()
    builder = SimpleNamespace(getOrCreate=lambda: there)  # no master, no setting is asked for
    monkeypatch.setattr(session, "SparkSession", SimpleNamespace(getActiveSession=lambda: None, builder=builder))
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "17.3")
    assert session.spark_session() is there
