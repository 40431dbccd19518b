"""Save and load as pyspark.ml does it, on classic sessions and over Spark Connect.

A saved model is a folder with ``metadata`` (written last, naming the slot of the data) and two slots for data, of
which each save takes the one not in use: a save that is killed leaves the previous model whole.
"""

from __future__ import annotations

import os
from typing import Any

from pyspark.errors import AnalysisException
from pyspark.ml.util import DefaultParamsReader, DefaultParamsWriter, MLReader, MLWriter
from pyspark.sql import DataFrame, SparkSession

from mfspark.errors import StoreError

SLOTS = ("data-a", "data-b")


class ParamsWriter(MLWriter):
    """Writes an instance's parameters, and the tables and numbers that ``instance._tables()`` gives."""

    def __init__(self, instance: Any) -> None:
        super().__init__()
        self.instance = instance

    def save(self, path: str) -> None:
        """Save to a folder.

        Raises
        ------
        StoreError
            The folder has a saved instance already and ``overwrite()`` was not called.
        """
        spark = SparkSession.active()
        before = _metadata(spark, path)
        if before is not None and not self.shouldOverwrite:
            raise StoreError(f"{path} has a saved {before['class'].split('.')[-1]} already: use write().overwrite()")
        slot = SLOTS[1] if before is not None and before.get("slot") == SLOTS[0] else SLOTS[0]
        tables: dict[str, DataFrame] = self.instance._tables() if hasattr(self.instance, "_tables") else {}
        for name, frame in tables.items():
            frame.write.mode("overwrite").parquet(os.path.join(path, slot, name))
        extra = {"slot": slot, "tables": sorted(tables)}
        if hasattr(self.instance, "parameters"):
            extra["parameters"] = self.instance.parameters()
        metadata = DefaultParamsWriter._get_metadata_to_save(self.instance, spark, extra)
        frame = spark.createDataFrame([(metadata,)], schema="value string").coalesce(1)
        frame.write.mode("overwrite").text(os.path.join(path, "metadata"))


class ParamsReader(MLReader):
    """Reads what ParamsWriter wrote."""

    def __init__(self, cls: type) -> None:
        super().__init__()
        self.cls = cls

    def load(self, path: str) -> Any:
        """Return the instance saved in a folder.

        Raises
        ------
        StoreError
            The folder has no saved instance, or one of another class.
        """
        spark = SparkSession.active()
        metadata = _metadata(spark, path)
        if metadata is None:
            raise StoreError(f"{path} has no saved {self.cls.__name__}")
        if metadata["class"].split(".")[-1] != self.cls.__name__:
            raise StoreError(f"{path} has a saved {metadata['class'].split('.')[-1]}, not a {self.cls.__name__}")
        if metadata["tables"]:
            folder = os.path.join(path, metadata["slot"])
            tables = {name: spark.read.parquet(os.path.join(folder, name)) for name in metadata["tables"]}
            instance = self.cls.fromTables(tables, metadata["parameters"])  # type: ignore[attr-defined]
        else:
            instance = self.cls()
        instance._resetUid(metadata["uid"])
        DefaultParamsReader.getAndSetParams(instance, metadata)
        return instance


def _metadata(spark: SparkSession, path: str) -> dict[str, Any] | None:
    try:
        return DefaultParamsReader.loadMetadata(path, spark)
    except AnalysisException as error:
        if "PATH_NOT_FOUND" in str(error) or "UNABLE_TO_INFER_SCHEMA" in str(error):
            return None
        raise
