"""SGD: the model contract, its parameters, losses on the response scale, validation."""

import numpy as np
import pytest
from contract import ModelContract, checkerboard
from pyspark.sql import functions as F

from mfspark import SGD, DataError, ParameterError, TrainingError
from mfspark.kernels.csr import Side


class TestAdaGrad(ModelContract):
    settled = {"maxIter": 200}
    fold_error = 0.01
    estimator = staticmethod(lambda: SGD(rank=3, maxIter=60, regParam=0.005, stepSize=0.2, seed=3))


class TestBiasedFourBlocks(ModelContract):
    fold_error = 0.01
    estimator = staticmethod(
        lambda: SGD(
            rank=3,
            maxIter=80,
            regParam=0.005,
            stepSize=0.05,
            stepSchedule="constant",
            userBias=True,
            itemBias=True,
            center=True,
            numUserBlocks=4,
            seed=3,
        )  # fmt: skip
    )


BAD_PARAMETERS = [
    (dict(loss="hinge"), "loss must be one of squared, logistic"),
    (dict(stepSchedule="cosine"), "stepSchedule must be one of constant, inverse"),
    (dict(stepSize=0.0), "stepSize must be a finite number > 0"),
    (dict(stepSize=float("inf")), "stepSize must be a finite number > 0"),
    (dict(decay=-1.0, stepSchedule="inverse"), "decay must be a finite number >= 0"),
    (dict(decay=0.5), "decay takes effect only with stepSchedule 'inverse'"),
    (dict(numNegatives=2), "numNegatives takes effect only with implicitPrefs=True"),
    (dict(numNegatives=0, implicitPrefs=True), "numNegatives must be at least 1"),
    (dict(clip=True, implicitPrefs=True), "clip takes effect only with implicitPrefs=False"),
    (dict(precision="float64"), "cannot use precision='float64'"),
    (dict(checkpointInterval=0), "checkpointInterval must be at least 1, or -1 for never, not 0"),
    (dict(numUserBlocks=2, numItemBlocks=3), r"numItemBlocks must be numUserBlocks \(2\)"),
    (dict(loss="poisson_identity"), "needs nonnegative=True"),
    (dict(loss="logistic", nonnegative=True), "nonnegative is for the losses squared"),
    (dict(nonnegative=True, userBias=True), "nonnegative cannot be combined"),
    (dict(regParam=-1.0), "regParam must be a finite number >= 0"),
]


@pytest.mark.parametrize("values,message", BAD_PARAMETERS, ids=[str(values) for values, _ in BAD_PARAMETERS])
def test_parameters_that_cannot_take_effect(values, message):
    with pytest.raises(ParameterError, match=message):
        SGD(**values)._check()


def test_validation_rmse_is_that_of_the_model(spark):
    frame = checkerboard(spark).withColumn("held", (F.col("user") + F.col("item")) % 4 == 0)
    sgd = SGD(rank=3, maxIter=5, regParam=0.01, validationIndicatorCol="held", clip=True, userBias=True, seed=1)
    model = sgd.fit(frame)
    tested = model.transform(frame.where("held")).collect()
    rmse = np.sqrt(np.mean([(row.rating - row.prediction) ** 2 for row in tested]))
    assert model.history.orderBy("iteration").collect()[-1].validationRMSE == pytest.approx(rmse, rel=1e-4)
    assert max(row.prediction for row in tested) <= 5.0


def test_early_stop(spark):
    model = SGD(rank=2, maxIter=200, tol=0.01, stepSchedule="bold_driver", stepSize=0.02).fit(checkerboard(spark))
    losses = [row.loss for row in model.history.orderBy("iteration").collect()]
    assert 2 < len(losses) < 200
    assert losses[-2] - losses[-1] < 0.01 * losses[-2]


LABELS = {
    "logistic": (lambda r: (r > 3).cast("float"), {}, (0.0, 1.0)),
    "poisson": (lambda r: r.cast("float"), {}, (0.0, 20.0)),
    "poisson_identity": (lambda r: r.cast("float"), {"nonnegative": True}, (0.0, 20.0)),
}


@pytest.mark.parametrize("loss", LABELS)
def test_predictions_are_on_the_scale_of_the_ratings(spark, loss):
    label, options, (low, high) = LABELS[loss]
    frame = checkerboard(spark).withColumn("rating", label(F.col("rating")))
    model = SGD(**{"rank": 3, "maxIter": 120, "regParam": 0.005, "loss": loss, "seed": 1, **options}).fit(frame)
    rows = model.transform(frame).collect()
    assert all(low <= row.prediction <= high for row in rows)
    means = [np.mean([row.prediction for row in rows if row.rating == label]) for label in {r.rating for r in rows}]
    labels = list({row.rating for row in rows})
    np.testing.assert_allclose(means, labels, atol=0.25)
    best = model.recommendForUserSubset(frame.where("user = 1"), 1).first().recommendations[0].rating
    assert best == pytest.approx(max(row.prediction for row in rows if row.user == 1), abs=0.3)


def test_ratings_outside_the_loss_are_refused(spark):
    with pytest.raises(DataError, match="column 'rating' has .* but loss 'logistic' needs 0 or 1"):
        SGD(loss="logistic").fit(checkerboard(spark))


def test_implicit_feedback_ranks_unseen_likes_first(spark):
    likes = checkerboard(spark).where("rating > 3")
    model = SGD(
        rank=4, maxIter=60, implicitPrefs=True, loss="logistic", numNegatives=4, regParam=0.005, itemBias=True, seed=2
    ).fit(likes)
    pairs = spark.createDataFrame([(u, 100 + i) for u in range(24) for i in range(12)], "user int, item int")
    rows = model.transform(pairs).collect()
    like = np.mean([row.prediction for row in rows if row.user % 2 == row.item % 2])
    dislike = np.mean([row.prediction for row in rows if row.user % 2 != row.item % 2])
    assert 0 <= dislike < like - 0.3 <= 1


def test_divergence_is_a_training_error(spark):
    frame = checkerboard(spark).withColumn("rating", F.col("rating") * 1e30)
    with pytest.raises(TrainingError, match="diverges even with step"):
        SGD(rank=2, stepSchedule="constant").fit(frame)


@pytest.fixture(scope="module")
def liked(spark):
    """What 60 users of two tastes like of 30 items, about half of those of their taste."""
    rng = np.random.default_rng(2)
    pairs = [(u, i) for u in range(60) for i in range(30) if u % 2 == i % 2 and rng.random() < 0.5]
    return spark.createDataFrame([(u, i, 1.0) for u, i in pairs], "user int, item int, rating float")


@pytest.mark.parametrize("options", [{}, {"userBias": True, "itemBias": True, "center": True}], ids=["plain", "biased"])
def test_folding_a_user_into_implicit_sgd_solves_its_own_objective(liked, options):
    sgd = SGD(
        rank=2, maxIter=400, implicitPrefs=True, regParam=0.02, stepSize=0.2, stepSchedule="exponential", decay=0.02,
        initStd=0.5, seed=1, **options,
    )  # fmt: skip
    model = sgd.fit(liked)
    folded = model.foldInUsers(liked).toPandas().sort_values("id")
    ref, comp = model.fitted.features(Side.USER), np.stack(folded["features"].to_numpy())
    assert np.linalg.norm(comp - ref) < 0.05 * np.linalg.norm(ref)
    if options:
        np.testing.assert_allclose(folded["bias"], model.fitted.bias(Side.USER), atol=0.05)
    with pytest.raises(ParameterError, match="items cannot be folded into a model of drawn negatives"):
        model.foldInItems(liked)
