"""A fitted model as DataFrames, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from mfspark.errors import StoreError
from mfspark.kernels.csr import Side
from mfspark.kernels.objective import Settings
from mfspark.model.answers import Answers, Fitted
from mfspark.model.described import description, limits_from, mean_from, settings_from
from mfspark.model.factor_table import FactorTable, sides_bytes
from mfspark.model.factorization import Factorization
from mfspark.model.frames.blocks import BLOCK_BYTES, FactorBlocks, FrameFactorization
from mfspark.session import default_parallelism, driver_limit
from mfspark.training.history import Iteration
from mfspark.transport.persist import Materialiser

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


def to_tables(answers: Answers, kinds: tuple[T.DataType, T.DataType]) -> dict[str, DataFrame]:
    """Return user_factors, item_factors (id, features, bias), user_ids and item_ids (id, index)."""
    frames = {}
    for side in Side:
        kind = kinds[side].simpleString()
        frames[f"{side.stem}_factors"] = answers.table(side, kind)
        frames[f"{side.stem}_ids"] = answers.index(side, kind)
    return frames


def parameters(fitted: Fitted, kinds: tuple[T.DataType, T.DataType]) -> dict[str, Any]:
    """Return the constants of a fitted model, all JSON-able: the objective, and apart from it how it was solved."""
    described = description(fitted) | {"id_types": [kind.simpleString() for kind in kinds]}
    return described | {"sizes": list(fitted.sizes)}


def from_tables(
    tables: dict[str, DataFrame], parameters: dict[str, Any], limit: int | None = None
) -> tuple[Fitted, tuple[T.DataType, T.DataType]]:
    """Return the fitted model and the id types that ``to_tables`` and ``parameters`` described.

    Parameters
    ----------
    tables, parameters : dict
        What was stored.
    limit : int, optional
        How many bytes both sides may take up in the driver: beyond, they stay on the workers. ``driver_limit`` by
        default.
    """
    settings, limits = settings_from(parameters), limits_from(parameters)
    users, items = (tables[f"{side.stem}_factors"] for side in Side)
    fitted = read_sides((users, items), settings, parameters.get("sizes"), limit)
    fitted = replace(fitted, intercept=parameters["intercept"], limits=limits, mean=mean_from(parameters))
    return fitted, (users.schema["id"].dataType, items.schema["id"].dataType)


def read_sides(
    frames: tuple[DataFrame, DataFrame],
    settings: Settings,
    sizes: Sequence[int] | None = None,
    limit: int | None = None,
) -> Fitted:
    """Return a fitted model without constants: its sides in the driver where they fit, else on the workers.

    Parameters
    ----------
    frames : (DataFrame, DataFrame)
        Each side's id, features and bias.
    settings : Settings
        The model's.
    sizes : (int, int), optional
        The numbers of users and items; counted by default.
    limit : int, optional
        As in ``from_tables``.
    """
    spark = frames[0].sparkSession
    users, items = sizes or [frame.count() for frame in frames]
    texts = [isinstance(frame.schema["id"].dataType, T.StringType) for frame in frames]
    limit = driver_limit(spark) if limit is None else limit
    names = [f"{side.stem}_factors" for side in Side]
    if sides_bytes((users, items), settings, (texts[0], texts[1])) <= limit:
        one, other = (FactorTable.read(frames[side], names[side], settings, side) for side in Side)
        return Factorization(settings, (one.ids, other.ids), (one.array, other.array))
    for name, size in zip(names, (users, items), strict=True):
        if size == 0:
            raise StoreError(f"{name} is empty: save the model again")
    kept = [_kept_blocks(frames[side], (users, items)[side], settings, side) for side in Side]

    def release() -> None:
        for _, let_go in kept:
            let_go()

    return FrameFactorization(settings, (kept[0][0], kept[1][0]), release=release)


def _kept_blocks(
    frame: DataFrame, size: int, settings: Settings, side: Side
) -> tuple[FactorBlocks, Callable[[], None]]:
    """Return a side's blocks, kept from their first use on, and what lets them go."""
    row_bytes = settings.width * np.dtype(settings.dtype).itemsize
    blocks = min(size, max(default_parallelism(frame.sparkSession), -(-size * row_bytes // BLOCK_BYTES)))
    made = FactorBlocks.pack(frame, blocks, size, settings, side)
    kept, let_go = Materialiser().keep(made.frame)
    return replace(made, frame=kept), let_go or (lambda: None)
