"""Data drawn from a model give the model back: held-out errors within 2 % of the true model's, end to end on Spark.

GradientDescent has the same test for all losses, without Spark, in ``test_gradient_descent.py``.
"""

import numpy as np
import pyarrow as pa
import pytest

from mfspark import ALS, BPMF, SGD, SVDPlusPlus, TruncatedSVD
from mfspark.kernels.losses import LOSSES

N_USERS, N_ITEMS, RANK, NOISE = 600, 500, 2, 0.5


def scores_of(rng, mask):  # noqa: ARG001
    """Return a biased latent factor model's scores of all pairs."""
    U, V = rng.normal(0, 0.6, (N_USERS, RANK)), rng.normal(0, 0.6, (N_ITEMS, RANK))
    return 0.4 + rng.normal(0, 0.4, (N_USERS, 1)) + rng.normal(0, 0.4, N_ITEMS) + U @ V.T


def implicit_scores_of(rng, mask):
    """Return SVD++'s scores: what a user rated moves its factors."""
    U, V = rng.normal(0, 0.3, (N_USERS, RANK)), rng.normal(0, 0.6, (N_ITEMS, RANK))
    moved = mask @ rng.normal(0, 0.6, (N_ITEMS, RANK)) / np.sqrt(mask.sum(axis=1, keepdims=True))
    return 0.4 + rng.normal(0, 0.4, (N_USERS, 1)) + rng.normal(0, 0.4, N_ITEMS) + (U + moved) @ V.T


def positive_scores_of(rng, mask):  # noqa: ARG001
    """Return products of positive factors."""
    return rng.gamma(2.0, 1.0, (N_USERS, RANK)) @ rng.gamma(2.0, 1.0, (RANK, N_ITEMS))


def drawn(spark, loss, scores, share=0.8):
    """Return ratings drawn from a loss's likelihood, with the true mean, a tenth of them held out."""
    rng = np.random.default_rng(5)
    mask = rng.random((N_USERS, N_ITEMS)) < share
    users, items = np.nonzero(mask)
    mean = LOSSES[loss].response(scores(rng, mask)[users, items])
    draws = {"squared": lambda m: rng.normal(m, NOISE), "logistic": lambda m: (rng.random(len(m)) < m).astype(float)}
    ratings = draws.get(loss, rng.poisson)(mean).astype(np.float32)
    table = {"user": users, "item": items, "rating": ratings, "mean": mean, "held": rng.random(len(mean)) < 0.1}
    return spark.createDataFrame(pa.table(table))


@pytest.fixture(scope="module")
def gaussian(spark):
    return drawn(spark, "squared", scores_of).persist()


def held_out(model, frame):
    """Return ratings, predictions and true means of the held-out pairs."""
    rows = model.transform(frame.where("held")).toPandas()
    assert rows["prediction"].notna().all()
    return (rows[name].to_numpy() for name in ("rating", "prediction", "mean"))


def rmse(r, prediction):
    return np.sqrt(np.mean((r - prediction) ** 2))


BIASED = {"userBias": True, "itemBias": True, "center": True}
GAUSSIAN = {
    "ALS": ALS(rank=RANK, maxIter=8, regParam=0.005, **BIASED),
    "ALS, coordinate": ALS(rank=RANK, maxIter=20, regParam=0.005, solver="coordinate", **BIASED),
    "SGD": SGD(rank=RANK, maxIter=20, regParam=0.005, numUserBlocks=2, **BIASED),
    "BPMF": BPMF(rank=RANK + 2, maxIter=24, burnIn=8, numSamples=12, ratingPrecision=1 / NOISE**2),
    "SVDPlusPlus": SVDPlusPlus(rank=RANK, maxIter=25, stepSize=0.02, numUserBlocks=1),
}


@pytest.mark.parametrize("name", list(GAUSSIAN))
def test_gaussian_ratings(gaussian, name):
    r, prediction, mean = held_out(GAUSSIAN[name].fit(gaussian.where("not held")), gaussian)
    assert rmse(r, mean) == pytest.approx(NOISE, rel=0.02)
    assert rmse(r, prediction) < 1.02 * rmse(r, mean)
    assert rmse(r, r.mean()) > 1.3 * rmse(r, mean)  # there is something to learn
    assert rmse(prediction, mean) < 0.2 * rmse(mean, mean.mean())


def test_what_a_user_rated_is_recovered_by_svdplusplus(spark):
    frame = drawn(spark, "squared", implicit_scores_of, share=0.6)
    svd = SVDPlusPlus(rank=RANK, maxIter=25, stepSize=0.02, numUserBlocks=1)
    r, prediction, mean = held_out(svd.fit(frame.where("not held")), frame)
    assert rmse(r, prediction) < 1.02 * rmse(r, mean) < 1.02 * 1.02 * NOISE


def test_a_noisy_matrix_of_low_rank_is_recovered_by_truncated_svd(spark):
    """Everything is observed: the residual is the noise, less what the factors take up, and the truth is near."""
    frame = drawn(spark, "squared", scores_of, share=1.1)
    svd = TruncatedSVD(rank=RANK + 2, maxIter=8)  # the biases and the mean take two more
    rows = svd.fit(frame).transform(frame).toPandas()
    r, prediction, mean = (rows[name].to_numpy() for name in ("rating", "prediction", "mean"))
    assert rmse(r, prediction) == pytest.approx(NOISE, rel=0.02)
    assert rmse(prediction, mean) < 0.2 * rmse(mean, mean.mean())


def deviance(loss, r, mean):
    """Return the mean deviance: twice the mean log likelihood ratio to the saturated model."""
    if loss == "logistic":
        return -2 * np.mean(np.where(r > 0, np.log(mean), np.log1p(-mean)))
    return 2 * np.mean(np.where(r > 0, r * np.log(np.maximum(r, 1) / mean), 0) - (r - mean))


INVERSE = {"stepSchedule": "inverse", "decay": 0.1}
OTHER = {
    "logistic": (scores_of, dict(regParam=0.02, maxIter=25, **BIASED)),
    "poisson": (scores_of, dict(regParam=0.02, maxIter=40, initStd=0.1, stepSize=0.02, **INVERSE, **BIASED)),
    "poisson_identity": (
        positive_scores_of,
        dict(
            regParam=0.001,
            maxIter=60,
            initStd=3.0,
            stepSize=0.005,
            stepSchedule="inverse",
            decay=0.03,
            nonnegative=True,
        ),
    ),
}


@pytest.mark.parametrize("loss", list(OTHER))
def test_labels_and_counts_by_sgd(spark, loss):
    scores, options = OTHER[loss]
    frame = drawn(spark, loss, scores)
    model = SGD(rank=RANK, loss=loss, numUserBlocks=2, seed=1, **options).fit(frame.where("not held"))
    r, prediction, mean = held_out(model, frame)
    assert deviance(loss, r, prediction) < 1.02 * deviance(loss, r, mean)
    assert deviance(loss, r, np.full(len(r), r.mean())) > 1.08 * deviance(loss, r, mean)
