"""SVD++: the model contract, its parameters, what the set of rated items adds, and the number of blocks."""

import numpy as np
import pytest
from contract import ModelContract, checkerboard
from pyspark.sql import functions as F

from mfspark import ParameterError, SVDPlusPlus, TrainingError
from mfspark.training.svdpp import combine, mean_weights, share_weights


class TestSVDPlusPlus(ModelContract):
    estimator = staticmethod(lambda: SVDPlusPlus(rank=3, maxIter=40, stepSize=0.05, initStd=0.5, seed=3))


BAD_PARAMETERS = [
    (dict(userBias=False), "cannot use userBias=False: leave it at True"),
    (dict(nonnegative=True), "nonnegative"),
    (dict(regExponent=0.5), "cannot use regExponent=0.5: leave it at 1.0"),
    (dict(stepSize=0.0), "stepSize must be a finite number > 0"),
    (dict(regParamImplicit=-1.0), "regParamImplicit must be a finite number >= 0"),
    (dict(precision="float64"), "cannot use precision='float64': leave it at 'float32', or choose ALS"),
]


@pytest.mark.parametrize("values,message", BAD_PARAMETERS, ids=[str(values) for values, _ in BAD_PARAMETERS])
def test_parameters_that_cannot_take_effect(spark, values, message):
    with pytest.raises(ParameterError, match=message):
        SVDPlusPlus(**values).fit(checkerboard(spark))


def test_divergence_is_told(spark):
    with pytest.raises(TrainingError, match="lower stepSize"):
        SVDPlusPlus(rank=3, maxIter=30, stepSize=5.0).fit(checkerboard(spark))


@pytest.fixture(scope="module")
def choosy(spark):
    """Users of two kinds who rate mostly their own kind's items, and like them; a fifth of the ratings held out."""
    rng = np.random.default_rng(4)
    kind_u, kind_i = rng.integers(0, 2, 300), rng.integers(0, 2, 60)
    alike = kind_u[:, None] == kind_i[None, :]
    users, items = np.nonzero(rng.random((300, 60)) < np.where(alike, 0.25, 0.02))
    ratings = 2.5 + 1.5 * alike[users, items] + 0.3 * rng.standard_normal(len(users))
    rows = zip(users.tolist(), items.tolist(), ratings.tolist(), (rng.random(len(users)) < 0.2).tolist(), strict=True)
    return spark.createDataFrame(list(rows), "user int, item int, rating float, held boolean")


def test_history_tells_the_model_s_own_validation_error_and_stops(choosy):
    svd = SVDPlusPlus(rank=2, maxIter=60, stepSize=0.02, tol=0.02, validationIndicatorCol="held", clip=True, seed=1)
    model = svd.fit(choosy)
    history = model.history.orderBy("iteration").collect()
    assert 2 < len(history) < 60
    rows = model.transform(choosy.where("held")).dropna().toPandas()
    rmse = np.sqrt(np.mean((rows.rating - rows.prediction) ** 2))
    assert history[-1].validationRMSE == pytest.approx(rmse, rel=1e-4)
    assert model.history.where(F.col("fit") > F.col("loss")).count() == 0


def test_more_blocks_learn_about_as_well(choosy):
    errors = []
    for blocks in (1, 4):
        svd = SVDPlusPlus(
            rank=2, maxIter=25, stepSize=0.1, stepDecay=0.02, numUserBlocks=blocks, validationIndicatorCol="held",
            seed=1,
        )  # fmt: skip
        errors.append(svd.fit(choosy).history.orderBy(F.desc("iteration")).first().validationRMSE)
    assert errors[1] == pytest.approx(errors[0], rel=0.05)
    assert max(errors) < 0.37  # the deviation of the held-out ratings is 0.43, their noise 0.3


def test_moves_of_rare_items_add_up_and_those_of_frequent_ones_are_averaged():
    before, counts = np.zeros((2, 1), np.float32), np.array([[1, 10**6], [1, 10**6]])
    versions = [np.array([[1.0], [1.0]], np.float32), np.array([[1.0], [3.0]], np.float32)]
    comp = combine(before, iter(versions), share_weights(counts, 0.001))
    np.testing.assert_allclose(comp[:, 0], [2.0, 2.0], rtol=1e-3)


def test_implicit_moves_are_averaged_by_counts():
    versions = [np.array([[1.0], [5.0]], np.float32), np.array([[4.0], [9.0]], np.float32)]
    comp = combine(np.zeros((2, 1), np.float32), iter(versions), mean_weights(np.array([[2, 0], [1, 0]])))
    np.testing.assert_allclose(comp[:, 0], [2.0, 0.0])
