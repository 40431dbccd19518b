"""Jobs whose tasks start together end, and are not waited for, once there are too few slots."""

import logging
import pickle
import time
from contextlib import contextmanager

import numpy as np
import pytest
from pyspark.sql import functions as F

from mfspark import ALS, SGD
from mfspark.session import live_slots
from mfspark.training import als_barrier, sgd
from mfspark.transport import slots
from mfspark.transport.slots import SlotsLostError, _Watch, together


def test_a_local_session_tells_its_slots(spark):
    assert live_slots(spark) == 2


@pytest.mark.parametrize(("counted", "lost"), [([2, 1], 1), ([2, 1, 1, 2], None), ([None], None), ([0], 0)])
def test_too_few_slots_for_too_long_are_noticed_and_no_others(counted, lost, monkeypatch, spark):  # noqa: ARG001
    clock, cancelled = iter(range(0, 10_000, 4)), []
    monkeypatch.setattr(slots.time, "monotonic", lambda: next(clock))
    given = iter(counted)

    def count():
        nonlocal last
        last = next(given, last)
        return last

    last = None
    watch = _Watch(count, 2, 10.0, lambda: cancelled.append(last))
    looks = iter([False] * 12)
    watch._ended.wait = lambda seconds: next(looks, True)  # noqa: ARG005
    watch._look()
    assert watch.lost == lost
    assert bool(cancelled) == (lost is not None)


def test_a_waiting_job_is_cancelled_and_the_error_says_why(spark, monkeypatch):
    monkeypatch.setattr(slots, "live_slots", lambda _: 1)
    asleep = spark.range(1).select(F.udf(lambda n: time.sleep(60) or n, "long")("id").alias("n"))
    with pytest.raises(SlotsLostError, match="the 2 tasks .* only 1 slots: bring back the executors"):
        with together(spark, 2, patience=0.5):
            asleep.collect()
    assert len(spark.sparkContext.getJobTags()) == 0


def test_other_errors_pass(spark):
    with pytest.raises(ZeroDivisionError):
        with together(spark, 2):
            raise ZeroDivisionError


def test_the_error_pickles():
    error = pickle.loads(pickle.dumps(SlotsLostError(4, 2, 90.0)))
    assert (error.tasks, error.slots, str(error)) == (4, 2, str(SlotsLostError(4, 2, 90.0)))


@pytest.mark.parametrize(("estimator", "module"), [(ALS, als_barrier), (SGD, sgd)])
def test_a_fit_goes_on_with_the_slots_that_are_left(spark, monkeypatch, caplog, estimator, module):
    rows = [(u, i, float(1 + (u * i) % 5)) for u in range(30) for i in range(12) if (u + i) % 3]
    frame = spark.createDataFrame(rows, "user int, item int, rating float")
    undisturbed = estimator(rank=2, maxIter=2, seed=1).fit(frame)
    told = []

    @contextmanager
    def losing(_, tasks):
        told.append(tasks)
        if len(told) == 1:
            raise SlotsLostError(tasks, 1, 90.0)
        yield

    monkeypatch.setattr(module, "together", losing)
    with caplog.at_level(logging.WARNING, "mfspark.training"):
        found = estimator(rank=2, maxIter=2, seed=1).fit(frame)
    assert told == ([2] if estimator is ALS else [2, 1])
    assert "only 1 slots" in caplog.text and "begins anew" in caplog.text
    for table in ("userFactors", "itemFactors"):
        expected, given = (
            np.array([row.features for row in getattr(model, table).orderBy("id").collect()])
            for model in (undisturbed, found)
        )
        np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-6)


def test_a_fit_without_any_slot_left_fails(spark, monkeypatch):
    @contextmanager
    def losing(_, tasks):
        raise SlotsLostError(tasks, 0, 90.0)
        yield

    monkeypatch.setattr(als_barrier, "together", losing)
    frame = spark.createDataFrame([(1, 1, 1.0), (2, 2, 2.0)], "user int, item int, rating float")
    with pytest.raises(SlotsLostError, match="only 0 slots"):
        ALS(rank=1, maxIter=1, loop="barrier", numUserBlocks=2, numItemBlocks=2).fit(frame)
