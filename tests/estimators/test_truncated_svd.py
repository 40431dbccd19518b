"""TruncatedSVD against numpy's SVD and the theorem of Eckart and Young, sparse, imputed and dense."""

import naive
import numpy as np
import pyarrow as pa
import pytest
from contract import ModelContract, checkerboard
from pyspark.sql import functions as F

from mfspark import FactorizationModel, ParameterError, TruncatedSVD
from mfspark.training.truncated_svd import IMPUTATIONS

RANK = 4
USERS, ITEMS, R = naive.random_ratings(30, 17, 0.3, seed=6)


class TestContract(ModelContract):
    estimator = staticmethod(lambda: TruncatedSVD(rank=2, imputation="mean", oversampling=1, maxIter=6, seed=3))


@pytest.fixture(scope="module")
def ratings(spark):
    return spark.createDataFrame(pa.table({"user": USERS, "item": ITEMS, "rating": R})).repartition(3)


def imputed(how):
    """The whole matrix, missing pairs filled."""
    A = np.full((30, 17), np.nan)
    A[USERS, ITEMS] = R
    fill = {
        "zero": np.zeros((1, 1)),
        "mean": np.full((1, 1), np.nanmean(A)),
        "userMean": np.nanmean(A, axis=1, keepdims=True),
        "itemMean": np.nanmean(A, axis=0, keepdims=True),
    }[how]
    return np.where(np.isnan(A), fill, A)


@pytest.mark.parametrize("how", IMPUTATIONS)
def test_singular_values_and_vectors_equal_numpy(ratings, how):
    A = imputed(how)
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    svd = TruncatedSVD(rank=RANK, imputation=how, maxIter=60, tol=0, numUserBlocks=3, precision="float64")
    model = svd.fit(ratings)
    np.testing.assert_allclose(model.singularValues, s[:RANK], rtol=1e-8)
    X, Y = (model.fitted.features(side) for side in range(2))
    np.testing.assert_allclose(X @ Y.T, (U[:, :RANK] * s[:RANK]) @ Vt[:RANK], atol=1e-5)
    for factors in (X, Y):
        unit = factors / np.sqrt(model.singularValues)
        np.testing.assert_allclose(unit.T @ unit, np.eye(RANK), atol=1e-8)
    assert model.history.orderBy(F.desc("iteration")).first().loss == pytest.approx(np.sum(s[RANK:] ** 2), rel=1e-6)


def test_eckart_young_no_matrix_of_the_same_rank_is_nearer(ratings):
    A = imputed("zero")
    model = TruncatedSVD(rank=RANK, maxIter=40, precision="float64").fit(ratings)
    X, Y = (model.fitted.features(side) for side in range(2))
    least = np.sum((A - X @ Y.T) ** 2)
    rng = np.random.default_rng(0)
    for size in (1e-3, 1e-2, 0.1, 1.0):
        for _ in range(20):
            other = (X + size * rng.normal(size=X.shape)) @ (Y + size * rng.normal(size=Y.shape)).T
            assert np.sum((A - other) ** 2) > least
    users, items = naive.triples(np.where(A == 0, np.nan, A))[:2]
    masked = np.zeros_like(A)
    masked[users, items] = 1
    assert np.sum((masked * (A - X @ Y.T)) ** 2) < least  # the residual of the observed part is a part of it


def test_a_fully_observed_dense_matrix_of_low_rank_is_found_exactly(spark):
    rng = np.random.default_rng(3)
    A = (rng.normal(size=(40, 3)) @ rng.normal(size=(3, 12))).astype(np.float32)
    users, items = (index.ravel() for index in np.indices(A.shape))
    frame = spark.createDataFrame(pa.table({"user": users, "item": items, "rating": A.ravel()}))
    model = TruncatedSVD(rank=3, maxIter=3, numUserBlocks=4).fit(frame)
    np.testing.assert_allclose(model.singularValues, np.linalg.svd(A)[1][:3], rtol=1e-5)
    found = model.transform(frame).agg(F.max(F.abs(F.col("prediction") - F.col("rating")))).first()[0]
    assert found < 1e-4


def test_few_iterations_suffice_and_the_history_falls(ratings):
    history = TruncatedSVD(rank=RANK, maxIter=30, oversampling=2).fit(ratings).history.toPandas()["loss"].to_numpy()
    assert 2 < len(history) < 30
    assert np.all(np.diff(history) <= 1e-6 * history[0])
    best = np.sum(np.linalg.svd(imputed("zero"))[1][RANK:] ** 2)
    assert history[-1] < 1.01 * best


def test_held_out_ratings_are_left_out_and_measured(ratings):
    marked = ratings.withColumn("held", (F.col("user") + F.col("item")) % 5 == 0)
    kept = TruncatedSVD(rank=2, imputation="mean", clip=True, validationIndicatorCol="held").fit(marked)
    alone = TruncatedSVD(rank=2, imputation="mean", clip=True).fit(marked.where("not held"))
    np.testing.assert_allclose(kept.singularValues, alone.singularValues, rtol=1e-5)
    tested = kept.transform(marked.where("held")).collect()
    rmse = np.sqrt(np.mean([(row.rating - row.prediction) ** 2 for row in tested]))
    last = kept.history.orderBy(F.desc("iteration")).first()
    assert last.validationRMSE == pytest.approx(rmse, rel=1e-4)


def test_singular_values_survive_saving_and_folding_in_is_refused(ratings, tmp_path):
    model = TruncatedSVD(rank=2).fit(ratings)
    model.save(str(tmp_path / "svd"))
    loaded = FactorizationModel.load(str(tmp_path / "svd"))
    np.testing.assert_allclose(loaded.singularValues, model.singularValues, rtol=1e-6)
    with pytest.raises(ParameterError, match="nothing can be folded in"):
        loaded.foldInUsers(ratings)


@pytest.mark.parametrize(
    "values,message",
    [
        (dict(rank=13), "rank is 13, but a matrix of 24 users x 12 items has at most 12"),
        (dict(regParam=0.5), "cannot use regParam=0.5: leave it at 0.0, or choose ALS, SGD"),
        (dict(userBias=True), "cannot use userBias=True"),
        (dict(weightCol="rating"), "cannot use weightCol='rating': leave it out, or choose ALS"),
        (dict(imputation="median"), "imputation must be one of zero, mean, userMean, itemMean"),
        (dict(maxIter=0), "maxIter must be at least 1"),
        (dict(oversampling=-1), "oversampling must be at least 0"),
    ],
)
def test_parameters_that_cannot_take_effect(spark, values, message):
    with pytest.raises(ParameterError, match=message):
        TruncatedSVD(**values).fit(checkerboard(spark))
