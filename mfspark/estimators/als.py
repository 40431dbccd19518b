"""Alternating least squares, explicit and implicit."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.ml.param import TypeConverters
from pyspark.ml.param.shared import HasElasticNetParam
from pyspark.sql import DataFrame, SparkSession

from mfspark.blocks import build as block_frames
from mfspark.blocks.profile import Profile, Totals
from mfspark.errors import ParameterError
from mfspark.estimators.initial import StartingEstimator
from mfspark.estimators.keywords import keywords
from mfspark.kernels.objective import CONFIDENCES, Settings
from mfspark.model.factorization import Factorization
from mfspark.model.params import _param
from mfspark.training import als_barrier
from mfspark.training.als import Factors, HalfSteps
from mfspark.training.checkpoint import NEVER, Checkpoints
from mfspark.training.history import Iteration
from mfspark.training.loop import Hook, Stopping, run
from mfspark.training.placement import LOOPS, OLD_LOOPS, Placement, choose
from mfspark.training.progress import pace
from mfspark.training.starts import POWER_STEPS, initial_factors, of_length, power_length, power_settings

SOLVER_NAMES = ("auto", "cholesky", "dual", "cg", "subspace", "coordinate")


class ALS(StartingEstimator, HasElasticNetParam):
    """Matrix factorization by alternating least squares, a drop-in for ``pyspark.ml.recommendation.ALS``.

    Explicit ratings: minimises sum w (r - x_u . y_i)^2 + sum_u lambda_U n_u^nu |x_u|^2 + sum_i lambda_V n_i^nu |y_i|^2
    (ALS-WR, Zhou et al. 2008, section 3.1). Implicit feedback: minimises the same regularisation plus
    sum over all pairs c (p - x_u . y_i)^2 (Hu, Koren, Volinsky 2008, section 4).

    Parameters
    ----------
    rank : int, default 10
        Number of factors.
    maxIter : int, default 10
        Number of iterations (each solves items, then users).
    regParam, regParamUser, regParamItem : float, default 0.1, regParam, regParam
        lambda, lambda_U, lambda_V.
    regExponent : float, default 1
        nu: lambda is scaled by (number of ratings) ** nu. MLlib scales so (nu = 1); ``implicit`` does not (nu = 0).
    implicitPrefs : bool, default False
        Whether ratings are feedback over all pairs.
    alpha : float, default 1
        How fast confidence grows with the rating.
    confidence : str, default "mllib"
        The confidence of an observed pair: "mllib" w0 + alpha |r|, "linear" alpha |r| (as ``implicit``),
        "log" w0 + alpha log(1 + |r|), "ials" alpha |r| on top of w0 (Rendle et al. 2022). In all of them a rating > 0
        is a like (p = 1), any other a dislike (p = 0) held with that confidence.
    unobservedWeight : float, default 1
        w0, the weight of pairs that are not in the data (implicit only).
    nonnegative : bool, default False
        Factors >= 0, by exact non-negative least squares.
    userBias, itemBias, center : bool, default False
        A bias per user, per item, and the mean rating as intercept, solved jointly with the factors (explicit only).
    clip : bool, default False
        Clip predictions to the range of the training ratings (explicit only).
    solver : str, default "auto"
        "cholesky"; "dual" (as cholesky, but by the exact n x n system where a row has few ratings); "cg" (``cgSteps``
        warm-started conjugate gradient steps, Takacs et al. 2011); "subspace" (iALS++, Rendle et al. 2021);
        "coordinate" (one factor or bias of one id at a time with the residuals kept, one sweep per half step; Pilaszy
        et al. 2010, also with nonnegative and elasticNetParam; updates are sequential, so that the loss never rises:
        simultaneous ones can diverge, see ``mfspark.kernels.als.coordinate`` for the closed forms); "auto".
    elasticNetParam : float, default 0
        a in [0, 1], as in pyspark.ml: a row's penalty becomes lambda n^nu ((1 - a) |x|_2^2 + 2 a |x|_1), which is
        twice the count times pyspark.ml's lambda ((1 - a)/2 |x|_2^2 + a |x|_1), as the squared error here is twice the
        count times its mean half. Sets factors (and biases) to exactly 0; solved by coordinate descent.
    loop : str, default "auto"
        "jobs": a Spark job per half step, which survives the loss of a worker; "barrier": one job whose tasks all run
        at once (a barrier stage) and exchange factors directly, faster where half steps are short; "auto": a barrier
        stage on one machine. "gang", the former name of "barrier", still works.
    weightCol : str, optional
        Column of weights >= 0: a rating of weight 2 counts as two.
    validationIndicatorCol : str, optional
        Boolean column: rows that are not trained on, but whose RMSE is in the history.
    tol : float, default 0
        Stop when the loss falls by less than this share in an iteration; 0 never stops early.
    cgSteps, subspaceSize : int, default 3, 64
        See solver; each takes effect with its own solver only.
    initStd : float, default 1
        The scale of the start: its rows have a mean square length of initStd^2.
    initMode : str, default "auto"
        "normal": N(0, initStd^2 / rank). "mllib": rows of length initStd in uniformly random directions. "positive":
        the absolute value of "normal", which on uncentred ratings lowers the loss more slowly and generalises better
        (ml-1m, rank 64, 15 iterations: RMSE 0.842, not 0.848). "power" (explicit only): "normal", turned towards the
        data by two steps of the power iteration on the mean ratings; two sweeps more. "auto": "normal" where ratings
        are implicit or centred; else "positive" where none is negative, or nonnegative is set; else "power". A random
        start that happens to be nearly orthogonal to the factors ends far from them: of 50 seeds on an exact matrix of
        rank 1 (480 ratings of both signs, 10 iterations) 3 with "normal", none with "power".
    seed : int, default 0
        The same seed and data give the same factors.
    userCol, itemCol, ratingCol, predictionCol : str, default "user", "item", "rating", "prediction"
        Columns; ids are strings or whole numbers of any size. With an empty ratingCol every rating is 1.
    coldStartStrategy : str, default "nan"
        What ``transform`` does with pairs whose user or item is unknown: "nan" predicts NaN, "drop" drops them,
        "mean" predicts the intercept plus the known id's bias where the model has both, else the mean rating.
    filterSeen : bool, default False
        Whether ``recommendFor*`` leaves out the pairs of the training data.
    blockSize : int, default 4096
        Rows that ``recommendFor*`` scores at once.
    numUserBlocks, numItemBlocks : int, optional
        Blocks of each side, at least 1; by default by size and cores (MLlib: 10).
    precision : str, default "float32"
        "float32" or "float64".
    carrier : str, default "auto"
        How a side's factors reach the workers: "broadcast"; "join" (Connect too); "exchange": ids and factors stay on
        the workers, which send each other the rows they need by a shuffle, and a model beyond the driver's limit stays
        there as well; or "auto": "exchange" where ids and factors would pass this limit, ``spark.mfspark.driverLimit``
        bytes (a quarter of the driver's memory, at least 512 MiB). All give the same factors.
    materializer : str, default "auto"
        How blocks are kept: "persist", "checkpoint", "delta" (a table in workPath), "none", or "auto": persist, where
        the platform allows it.
    intermediateStorageLevel, finalStorageLevel : str, default "MEMORY_AND_DISK", "MEMORY_AND_DISK"
        Storage levels by MLlib's names, ``_SER`` and ``_2`` among them, of the persisted blocks (not "NONE") and of
        ``userFactors`` and ``itemFactors``. The model keeps its factors in the driver: they are persisted too only
        where finalStorageLevel is set, to another level than "NONE".
    workPath : str, optional
        Folder for intermediate tables (materializer "delta") and checkpoints.
    checkpointInterval : int, default 10
        After so many iterations the state of the loop goes to Delta, again and again until the last iteration; -1:
        never. Unless it is set, fits of a few seconds store nothing. A fit that was killed goes on from its last whole
        checkpoint, and ends with the factors of one that was not. Without workPath it has no effect, but in a train
        job, whose place is the store and whose key the run id.
        In workPath the table is called by the estimator's class, its parameters and a digest of the ratings, so that
        the same fit finds it and no other does; it is removed when the fit ends. A loop that is a barrier stage is one
        stage a checkpoint. It cuts no lineage, as it does in MLlib: none grows.
    verbose : bool, optional
        Whether progress is told on stderr; by default on a terminal only.

    Raises
    ------
    ParameterError
        By ``fit``, before any Spark job: a value or a combination that cannot take effect; it names what can.
    DataError
        By ``fit``: a column is missing or has nulls, NaN or another type; implicit ratings are all <= 0.
    TrainingError
        By ``fit``: a row's equations have no finite solution, or the loss is not finite.

    Notes
    -----
    The explicit objective with nu = 0 is the negative log posterior, times 2 sigma^2, of r ~ N(x_u . y_i, sigma^2)
    with the priors x_u ~ N(0, sigma_u^2 I), y_i ~ N(0, sigma_i^2 I) (Salakhutdinov, Mnih 2007, section 2): ALS finds a
    maximum a posteriori with lambda_U = sigma^2 / sigma_u^2 and lambda_V = sigma^2 / sigma_i^2. With nu = 1 a row's
    prior narrows with the number of its ratings. The L1 part is a Laplace prior of scale sigma^2 / (lambda a).

    Examples
    --------
    >>> from mfspark import ALS
    >>> model = ALS(rank=2, maxIter=5, seed=0).fit(ratings)
    >>> model.recommendForAllUsers(10).show()
    """

    implicitPrefs = _param("implicitPrefs", "whether ratings are implicit feedback", TypeConverters.toBoolean)
    alpha = _param("alpha", "how fast confidence grows with the rating (implicit)", TypeConverters.toFloat)
    confidence = _param("confidence", "form of the confidence: " + ", ".join(CONFIDENCES), TypeConverters.toString)
    unobservedWeight = _param(
        "unobservedWeight", "w0, the weight of unobserved pairs (implicit)", TypeConverters.toFloat
    )
    _init_modes = ("auto", "mllib", "normal", "positive", "power")

    loop = _param("loop", "where the loop runs: one of " + ", ".join(LOOPS), TypeConverters.toString)
    solver = _param("solver", "one of " + ", ".join(SOLVER_NAMES), TypeConverters.toString)
    cgSteps = _param("cgSteps", "conjugate gradient steps per half step (solver 'cg')", TypeConverters.toInt)
    subspaceSize = _param("subspaceSize", "dimensions per step (solver 'subspace')", TypeConverters.toInt)

    @keywords
    def __init__(
        self,
        *,
        rank: int = 10,
        maxIter: int = 10,
        regParam: float = 0.1,
        regParamUser: float | None = None,
        regParamItem: float | None = None,
        regExponent: float = 1.0,
        implicitPrefs: bool = False,
        alpha: float = 1.0,
        confidence: str = "mllib",
        unobservedWeight: float = 1.0,
        nonnegative: bool = False,
        elasticNetParam: float = 0.0,
        userBias: bool = False,
        itemBias: bool = False,
        center: bool = False,
        clip: bool = False,
        solver: str = "auto",
        cgSteps: int = 3,
        subspaceSize: int = 64,
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
        loop: str = "auto",
        precision: str = "float32",
        carrier: str = "auto",
        materializer: str = "auto",
        intermediateStorageLevel: str = "MEMORY_AND_DISK",
        finalStorageLevel: str = "MEMORY_AND_DISK",
        workPath: str | None = None,
        checkpointInterval: int = 10,
        verbose: bool | None = None,
    ) -> None: ...

    def setNumBlocks(self, value: int) -> ALS:
        """Set both numbers of blocks."""
        return self.setParams(numUserBlocks=value, numItemBlocks=value)  # type: ignore[return-value]

    def _check(self) -> None:
        """Raise ParameterError for a value or a combination that cannot take effect."""
        super()._check()
        self._check_choice("confidence", CONFIDENCES)
        self._check_choice("solver", SOLVER_NAMES)
        if self.getOrDefault("loop") not in OLD_LOOPS:
            self._check_choice("loop", LOOPS)
        implicit = self.getOrDefault("implicitPrefs")
        if implicit:
            if self.getOrDefault("initMode") == "power":
                raise ParameterError("initMode 'power' takes effect only with implicitPrefs=False")
            self._refuse(("userBias", "itemBias", "center", "clip"), "takes effect only with implicitPrefs=False")
        else:
            self._refuse(("alpha", "confidence", "unobservedWeight"), "takes effect only with implicitPrefs=True")
        linear = self.getOrDefault("confidence") == "linear" and self.getOrDefault("unobservedWeight") > 0
        if linear and self._optional("weightCol"):  # alpha r - w0 may be negative, and a weight would multiply it
            raise ParameterError(
                "weightCol takes effect with confidence 'linear' only if unobservedWeight is 0: "
                "multiply the ratings instead"
            )
        if self.getOrDefault("alpha") < 0 or self.getOrDefault("unobservedWeight") < 0:
            raise ParameterError("alpha and unobservedWeight must be >= 0")
        if not 0 < self.getOrDefault("initStd") < float("inf"):
            raise ParameterError(f"initStd must be a finite number > 0, not {self.getOrDefault('initStd')}")
        if not 0 <= self.getOrDefault("elasticNetParam") <= 1:
            raise ParameterError(f"elasticNetParam must be in [0, 1], not {self.getOrDefault('elasticNetParam')}")
        for name in ("nonnegative", "elasticNetParam"):
            if self.getOrDefault(name) and self.getOrDefault("solver") not in ("auto", "coordinate"):
                raise ParameterError(f"{name} has its own solver: leave solver at 'auto', or set 'coordinate'")
        for name, solver in (("cgSteps", "cg"), ("subspaceSize", "subspace")):
            if self.getOrDefault(name) < 1:
                raise ParameterError(f"{name} must be at least 1, not {self.getOrDefault(name)}")
            if self.getOrDefault("solver") != solver:
                self._refuse((name,), f"takes effect only with solver {solver!r}")

    def _settings(self, found: Totals | None = None) -> Settings:  # noqa: ARG002
        """Return the parameters as the kernels take them, seen from the user side."""
        value = self.getOrDefault
        share, both = value("elasticNetParam"), self._lambdas()
        constrained = value("nonnegative") or share > 0
        steps = 1 if value("solver") == "coordinate" else 200 if constrained else value("cgSteps")
        return Settings(
            rank=value("rank"),
            center="mean" if value("center") else "none",
            implicit=value("implicitPrefs"),
            confidence=value("confidence"),
            alpha=value("alpha"),
            w0=value("unobservedWeight"),
            reg_param=((1 - share) * both[0], (1 - share) * both[1]),
            l1=(2 * share * both[0], 2 * share * both[1]),
            bias=(value("userBias"), value("itemBias")),
            exponent=value("regExponent"),
            solver=value("solver"),
            steps=steps,
            size=value("subspaceSize"),
            nonnegative=value("nonnegative"),
            dtype=value("precision"),
        )

    def _placement(self, spark: SparkSession, blocks: int) -> Placement:
        plain = self.getOrDefault("carrier") in ("auto", "broadcast") and self.getOrDefault("materializer") == "auto"
        return choose(spark, "jobs" if self._most_tasks else self.getOrDefault("loop"), blocks, plain)

    def _train(
        self,
        blocks: DataFrame,
        layout: block_frames.Layout,
        found: Profile,
        settings: Settings,
        checkpoints: Checkpoints,
    ) -> tuple[Factorization, list[Iteration]]:
        limits, (start, power) = self._limits(found), self._start(found, settings)
        factors = initial_factors(found, settings, start)
        factors.intercept = found.mean if self.getOrDefault("center") else 0.0
        if power and not checkpoints.found:
            powered = power_settings(settings, start.std, found, factors.intercept)
            steps = als_barrier.Job(layout, powered, Stopping(POWER_STEPS))
            self._alternate(blocks, steps, factors)
            length = power_length(settings, found.rows, len(found.sides[1]), start.std)
            factors.sides = [of_length(side, settings.rank, length) for side in factors.sides]
        every = pace(self._optional("verbose"))
        job = als_barrier.Job(layout, settings, self._stopping(), limits, type(self).__name__, every)
        history = self._alternate(blocks, job, factors, self._hooks(), checkpoints)
        return self._result(found, settings, factors.sides, factors.intercept), history

    def _alternate(
        self,
        blocks: DataFrame,
        job: als_barrier.Job,
        factors: Factors,
        hooks: Sequence[Hook] = (),
        checkpoints: Checkpoints = NEVER,
    ) -> list[Iteration]:
        """Run sweeps, replacing ``factors``; ``hooks`` are told of those that run as jobs."""
        if job.stopping.max_iter == 0:
            return []
        if self._placement(blocks.sparkSession, job.layout.blocks).barrier:
            return als_barrier.fit(blocks, job, factors, checkpoints)
        half_steps = HalfSteps(blocks, job.layout, job.settings, job.limits, self.getOrDefault("carrier"))
        return run(half_steps, factors, job.stopping, hooks, checkpoints.resume(factors), checkpoints)

    def _start_mode(self, found: Totals) -> str:
        """Return the start that is drawn: see initMode."""
        mode = self.getOrDefault("initMode")
        if self.getOrDefault("nonnegative"):
            return "positive"
        if mode != "auto":
            return mode
        if self._implicit() or self.getOrDefault("center"):
            return "normal"
        return "positive" if found.low >= 0 else "power"
