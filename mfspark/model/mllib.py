"""What pyspark.ml's ALS fitted or saved, as ours: its parameters, its factors, and the objective where one is told."""

from __future__ import annotations

from typing import Any, NamedTuple

from pyspark.ml.recommendation import ALSModel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from mfspark.errors import ParameterError, StoreError
from mfspark.kernels.objective import Settings
from mfspark.model.answers import Fitted
from mfspark.model.persistence import PACKAGE, literal, read_metadata
from mfspark.model.tables import read_sides

_NAMES = {
    "rank", "maxIter", "regParam", "numUserBlocks", "numItemBlocks", "implicitPrefs", "alpha", "userCol", "itemCol",
    "ratingCol", "nonnegative", "checkpointInterval", "intermediateStorageLevel", "finalStorageLevel",
    "coldStartStrategy", "seed", "predictionCol", "blockSize",
}  # fmt: skip
"""The parameters of MLlib's ALS."""


class MLlibModel(NamedTuple):
    """An ALSModel of MLlib: its uid and rank, the parameters that are set, and its factors (id, features)."""

    uid: str
    rank: int
    values: dict[str, Any]
    factors: tuple[DataFrame, DataFrame]

    def fitted(self, estimator: Any = None) -> Fitted:
        """Return the numbers, which fold in where the estimator that fitted them is told."""
        told = Settings(rank=self.rank, folds="untold") if estimator is None else _settings(estimator, self.rank)
        no_bias = F.lit(None).cast("float")
        users, items = (frame.withColumn("bias", no_bias) for frame in self.factors)
        return read_sides((users, items), told)


def model_of(source: Any) -> MLlibModel:
    """Return what a pyspark.ml ALSModel, or the folder of a saved one, holds.

    Raises
    ------
    ParameterError
        It is something else.
    """
    if isinstance(source, str):
        return saved_model(source)
    if not isinstance(source, ALSModel):
        raise ParameterError(f"expected a pyspark.ml ALSModel or the path of a saved one, got {source!r}")
    values = {parameter.name: source.getOrDefault(parameter) for parameter in source.params if source.isSet(parameter)}
    return MLlibModel(source.uid, source.rank, values, (source.userFactors, source.itemFactors))


def saved_model(path: str) -> MLlibModel:
    """Return what the folder of an ALSModel that MLlib saved holds.

    Raises
    ------
    StoreError
        There is no such folder, or it holds something else.
    """
    spark = SparkSession.active()
    metadata = read_metadata(spark, path)
    if metadata is None or metadata["class"] != PACKAGE + "ALSModel":
        held = f"a saved {metadata['class'].split('.')[-1]}" if metadata else "nothing saved"
        raise StoreError(f"{path} has {held}, not an ALSModel of MLlib")
    user, item = (spark.read.parquet(literal(f"{path}/{name}")) for name in ("userFactors", "itemFactors"))
    return MLlibModel(metadata["uid"], metadata["rank"], metadata["paramMap"], (user, item))


def _settings(estimator: Any, rank: int) -> Settings:
    """Return the objective of MLlib's ALS from its parameters, held by its estimator or by ours.

    Explicit: ALS-WR (Zhou et al. 2008, section 3.1); implicit: Hu, Koren, Volinsky 2008 with confidence 1 + alpha |r|
    and regParam scaled by the number of positive ratings.
    """
    if not all(hasattr(estimator, name) for name in ("regParam", "implicitPrefs", "alpha", "nonnegative")):
        raise ParameterError(f"estimator must be the ALS that fitted the model, not {estimator!r}")
    others = [
        parameter.name for parameter in estimator.params if estimator.isSet(parameter) and parameter.name not in _NAMES
    ]
    if others:
        raise ParameterError(f"MLlib's ALS has no {', '.join(others)}: leave it out of the estimator")
    value = estimator.getOrDefault
    if value("rank") != rank:
        raise ParameterError(
            f"the estimator has rank {value('rank')}, the model {rank}: give the ALS that fitted the model"
        )
    return Settings(
        rank=rank,
        implicit=value("implicitPrefs"),
        alpha=value("alpha"),
        reg_param=(value("regParam"),) * 2,
        nonnegative=value("nonnegative"),
        steps=200 if value("nonnegative") else 3,
    )
