"""Which option takes effect in which estimator, so that a refusal can name those that have it."""

from __future__ import annotations

from typing import Any

SUPPORT: dict[str, tuple[str, ...]] = {
    "loss": ("SGD", "GradientDescent"),
    "solver": ("ALS", "GradientDescent"),
    "implicitPrefs": ("ALS", "SGD"),
    "alpha": ("ALS",),
    "confidence": ("ALS",),
    "unobservedWeight": ("ALS",),
    "numNegatives": ("SGD",),
    "nonnegative": ("ALS", "SGD", "GradientDescent"),
    "elasticNetParam": ("ALS",),
    "regParam": ("ALS", "SGD", "GradientDescent", "SVDPlusPlus"),
    "regParamUser": ("ALS", "SGD", "GradientDescent", "SVDPlusPlus"),
    "regParamItem": ("ALS", "SGD", "GradientDescent", "SVDPlusPlus"),
    "regExponent": ("ALS", "SGD", "GradientDescent"),
    "userBias": ("ALS", "SGD", "GradientDescent"),
    "itemBias": ("ALS", "SGD", "GradientDescent"),
    "center": ("ALS", "SGD", "GradientDescent"),
    "weightCol": ("ALS", "SGD", "GradientDescent", "BPMF"),
    "tol": ("ALS", "SGD", "GradientDescent", "TruncatedSVD", "SVDPlusPlus"),
    "initMode": ("ALS", "SGD", "GradientDescent"),
    "initStd": ("ALS", "SGD", "GradientDescent", "SVDPlusPlus", "BPMF"),
    "precision": ("ALS", "GradientDescent", "TruncatedSVD", "BPMF"),
    "numItemBlocks": ("ALS", "SGD", "BPMF"),
    "imputation": ("TruncatedSVD",),
    "stepSize": ("SGD", "GradientDescent", "SVDPlusPlus"),
    "stepSchedule": ("SGD", "GradientDescent"),
    "momentum": ("GradientDescent",),
    "clipNorm": ("GradientDescent",),
    "miniBatchFraction": ("GradientDescent",),
    "numSamples": ("BPMF",),
    "deviationCol": ("BPMF",),
    "loop": ("ALS",),
}
"""The estimators in which an option can be chosen; options that are not here can be chosen in all of them."""

OFF: dict[str, Any] = {
    "nonnegative": False,
    "regParam": 0.0,
    "regParamUser": None,
    "regParamItem": None,
    "regExponent": 1.0,
    "userBias": False,
    "itemBias": False,
    "center": False,
    "weightCol": None,
    "tol": 0.0,
    "initMode": "normal",
    "initStd": 1.0,
    "precision": "float32",
    "numItemBlocks": None,
}
"""What the shared options stand at in an estimator in which they cannot be chosen."""

SAME_NUMBERS = frozenset({
    "userCol", "itemCol", "ratingCol", "weightCol", "validationIndicatorCol", "predictionCol", "deviationCol",
    "coldStartStrategy", "filterSeen", "blockSize", "numUserBlocks", "numItemBlocks", "loop", "carrier", "materializer",
    "intermediateStorageLevel", "finalStorageLevel", "workPath", "checkpointInterval", "verbose",
})  # fmt: skip
"""The parameters on which a fit's numbers do not depend, the ratings being the same: a resumed fit may have others."""


def supports(kind: type, name: str) -> bool:
    """Return whether an option can be chosen in an estimator class (or one derived from it)."""
    return name not in SUPPORT or any(base.__name__ in SUPPORT[name] for base in kind.__mro__)


def supporters(name: str) -> str:
    """Return the names of the estimators that have an option, as in "ALS, SGD or GradientDescent"."""
    *others, last = SUPPORT[name]
    return f"{', '.join(others)} or {last}" if others else last
