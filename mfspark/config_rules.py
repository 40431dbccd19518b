"""What one key of the configuration may hold, and the sections and keys of the estimators."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mfspark.errors import ConfigError


@dataclass(frozen=True)
class Rule:
    """What one key may hold: a kind, limits (``low`` may itself be excluded), allowed words."""

    kind: str
    low: float | None = None
    high: float | None = None
    above: bool = False  # low itself is excluded
    below: bool = False  # high itself is excluded
    choices: tuple[str, ...] = ()
    optional: bool = False

    def allowed(self) -> str:
        """Return the allowed values in words."""
        if self.choices:
            words = "one of " + ", ".join(self.choices)
        else:
            words = {
                "int": "a whole number",
                "float": "a number",
                "bool": "true or false",
                "str": "a text",
                "map": "a mapping of keys to values",
            }[self.kind]
        limits = []
        if self.low is not None:
            limits.append(f"{'>' if self.above else '>='} {self.low:g}")
        if self.high is not None:
            limits.append(f"{'<' if self.below else '<='} {self.high:g}")
        words += (" " + " and ".join(limits)) if limits else ""
        return words + (" (or null)" if self.optional else "")

    def check(self, key: str, value: Any) -> Any:
        """Return the value in its own type, or raise `ConfigError` naming the key and the allowed values."""
        if value is None and self.optional:
            return None
        converted = _CONVERTERS[self.kind](value)
        if converted is None or not self._fits(converted):
            raise ConfigError(f"{key}: {value!r} is not allowed; give {self.allowed()}")
        return converted

    def _fits(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        if self.kind not in ("int", "float"):
            return True
        too_low = self.low is not None and (value < self.low or (self.above and value == self.low))
        too_high = self.high is not None and (value > self.high or (self.below and value == self.high))
        return not (too_low or too_high)


def _to_float(value: Any) -> float | None:
    # YAML 1.1 reads 1e-3 as a text: it is taken for the number it looks like.
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _to_int(value: Any) -> int | None:
    number = _to_float(value)
    return int(number) if number is not None and number == int(number) else None


_CONVERTERS: Mapping[str, Callable[[Any], Any]] = {
    "int": lambda value: value if isinstance(value, int) and not isinstance(value, bool) else _to_int(value),
    "float": _to_float,
    "bool": lambda value: value if isinstance(value, bool) else None,
    "str": lambda value: value if isinstance(value, str) else None,
    "map": lambda value: dict(value) if isinstance(value, Mapping) else None,
}


# The estimator's parameters. Column names are not among them: the jobs name the columns themselves.
ALS_RULES: Mapping[str, Rule] = {
    "rank": Rule("int", low=1),
    "maxIter": Rule("int", low=0),
    "regParam": Rule("float", low=0),
    "regParamUser": Rule("float", low=0),
    "regParamItem": Rule("float", low=0),
    "regExponent": Rule("float", low=0),
    "elasticNetParam": Rule("float", low=0, high=1),
    "implicitPrefs": Rule("bool"),
    "alpha": Rule("float", low=0),
    "unobservedWeight": Rule("float", low=0),
    "confidence": Rule("str", choices=("mllib", "linear", "log", "ials")),
    "nonnegative": Rule("bool"),
    "userBias": Rule("bool"),
    "itemBias": Rule("bool"),
    "center": Rule("bool"),
    "clip": Rule("bool"),
    "initStd": Rule("float", low=0),
    "loop": Rule("str", choices=("auto", "jobs", "barrier", "gang")),
    "initMode": Rule("str", choices=("auto", "mllib", "normal", "positive", "power")),
    "seed": Rule("int"),
    "tol": Rule("float", low=0),
    "solver": Rule("str", choices=("auto", "cholesky", "dual", "cg", "subspace", "coordinate")),
    "cgSteps": Rule("int", low=1),
    "subspaceSize": Rule("int", low=1),
    "coldStartStrategy": Rule("str", choices=("nan", "drop")),
    "numUserBlocks": Rule("int", low=1),
    "numItemBlocks": Rule("int", low=1),
    "blockSize": Rule("int", low=1),
    "checkpointInterval": Rule("int", low=-1),
    "intermediateStorageLevel": Rule("str"),
    "finalStorageLevel": Rule("str"),
    "carrier": Rule("str", choices=("auto", "broadcast", "join")),
    "materializer": Rule("str"),
    "workPath": Rule("str"),
    "precision": Rule("str", choices=("float32", "float64")),
    "verbose": Rule("bool"),
}
ESTIMATORS = {
    "als": "ALS",
    "sgd": "SGD",
    "gradient_descent": "GradientDescent",
    "truncated_svd": "TruncatedSVD",
    "svdplusplus": "SVDPlusPlus",
    "bpmf": "BPMF",
}
"""The section of the configuration that stands for each estimator."""
FIXED_COLUMNS = ("userCol", "itemCol", "ratingCol", "predictionCol", "weightCol", "validationIndicatorCol")
