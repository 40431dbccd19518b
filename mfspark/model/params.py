"""Parameters of a fitted model, and the setters and getters that pyspark.ml names."""

from __future__ import annotations

from typing import Any

from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import (
    HasBlockSize,
    HasPredictionCol,
)

from mfspark.errors import ParameterError

COLD_START = ("nan", "drop")


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
                known = ", ".join(parameter.name for parameter in self.params)
                raise ParameterError(
                    f"{type(self).__name__} has no parameter {name!r}{self._hint(name)}; it has {known}"
                )
            if value is None:
                self.clear(self.getParam(name))
            else:
                self._set(**{name: value})
        return self

    def _hint(self, name: str) -> str:  # noqa: ARG002
        """Return what to say of a parameter that is not there."""
        return ""


class ModelParams(Settable, HasPredictionCol, HasBlockSize):
    """Parameters of a fitted model."""

    userCol = _param("userCol", "column of user ids: any string or whole number", TypeConverters.toString)
    itemCol = _param("itemCol", "column of item ids: any string or whole number", TypeConverters.toString)
    coldStartStrategy = _param(
        "coldStartStrategy",
        "what transform does with ids unknown at fit: 'nan' predicts NaN, 'drop' drops the row",
        TypeConverters.toString,
    )
    finalStorageLevel = _param(
        "finalStorageLevel", "storage level in which userFactors and itemFactors are kept", TypeConverters.toString
    )
    filterSeen = _param(
        "filterSeen", "whether recommendFor* leaves out the pairs of the training data", TypeConverters.toBoolean
    )

    def _set_model_defaults(self) -> None:
        self._setDefault(
            userCol="user", itemCol="item", predictionCol="prediction", coldStartStrategy="nan", filterSeen=False,
            blockSize=4096,
        )  # fmt: skip
