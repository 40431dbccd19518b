"""A fitted model as DataFrames, and back."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from mfspark.kernels.csr import Side
from mfspark.model.described import description, limits_from, mean_from, settings_from
from mfspark.model.factor_table import FactorTable
from mfspark.model.factorization import Factorization
from mfspark.training.history import Iteration

HISTORY_SCHEMA = (
    "iteration int, loss double, fit double, regularisation double, validationRMSE double, seconds double, "
    "repaired bigint"
)
_HISTORY_KINDS = [pa.int32(), *[pa.float64()] * 5, pa.int64()]


def history_frame(spark: SparkSession, history: list[Iteration]) -> DataFrame:
    """Return a history with one row an iteration."""
    names = [part.split()[0] for part in HISTORY_SCHEMA.split(", ")]
    columns = zip(*map(astuple, history), strict=True) if history else [[]] * len(names)
    arrays = [pa.array(list(column), kind) for column, kind in zip(columns, _HISTORY_KINDS, strict=True)]
    return spark.createDataFrame(pa.table(arrays, names=names), schema=HISTORY_SCHEMA)


def history_lines(frame: DataFrame) -> list[Iteration]:
    """Return the history that ``history_frame`` made a frame of; older ones have no column ``repaired``."""
    rows = frame.orderBy("iteration").toArrow().to_pylist()
    return [
        Iteration(
            row["iteration"], row["loss"], row["fit"], row["regularisation"], row["validationRMSE"], row["seconds"],
            row.get("repaired") or 0,
        )
        for row in rows
    ]  # fmt: skip


def to_tables(spark: SparkSession, fitted: Factorization, kinds: tuple[T.DataType, T.DataType]) -> dict[str, DataFrame]:
    """Return user_factors, item_factors (id, features, bias), user_ids and item_ids (id, index)."""
    frames = {}
    for side in Side:
        name = side.stem
        ids, kind = fitted.ids[side], kinds[side].simpleString()
        frames[f"{name}_factors"] = FactorTable.of(fitted, side).frame(spark, kind)
        index = pa.table({"id": ids, "index": pa.array(np.arange(len(ids)))})
        frames[f"{name}_ids"] = spark.createDataFrame(index, schema=f"id {kind}, index bigint")
    return frames


def parameters(fitted: Factorization, kinds: tuple[T.DataType, T.DataType]) -> dict[str, Any]:
    """Return the constants of a fitted model, all JSON-able: the objective, and apart from it how it was solved."""
    return description(fitted) | {"id_types": [kind.simpleString() for kind in kinds]}


def from_tables(
    tables: dict[str, DataFrame], parameters: dict[str, Any]
) -> tuple[Factorization, tuple[T.DataType, T.DataType]]:
    """Return the fitted model and the id types that ``to_tables`` and ``parameters`` described."""
    settings, limits = settings_from(parameters), limits_from(parameters)
    frames = [tables[f"{side.stem}_factors"] for side in Side]
    users, items = (FactorTable.read(frames[side], f"{side.stem}_factors", settings, side) for side in Side)
    ids, sides = (users.ids, items.ids), (users.array, items.array)
    fitted = Factorization(settings, ids, sides, parameters["intercept"], limits, mean_from(parameters))
    return fitted, (frames[0].schema["id"].dataType, frames[1].schema["id"].dataType)
