"""Matrix factorization on Apache Spark, kept in Delta tables."""

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
from mfspark.model import FactorizationModel
from mfspark.session import spark_session

ALSModel = FactorizationModel

__all__ = [
    "ALS",
    "ALSModel",
    "ConfigError",
    "DataError",
    "FactorizationModel",
    "MFSparkError",
    "ParameterError",
    "SetupError",
    "StoreError",
    "TrainingError",
    "spark_session",
]
