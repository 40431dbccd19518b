"""Matrix factorization by stratified distributed stochastic gradient descent."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
from pyspark.ml.param import TypeConverters
from pyspark.ml.param.shared import HasStepSize
from pyspark.sql import DataFrame

from mfspark.blocks.build import Layout
from mfspark.blocks.exchange import HashLayout
from mfspark.blocks.profile import Profile, Totals
from mfspark.blocks.routes import numbered
from mfspark.errors import ParameterError
from mfspark.estimators.base import Encoded
from mfspark.estimators.exchange import ExchangeEstimator
from mfspark.estimators.keywords import keywords
from mfspark.estimators.losses import LossEstimator
from mfspark.kernels.csr import Side, balanced_bounds
from mfspark.kernels.objective import Settings
from mfspark.kernels.schedules import STEP_SCHEDULES
from mfspark.kernels.sgd.cells import Recipe
from mfspark.model.answers import Fitted
from mfspark.model.factorization import Factorization
from mfspark.model.params import _param
from mfspark.training import sgd_exchange
from mfspark.training.checkpoint import Checkpoints
from mfspark.training.history import Iteration
from mfspark.training.placement import share
from mfspark.training.progress import pace
from mfspark.training.sgd import fit
from mfspark.training.sgd_worker import Job
from mfspark.transport.persist import Workspace

COUNT_LOSSES = ("poisson", "poisson_identity")


class SGD(LossEstimator, ExchangeEstimator, HasStepSize):
    """Matrix factorization by stochastic gradient descent, rating by rating, on all workers at once (DSGD).

    With the score s = alpha + b_u + b_i + x_u . y_i, minimises for the squared loss ALS's objective,

        sum w (r - s)^2 + sum_u lambda_U n_u^nu (b_u^2 + |x_u|^2) + sum_i lambda_V n_i^nu (b_i^2 + |y_i|^2),

    and for the other losses sum w l(s, r) plus half that regularisation; n is the sum of a row's weights. A visit of
    one rating moves both rows by step * (w l'(s, r) other + lambda own), as Funk's method and LIBMF do (nu = 1).
    Gemulla, Nijkamp, Haas, Sismanis (2011), "Large-scale matrix factorization with distributed stochastic gradient
    descent": users and items are cut into d blocks each; user factors stay where their ratings are, item factors go
    round. The intercept alpha is the mean rating (its link) with ``center``, else 0; it is not learned.

    All tasks run at once, as one barrier stage of at most as many tasks as there are slots, and talk to each other over
    sockets: dynamic allocation must be off, and executors must be able to reach each other.

    Parameters
    ----------
    rank : int, default 10
        Number of factors.
    maxIter : int, default 20
        Number of epochs; each visits every rating once.
    loss : str, default "squared"
        "squared"; "logistic" for labels 0 and 1; "poisson" for counts, mean exp(s); "poisson_identity" for counts, mean
        s, needs ``nonnegative``. Predictions are on the scale of the ratings: probabilities, means.
    stepSize : float, default 0.1
        The first step. An epoch whose loss is not finite, or more than 10 % above the last one's, is undone and redone
        with half the step.
    stepSchedule : str, default "adagrad"
        With t the epoch: "constant"; "inverse" stepSize / (1 + decay t); "exponential" stepSize exp(-decay t);
        "bold_driver" 5 % more after a fall of the loss, half after a rise; "adagrad" own steps for every row (twin
        learners of Chin, Zhuang, Juan, Lin 2015, as LIBMF).
    decay : float, default 0.1
        See stepSchedule.
    implicitPrefs : bool, default False
        Whether ratings are feedback: a pair of the data is 1 if its rating is > 0, else 0 (under the Poisson losses the
        rating itself), and ``numNegatives`` items that the user has not rated are drawn for it every epoch, as zeros.
    numNegatives : int, default 4
        See implicitPrefs.
    regParam, regParamUser, regParamItem, regExponent : float, default 0.1, regParam, regParam, 1
        lambda, lambda_U, lambda_V, nu. Drawn pairs count as ratings.
    userBias, itemBias, center : bool, default False
        b_u, b_i, and alpha.
    nonnegative : bool, default False
        Factors >= 0: projected after each update.
    initStd : float, default 1
        The start is N(0, initStd^2 / rank); its absolute value where nonnegative.
    initMode : str, default "auto"
        "normal"; "positive", its absolute value; "auto": positive where squared errors of uncentred ratings are fitted.
    numUserBlocks, numItemBlocks : int, optional
        d; both are the same number. By default as many as slots, or more for large data.
    tol : float, default 0
        Stop when the loss falls by less than this share in an epoch; 0 never stops early.
    weightCol, validationIndicatorCol, clip
        As in ``ALS``.
    verbose : bool, optional
        Whether the first task writes a line an epoch on its stderr, which in local mode is the terminal.
    seed : int, default 0
        The same seed, data, blocks and slots give the same factors, bit for bit on one machine.
    userCol, itemCol, ratingCol, predictionCol, coldStartStrategy, filterSeen, blockSize
        As in ``ALS``.
    carrier : str, default "auto"
        As in ``ALS``. With "exchange" ids go to blocks by hash and both sides stay on the workers, from the ratings to
        the model; these are other blocks than those of "broadcast", and so are the factors. Every task still counts the
        ratings of all items, 16 bytes each.
    materializer, intermediateStorageLevel, finalStorageLevel, workPath, checkpointInterval
        As in ``ALS``.

    Raises
    ------
    ParameterError
        By ``fit``, before any Spark job: a value or a combination that cannot take effect; it names what can.
    DataError
        By ``fit``: a column is missing or has nulls, NaN or another type; ratings that the loss is not defined for.
    TrainingError
        By ``fit``: the loss stays not finite however small the step.

    Notes
    -----
    The loss in the history adds up what every visit found just before its update: it is not that of the epoch's final
    factors. The validation RMSE and the regularisation are.

    Examples
    --------
    >>> from mfspark import SGD
    >>> model = SGD(rank=2, maxIter=20, seed=0).fit(ratings)
    """

    stepSchedule = _param("stepSchedule", "one of " + ", ".join(STEP_SCHEDULES), TypeConverters.toString)
    decay = _param("decay", "how fast the step falls (stepSchedule 'inverse', 'exponential')", TypeConverters.toFloat)
    implicitPrefs = _param("implicitPrefs", "whether ratings are implicit feedback", TypeConverters.toBoolean)
    numNegatives = _param("numNegatives", "unrated items drawn per rating and epoch (implicit)", TypeConverters.toInt)

    _cut_matters = True

    @keywords
    def __init__(
        self,
        *,
        rank: int = 10,
        maxIter: int = 20,
        regParam: float = 0.1,
        regParamUser: float | None = None,
        regParamItem: float | None = None,
        regExponent: float = 1.0,
        implicitPrefs: bool = False,
        loss: str = "squared",
        nonnegative: bool = False,
        numNegatives: int = 4,
        userBias: bool = False,
        itemBias: bool = False,
        center: bool = False,
        clip: bool = False,
        stepSize: float = 0.1,
        stepSchedule: str = "adagrad",
        decay: float = 0.1,
        tol: float = 0.0,
        initMode: str = "auto",
        initStd: float = 1.0,
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
        numItemBlocks: int | None = None,
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
        self._check_choice("stepSchedule", STEP_SCHEDULES)
        if not 0 < value("stepSize") < np.inf:
            raise ParameterError(f"stepSize must be a finite number > 0, not {value('stepSize')}")
        if not 0 <= value("decay") < np.inf:
            raise ParameterError(f"decay must be a finite number >= 0, not {value('decay')}")
        if value("numNegatives") < 1:
            raise ParameterError(f"numNegatives must be at least 1, not {value('numNegatives')}")
        users, items = (self._optional(name) for name in ("numUserBlocks", "numItemBlocks"))
        if items is not None and items != users:
            raise ParameterError(f"numItemBlocks must be numUserBlocks ({users}) or left out, not {items}")
        self._check_effect()

    def _check_effect(self) -> None:
        value = self.getOrDefault
        if value("stepSchedule") not in ("inverse", "exponential"):
            self._refuse(("decay",), "takes effect only with stepSchedule 'inverse' or 'exponential'")
        if not value("implicitPrefs"):
            self._refuse(("numNegatives",), "takes effect only with implicitPrefs=True")
        elif value("clip"):
            raise ParameterError("clip takes effect only with implicitPrefs=False")

    def _settings(self, found: Totals) -> Settings:  # noqa: ARG002
        """Return the parameters that the model keeps, seen from the user side."""
        value = self.getOrDefault
        return Settings(
            rank=value("rank"),
            loss=value("loss"),
            implicit=value("implicitPrefs"),
            negatives=value("numNegatives") if value("implicitPrefs") else 0,
            center="mean" if value("center") else "none",
            reg_param=self._lambdas(),
            bias=(value("userBias"), value("itemBias")),
            exponent=value("regExponent"),
            nonnegative=value("nonnegative"),
        )

    def _recipe(self, found: Totals, settings: Settings) -> Recipe:
        """Return what is minimised and how, as the kernels take it."""
        value, loss = self.getOrDefault, self._chosen_loss()
        preferred = found.mean if loss.name in COUNT_LOSSES or not settings.negatives else 1.0
        return Recipe(
            settings.rank,
            **asdict(settings.objective),
            mean=loss.link(preferred / (1 + settings.negatives)) if value("center") else 0.0,
            step=value("stepSize"),
            schedule=value("stepSchedule"),
            decay=value("decay"),
            epochs=value("maxIter"),
            tol=value("tol"),
            std=value("initStd"),
            signed=self._signed_start(),
            seed=self._seed(),
            limits=self._limits(found),
        )

    def _train(
        self, blocks: DataFrame, layout: Layout, found: Profile, settings: Settings, checkpoints: Checkpoints
    ) -> tuple[Factorization, list[Iteration]]:
        self._check_ratings(found)
        recipe, users = self._recipe(found, settings), layout.bounds[0]
        items = balanced_bounds(found.sides[1].counts, len(users) - 1, 1.0)
        tasks = share(blocks.sparkSession, len(users) - 1, self._most_tasks).tasks
        every = pace(self._optional("verbose"))
        job = Job(recipe, replace(layout, bounds=(users, items)), tasks, every=every)
        sides, history = fit(blocks, job, checkpoints)
        return self._result(found, settings, sides, recipe.mean), history

    def _hash_layout(self, ratings: Encoded) -> HashLayout:
        """Return how ids are spread: into as many blocks of users as of items."""
        layout = super()._hash_layout(ratings)
        return replace(layout, blocks=layout.blocks[:1] * 2)

    def _moved(self, pairs: int, settings: Settings) -> str:  # noqa: ARG002
        """Return what a sweep shuffles: nothing, tasks send blocks of items to each other."""
        return ""

    def _fit_by_exchange(self, ratings: Encoded, workspace: Workspace) -> tuple[Fitted, list[Iteration]]:
        """Train on blocks by hash; what the tasks come to stays on the workers."""
        found, hashed, spark = ratings.found, self._hash_layout(ratings), ratings.frame.sparkSession
        self._check_ratings(found)
        tasks = share(spark, hashed.blocks[0], self._most_tasks).tasks
        cut = {"carrier": "exchange", "blocks": f"{hashed.blocks[0]} by hash in {tasks} tasks"}
        checkpoints = self._checkpoints(ratings.frame, found, cut)
        exchange = self._exchange(ratings, hashed, workspace)
        recipe = self._recipe(found, exchange.settings)
        exchange = replace(exchange, intercept=recipe.mean)
        layout = sgd_exchange.layout_of(exchange)
        job = Job(recipe, layout, tasks, every=pace(self._optional("verbose")))
        blocks = numbered(exchange.sides, hashed, layout.bounds[Side.ITEM])
        blocks = workspace.keep(blocks) if checkpoints.active else blocks

        def attempt() -> tuple[Fitted, list[Iteration]]:
            state = sgd_exchange.State()
            try:
                history = sgd_exchange.fit(exchange, blocks, job, state, checkpoints)
                sides = [sgd_exchange.packed(exchange, side, state, job, checkpoints.active) for side in Side]
                return self._collected(exchange, exchange.settings, sides, ratings), history
            finally:
                state.close()

        with self._again_with_fewer(layout):
            return self._attempted(attempt, checkpoints)

    def _check_ratings(self, found: Totals) -> None:
        """Raise DataError for ratings that the loss is not defined for; implicit ones become labels 0 and 1."""
        if not self.getOrDefault("implicitPrefs") or self.getOrDefault("loss") in COUNT_LOSSES:
            super()._check_ratings(found)
