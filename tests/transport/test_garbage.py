"""Searches for garbage in real Python workers of Spark: short ones, that still find garbage."""

import gc
import sys

import pyarrow as pa
from pyspark.sql import functions as F

from mfspark.transport.arrow import row_batch
from mfspark.transport.garbage import set_modules_apart

KINDS = {"frozen": pa.int64(), "searched": pa.int64(), "found": pa.int64()}


def test_what_a_worker_has_imported_is_left_out_of_its_searches_and_new_garbage_is_found(spark):
    class Ring:
        """Garbage that only a search finds."""

        def __init__(self):
            self.own = self

    def looking(batches):
        import numba  # noqa: F401 - what makes a worker's searches long

        for _ in batches:
            row_batch({"n": pa.int64()}, [0])
            gc.collect()
            Ring()
            yield row_batch(KINDS, [gc.get_freeze_count(), len(gc.get_objects()), gc.collect()])

    for _ in range(2):
        row = spark.range(0, 1, 1, 1).mapInArrow(looking, "frozen long, searched long, found long").first()
        assert row["frozen"] > 50_000
        assert row["searched"] < row["frozen"] / 10
        assert row["found"] >= 1


def test_predicting_workers_do_so_too(spark):
    from mfspark import ALS

    pairs = spark.createDataFrame([(1, 1, 3.0), (1, 2, 1.0), (2, 1, 4.0)], "user int, item int, rating float")
    ALS(rank=2, maxIter=1).fit(pairs).transform(pairs).collect()
    frozen = F.udf(lambda _: gc.get_freeze_count(), "int")
    rows = spark.range(0, 2, 1, 2).select(frozen("id").alias("n")).collect()
    assert max(row["n"] for row in rows) > 50_000


def test_a_driver_is_left_alone():
    assert "pyspark.worker" not in sys.modules
    before = gc.get_freeze_count()
    set_modules_apart()
    assert gc.get_freeze_count() == before
