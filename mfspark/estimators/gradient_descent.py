"""Matrix factorization by full-batch gradient descent."""

from __future__ import annotations

import numpy as np
from pyspark.ml.param import TypeConverters
from pyspark.ml.param.shared import HasSolver, HasStepSize
from pyspark.sql import DataFrame

from mfspark.blocks.build import Layout
from mfspark.blocks.profile import Profile, Totals
from mfspark.errors import ParameterError
from mfspark.estimators.keywords import keywords
from mfspark.estimators.losses import LossEstimator
from mfspark.kernels.objective import Settings
from mfspark.kernels.optimisers import OPTIMISERS, RATE_SCHEDULES, Hyper
from mfspark.model.factorization import Factorization
from mfspark.model.params import _param
from mfspark.training.checkpoint import Checkpoints
from mfspark.training.gradient_descent import Descent, Pass, Steps, row_weights, start
from mfspark.training.history import Iteration
from mfspark.training.loop import run
from mfspark.training.starts import Start, initial_factors


class GradientDescent(LossEstimator, HasSolver, HasStepSize):
    """Matrix factorization by gradient descent over all observed ratings at once ("Funk SVD", full batch).

    Minimises, over factors x, biases b and intercept alpha (which is not regularised),

        (1/N) sum over the ratings of w l(alpha + b_u + b_i + x_u . y_i, r)
          + lambda_U sum_u (N_u/N)^nu (b_u^2 + |x_u|^2) + lambda_V sum_i (N_i/N)^nu (b_i^2 + |y_i|^2)

    where N is the sum of the weights w, and N_u that of one user's ratings. With ``regExponent`` nu = 1 this is ALS's
    objective divided by N, so that the same regParam has the same minimum as ``ALS``; with nu = 0 it is the plain
    biased latent factor model. For the other losses the regularisation is halved, as in ``SGD``, so that with nu = 0
    N lambda_U is the precision of a Gaussian prior. The gradients for the squared error are dE/dX = -(2/N) D Y and
    dE/dY = -(2/N) D^T X with D = mask o (R - predictions) (Funk 2006; Koren, Bell, Volinsky 2009), computed block by
    block.

    Parameters
    ----------
    rank : int, default 10
        Number of factors.
    maxIter : int, default 100
        Number of steps; each is one pass over the ratings.
    loss : str, default "squared"
        "squared" (r - s)^2; "logistic" for labels 0 and 1; "poisson" for counts, mean exp(s); "poisson_identity" for
        counts, mean s, needs ``nonnegative``. Predictions are on the scale of the ratings: probabilities, means.
    solver : str, default "adam"
        "gd", "momentum", "rmsprop" or "adam". The gradient is that of a mean over N ratings: "gd" and "momentum" need
        a stepSize of the order of the number of users or items; "rmsprop" and "adam" do not depend on its scale.
    stepSize : float, default 0.05
        The first learning rate.
    stepSchedule : str, default "constant"
        With t the step: "constant"; "inverse" stepSize / (1 + decay t); "exponential" stepSize exp(-decay t);
        "step" as exponential, but changing only every ``stepInterval`` steps; "bold_driver" 5 % more after a fall of
        the loss, half and the step undone after a rise: the loss never rises.
    decay : float, default 0.01
        See stepSchedule.
    stepInterval : int, default 10
        See stepSchedule.
    momentum : float, default 0.9
        Of "momentum"; beta_1 of "adam".
    squareDecay : float, optional
        Of "rmsprop" (default 0.9); beta_2 of "adam" (default 0.999).
    clipNorm : float, optional
        The largest Euclidean norm of a gradient; a larger one is scaled down.
    miniBatchFraction : float, default 1
        The share of the ratings, chosen by a hash of step and pair, that a step looks at. Below 1 the history's loss
        is an estimate except in its last row, and neither tol nor "bold_driver" can be used.
    regParam, regParamUser, regParamItem, regExponent : float, default 0.1, regParam, regParam, 1
        lambda, lambda_U, lambda_V, nu.
    userBias, itemBias, center : bool, default False
        b_u, b_i, and alpha, which starts at the mean rating (its link) and is learned.
    nonnegative : bool, default False
        Factors >= 0: projected after each step.
    initStd : float, default 0.1
        The start is N(0, initStd^2 / rank); its absolute value where nonnegative.
    initMode : str, default "auto"
        "normal"; "positive", its absolute value; "auto": positive where squared errors of uncentred ratings are fitted.
    tol : float, default 0
        Stop when the loss falls by less than this share in a step; 0 never stops early.
    weightCol, validationIndicatorCol, clip, numUserBlocks, verbose
        As in ``ALS``.
    seed : int, default 0
        The same seed, data and number of blocks give the same factors.
    userCol, itemCol, ratingCol, predictionCol, coldStartStrategy, filterSeen, blockSize, precision
        As in ``ALS``.
    carrier, materializer, intermediateStorageLevel, finalStorageLevel, workPath, checkpointInterval
        As in ``ALS``.

    Raises
    ------
    ParameterError
        By ``fit``, before any Spark job: a value or a combination that cannot take effect; it names what can.
    DataError
        By ``fit``: a column is missing or has nulls, NaN or another type; ratings that the loss is not defined for.
    TrainingError
        By ``fit``: the loss is not finite: the step is too large.

    Examples
    --------
    >>> from mfspark import GradientDescent
    >>> model = GradientDescent(rank=2, loss="logistic", center=True).fit(labels)
    """

    stepSchedule = _param("stepSchedule", "one of " + ", ".join(RATE_SCHEDULES), TypeConverters.toString)
    decay = _param("decay", "how fast the learning rate falls, per step", TypeConverters.toFloat)
    stepInterval = _param("stepInterval", "steps between two falls (stepSchedule 'step')", TypeConverters.toInt)
    momentum = _param("momentum", "share of the last direction that is kept, in [0, 1)", TypeConverters.toFloat)
    squareDecay = _param("squareDecay", "share of the mean squared gradient that is kept", TypeConverters.toFloat)
    clipNorm = _param("clipNorm", "largest norm of a gradient, > 0", TypeConverters.toFloat)
    miniBatchFraction = _param(
        "miniBatchFraction", "share of the ratings a step looks at, in (0, 1]", TypeConverters.toFloat
    )

    @keywords
    def __init__(
        self,
        *,
        rank: int = 10,
        maxIter: int = 100,
        regParam: float = 0.1,
        regParamUser: float | None = None,
        regParamItem: float | None = None,
        regExponent: float = 1.0,
        loss: str = "squared",
        nonnegative: bool = False,
        userBias: bool = False,
        itemBias: bool = False,
        center: bool = False,
        clip: bool = False,
        solver: str = "adam",
        stepSize: float = 0.05,
        stepSchedule: str = "constant",
        decay: float = 0.01,
        stepInterval: int = 10,
        momentum: float = 0.9,
        squareDecay: float | None = None,
        clipNorm: float | None = None,
        miniBatchFraction: float = 1.0,
        tol: float = 0.0,
        initMode: str = "auto",
        initStd: float = 0.1,
        seed: int = 0,
        userCol: str = "user",
        itemCol: str = "item",
        ratingCol: str = "rating",
        weightCol: str | None = None,
        validationIndicatorCol: str | None = None,
        predictionCol: str = "prediction",
        coldStartStrategy: str = "nan",
        filterSeen: bool = False,
        blockSize: int = 4096,
        numUserBlocks: int | None = None,
        precision: str = "float32",
        carrier: str = "auto",
        materializer: str = "auto",
        intermediateStorageLevel: str = "MEMORY_AND_DISK",
        finalStorageLevel: str = "MEMORY_AND_DISK",
        workPath: str | None = None,
        checkpointInterval: int = 10,
        verbose: bool | None = None,
    ) -> None: ...

    def _check(self) -> None:
        """Raise ParameterError for a value or a combination that cannot take effect."""
        super()._check()
        value = self.getOrDefault
        self._check_choice("solver", OPTIMISERS)
        self._check_choice("stepSchedule", RATE_SCHEDULES)
        for name, low, high in (("stepSize", 0, np.inf), ("clipNorm", 0, np.inf), ("miniBatchFraction", 0, 1)):
            given = self._optional(name)
            if given is not None and not (low < given <= high and np.isfinite(given)):
                raise ParameterError(f"{name} must be > {low} and at most {high}, not {given}")
        for name in ("momentum", "squareDecay"):
            given = self._optional(name)
            if given is not None and not 0 <= given < 1:
                raise ParameterError(f"{name} must be at least 0 and below 1, not {given}")
        if value("miniBatchFraction") < 1 and (value("tol") > 0 or value("stepSchedule") == "bold_driver"):
            raise ParameterError("tol and stepSchedule 'bold_driver' need the exact loss: miniBatchFraction=1")
        self._check_effect()

    def _check_effect(self) -> None:
        value = self.getOrDefault
        if value("solver") not in ("momentum", "adam"):
            self._refuse(("momentum",), "takes effect only with solver 'momentum' or 'adam'")
        if value("solver") not in ("rmsprop", "adam"):
            self._refuse(("squareDecay",), "takes effect only with solver 'rmsprop' or 'adam'")
        if value("stepSchedule") not in ("inverse", "exponential", "step"):
            self._refuse(("decay",), "takes effect only with stepSchedule 'inverse', 'exponential' or 'step'")
        if value("stepSchedule") != "step":
            self._refuse(("stepInterval",), "takes effect only with stepSchedule 'step'")

    def _settings(self, found: Totals) -> Settings:
        """Return the parameters as the kernels take them: lambda in ALS's units, beside the sum of the losses."""
        value = self.getOrDefault
        scale = found.weight ** (1 - value("regExponent"))
        user, item = self._lambdas()
        return Settings(
            rank=value("rank"),
            loss=value("loss"),
            center="learned" if value("center") else "none",
            reg_param=(user * scale, item * scale),
            bias=(value("userBias"), value("itemBias")),
            exponent=value("regExponent"),
            nonnegative=value("nonnegative"),
            dtype=value("precision"),
        )

    def _descent(self) -> Descent:
        """Return how to descend."""
        value = self.getOrDefault
        return Descent(
            loss=value("loss"),
            optimiser=value("solver"),
            rate=value("stepSize"),
            schedule=value("stepSchedule"),
            decay=value("decay"),
            every=value("stepInterval"),
            clip_norm=self._optional("clipNorm"),
            share=value("miniBatchFraction"),
            seed=self._seed(),
            intercept=value("center"),
            hyper=Hyper(value("momentum"), self._optional("squareDecay")),
        )

    def _train(
        self, blocks: DataFrame, layout: Layout, found: Profile, settings: Settings, checkpoints: Checkpoints
    ) -> tuple[Factorization, list[Iteration]]:
        value, loss, limits = self.getOrDefault, self._chosen_loss(), self._limits(found)
        self._check_ratings(found)
        drawn = Start(self._seed(), value("initStd"), "normal" if self._signed_start() else "positive")
        factors = initial_factors(found, settings, drawn)
        factors.intercept = loss.link(found.mean) if value("center") else 0.0
        weights = row_weights(blocks, layout, found)
        gradients = Pass(blocks, layout, settings, self._descent(), weights, limits, value("carrier"))
        steps, position = Steps(gradients, value("maxIter")), start(gradients, factors)
        stopping, earlier = self._stopping("lower stepSize"), checkpoints.resume(position)
        history = run(steps, position, stopping, self._hooks(), earlier, checkpoints)
        return self._result(found, settings, factors.sides, factors.intercept), history
