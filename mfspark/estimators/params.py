"""The parameters that the estimators share."""

from __future__ import annotations

from typing import Any

from pyspark.ml.param import TypeConverters
from pyspark.ml.param.shared import (
    HasCheckpointInterval,
    HasMaxIter,
    HasRegParam,
    HasSeed,
    HasTol,
    HasValidationIndicatorCol,
)

from mfspark.errors import ParameterError
from mfspark.estimators.options import SUPPORT, supporters, supports
from mfspark.model.params import ModelParams, _param, cold_start

LEAST = {"rank": 1, "maxIter": 0, "blockSize": 1, "numUserBlocks": 1, "numItemBlocks": 1}


class FactorizationParams(
    ModelParams,
    HasMaxIter,
    HasRegParam,
    HasSeed,
    HasTol,
    HasValidationIndicatorCol,
    HasCheckpointInterval,
):
    """Parameters that every way of fitting factors shares."""

    rank = _param("rank", "number of factors, > 0", TypeConverters.toInt)
    regParamUser = _param("regParamUser", "lambda_U, default regParam", TypeConverters.toFloat)
    regParamItem = _param("regParamItem", "lambda_V, default regParam", TypeConverters.toFloat)
    regExponent = _param(
        "regExponent",
        "nu: a row's L2 weight is regParam * (number of its ratings) ** nu; 1 as MLlib, 0 plain",
        TypeConverters.toFloat,
    )
    userBias = _param("userBias", "whether users have a bias", TypeConverters.toBoolean)
    itemBias = _param("itemBias", "whether items have a bias", TypeConverters.toBoolean)
    center = _param("center", "whether the mean rating is subtracted and added back", TypeConverters.toBoolean)
    clip = _param("clip", "whether predictions are clipped to the range of the ratings", TypeConverters.toBoolean)
    initStd = _param("initStd", "the start is N(0, initStd^2 / rank)", TypeConverters.toFloat)
    initMode = _param(
        "initMode", "how the start is drawn: auto, normal, positive; in ALS also mllib, power", TypeConverters.toString
    )
    nonnegative = _param("nonnegative", "whether the factors are >= 0", TypeConverters.toBoolean)
    numUserBlocks = _param("numUserBlocks", "blocks of users, default by size and cores", TypeConverters.toInt)
    numItemBlocks = _param("numItemBlocks", "blocks of items, default by size and cores", TypeConverters.toInt)
    precision = _param("precision", "'float32' or 'float64'", TypeConverters.toString)
    carrier = _param(
        "carrier", "how factors reach the workers: auto, broadcast, join, exchange", TypeConverters.toString
    )
    materializer = _param(
        "materializer", "how blocks are kept: auto, persist, checkpoint, delta, none", TypeConverters.toString
    )
    intermediateStorageLevel = _param(
        "intermediateStorageLevel", "storage level of the blocks (materializer 'persist')", TypeConverters.toString
    )
    workPath = _param("workPath", "folder for intermediate tables and checkpoints", TypeConverters.toString)
    verbose = _param("verbose", "progress on stderr: default only on a terminal", TypeConverters.toBoolean)

    _init_modes: tuple[str, ...] = ("normal",)

    def _hint(self, name: str) -> str:
        return f" ({supporters(name)} has it)" if name in SUPPORT else ""

    def _optional(self, name: str) -> Any:
        """Return a parameter's value, or None where it has neither a value nor a default."""
        parameter = self.getParam(name)
        return self.getOrDefault(parameter) if self.isDefined(parameter) else None

    def _check(self) -> None:
        """Raise ParameterError for a value that cannot take effect."""
        self._check_support()
        for name, least in LEAST.items():
            value = self._optional(name)
            if value is not None and value < least:
                raise ParameterError(f"{name} must be at least {least}, not {value}")
        for name in ("regParam", "regParamUser", "regParamItem", "tol", "regExponent"):
            value = self._optional(name)
            if value is not None and not 0 <= value < float("inf"):
                raise ParameterError(f"{name} must be a finite number >= 0, not {value}")
        implicit = self.hasParam("implicitPrefs") and self.getOrDefault("implicitPrefs")
        if cold_start(self.getOrDefault("coldStartStrategy")) == "mean" and implicit:
            raise ParameterError("coldStartStrategy cannot be 'mean' with implicitPrefs, which has no mean rating")
        self._check_choice("initMode", self._init_modes)
        self._check_choice("precision", ("float32", "float64"))
        if self.getOrDefault("nonnegative") and any(map(self.getOrDefault, ("userBias", "itemBias", "center"))):
            raise ParameterError("nonnegative cannot be combined with userBias, itemBias or center: choose one")
        if self.getOrDefault("nonnegative") and self.isSet("initMode"):
            mode = self.getOrDefault("initMode")
            if mode not in ("auto", "positive"):
                raise ParameterError(f"initMode {mode!r} cannot be combined with nonnegative: 'positive' starts >= 0")
        interval = self.getOrDefault("checkpointInterval")
        if interval < 1 and interval != -1:
            raise ParameterError(f"checkpointInterval must be at least 1, or -1 for never, not {interval}")

    def _check_support(self) -> None:
        """Raise ParameterError where an option that the estimator does not have is set to more than its default."""
        for parameter in self.params:
            if supports(type(self), parameter.name) or not self.isSet(parameter):
                continue
            value, default = self.getOrDefault(parameter), self._defaultParamMap.get(parameter)
            if value != default:
                leave = "leave it out" if default is None else f"leave it at {default!r}"
                raise ParameterError(
                    f"{type(self).__name__} cannot use {parameter.name}={value!r}: {leave}, or choose "
                    f"{supporters(parameter.name)}"
                )

    def _seed(self) -> int:
        """Return the seed as the generators take it; negative ones, which MLlib takes, count from the top."""
        return self.getOrDefault("seed") % 2**62

    def _check_choice(self, name: str, allowed: Any) -> None:
        """Raise ParameterError unless a parameter's value is one of those allowed."""
        value = self._optional(name)
        if value is not None and value not in allowed:
            raise ParameterError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
