"""ALS: the model contract, its parameters, validation, early stop, biases, fold-in."""

import io

import numpy as np
import pytest
from contract import ModelContract, checkerboard
from pyspark.sql import functions as F

from mfspark import ALS, DataError, ParameterError
from mfspark.training.history import Iteration
from mfspark.training.progress import pace, reporter


class TestExplicit(ModelContract):
    estimator = staticmethod(lambda: ALS(rank=3, maxIter=10, regParam=0.01, seed=3))


class TestImplicit(ModelContract):
    estimator = staticmethod(
        lambda: ALS(rank=2, maxIter=10, regParam=0.1, implicitPrefs=True, alpha=5.0, seed=3, ratingCol="rating")
    )

    @pytest.fixture(scope="class")
    def ratings(self, spark):
        return checkerboard(spark).withColumn("rating", F.col("rating") - 1)


class TestBiased(ModelContract):
    estimator = staticmethod(
        lambda: ALS(rank=3, maxIter=10, regParam=0.01, userBias=True, itemBias=True, center=True, seed=3)
    )


class TestNonnegative(ModelContract):
    fold_error = 0.01
    local_error = 1e-3  # the steps of a descent end sooner in float32
    estimator = staticmethod(lambda: ALS(rank=3, maxIter=15, regParam=0.01, nonnegative=True, seed=3))

    def test_factors_are_nonnegative(self, model):
        assert all((side >= 0).all() for side in model.fitted.sides)


class TestConjugateGradients(ModelContract):
    estimator = staticmethod(lambda: ALS(rank=3, maxIter=20, regParam=0.01, solver="cg", seed=3))


BAD_PARAMETERS = [
    (dict(rank=0), "rank must be at least 1"),
    (dict(maxIter=-1), "maxIter must be at least 0"),
    (dict(regParam=-0.1), "regParam must be a finite number >= 0"),
    (dict(regParamUser=float("nan")), "regParamUser must be a finite number"),
    (dict(coldStartStrategy="keep"), "coldStartStrategy must be one of nan, drop, mean"),
    (dict(solver="qr"), "solver must be one of auto, cholesky"),
    (dict(confidence="exp", implicitPrefs=True), "confidence must be one of mllib, linear, log, ials"),
    (dict(confidence="linear", implicitPrefs=True, weightCol="w"), "multiply the ratings instead"),
    (dict(alpha=40.0), "alpha takes effect only with implicitPrefs=True"),
    (dict(userBias=True, implicitPrefs=True), "userBias takes effect only with implicitPrefs=False"),
    (dict(nonnegative=True, userBias=True), "nonnegative cannot be combined"),
    (dict(nonnegative=True, solver="cg"), "nonnegative has its own solver"),
    (dict(precision="float16"), "precision must be one of"),
    (dict(materializer="disk"), "materializer must be one of"),
    (dict(numUserBlocks=0), "numUserBlocks must be at least 1"),
]


@pytest.mark.parametrize("values,message", BAD_PARAMETERS, ids=[str(values) for values, _ in BAD_PARAMETERS])
def test_parameters_that_cannot_take_effect(spark, values, message):
    with pytest.raises(ParameterError, match=message):
        ALS(**values).fit(checkerboard(spark))


def test_unknown_parameter_and_attribute():
    with pytest.raises(ParameterError, match="no parameter 'rnk'"):
        ALS().setParams(rnk=3)
    with pytest.raises(AttributeError):
        ALS().setRnk(3)
    assert ALS().setRank(7).setNumBlocks(3).getNumItemBlocks() == 3
    assert ALS(rank=7).copy({}).getRank() == 7


def test_validation_rmse_and_early_stop(spark):
    frame = checkerboard(spark).withColumn("held", (F.col("user") + F.col("item")) % 4 == 0)
    als = ALS(rank=3, maxIter=40, regParam=0.05, tol=1e-3, validationIndicatorCol="held", clip=True, seed=1)
    model = als.fit(frame)
    history = model.history.orderBy("iteration").collect()
    assert 2 < len(history) < 40
    tested = model.transform(frame.where("held")).collect()
    rmse = np.sqrt(np.mean([(row.rating - row.prediction) ** 2 for row in tested]))
    assert history[-1].validationRMSE == pytest.approx(rmse, rel=1e-4)
    assert max(row.prediction for row in tested) <= 5.0


def test_validation_rows_of_unknown_ids_are_not_measured(spark):
    frame = checkerboard(spark).withColumn("held", F.lit(False))
    rows = [(999, 100, 5.0, True), (1, 100, 1.0, True)]
    cold = spark.createDataFrame(rows, "user int, item int, rating float, held boolean")
    model = ALS(rank=2, maxIter=2, validationIndicatorCol="held").fit(frame.unionByName(cold))
    predicted = model.transform(cold.where("user = 1")).first().prediction
    last = model.history.orderBy("iteration").collect()[-1]
    assert last.validationRMSE == pytest.approx(abs(1 - predicted), rel=1e-4)
    with pytest.raises(DataError, match="all of them are held out"):
        ALS(validationIndicatorCol="held").fit(cold)


@pytest.mark.parametrize("options", [dict(), dict(implicitPrefs=True, alpha=3.0), dict(userBias=True, itemBias=True)])
def test_folding_a_training_user_in_returns_its_factors(spark, options):
    frame = checkerboard(spark)
    model = ALS(rank=3, maxIter=3, **options).fit(frame)
    some = frame.where("user < 5")
    comp = {row.id: row.features for row in model.foldInUsers(some).collect()}
    ref = {row.id: row.features for row in model.userFactors.where("id < 5").collect()}
    for user, features in ref.items():
        np.testing.assert_allclose(comp[user], features, rtol=1e-5, atol=1e-6)
    strange = spark.createDataFrame([(1, 5, 3.0)], "user int, item int, rating float")
    with pytest.raises(DataError, match="column 'item' has 1 ids that the model does not know"):
        model.foldInUsers(strange)


def test_separate_regularisation_and_filter_seen(spark):
    frame = checkerboard(spark)
    small, large = (ALS(rank=3, regParamUser=lam, regParamItem=0.1, seed=1).fit(frame) for lam in (0.001, 10.0))
    norms = [np.linalg.norm(model.fitted.features(0)) for model in (small, large)]
    assert norms[0] > 2 * norms[1]
    model = ALS(rank=2, maxIter=2, filterSeen=True).fit(frame)
    seen = {(row.user, row.item) for row in frame.collect()}
    found = {(row.user, r.item) for row in model.recommendForAllUsers(12).collect() for r in row.recommendations}
    assert found and not found & seen


def test_progress_is_quiet_off_a_terminal_and_tells_on_one():
    line = Iteration(1, 10.0, 9.0, 1.0, 0.5, 2.0)
    quiet, told = io.StringIO(), io.StringIO()
    reporter(3, pace(stream=quiet), stream=quiet)(line, None)
    reporter(3, pace(True, told), stream=told)(line, None)
    assert quiet.getvalue() == ""
    assert told.getvalue() == "iteration 1/3  loss 10  validation RMSE 0.5000  4 s left\n"


def test_duplicate_pairs_count_twice_as_in_mllib(spark):
    frame = spark.createDataFrame([(1, 1, 5.0), (1, 1, 1.0)], "user int, item int, rating float")
    model = ALS(rank=1, maxIter=20, regParam=1e-4).fit(frame)
    assert model.transform(frame).first().prediction == pytest.approx(3.0, rel=0.01)
