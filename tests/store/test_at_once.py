"""Actions at once: results in order, the first error, and nothing left running."""

import threading
import time

import pytest

from mfspark.store.at_once import at_once


def test_results_come_in_order_and_actions_overlap(spark):
    both = threading.Barrier(2, timeout=60)  # broken, unless two actions wait for each other
    assert at_once(spark, [lambda: (both.wait(), 1)[1], lambda: (both.wait(), 2)[1]]) == [1, 2]
    assert at_once(spark, []) == []


def test_the_first_error_is_raised_when_all_have_ended(spark):
    ended = []

    def fail(name, wait):
        time.sleep(wait)
        ended.append(name)
        raise ValueError(name)

    with pytest.raises(ValueError, match="slow"):
        at_once(spark, [lambda: fail("slow", 0.2), lambda: fail("quick", 0)])
    assert ended == ["quick", "slow"]


def test_threads_keep_the_job_group(spark):
    context = spark.sparkContext
    context.setJobGroup("publishing", "a model")
    try:
        assert at_once(spark, [lambda: context.getLocalProperty("spark.jobGroup.id")] * 2) == ["publishing"] * 2
    finally:
        context.setLocalProperty("spark.jobGroup.id", None)
