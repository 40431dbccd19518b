"""Matrix factorization on Apache Spark, kept in Delta tables."""

from mfspark.errors import ConfigError, DataError, MFSparkError, ParameterError, SetupError, StoreError, TrainingError
from mfspark.estimators.als import ALS
from mfspark.estimators.bpmf import BPMF, BPMFModel
from mfspark.estimators.gradient_descent import GradientDescent
from mfspark.estimators.sgd import SGD
from mfspark.estimators.svdpp import SVDPlusPlus
from mfspark.estimators.truncated_svd import TruncatedSVD
from mfspark.model.model import FactorizationModel
from mfspark.session import spark_session

ALSModel = FactorizationModel

__all__ = [
    "ALS",
    "ALSModel",
    "BPMF",
    "BPMFModel",
    "ConfigError",
    "DataError",
    "FactorizationModel",
    "GradientDescent",
    "MFSparkError",
    "ParameterError",
    "SGD",
    "SVDPlusPlus",
    "SetupError",
    "StoreError",
    "TrainingError",
    "TruncatedSVD",
    "spark_session",
]
