"""ALS by exchange is ALS: the same factors, history and predictions as with the sides in the driver."""

import naive
import numpy as np
import pyarrow as pa
import pytest
from frame_models import assert_lists_equal, same_rows
from plans import shuffles

from mfspark import ALS, BPMF, SGD, BPMFModel, SVDPlusPlus, load_model
from mfspark.blocks.columns import Columns, select
from mfspark.blocks.encode import encode
from mfspark.blocks.profile import Profile, distinct, survey
from mfspark.errors import DataError, ParameterError, TrainingError
from mfspark.kernels.csr import Side
from mfspark.model.frames.blocks import FrameFactorization
from mfspark.store import Registry


@pytest.fixture(scope="module")
def ratings(spark):
    users, items, r = naive.random_ratings(40, 20, 0.4, seed=8)
    rng = np.random.default_rng(2)
    table = pa.table({
        "user": [f"u{u}" for u in users], "item": items * 2**40, "rating": np.round(r, 1),
        "weight": rng.random(len(r)) + 0.5, "held": rng.random(len(r)) < 0.15,
    })  # fmt: skip
    return spark.createDataFrame(table).repartition(3).persist()


def assert_same(comp, ref):
    assert_factors_same(comp, ref)
    assert_lines_same(comp, ref)


def assert_factors_same(comp, ref):
    for side in Side:
        assert comp.ids(side).equals(ref.ids(side))
        one, other = (model.fitted.sides[side] for model in (comp, ref))
        assert np.linalg.norm(one - other) <= 1e-5 * np.linalg.norm(other)


def assert_lines_same(comp, ref):
    for one, other in zip(comp._history, ref._history, strict=True):
        assert one.iteration == other.iteration
        np.testing.assert_allclose(one.loss, other.loss, rtol=1e-5)
        if other.validation_rmse is not None:
            np.testing.assert_allclose(one.validation_rmse, other.validation_rmse, rtol=1e-5)


OPTIONS = {
    "MLlib's settings": {},
    "everything": dict(
        weightCol="weight", validationIndicatorCol="held", userBias=True, itemBias=True, center=True, tol=0.05
    ),
    "power start": dict(initMode="power", center=True, numUserBlocks=3, numItemBlocks=5),
    "implicit": dict(implicitPrefs=True, alpha=2.0, solver="cg", filterSeen=True),
    "nonnegative": dict(nonnegative=True, precision="float64"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_exchange_gives_the_factors_of_broadcast(ratings, name):
    options = dict(rank=4, maxIter=3, seed=5, **OPTIONS[name])
    ref = ALS(carrier="broadcast", loop="jobs", **options).fit(ratings)
    comp = ALS(carrier="exchange", **options).fit(ratings)
    assert_same(comp, ref)
    if "filterSeen" in options:
        expected = {row[0]: row[1] for row in ref.recommendForAllUsers(3).collect()}
        for row in comp.recommendForAllUsers(3).collect():
            assert [one[0] for one in row[1]] == [one[0] for one in expected[row[0]]]


CHAINS = {
    "few kept": dict(burnIn=2, numSamples=2, validationIndicatorCol="held", weightCol="weight", clip=True),
    "all kept": dict(burnIn=0, numSamples=6, precision="float64", filterSeen=True),
    "many blocks": dict(burnIn=4, numSamples=2, numUserBlocks=12, numItemBlocks=5, validationIndicatorCol="held"),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_by_exchange_is_that_of_broadcast(ratings, name):
    options = dict(rank=4, maxIter=6, seed=5, deviationCol="deviation", **CHAINS[name])
    ref = BPMF(carrier="broadcast", **options).fit(ratings)
    comp = BPMF(carrier="exchange", **options).fit(ratings)
    assert_same(comp, ref)
    assert comp.rank == 4 * options["numSamples"]
    pairs = ratings.select("user", "item")
    same_rows(comp.transform(pairs), ref.transform(pairs), "user", "item")


def test_auto_takes_exchange_where_sides_pass_the_drivers_limit(spark, ratings, monkeypatch):
    taken = []
    monkeypatch.setattr(ALS, "_fit_by_exchange", lambda *_: taken.append(1) or 1 / 0)
    ALS(rank=4, maxIter=1).fit(ratings)
    assert not taken
    spark.conf.set("spark.mfspark.driverLimit", 1000)
    try:
        for options in ({}, {"loop": "jobs"}):
            with pytest.raises(ZeroDivisionError):
                ALS(rank=4, maxIter=1, **options).fit(ratings)
        ALS(rank=4, maxIter=1, carrier="broadcast").fit(ratings)
        assert len(taken) == 2
    finally:
        spark.conf.unset("spark.mfspark.driverLimit")


@pytest.fixture
def no_room(spark):
    """No side fits the driver."""
    spark.conf.set("spark.mfspark.driverLimit", 1000)
    yield
    spark.conf.unset("spark.mfspark.driverLimit")


@pytest.mark.usefixtures("no_room", "whole_plans")
def test_a_model_beyond_the_limit_stays_on_the_workers_and_answers_alike(spark, ratings, tmp_path):
    options = dict(rank=4, maxIter=2, seed=5, filterSeen=True, clip=True, **OPTIONS["everything"])
    ref = ALS(carrier="broadcast", **options).fit(ratings)
    comp = ALS(numUserBlocks=3, numItemBlocks=5, **options).fit(ratings)
    asked_for = ALS(carrier="exchange", **options).fit(ratings)
    unknown = spark.createDataFrame([("u1", 7), (None, None)], "user string, item long")
    pairs = ratings.select("user", "item").unionByName(unknown)
    for model in (comp, asked_for):
        assert isinstance(model.fitted, FrameFactorization) and not isinstance(ref.fitted, FrameFactorization)
        assert_lines_same(model, ref)
        same_rows(model.transform(pairs), ref.transform(pairs), "user", "item")
    assert_lists_equal(comp.recommendForAllItems(30), ref.recommendForAllItems(30))
    registry = Registry(spark, str(tmp_path))
    registry.publish("run", comp)
    assert_factors_same(load_model(registry, limit=100_000), ref)
    for side in Side:  # the blocks lie where they were solved, and nothing is known of how
        assert shuffles(comp.fitted.blocks[side].frame) == []
    assert len(shuffles(comp.transform(pairs))) == 2  # the pairs to their users' blocks, and on to their items'


@pytest.mark.usefixtures("no_room")
def test_a_chain_beyond_the_limit_leaves_its_samples_on_the_workers(ratings, tmp_path):
    options = dict(rank=4, maxIter=4, burnIn=1, numSamples=2, seed=5, deviationCol="deviation", clip=True)
    ref = BPMF(carrier="broadcast", **options).fit(ratings)
    comp = BPMF(numUserBlocks=3, numItemBlocks=5, **options).fit(ratings)
    assert isinstance(comp.fitted, FrameFactorization) and comp.rank == 8
    assert_lines_same(comp, ref)
    pairs = ratings.select("user", "item")
    same_rows(comp.transform(pairs), ref.transform(pairs), "user", "item")
    comp.save(str(tmp_path / "model"))
    same_rows(BPMFModel.load(str(tmp_path / "model")).transform(pairs), ref.transform(pairs), "user", "item")
    assert_lists_equal(comp.recommendForAllUsers(3), ref.recommendForAllUsers(3))


def test_a_row_that_cannot_be_drawn_is_named(ratings):
    extreme = ratings.selectExpr("user", "item", "rating", "1e38 * weight weight")
    for carrier in ("broadcast", "exchange"):
        bpmf = BPMF(rank=2, maxIter=2, burnIn=0, numSamples=1, weightCol="weight", carrier=carrier)
        with pytest.raises(TrainingError, match=r"the precision of item \d+ is not positive definite"):
            bpmf.fit(extreme)


def test_what_exchange_cannot_do_is_refused(ratings):
    for estimator, message in (
        (ALS(carrier="exchange", loop="barrier"), "carrier 'exchange' cannot be combined with loop 'barrier'"),
        (ALS(carrier="exchange", materializer="none"), "cannot be combined with materializer 'none'"),
        (BPMF(carrier="exchange", materializer="none"), "cannot be combined with materializer 'none'"),
        (SGD(carrier="exchange", materializer="none"), "cannot be combined with materializer 'none'"),
        (SVDPlusPlus(carrier="exchange"), "carrier must be one of auto, broadcast, join, not 'exchange'"),
        (ALS(carrier="pigeon"), "carrier must be one of auto, broadcast, join, exchange, not 'pigeon'"),
    ):
        with pytest.raises(ParameterError, match=message):
            estimator.fit(ratings)
    with pytest.raises(DataError, match="5 null, NaN or infinite values in column rating"):
        ALS(carrier="exchange").fit(ratings.limit(5).selectExpr("user", "item", "cast('nan' as float) rating"))


@pytest.mark.parametrize("number", [3, 50_000])
def test_distinct_ids_are_counted_without_a_list_of_them(spark, number):
    frame = spark.range(2 * number, numPartitions=3).selectExpr(f"id % {number} user", "id % 7 item", "1.0 rating")
    encoded = encode(select(frame, Columns())).persist()
    users, items = distinct(encoded)
    assert users == pytest.approx(number, rel=0.1) and items == min(7, 2 * number)
    if number == 3:
        assert users == 3
    long, short = (survey(encoded, Columns(), True, most) for most in (10, 10**9))
    assert not isinstance(long, Profile) and isinstance(short, Profile)
    assert long.listed[0] >= len(short.sides[0]) == number and long.rows == 2 * number
    encoded.unpersist()


def test_a_fit_whose_factors_are_lost_with_their_executors_starts_again(ratings, monkeypatch):
    als = ALS(carrier="exchange", rank=4, maxIter=3)
    ref, begun = als.fit(ratings), []

    def lose(line, state):
        if line.iteration == 2 and not begun:
            begun.append(line)
            for side in Side:
                state.let_go(side)

    monkeypatch.setattr(ALS, "_hooks", lambda _: [lose])
    comp = als.fit(ratings)
    assert begun and [line.iteration for line in comp._history] == [1, 2, 3]
    assert_same(comp, ref)
