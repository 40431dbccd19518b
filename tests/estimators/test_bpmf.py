"""BPMF: the model contract, its parameters, and predictive deviations that hold."""

import numpy as np
import pytest
from chispa import assert_df_equality
from contract import ModelContract, checkerboard
from pyspark.sql import functions as F

from mfspark import BPMF, BPMFModel, ParameterError


class TestSampled(ModelContract):
    estimator = staticmethod(
        lambda: BPMF(rank=2, maxIter=30, burnIn=10, numSamples=10, ratingPrecision=20.0, seed=3, deviationCol="sd")
    )

    def test_save_load_overwrite_and_pipeline(self, model, ratings, tmp_path):
        path = str(tmp_path / "model")
        model.save(path)
        model.write().overwrite().save(path)
        loaded = BPMFModel.load(path)
        assert loaded.uid == model.uid and loaded.rank == model.rank == 20
        assert_df_equality(loaded.transform(ratings), model.transform(ratings), ignore_row_order=True)
        estimator = self.estimator()
        estimator.save(str(tmp_path / "estimator"))
        assert BPMF.load(str(tmp_path / "estimator")).getNumSamples() == 10

    def test_folding_in_is_refused(self, model, ratings):
        with pytest.raises(ParameterError, match="BPMF cannot fold in"):
            model.foldInUsers(ratings)


BAD_PARAMETERS = [
    (dict(burnIn=50), "burnIn \\+ numSamples <= maxIter"),
    (dict(numSamples=0), "numSamples >= 1"),
    (dict(ratingPrecision=0.0), "ratingPrecision must be a finite number > 0"),
    (dict(regParam=0.2), "cannot use regParam=0.2"),
    (dict(nonnegative=True), "nonnegative"),
    (dict(center=False), "cannot use center=False: leave it at True"),
]


@pytest.mark.parametrize("values,message", BAD_PARAMETERS, ids=[str(values) for values, _ in BAD_PARAMETERS])
def test_parameters_that_cannot_take_effect(spark, values, message):
    with pytest.raises(ParameterError, match=message):
        BPMF(**values).fit(checkerboard(spark))


@pytest.fixture(scope="module")
def drawn(spark):
    """Ratings of a model of rank 2 with noise of deviation 0.5, a fifth of them held out."""
    rng = np.random.default_rng(7)
    U, V = rng.standard_normal((150, 2)), rng.standard_normal((80, 2))
    users, items = np.nonzero(rng.random((150, 80)) < 0.4)
    ratings = 3 + np.einsum("ij,ij->i", U[users], V[items]) + 0.5 * rng.standard_normal(len(users))
    held = rng.random(len(users)) < 0.2
    rows = list(zip(users.tolist(), items.tolist(), ratings.tolist(), held.tolist(), strict=True))
    return spark.createDataFrame(rows, "user int, item int, rating float, held boolean")


def test_error_is_near_the_noise_and_intervals_hold(drawn):
    bpmf = BPMF(
        rank=4, maxIter=40, burnIn=10, numSamples=15, ratingPrecision=4.0, validationIndicatorCol="held",
        deviationCol="deviation", seed=1,
    )  # fmt: skip
    model = bpmf.fit(drawn)
    rows = model.transform(drawn.where("held")).toPandas()
    errors = (rows.rating - rows.prediction).to_numpy()
    rmse = np.sqrt(np.mean(errors**2))
    assert 0.45 < rmse < 0.56
    last = model.history.orderBy(F.desc("iteration")).first()
    assert last.validationRMSE == pytest.approx(rmse, rel=1e-4)
    assert (rows.deviation > 0.5).all() and rows.deviation.std() > 0.005
    assert 0.92 < np.mean(abs(errors) < 1.96 * rows.deviation) < 0.975


def test_the_chain_does_not_depend_on_the_blocks(drawn):
    one, three = (
        BPMF(rank=2, maxIter=4, burnIn=2, numSamples=2, numUserBlocks=n, numItemBlocks=n, precision="float64")
        .fit(drawn.where("not held"))
        .fitted.sides
        for n in (1, 3)
    )
    for left, right in zip(one, three, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-9)
