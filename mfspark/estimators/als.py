"""Alternating least squares, explicit and implicit."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
from pyspark.ml import Estimator
from pyspark.ml.param import TypeConverters
from pyspark.ml.util import MLReadable, MLWritable
from pyspark.sql import DataFrame

from mfspark.engine import blocks as block_frames
from mfspark.engine.fitting import Iteration, Schedule, alternate, initial_factors
from mfspark.engine.materialise import MATERIALIZERS, materialise
from mfspark.engine.progress import reporter
from mfspark.engine.ratings import Columns, Profile, profile, select
from mfspark.engine.state import Fitted
from mfspark.errors import ParameterError
from mfspark.estimators.params import FactorizationParams, _param
from mfspark.kernels.block import Settings
from mfspark.kernels.confidence import CONFIDENCES
from mfspark.model import FactorizationModel
from mfspark.persistence import ParamsReader, ParamsWriter
from mfspark.session import default_parallelism
from mfspark.store import tables

SOLVER_NAMES = ("auto", "cholesky", "dual", "cg", "subspace")


class ALS(Estimator, FactorizationParams, MLReadable, MLWritable):
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
    regParam : float, default 0.1
        lambda; ``regParamUser`` and ``regParamItem`` default to it.
    regExponent : float, default 1
        nu: lambda is scaled by (number of ratings) ** nu. MLlib scales so (nu = 1); ``implicit`` does not (nu = 0).
    implicitPrefs : bool, default False
        Whether ratings are feedback over all pairs.
    alpha : float, default 1
        How fast confidence grows with the rating.
    confidence : str, default "mllib"
        The confidence of an observed pair: "mllib" w0 + alpha |r|, "linear" alpha r (as ``implicit``),
        "log" w0 + alpha log(1 + |r|), "ials" (Rendle et al. 2022).
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
        warm-started conjugate gradient steps, Takacs et al. 2011); "subspace" (iALS++, Rendle et al. 2021); "auto".
    weightCol : str, optional
        Column of weights >= 0: a rating of weight 2 counts as two.
    validationIndicatorCol : str, optional
        Boolean column: rows that are not trained on, but whose RMSE is in the history.
    tol : float, default 0
        Stop when the loss falls by less than this share in an iteration; 0 never stops early.
    seed : int, default 0
        The same seed and data give the same factors.

    Examples
    --------
    >>> from mfspark import ALS
    >>> model = ALS(rank=2, maxIter=5, seed=0).fit(ratings)        # doctest: +SKIP
    >>> model.recommendForAllUsers(10).show()                      # doctest: +SKIP
    """

    implicitPrefs = _param("implicitPrefs", "whether ratings are implicit feedback", TypeConverters.toBoolean)
    alpha = _param("alpha", "how fast confidence grows with the rating (implicit)", TypeConverters.toFloat)
    confidence = _param("confidence", "form of the confidence: " + ", ".join(CONFIDENCES), TypeConverters.toString)
    unobservedWeight = _param(
        "unobservedWeight", "w0, the weight of unobserved pairs (implicit)", TypeConverters.toFloat
    )
    solver = _param("solver", "one of " + ", ".join(SOLVER_NAMES), TypeConverters.toString)
    cgSteps = _param("cgSteps", "conjugate gradient steps per half step (solver 'cg')", TypeConverters.toInt)
    subspaceSize = _param("subspaceSize", "dimensions per step (solver 'subspace')", TypeConverters.toInt)
    intermediateStorageLevel = _param(
        "intermediateStorageLevel", "storage level of the blocks (materializer 'persist')", TypeConverters.toString
    )
    finalStorageLevel = _param("finalStorageLevel", "storage level of the factors", TypeConverters.toString)

    def __init__(self, **params: Any) -> None:
        super().__init__()
        self._set_fit_defaults()
        self._setDefault(
            implicitPrefs=False, alpha=1.0, confidence="mllib", unobservedWeight=1.0, solver="auto", cgSteps=3,
            subspaceSize=64, intermediateStorageLevel="MEMORY_AND_DISK", finalStorageLevel="MEMORY_AND_DISK",
        )  # fmt: skip
        self.setParams(**params)

    def setNumBlocks(self, value: int) -> ALS:
        """Set both numbers of blocks."""
        return self.setParams(numUserBlocks=value, numItemBlocks=value)  # type: ignore[return-value]

    def check(self) -> None:
        """Raise ParameterError for a value or a combination that cannot take effect."""
        super().check()
        self.check_choice("confidence", CONFIDENCES)
        self.check_choice("solver", SOLVER_NAMES)
        self.check_choice("materializer", ("auto", *MATERIALIZERS))
        implicit = self.getOrDefault("implicitPrefs")
        explicit_only = ("userBias", "itemBias", "center", "clip")
        for name in explicit_only if implicit else ():
            if self.getOrDefault(name):
                raise ParameterError(f"{name} takes effect only with implicitPrefs=False")
        for name in () if implicit else ("alpha", "confidence", "unobservedWeight"):
            if self.isSet(name) and self.getOrDefault(name) != self._defaultParamMap[self.getParam(name)]:
                raise ParameterError(f"{name} takes effect only with implicitPrefs=True")
        if self.getOrDefault("alpha") < 0 or self.getOrDefault("unobservedWeight") < 0:
            raise ParameterError("alpha and unobservedWeight must be >= 0")
        if self.getOrDefault("nonnegative") and self.getOrDefault("solver") not in ("auto", "cholesky"):
            raise ParameterError("nonnegative has its own solver: leave solver at 'auto'")

    def settings(self) -> Settings:
        """Return the parameters as the kernels take them, seen from the user side."""
        value = self.getOrDefault
        both = value("regParam")
        lambdas = [self.optional(name) for name in ("regParamUser", "regParamItem")]
        steps = 200 if value("nonnegative") else value("cgSteps")
        return Settings(
            rank=value("rank"),
            implicit=value("implicitPrefs"),
            confidence=value("confidence"),
            alpha=value("alpha"),
            w0=value("unobservedWeight"),
            reg_param=tuple(both if one is None else one for one in lambdas),  # type: ignore[arg-type]
            bias=(value("userBias"), value("itemBias")),
            exponent=value("regExponent"),
            solver=value("solver"),
            steps=steps,
            size=value("subspaceSize"),
            nonnegative=value("nonnegative"),
            dtype=value("precision"),
        )

    def columns(self) -> Columns:
        """Return the names of the input columns."""
        names = ("userCol", "itemCol", "ratingCol", "weightCol", "validationIndicatorCol")
        return Columns(*(self.optional(name) or ("" if name == "ratingCol" else None) for name in names))  # type: ignore[arg-type]

    def _fit(self, dataset: DataFrame) -> FactorizationModel:
        self.check()
        settings, columns = self.settings(), self.columns()
        ratings = select(dataset, columns)
        found = profile(ratings, columns, explicit=not settings.implicit)
        slots = default_parallelism(dataset.sparkSession)
        wanted = (self.optional("numUserBlocks"), self.optional("numItemBlocks"))
        layout = block_frames.plan(found, slots, wanted, columns.weight is not None)
        carrier = self.getOrDefault("carrier")
        frame, release = block_frames.build(ratings, found, layout, carrier)
        kept, let_go = self._keep(frame)
        try:
            fitted, history = self._train(kept, layout, found, settings, carrier)
        finally:
            let_go()
            release()
        return FactorizationModel._of(self, fitted, history, dataset)

    def _keep(self, frame: DataFrame) -> Any:
        path = self.optional("workPath")

        def table(blocks: DataFrame) -> DataFrame:
            address = f"{path}/blocks-{uuid.uuid4().hex}"
            tables.overwrite(blocks, address)
            return tables.read(blocks.sparkSession, address)

        level = self.getOrDefault("intermediateStorageLevel") if self.isSet("intermediateStorageLevel") else None
        return materialise(frame, self.getOrDefault("materializer"), level, table if path else None)

    def _train(
        self, kept: DataFrame, layout: block_frames.Layout, found: Profile, settings: Settings, carrier: str
    ) -> tuple[Fitted, list[Iteration]]:
        value = self.getOrDefault
        centred = settings.implicit or value("center")
        signed = centred and not settings.nonnegative
        factors = initial_factors(found, settings, value("seed"), value("initStd"), signed)
        factors.intercept = found.mean if value("center") else 0.0
        limits = (found.low, found.high) if value("clip") else (-np.inf, np.inf)
        schedule = Schedule(value("maxIter"), value("tol"), limits, reporter(self.optional("verbose")))
        history = alternate(kept, layout, factors, settings, schedule, carrier)
        ids = (found.sides[0].ids, found.sides[1].ids)
        return Fitted(settings, ids, (factors.sides[0], factors.sides[1]), factors.intercept, limits), history

    def write(self) -> ParamsWriter:
        """Return a writer of the parameters."""
        return ParamsWriter(self)

    @classmethod
    def read(cls) -> ParamsReader:
        """Return a reader of the parameters."""
        return ParamsReader(cls)
