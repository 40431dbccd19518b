"""Parameters of a fitted model, and the setters and getters that pyspark.ml names."""

from __future__ import annotations

import difflib
from typing import Any

from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import (
    HasBlockSize,
    HasPredictionCol,
    HasWeightCol,
)

from mfspark.errors import ParameterError

COLD_START = ("nan", "drop", "mean")

# What other libraries call a parameter, in small letters without underscores.
OTHER_NAMES = {
    "rank": ("k", "d", "factors", "nfactors", "numfactors", "nlatent", "latentfactors", "dim", "embeddingsize"),
    "regParam": ("reg", "lambda", "lam", "regularization", "regularisation", "l2", "weightdecay", "penalty"),
    "maxIter": ("iterations", "iters", "niter", "niters", "numiterations", "niterations", "epochs", "nepochs"),
    "alpha": ("confidencescale", "alpha0"),
    "nonnegative": ("nmf", "positive"),
    "seed": ("randomstate", "randomseed"),
    "stepSize": ("lr", "eta", "learningrate", "gamma", "step"),
    "weightCol": ("weights", "sampleweight", "weight"),
    "userBias": ("biases", "bias", "usebias"),
    "implicitPrefs": ("implicit", "implicitfeedback"),
    "precision": ("dtype", "usefloat"),
    "unobservedWeight": ("w0",),
    "numNegatives": ("negatives", "nnegatives", "negsample"),
}


def cold_start(value: str) -> str:
    """Return a coldStartStrategy in small letters, as MLlib reads it.

    Raises
    ------
    ParameterError
        There is no such strategy.
    """
    name = value.lower() if isinstance(value, str) else value
    if name not in COLD_START:
        raise ParameterError(f"coldStartStrategy must be one of {', '.join(COLD_START)}, not {value!r}")
    return str(name)


def block_size(value: int) -> int:
    """Return a blockSize.

    Raises
    ------
    ParameterError
        It is less than 1.
    """
    size = TypeConverters.toInt(value)
    if size < 1:
        raise ParameterError(f"blockSize must be at least 1, not {size}")
    return size


def did_you_mean(name: str, known: list[str]) -> str:
    """Return the parameter that was meant by a name that is none, as far as one can tell; else an empty string."""
    bare = name.lower().replace("_", "")
    for parameter, others in OTHER_NAMES.items():
        if bare in others and parameter in known:
            return parameter
    by_letters = {parameter.lower(): parameter for parameter in known}
    close = difflib.get_close_matches(bare, by_letters, n=1, cutoff=0.7)
    return by_letters[close[0]] if close else ""


def _param(name: str, doc: str, converter: Any = None) -> Param:
    return Param(Params._dummy(), name, doc, converter)


class Settable(Params):
    """Gives every parameter the setter and getter that pyspark.ml names (``setRank``, ``getRank``)."""

    def __getattr__(self, name: str) -> Any:
        """Return the setter or getter of a parameter, or fail as any object does."""
        kind, parameter = name[:3], name[3:4].lower() + name[4:]
        if kind in ("set", "get") and parameter and isinstance(getattr(type(self), parameter, None), Param):
            if kind == "get":
                return lambda: self.getOrDefault(parameter)
            return lambda value: self.setParams(**{parameter: value})
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def setParams(self, **values: Any) -> Settable:
        """Set parameters by name; a value of None goes back to the default.

        Raises
        ------
        ParameterError
            There is no parameter of that name.
        """
        for name, value in values.items():
            if not self.hasParam(name):
                known = [parameter.name for parameter in self.params]
                meant = did_you_mean(name, known)
                hint = self._hint(name) or (f" (did you mean {meant}?)" if meant else "")
                raise ParameterError(
                    f"{type(self).__name__} has no parameter {name!r}{hint}; it has {', '.join(known)}"
                )
            if value is None:
                self.clear(self.getParam(name))
            else:
                self._set(**{name: value})
        return self

    def _hint(self, name: str) -> str:  # noqa: ARG002
        """Return what to say of a parameter that is not there."""
        return ""


class ModelParams(Settable, HasPredictionCol, HasWeightCol, HasBlockSize):
    """Parameters of a fitted model."""

    userCol = _param("userCol", "column of user ids: any string or whole number", TypeConverters.toString)
    itemCol = _param("itemCol", "column of item ids: any string or whole number", TypeConverters.toString)
    ratingCol = _param("ratingCol", "column of ratings; empty: every rating is 1", TypeConverters.toString)
    coldStartStrategy = _param(
        "coldStartStrategy",
        "what transform does with ids unknown at fit: 'nan' predicts NaN, 'drop' drops the row, 'mean' predicts the "
        "intercept plus the known id's bias where the model has both, else the mean training rating",
        cold_start,
    )
    blockSize = _param("blockSize", "edge of a tile of scores in recommendFor*, >= 1", block_size)
    finalStorageLevel = _param(
        "finalStorageLevel", "storage level in which userFactors and itemFactors are kept", TypeConverters.toString
    )
    filterSeen = _param(
        "filterSeen", "whether recommendFor* leaves out the pairs of the training data", TypeConverters.toBoolean
    )

    def _set_model_defaults(self) -> None:
        self._setDefault(
            userCol="user", itemCol="item", ratingCol="rating", predictionCol="prediction", coldStartStrategy="nan",
            filterSeen=False, blockSize=4096,
        )  # fmt: skip
