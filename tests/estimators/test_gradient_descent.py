"""GradientDescent: the contract, the dense formulas, ALS's minimum, recovery of each model, batches, errors."""

import naive
import numpy as np
import pyarrow as pa
import pytest
from contract import ModelContract, checkerboard
from pyspark.sql import functions as F

from mfspark import ALS, DataError, GradientDescent, ParameterError, TrainingError
from mfspark.kernels.csr import Block
from mfspark.kernels.gradient_descent import Batch, gradient_block
from mfspark.kernels.losses import LOSSES
from mfspark.kernels.objective import Settings, ridge
from mfspark.training.als import Factors
from mfspark.training.gradient_descent import Descent, Pass, Steps, start
from mfspark.training.loop import Stopping, run

USERS, ITEMS, R = naive.random_ratings(23, 15, 0.4, seed=8)


class TestSquared(ModelContract):
    # A short memory of Adam settles in 40 steps, each of which is a Spark job; the defaults take 150.
    settled = {"maxIter": 40, "stepSchedule": "exponential", "decay": 0.02, "momentum": 0.7, "squareDecay": 0.95}
    fold_error = 0.05
    estimator = staticmethod(
        lambda: GradientDescent(
            rank=2, maxIter=15, stepSize=0.2, regParam=0.01, center=True, userBias=True, initStd=1.0, seed=3
        )
    )


class TestLogistic(ModelContract):
    estimator = staticmethod(
        lambda: GradientDescent(rank=2, maxIter=12, stepSize=0.2, loss="logistic", regParam=2e-3, initStd=0.5, seed=3)
    )

    @pytest.fixture(scope="class")
    def ratings(self, spark):
        return checkerboard(spark).withColumn("rating", (F.col("rating") > 3).cast("float"))

    def test_string_ids_come_back(self):
        pytest.skip("that checkerboard's ratings are not labels")

    def test_predictions_are_probabilities(self, model, ratings):
        found = model.transform(ratings).agg(F.min("prediction"), F.max("prediction")).first()
        assert 0 < found[0] < 0.3 and 0.7 < found[1] < 1
        with pytest.raises(ParameterError, match="squared loss, not of 'logistic'"):
            model.foldInUsers(ratings)


@pytest.fixture(scope="module")
def ratings(spark):
    w = np.random.default_rng(4).uniform(0.5, 2, len(R)).astype(np.float32)
    return spark.createDataFrame(pa.table({"user": USERS, "item": ITEMS, "rating": R, "w": w})).repartition(3)


def losses_of(model):
    return [row.loss for row in model.history.orderBy("iteration").collect()]


def ref_objective(U, V, w, reg, nu):
    """Mean loss and sum lambda (N_u/N)^nu |x_u|^2, score by score."""
    N = w.sum()
    fit = sum(w[t] * (R[t] - U[USERS[t]] @ V[ITEMS[t]]) ** 2 for t in range(len(R))) / N
    shares = [np.bincount(index, w, len(side)) / N for index, side in ((USERS, U), (ITEMS, V))]
    weights = [lam * share**nu for lam, share in zip(reg, shares, strict=True)]
    penalty = sum(weight @ np.sum(side**2, axis=1) for weight, side in zip(weights, (U, V), strict=True))
    return fit + penalty, weights, N


@pytest.mark.parametrize("weighted,nu", [(False, 0.0), (True, 0.0), (True, 1.0)])
def test_three_steps_equal_the_dense_formulas(ratings, weighted, nu):
    """U <- U - eta (-(2/N) D V + 2 lambda1 U), with D = W o mask o (M - U V^T); both sides from the same point."""
    reg, eta = (0.02, 0.03), 0.5
    options = dict(rank=3, regParamUser=reg[0], regParamItem=reg[1], regExponent=nu, seed=2, solver="gd", initStd=1.0)
    options |= dict(stepSize=eta, precision="float64", numUserBlocks=3, weightCol="w" if weighted else None)
    start = GradientDescent(maxIter=0, **options).fit(ratings).fitted
    model = GradientDescent(maxIter=3, **options).fit(ratings)
    weights = {(row.user, row.item): row.w for row in ratings.collect()}
    w = np.array([weights[pair] for pair in zip(USERS, ITEMS, strict=True)]) if weighted else np.ones(len(R))
    U, V = start.features(0).copy(), start.features(1).copy()
    M, W = np.zeros((23, 15)), np.zeros((23, 15))
    M[USERS, ITEMS], W[USERS, ITEMS] = R, w
    for step in range(3):
        _, ridges, N = ref_objective(U, V, w, reg, nu)
        D = W * (M - U @ V.T)
        dU, dV = -2 / N * D @ V + 2 * ridges[0][:, None] * U, -2 / N * D.T @ U + 2 * ridges[1][:, None] * V
        U, V = U - eta * dU, V - eta * dV
        assert losses_of(model)[step] == pytest.approx(ref_objective(U, V, w, reg, nu)[0], rel=1e-6)
    np.testing.assert_allclose(model.fitted.features(0), U, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(model.fitted.features(1), V, rtol=1e-7, atol=1e-9)


def test_folding_in_solves_a_users_own_equations(ratings):
    """With nu = 0 a user minimises (1/N) sum (r - x . y)^2 + lambda |x|^2: a ridge of N lambda."""
    model = GradientDescent(rank=2, maxIter=2, regParam=0.02, regExponent=0.0, precision="float64").fit(ratings)
    V = model.fitted.features(1)
    for row in model.foldInUsers(ratings.where("user < 3")).collect():
        H, r = V[ITEMS[row.id == USERS]], R[row.id == USERS]
        ref = np.linalg.solve(H.T @ H + 0.02 * len(R) * np.eye(2), H.T @ r)
        np.testing.assert_allclose(row.features, ref, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("nu", [0.0, 1.0])
def test_als_converges_to_a_stationary_point_of_the_same_objective(ratings, nu):
    """ALS's loss is N times GradientDescent's, and where ALS ends the gradient is zero."""
    options = dict(rank=2, regParam=0.1, seed=1, userBias=True, itemBias=True, precision="float64")
    model = ALS(maxIter=300, regExponent=nu, numUserBlocks=1, numItemBlocks=1, **options).fit(ratings)
    settings = model.fitted.settings
    gradients = LocalPass(USERS, ITEMS, R, 23, settings, Descent())
    start, there = (
        gradients.at(Factors(list(sides)), 0)
        for sides in ([side + 0.1 * (side != 0) for side in model.fitted.sides], model.fitted.sides)
    )
    assert there.loss == pytest.approx(losses_of(model)[-1] / len(R), rel=1e-6)
    for far, near in zip(start.sides, there.sides, strict=True):
        assert np.abs(near).max() < 1e-2 * np.abs(far).max()


def test_bold_driver_undoes_steps_that_raise_the_loss(ratings):
    options = dict(rank=2, maxIter=25, regParam=0.01, seed=1, solver="gd", stepSize=200.0)
    losses = losses_of(GradientDescent(stepSchedule="bold_driver", **options).fit(ratings))
    assert np.all(np.diff(losses) <= 0) and losses[-1] < 0.5 * losses[0]
    assert losses[0] == losses[1]  # the first steps were undone
    with pytest.raises(TrainingError, match="lower stepSize"):
        GradientDescent(**options).fit(ratings)


def test_mini_batches_clipping_and_nonnegative(ratings):
    options = dict(rank=2, regParam=0.01, seed=1, stepSize=0.1)
    whole = losses_of(GradientDescent(maxIter=30, **options).fit(ratings))
    batches = GradientDescent(maxIter=30, miniBatchFraction=0.5, **options)
    first, again = (losses_of(batches.fit(ratings)) for _ in range(2))
    assert first == again and first != whole
    assert first[-1] == pytest.approx(whole[-1], rel=0.5) and first[-1] < 0.3 * whole[0]
    start = GradientDescent(maxIter=0, **options).fit(ratings).fitted
    moved = GradientDescent(maxIter=1, solver="gd", clipNorm=0.01, **options).fit(ratings).fitted
    steps = [moved.sides[side].astype(float) - start.sides[side] for side in range(2)]
    assert np.sqrt(sum(np.sum(step**2) for step in steps)) == pytest.approx(0.1 * 0.01, rel=1e-3)
    model = GradientDescent(maxIter=10, nonnegative=True, solver="rmsprop", **options).fit(ratings)
    assert all((side >= 0).all() for side in model.fitted.sides)


def test_validation_rmse_is_that_of_the_response(spark):
    frame = checkerboard(spark).withColumn("held", (F.col("user") + F.col("item")) % 4 == 0)
    frame = frame.withColumn("rating", F.col("rating") - 1)
    model = GradientDescent(
        rank=2, maxIter=20, loss="poisson", center=True, validationIndicatorCol="held", clip=True, tol=0.02, seed=1
    ).fit(frame)
    tested = model.transform(frame.where("held")).collect()
    rmse = np.sqrt(np.mean([(row.rating - row.prediction) ** 2 for row in tested]))
    assert model.history.orderBy(F.desc("iteration")).first().validationRMSE == pytest.approx(rmse, rel=1e-4)
    assert max(row.prediction for row in tested) <= 4.0


class LocalPass(Pass):
    """The pass over one block in this process, so that long descents are quick to test; Spark's is tested above."""

    def __init__(self, users, items, r, n_users, settings, descent):
        indptr = np.concatenate([[0], np.cumsum(np.bincount(users, minlength=n_users))])
        self.block = Block(indptr, items.astype(np.int32), r.astype(np.float32))
        self.settings, self.descent, self.total = settings, descent, float(len(r))
        self.half = 1.0 if descent.loss == "squared" else 0.5
        counts = [np.bincount(users, minlength=n_users), np.bincount(items)]
        self.ridges = [ridge(n, reg, settings.exponent) for n, reg in zip(counts, settings.reg_param, strict=True)]

    def _collect(self, factors, step, last):
        loss, batch = LOSSES[self.descent.loss], Batch(1.0 if last else self.descent.share, step)
        found = gradient_block(self.block, *factors.sides, self.settings, loss, factors.intercept, batch)
        return [found[0].astype(float), found[1].astype(float)], found[2]


@pytest.mark.parametrize("loss", list(LOSSES))
def test_whole_gradient_is_the_finite_difference_of_the_history_s_loss(loss):
    """Fit and regularisation together: half the regularisation for the losses other than the squared one."""
    settings = Settings(2, reg_param=(0.3, 0.7), exponent=0.5, bias=(True, True), dtype="float64")
    r, rng = np.minimum(R, 1) if loss == "logistic" else R, np.random.default_rng(3)
    gradients = LocalPass(USERS, ITEMS, r, 23, settings, Descent(loss=loss))
    sides = [np.zeros((n, settings.padded)) for n in (23, 15)]
    for side in sides:
        side[:, :3] = rng.uniform(0.1, 0.8, (len(side), 3))
    found = gradients.at(Factors(sides, 0.3), 0)
    ridges = [0.3 * np.bincount(USERS) ** 0.5, 0.7 * np.bincount(ITEMS) ** 0.5]
    penalty = sum(own @ np.sum(side**2, axis=1) for own, side in zip(ridges, sides, strict=True)) / len(R)
    assert found.regularisation == pytest.approx(penalty * (1 if loss == "squared" else 0.5))
    for side, place in ((0, (4, 1)), (0, (7, 2)), (1, (3, 0)), (1, (14, 2))):
        values = []
        for h in (1e-5, -1e-5):
            moved = [one.copy() for one in sides]
            moved[side][place] += h
            values.append(gradients.at(Factors(moved, 0.3), 0).loss)
        assert found.sides[side][place] == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5, abs=1e-8)
    values = [gradients.at(Factors(sides, 0.3 + h), 0).loss for h in (1e-5, -1e-5)]
    assert found.intercept == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5)


def synthetic(loss, seed, n_users=600, n_items=500, share=0.9):
    """Return users, items, ratings and true means of data drawn from the loss's own model, rank 2."""
    rng = np.random.default_rng(seed)
    users, items = np.nonzero(rng.random((n_users, n_items)) < share)
    if loss == "poisson_identity":
        scores = rng.gamma(2.0, 1.0, (n_users, 2)) @ rng.gamma(2.0, 1.0, (2, n_items))
    else:
        U, V = rng.normal(0, 0.6, (n_users, 2)), rng.normal(0, 0.6, (n_items, 2))
        scores = 0.4 + rng.normal(0, 0.4, (n_users, 1)) + rng.normal(0, 0.4, n_items) + U @ V.T
    means = LOSSES[loss].response(scores[users, items])
    draws = {"squared": lambda m: rng.normal(m, 0.5), "logistic": lambda m: (rng.random(len(m)) < m).astype(float)}
    return users, items, draws.get(loss, rng.poisson)(means), means


def deviance(loss, r, mean):
    """Mean deviance: twice the mean log likelihood ratio to the saturated model."""
    if loss == "squared":
        return np.mean((r - mean) ** 2)
    if loss == "logistic":
        return -2 * np.mean(np.where(r > 0, np.log(mean), np.log1p(-mean)))
    return 2 * np.mean(np.where(r > 0, r * np.log(np.maximum(r, 1) / mean), 0) - (r - mean))


# Regularisation, first learning rate, its decay, steps.
RECOVERY = {
    "squared": (1e-3, 0.1, 0.02, 200),
    "logistic": (5e-3, 0.1, 0.02, 200),
    "poisson": (1e-2, 0.05, 0.01, 300),
    "poisson_identity": (1e-4, 0.5, 0.01, 400),
}


@pytest.mark.parametrize("loss", list(RECOVERY))
def test_data_from_each_model_recovers_it(loss):
    """Held-out deviance within 2 % of the true model's (RMSE within 1 % for the squared loss)."""
    users, items, r, means = synthetic(loss, seed=5)
    held = np.random.default_rng(1).random(len(r)) < 0.1
    reg, rate, decay, steps = RECOVERY[loss]
    identity = loss == "poisson_identity"
    settings = Settings(2, reg_param=(reg, reg), bias=(not identity, not identity), nonnegative=identity)
    descent = Descent(loss=loss, rate=rate, schedule="exponential", decay=decay, intercept=not identity)
    gradients = LocalPass(users[~held], items[~held], r[~held], 600, settings, descent)
    rng = np.random.default_rng(0)
    sides = [np.zeros((n, settings.padded), np.float32) for n in (600, 500)]
    for side in sides:
        side[:, :2] = np.abs(rng.normal(0, 2, (len(side), 2))) if identity else rng.normal(0, 0.1, (len(side), 2))
    factors = Factors(sides, 0.0 if identity else LOSSES[loss].link(r[~held].mean()))
    history = run(Steps(gradients, steps), start(gradients, factors), Stopping(steps))
    assert history[-1].loss < history[0].loss
    X, Y = (side.astype(float) for side in factors.sides)
    scores = factors.intercept + np.sum(X[users, :2] * Y[items, :2], axis=1)
    scores += 0.0 if identity else X[users, 2] + Y[items, 2]
    comp = LOSSES[loss].response(scores)
    truth = deviance(loss, r[held], means[held])
    assert deviance(loss, r[held], comp[held]) < 1.02 * truth
    assert deviance(loss, r[held], np.full(held.sum(), r[~held].mean())) > 1.1 * truth  # there is something to learn
    assert np.corrcoef(comp, means)[0, 1] > 0.94


BAD = [
    (dict(loss="hinge"), "loss must be one of squared, logistic, poisson, poisson_identity"),
    (dict(solver="lbfgs"), "solver must be one of gd, momentum, rmsprop, adam"),
    (dict(stepSchedule="adagrad"), "stepSchedule must be one of constant, inverse"),
    (dict(stepSize=0.0), "stepSize must be > 0"),
    (dict(miniBatchFraction=1.5), "miniBatchFraction must be > 0 and at most 1"),
    (dict(momentum=1.0), "momentum must be at least 0 and below 1"),
    (dict(solver="gd", momentum=0.5), "momentum takes effect only with solver"),
    (dict(solver="momentum", squareDecay=0.5), "squareDecay takes effect only with solver"),
    (dict(decay=0.5), "decay takes effect only with stepSchedule"),
    (dict(loss="poisson_identity"), "needs nonnegative=True"),
    (dict(loss="logistic", nonnegative=True), "nonnegative is for the losses"),
    (dict(miniBatchFraction=0.5, tol=0.1), "need the exact loss"),
    (dict(miniBatchFraction=0.5, stepSchedule="bold_driver"), "need the exact loss"),
]


@pytest.mark.parametrize("values,message", BAD, ids=[str(values) for values, _ in BAD])
def test_parameters_that_cannot_take_effect(spark, values, message):
    with pytest.raises(ParameterError, match=message):
        GradientDescent(**values).fit(checkerboard(spark))


def test_ratings_that_the_loss_is_not_defined_for(spark):
    with pytest.raises(DataError, match="'rating' has ratings such as 5.0, but loss 'logistic' needs 0 or 1"):
        GradientDescent(loss="logistic").fit(checkerboard(spark))
    with pytest.raises(DataError, match="loss 'poisson' needs a count"):
        GradientDescent(loss="poisson").fit(checkerboard(spark).withColumn("rating", F.col("rating") - 2))
