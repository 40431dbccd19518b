"""Matrix factorization on Apache Spark, kept in Delta tables.

The public names are imported when they are asked for: a Python worker that needs one kernel loads no estimator.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mfspark.errors import (
        ConfigError,
        DataError,
        MFSparkError,
        ParameterError,
        SetupError,
        StoreError,
        TrainingError,
    )
    from mfspark.estimators.als import ALS
    from mfspark.estimators.bpmf import BPMF
    from mfspark.estimators.gradient_descent import GradientDescent
    from mfspark.estimators.sgd import SGD
    from mfspark.estimators.svdpp import SVDPlusPlus
    from mfspark.estimators.truncated_svd import TruncatedSVD
    from mfspark.model.load import BPMFModel, FactorizationModel, load_model
    from mfspark.model.load import FactorizationModel as ALSModel
    from mfspark.model.local import LocalModel
    from mfspark.model.registry import Registry
    from mfspark.model.serving import Serving
    from mfspark.session import spark_session

__all__ = [
    "ALS",
    "ALSModel",
    "BPMF",
    "BPMFModel",
    "ConfigError",
    "DataError",
    "FactorizationModel",
    "GradientDescent",
    "LocalModel",
    "MFSparkError",
    "ParameterError",
    "Registry",
    "SGD",
    "SVDPlusPlus",
    "Serving",
    "SetupError",
    "StoreError",
    "TrainingError",
    "TruncatedSVD",
    "load_model",
    "spark_session",
]

_MODULES = {
    "estimators.als": ("ALS",),
    "estimators.bpmf": ("BPMF",),
    "estimators.gradient_descent": ("GradientDescent",),
    "estimators.sgd": ("SGD",),
    "estimators.svdpp": ("SVDPlusPlus",),
    "estimators.truncated_svd": ("TruncatedSVD",),
    "model.load": ("ALSModel", "BPMFModel", "FactorizationModel", "load_model"),
    "model.local": ("LocalModel",),
    "model.registry": ("Registry",),
    "model.serving": ("Serving",),
    "session": ("spark_session",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"mfspark.{_MODULE_OF.get(name, 'errors')}")
    value = getattr(module, "FactorizationModel" if name == "ALSModel" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
