"""ALS as a barrier stage: the same factors as one job a half step, and as the naive ALS."""

import naive
import numpy as np
import pyarrow as pa
import pytest
from contract import checkerboard
from pyspark.sql import functions as F

from mfspark import ALS, ParameterError, TrainingError


@pytest.fixture(scope="module")
def ratings(spark):
    users, items, r = naive.random_ratings(17, 11, 0.4, seed=5)
    table = pa.table({"user": users, "item": items, "rating": r, "w": np.arange(len(r)) % 3 + 1.0})
    return spark.createDataFrame(table).withColumn("held", (F.col("user") * 3 + F.col("item")) % 7 == 0)


CASES = [
    dict(),
    dict(numUserBlocks=1, numItemBlocks=1),
    dict(numUserBlocks=2, numItemBlocks=1),
    dict(implicitPrefs=True, alpha=2.0),
    dict(solver="cg"),
    dict(userBias=True, itemBias=True, center=True, weightCol="w", validationIndicatorCol="held", clip=True),
    dict(nonnegative=True, tol=1e-2, precision="float64"),
]


@pytest.mark.parametrize("options", CASES, ids=[str(case) for case in CASES])
def test_a_barrier_stage_gives_what_jobs_give(ratings, options):
    blocks = dict(numUserBlocks=2, numItemBlocks=2) | options
    ref, comp = (ALS(rank=3, maxIter=4, seed=1, loop=loop, **blocks).fit(ratings) for loop in ("jobs", "barrier"))
    for left, right in zip(ref.fitted.sides, comp.fitted.sides, strict=True):
        np.testing.assert_array_equal(left, right)
    for left, right in zip(ref._history, comp._history, strict=True):
        assert (left.loss, left.validation_rmse) == (right.loss, right.validation_rmse)


def test_a_barrier_stage_needs_its_slots(ratings):
    with pytest.raises(ParameterError, match="runs all 9 blocks at once, but there are 2 slots"):
        ALS(loop="barrier", numUserBlocks=9).fit(ratings)


@pytest.mark.parametrize("loop", ["jobs", "barrier"])
def test_a_row_without_a_solution_is_named_by_its_id(spark, loop):
    rows = [("ann", "x", 1.0), ("bob", "y", 3e38), ("bob", "z", 3e38), ("cat", "x", 2.0)]
    frame = spark.createDataFrame(rows, "user string, item string, rating double")
    with pytest.raises(TrainingError, match="user 'bob'|item '[yz]'"):
        ALS(rank=2, maxIter=2, regParam=1e-3, seed=1, loop=loop).fit(frame)
    with pytest.raises(TrainingError, match="the loss is nan after iteration 1: .* divide extreme ratings"):
        ALS(rank=2, maxIter=2, regParam=1e-3, seed=0, loop=loop).fit(frame)  # each row has a solution


def test_filter_seen_keeps_the_pairs_on_the_workers_until_let_go(spark):
    frame = checkerboard(spark)
    model = ALS(rank=2, maxIter=2, filterSeen=True, seed=1).fit(frame)
    seen = {(row.user, row.item) for row in frame.collect()}

    def found(result, turned):
        pairs = {(row[0], other[0]) for row in result.collect() for other in row.recommendations}
        return {pair[::-1] for pair in pairs} if turned else pairs

    kept = found(model.recommendForAllUsers(12), False), found(model.recommendForAllItems(24), True)
    assert kept[0] == kept[1] and not kept[0] & seen and len(kept[0] | seen) == 24 * 12
    assert found(model.unpersist().recommendForAllUsers(12), False) == kept[0]
