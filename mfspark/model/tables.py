"""A fitted model as DataFrames, and back."""

from __future__ import annotations

from dataclasses import asdict, astuple, fields, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from mfspark.errors import StoreError
from mfspark.kernels.csr import Side
from mfspark.kernels.objective import Settings
from mfspark.model.factorization import Factorization
from mfspark.training.history import Iteration

HISTORY_SCHEMA = (
    "iteration int, loss double, fit double, regularisation double, validationRMSE double, seconds double, "
    "repaired bigint"
)
_HISTORY_KINDS = [pa.int32(), *[pa.float64()] * 5, pa.int64()]
_NUMBER_OF = {T.ByteType: pa.int8(), T.ShortType: pa.int16(), T.IntegerType: pa.int32(), T.LongType: pa.int64()}


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


def factor_table(ids: pa.Array, features: NDArray[Any], bias: NDArray[Any] | None) -> pa.Table:
    """Return ids with their factors as array<float>, and their biases (null where there is none)."""
    n, rank = features.shape
    flat = pa.array(np.ascontiguousarray(features, np.float32).ravel())
    offsets = pa.array(np.arange(n + 1, dtype=np.int32) * rank) if n * rank < 2**31 else None
    lists = (
        pa.ListArray.from_arrays(offsets, flat)
        if offsets is not None
        else pa.LargeListArray.from_arrays(pa.array(np.arange(n + 1, dtype=np.int64) * rank), flat)
    )
    biases = pa.nulls(n, pa.float32()) if bias is None else pa.array(np.asarray(bias, np.float32))
    return pa.table({"id": ids, "features": lists, "bias": biases})


def to_tables(spark: SparkSession, fitted: Factorization, kinds: tuple[T.DataType, T.DataType]) -> dict[str, DataFrame]:
    """Return user_factors, item_factors (id, features, bias), user_ids and item_ids (id, index)."""
    frames = {}
    for side in Side:
        name = side.stem
        ids, kind = fitted.ids[side], kinds[side].simpleString()
        table = factor_table(ids, fitted.features(side), fitted.bias(side))
        frames[f"{name}_factors"] = spark.createDataFrame(table, schema=f"id {kind}, features array<float>, bias float")
        index = pa.table({"id": ids, "index": pa.array(np.arange(len(ids)))})
        frames[f"{name}_ids"] = spark.createDataFrame(index, schema=f"id {kind}, index bigint")
    return frames


def parameters(fitted: Factorization, kinds: tuple[T.DataType, T.DataType]) -> dict[str, Any]:
    """Return the constants of a fitted model, all JSON-able: the objective, and apart from it how it was solved."""
    objective = asdict(fitted.objective)
    return {
        "objective": objective,
        "settings": {name: value for name, value in asdict(fitted.settings).items() if name not in objective},
        "intercept": float(fitted.intercept),
        "limits": [None if not np.isfinite(limit) else float(limit) for limit in fitted.limits],
        "id_types": [kind.simpleString() for kind in kinds],
    }


def settings_from(parameters: dict[str, Any]) -> Settings:
    """Return the settings that ``parameters`` described, also as models before ``Objective`` did."""
    older = {"loss": parameters.get("loss", "squared"), "folds": "rows" if parameters.get("folds", True) else "svd"}
    stored = older | parameters["settings"] | parameters.get("objective", {})
    known = {part.name for part in fields(Settings)}
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in stored.items() if key in known
    }
    return replace(Settings(rank=1), **values)


def from_tables(
    tables: dict[str, DataFrame], parameters: dict[str, Any]
) -> tuple[Factorization, tuple[T.DataType, T.DataType]]:
    """Return the fitted model and the id types that ``to_tables`` and ``parameters`` described."""
    settings = settings_from(parameters)
    low, high = parameters["limits"]
    limits = (-np.inf if low is None else low, np.inf if high is None else high)
    ids, sides, kinds = [], [], []
    for side in Side:
        name = side.stem
        frame = tables[f"{name}_factors"].select("id", "features", "bias")
        kinds.append(frame.schema["id"].dataType)
        found, array = _side_from(frame, name, settings, settings.bias[side])
        ids.append(found)
        sides.append(array)
    fitted = Factorization(settings, (ids[0], ids[1]), (sides[0], sides[1]), parameters["intercept"], limits)
    return fitted, (kinds[0], kinds[1])


def _side_from(frame: DataFrame, name: str, settings: Settings, biased: bool) -> tuple[pa.Array, NDArray[Any]]:
    table = frame.toArrow().combine_chunks().sort_by("id").combine_chunks()
    features = table.column("features").combine_chunks()
    if table.num_rows == 0 or len(features.values) != table.num_rows * settings.rank:
        raise StoreError(
            f"{name}_factors has {table.num_rows} rows, not all with the model's {settings.rank} factors: save it again"
        )
    array = np.zeros((table.num_rows, settings.padded), settings.dtype)
    array[:, : settings.rank] = features.values.to_numpy().reshape(-1, settings.rank)
    if biased:
        array[:, settings.rank] = table.column("bias").to_numpy()
    return table.column("id").combine_chunks(), array
