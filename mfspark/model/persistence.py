"""Save and load as pyspark.ml does it, on classic sessions and over Spark Connect.

A saved model is a folder with ``metadata`` (written last, naming the slot of the data) and two slots for data, of
which each save takes the one not in use: a save that is killed leaves the previous model whole.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

from pyspark.errors import AnalysisException
from pyspark.ml.util import DefaultParamsReader, DefaultParamsWriter, MLReader, MLWriter
from pyspark.sql import DataFrame, SparkSession

from mfspark.errors import StoreError

PACKAGE = "org.apache.spark.ml.recommendation."  # the classes of MLlib's ALS in its own metadata
OURS = {"ALS": "ALS", "ALSModel": "FactorizationModel"}
SLOTS = ("data-a", "data-b")


class ParamsWriter(MLWriter):
    """Writes an instance's parameters, and the tables and numbers that ``instance._tables()`` gives."""

    def __init__(self, instance: Any) -> None:
        super().__init__()
        self.instance = instance

    def save(self, path: str) -> None:
        """Save to a folder that does not exist; after ``overwrite()``, in the place of whatever is there.

        A saved instance is whole until the last moment of the save that replaces it; anything else is deleted first.

        Raises
        ------
        StoreError
            Something exists at the path already and ``overwrite()`` was not called.
        """
        spark = SparkSession.active()
        there = exists(spark, path)
        before = read_metadata(spark, path) if there else None
        if there and not self.shouldOverwrite:
            what = f" (a saved {_class_of(before)})" if before else ""
            raise StoreError(f"path {path} already exists{what}: use write().overwrite().save(path) to replace it")
        previous = (before or {}).get("slot")
        if there and previous is None:
            _clear(spark, path)
        slot = SLOTS[1] if previous == SLOTS[0] else SLOTS[0]
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
        metadata = read_metadata(spark, path)
        if metadata is None:
            raise StoreError(f"{path} has no saved {self.cls.__name__}")
        if metadata["class"].startswith(PACKAGE):
            return self._from_mllib(path, metadata)
        kind = _class_of(metadata)
        if kind != self.cls.__name__ and not (metadata["tables"] and hasattr(self.cls, "fromTables")):
            raise StoreError(f"{path} has a saved {kind}, not a {self.cls.__name__}")
        if metadata["tables"]:
            folder = os.path.join(path, metadata["slot"])
            tables = {name: spark.read.parquet(literal(os.path.join(folder, name))) for name in metadata["tables"]}
            parameters = metadata["parameters"] | {"class": kind}
            instance = self.cls.fromTables(tables, parameters)  # type: ignore[attr-defined]
        else:
            instance = self.cls()
        instance._resetUid(metadata["uid"])
        DefaultParamsReader.getAndSetParams(instance, metadata)
        return instance

    def _from_mllib(self, path: str, metadata: dict[str, Any]) -> Any:
        """Return what MLlib saved as an instance of a class that can take it."""
        kind = _class_of(metadata)
        if OURS.get(kind) != self.cls.__name__:
            raise StoreError(f"{path} has a saved {kind} of MLlib, not a {self.cls.__name__}")
        if kind == "ALSModel":
            return self.cls.fromMLlib(path)  # type: ignore[attr-defined]
        instance = self.cls().setParams(**metadata["paramMap"])
        return instance._resetUid(metadata["uid"])


def exists(spark: SparkSession, path: str) -> bool:
    """Return whether there is a file or folder at a path of any file system Spark knows, without a JVM at hand.

    The path is given twice: for a single one that is missing, Spark logs a warning of 90 lines.
    """
    try:
        _ = spark.read.format("binaryFile").load([literal(path)] * 2).schema
    except AnalysisException as error:
        if "PATH_NOT_FOUND" in str(error):
            return False
        raise
    return True


def literal(path: str) -> str:
    """Return a path as Spark reads it, brackets, braces and stars standing for themselves."""
    return re.sub(r"([\[\]{}*?\\])", r"\\\1", path)


def read_metadata(spark: SparkSession, path: str) -> dict[str, Any] | None:
    """Return what a saved instance's metadata say, or None where there is none."""
    folder = os.path.join(path, "metadata")
    if not exists(spark, folder):
        return None
    first = spark.read.text(literal(folder)).first()
    try:
        read = json.loads(first[0]) if first else None
    except json.JSONDecodeError:
        return None
    return read if isinstance(read, dict) and "class" in read else None


def _class_of(metadata: dict[str, Any]) -> str:
    return str(metadata["class"].split(".")[-1])


def _clear(spark: SparkSession, path: str) -> None:
    """Replace a file, or a folder with all that is in it, by an empty folder."""
    spark.createDataFrame([], schema="value string").write.mode("overwrite").text(path)
