"""SGD by exchange is SGD: the same factors, history and predictions as with the sides in the driver, cut alike."""

import numpy as np
import pyarrow as pa
import pytest
from frame_models import same_rows
from memory_storage import MemoryStorage

from mfspark import SGD, Registry, TrainingError
from mfspark.blocks.build import Layout, build
from mfspark.blocks.columns import Columns, select
from mfspark.blocks.encode import encode
from mfspark.blocks.exchange import block_of
from mfspark.blocks.profile import profile
from mfspark.kernels.csr import Side
from mfspark.model.frames.blocks import FrameFactorization
from mfspark.training.sgd import fit
from mfspark.training.sgd_worker import Job

USERS, ITEMS = 40, 25
COMMON = dict(rank=3, maxIter=3, seed=7, verbose=False)
OPTIONS = {
    "everything": dict(
        weightCol="weight", validationIndicatorCol="held", userBias=True, itemBias=True, center=True, clip=True
    ),
    "one bias": dict(itemBias=True, stepSchedule="inverse"),
    "drawn negatives": dict(implicitPrefs=True, numNegatives=2, loss="logistic", userBias=True),
    "counts": dict(loss="poisson_identity", nonnegative=True),
}


@pytest.fixture(scope="module")
def ratings(spark):
    random = np.random.default_rng(3)
    pairs = random.permutation(USERS * ITEMS)[:420]
    rows = [
        (f"u{p // ITEMS}", int(p % ITEMS) + (1 << 40), float(r), float(w), bool(h))
        for p, r, w, h in zip(
            pairs, random.integers(1, 6, pairs.size), random.uniform(0.5, 2, pairs.size),
            random.random(pairs.size) < 0.15, strict=True,
        )
    ]  # fmt: skip
    rows += [("never trained", 1 << 40, 3.0, 1.0, True), ("u1", 7, 4.0, 1.0, True)]
    frame = spark.createDataFrame(rows, "user string, item long, rating float, weight float, held boolean")
    return frame.repartition(3).cache()


def by_id(model, side):
    rows = (model.userFactors if side is Side.USER else model.itemFactors).collect()
    return {row["id"]: np.array(row["features"]) for row in rows}


def assert_same(comp, ref):
    for side in Side:
        one, other = by_id(comp, side), by_id(ref, side)
        assert one.keys() == other.keys()
        for name, row in other.items():
            np.testing.assert_allclose(one[name], row, rtol=1e-5, atol=1e-6, err_msg=repr(name))
    for line, expected in zip(comp._history, ref._history, strict=True):
        np.testing.assert_allclose(line.loss, expected.loss, rtol=1e-6)
        assert (line.validation_rmse is None) == (expected.validation_rmse is None)
        if line.validation_rmse is not None:
            np.testing.assert_allclose(line.validation_rmse, expected.validation_rmse, rtol=1e-6)


@pytest.mark.parametrize("name", OPTIONS)
def test_one_block_is_that_of_broadcast(ratings, name):
    options = COMMON | dict(numUserBlocks=1) | OPTIONS[name]
    comp = SGD(carrier="exchange", **options).fit(ratings)
    ref = SGD(carrier="broadcast", **options).fit(ratings)
    assert_same(comp, ref)
    pairs = ratings.select("user", "item")
    same_rows(comp.transform(pairs), ref.transform(pairs), "user", "item")


@pytest.mark.parametrize(("name", "blocks"), [("everything", 4), ("drawn negatives", 3), ("one bias", 60)])
def test_blocks_by_hash_are_blocks_of_renumbered_ids(spark, ratings, name, blocks):
    """The engine with the sides in the driver, on ids whose order is that of the blocks and of the places in them."""
    estimator = SGD(carrier="exchange", numUserBlocks=blocks, **COMMON, **OPTIONS[name])
    comp = estimator.fit(ratings)
    held = "held" if "validationIndicatorCol" in OPTIONS[name] else None
    trained = ratings.where("NOT held") if held else ratings
    numbers, bounds = [], []
    for column in ("user", "item"):
        ids = pa.array(sorted(row[0] for row in trained.select(column).distinct().collect()))
        home = block_of(ids, blocks)
        numbers.append(
            {one: place for place, one in enumerate(ids.take(pa.array(np.argsort(home, kind="stable"))).to_pylist())}
        )
        bounds.append(np.concatenate([[0], np.cumsum(np.bincount(home, minlength=blocks))]).astype(np.int64))
    beyond = [len(one) + 10 for one in numbers]
    rows = [
        (numbers[0].get(row.user, beyond[0]), numbers[1].get(row.item, beyond[1]), row.rating, row.weight, row.held)
        for row in ratings.collect()
    ]
    renumbered = spark.createDataFrame(rows, "user int, item int, rating float, weight float, held boolean")
    columns = Columns(weight="weight" if "weightCol" in OPTIONS[name] else None, validation=held)
    encoded = encode(select(renumbered, columns)).cache()
    found = profile(encoded, columns)
    layout = Layout((bounds[0], bounds[1]), found.values, columns.weight is not None, held is not None)
    recipe = estimator._recipe(found, estimator._settings(found))
    tasks = max(n for n in (1, 2) if blocks % n == 0)
    ref = fit(build(encoded, found, layout, sides=(Side.USER,)).frame, Job(recipe, layout, tasks))
    for side, numbered, array in zip(Side, numbers, ref.sides, strict=True):
        for one, row in by_id(comp, side).items():
            expected = array[numbered[one]][: estimator.getOrDefault("rank")]
            np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-5, err_msg=repr(one))
    np.testing.assert_allclose([line.loss for line in comp._history], [line.loss for line in ref.history], rtol=1e-5)
    valid = [line.validation_rmse for line in ref.history]
    assert [line.validation_rmse for line in comp._history] == pytest.approx(valid) if held else valid[0] is None


def test_beyond_the_drivers_limit_the_model_stays_on_the_workers_and_answers_alike(spark, ratings, tmp_path):
    estimator = SGD(numUserBlocks=3, **COMMON, **OPTIONS["everything"])
    ref = estimator.copy({estimator.carrier: "exchange"}).fit(ratings)
    spark.conf.set("spark.mfspark.driverLimit", 1000)
    try:
        comp = estimator.fit(ratings)
        assert isinstance(comp.fitted, FrameFactorization) and not isinstance(ref.fitted, FrameFactorization)
        assert comp.intercept == ref.intercept
        assert_same(comp, ref)
        pairs = ratings.select("user", "item")
        same_rows(comp.transform(pairs), ref.transform(pairs), "user", "item")
        registry = Registry(spark, str(tmp_path))
        registry.publish("run", comp)
        same_rows(registry.load_model().transform(pairs), ref.transform(pairs), "user", "item")
    finally:
        spark.conf.unset("spark.mfspark.driverLimit")


def test_stages_from_checkpoint_to_checkpoint_are_one_stage(ratings, monkeypatch):
    """More blocks than items: those without rows go round, too."""
    options = COMMON | OPTIONS["one bias"] | dict(carrier="exchange", numUserBlocks=32)
    ref = SGD(**options).fit(ratings)
    monkeypatch.setattr("mfspark.estimators.checkpointed.StateTable", MemoryStorage)
    comp = SGD(**options, workPath="memory", checkpointInterval=1).fit(ratings)
    assert_same(comp, ref)


def test_a_fit_that_diverges_says_so_in_one_line(ratings):
    with pytest.raises(TrainingError, match="diverges even with step"):
        SGD(carrier="exchange", numUserBlocks=2, stepSchedule="constant", stepSize=1e30, **COMMON).fit(ratings)


def test_ratings_that_the_loss_is_not_defined_for_are_refused(ratings):
    with pytest.raises(Exception, match="needs"):
        SGD(carrier="exchange", loss="logistic", **COMMON).fit(ratings)
