"""A fit that starts from an earlier model: what is known stays, what is new is folded in, and what it refuses."""

import naive
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mfspark import ALS, BPMF, SGD, GradientDescent, SVDPlusPlus, TruncatedSVD
from mfspark.errors import DataError, ParameterError
from mfspark.kernels.csr import Side
from mfspark.kernels.objective import Settings
from mfspark.training.starts import FAINT, Known, Start

USERS, ITEMS, R = naive.random_ratings(40, 25, 0.4, seed=3)
OLD = (USERS < 30) & (ITEMS < 20)
SCHEMA = "user long, item long, rating float"
OPTIONS = {"rank": 3, "regParam": 0.1, "seed": 2, "numUserBlocks": 2, "numItemBlocks": 2}


def frame(spark, kept=slice(None), schema=SCHEMA, shift=0):
    rows = zip((USERS + shift)[kept].tolist(), ITEMS[kept].tolist(), R[kept].tolist(), strict=True)
    return spark.createDataFrame(list(rows), schema)


@pytest.fixture(scope="module")
def earlier(spark):
    return ALS(maxIter=15, **OPTIONS).fit(frame(spark, OLD))


@pytest.fixture(scope="module")
def ratings(spark):
    return frame(spark).persist()


def sides(model):
    return [model.fitted.features(side).astype(np.float64) for side in Side]


@pytest.mark.parametrize("place", [{"loop": "jobs"}, {"loop": "barrier"}, {"carrier": "exchange"}], ids=str)
def test_the_first_sweep_folds_new_ids_in(earlier, ratings, place):
    model = ALS(maxIter=1, **OPTIONS, **place).setInitialModel(earlier).fit(ratings)
    X, _ = sides(earlier)
    start = np.zeros((40, 3))
    start[:30] = X
    Y = naive.half_step(ITEMS, USERS, R, 25, start)
    U = naive.half_step(USERS, ITEMS, R, 40, Y)
    # Not exactly: rows that are new are drawn at 1/1000 of a start's length, not at 0.
    np.testing.assert_allclose(sides(model)[1], Y, atol=5e-3)
    np.testing.assert_allclose(sides(model)[0], U, atol=5e-3)


def test_a_refresh_starts_below_where_a_cold_fit_gets_in_several_iterations(earlier, ratings):
    cold = ALS(maxIter=6, **OPTIONS).fit(ratings)
    warm = ALS(maxIter=2, **OPTIONS).setInitialModel(earlier).fit(ratings)
    assert warm._history[-1].loss < cold._history[-1].loss * 1.001


def test_the_same_ratings_go_on_where_the_model_ended(spark, earlier):
    more = ALS(maxIter=1, **OPTIONS).setInitialModel(earlier).fit(frame(spark, OLD))
    whole = ALS(maxIter=16, **OPTIONS).fit(frame(spark, OLD))
    for one, other in zip(sides(more), sides(whole), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_ids_that_share_nothing_with_the_model_end_as_from_a_drawn_start(spark, earlier):
    others = spark.createDataFrame(
        [(u + 2**40, i + 2**40, r) for u, i, r in zip(USERS.tolist(), ITEMS.tolist(), R.tolist(), strict=True)], SCHEMA
    )
    warm = ALS(maxIter=25, **OPTIONS).setInitialModel(earlier).fit(others)
    cold = ALS(maxIter=8, **OPTIONS).fit(others)
    assert warm._history[-1].loss < cold._history[-1].loss * 1.01


def test_another_estimators_model_gives_its_biases_too(spark, ratings):
    biased = {"userBias": True, "itemBias": True, "center": True}
    before = SGD(rank=3, maxIter=20, seed=1, numUserBlocks=2, **biased).fit(frame(spark, OLD))
    als = ALS(maxIter=0, **OPTIONS, **biased).setInitialModel(before)
    start, _ = als._start(None, settings := Settings(rank=3, bias=(True, True)))
    rows = start.rows(pa.array([3, 2**40]), Side.USER, settings)
    np.testing.assert_array_equal(rows[0, :3], before.fitted.features(Side.USER)[3])
    assert rows[0, 3] == before.fitted.bias(Side.USER)[3] != 0
    assert 0 < np.linalg.norm(rows[1]) < 10 * FAINT
    found = als.copy().fit(ratings).fitted
    np.testing.assert_allclose(found.bias(Side.ITEM)[:20], before.fitted.bias(Side.ITEM), rtol=1e-6)


@pytest.mark.parametrize("kind", [pa.int8(), pa.int32(), pa.int64(), pa.string(), pa.large_string()])
def test_rows_are_found_by_their_ids_whatever_the_width_of_the_type(kind):
    wide = pa.large_string() if pa.types.is_large_string(kind) or pa.types.is_string(kind) else pa.int64()
    known = Known(pa.array([3, 5, 9]).cast(wide), np.arange(1, 49, dtype=np.float32).reshape(3, 16))
    settings = Settings(rank=16, nonnegative=True)
    start = Start(1, 1.0, "positive", (known, known))
    rows = start.rows(pa.array([9, 4, 3]).cast(kind), Side.ITEM, settings)
    np.testing.assert_array_equal(rows[[0, 2]], known.rows[[2, 0]])
    drawn = Start(1, 1.0, "positive").rows(pa.array([9, 4, 3]).cast(kind), Side.ITEM, settings)
    np.testing.assert_allclose(rows[1], drawn[1] * FAINT, rtol=1e-6)


def test_a_whole_number_beyond_int32_is_not_taken_for_another():
    known = Known(pa.array([1, 2], pa.int32()), np.ones((2, 16), np.float32))
    rows = Start(1, 1.0, "normal", (known, known)).rows(pa.array([1 + 2**32]), Side.USER, Settings(rank=16))
    assert np.abs(rows).max() < 10 * FAINT


def test_nonnegative_fits_start_at_0_where_the_model_is_negative(earlier, ratings):
    als = ALS(maxIter=0, **OPTIONS, nonnegative=True).setInitialModel(earlier)
    assert min(side.min() for side in sides(earlier)) < 0
    assert min(side.min() for side in sides(als.fit(ratings))) >= 0


def test_what_is_refused(spark, earlier, ratings, tmp_path):
    als = ALS(maxIter=1, **OPTIONS).setInitialModel(earlier)
    with pytest.raises(ParameterError, match="^rank is 4, but the initial model has 3$"):
        als.copy({als.rank: 4}).fit(ratings)
    strings = frame(spark, schema="user long, item long, rating float").selectExpr(
        "cast(user as string) user", "item", "rating"
    )
    with pytest.raises(DataError, match="^column 'user' is string, but the initial model's ids are bigint: cast it$"):
        als.fit(strings)
    with pytest.raises(ParameterError, match="must be a FactorizationModel, not 'models/als'"):
        als.setInitialModel("models/als")
    with pytest.raises(ParameterError, match="saved without its initial model"):
        als.save(str(tmp_path / "als"))
    als.setInitialModel(None).save(str(tmp_path / "als"))
    for kind in (SGD, GradientDescent, SVDPlusPlus, BPMF, TruncatedSVD):
        with pytest.raises(ParameterError, match=f"^{kind.__name__} cannot start from a model: choose ALS"):
            kind().setInitialModel(earlier)
        kind().setInitialModel(None)


def test_a_checkpoint_of_another_start_is_another_fits(earlier):
    als = ALS(**OPTIONS)
    marks = als._fingerprint()
    assert als.copy().setInitialModel(earlier)._fingerprint() != marks
    assert als.setInitialModel(None)._fingerprint() == marks


def test_a_refresh_of_ml_1m_takes_a_third_of_the_iterations(spark, shared_data):
    """The ratings whose times are known, by time: 80 % before, 10 % since, 10 % to predict."""
    rows = pd.read_csv(shared_data / "ml-1m" / "timestamps_partial.csv.gz")
    rows = rows.sort_values(["timestamp", "user", "item"], ignore_index=True)
    rows["held"] = np.arange(len(rows)) >= 0.9 * len(rows)
    now = spark.createDataFrame(rows[["user", "item", "rating", "held"]]).persist()
    before = spark.createDataFrame(rows[["user", "item", "rating"]].iloc[: int(0.8 * len(rows))])
    options = {"rank": 16, "regParam": 0.2, "seed": 1, "userBias": True, "itemBias": True, "center": True}
    told = {"validationIndicatorCol": "held", **options}
    cold = ALS(maxIter=15, **told).fit(now)._history
    warm = ALS(maxIter=5, **told).setInitialModel(ALS(maxIter=15, **options).fit(before)).fit(now)._history
    now.unpersist()
    assert warm[-1].validation_rmse <= cold[-1].validation_rmse < cold[4].validation_rmse
    assert warm[-1].loss < cold[-1].loss
