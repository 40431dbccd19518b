"""Which columns hold the ratings, and their types."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from mfspark.errors import DataError, missing_column
from mfspark.kernels.csr import Side
from mfspark.transport.scan import Column as Scanned
from mfspark.transport.scan import Scan, plain_scan

_INTEGERS = (T.ByteType, T.ShortType, T.IntegerType, T.LongType)
_NUMBERS = (*_INTEGERS, T.FloatType, T.DoubleType, T.DecimalType)


@dataclass(frozen=True)
class Columns:
    """The names of the columns that hold the ratings; an empty rating column means that every rating is 1."""

    user: str = "user"
    item: str = "item"
    rating: str = "rating"
    weight: str | None = None
    validation: str | None = None


def require_frame(dataset: object) -> None:
    """Raise DataError where something else than a Spark DataFrame was given."""
    if not isinstance(dataset, DataFrame):
        kind = f"{type(dataset).__module__.split('.')[0]}.{type(dataset).__qualname__}".removeprefix("builtins.")
        raise DataError(f"expected a Spark DataFrame, got a {kind}: spark.createDataFrame(...) makes one")


def select(dataset: DataFrame, columns: Columns) -> DataFrame:
    """Return the columns user, item, rating (and weight, held) of a data set, with their types checked."""
    require_frame(dataset)
    types = {field.name: field.dataType for field in dataset.schema.fields}

    def column(name: str, kinds: tuple[type, ...], what: str) -> Column:
        if name not in types:
            raise missing_column(name, types)
        if not isinstance(types[name], kinds):
            raise DataError(f"column {name!r} is {types[name].simpleString()}, but must be {what}: cast it first")
        return F.col(f"`{name}`")

    chosen = []
    for side, name in zip(Side, (columns.user, columns.item), strict=True):
        ids = column(name, (*_NUMBERS, T.StringType), "a string or a number")
        chosen.append((ids.cast("double") if isinstance(types[name], T.DecimalType) else ids).alias(side.stem))
    rating = column(columns.rating, _NUMBERS, "a number") if columns.rating else F.lit(1.0)
    chosen.append(rating.cast("float").alias("rating"))
    if columns.weight:
        chosen.append(column(columns.weight, _NUMBERS, "a number").cast("float").alias("weight"))
    if columns.validation:
        chosen.append(column(columns.validation, (T.BooleanType,), "a boolean").alias("held"))
    return dataset.select(*chosen)


def scan(dataset: DataFrame, columns: Columns) -> Scan | None:
    """Return how the workers can read what ``select`` selects themselves, or None where only Spark can."""
    types = {field.name: field.dataType for field in dataset.schema.fields}
    wanted = {"user": Scanned(columns.user), "item": Scanned(columns.item)}
    numbers = {"rating": columns.rating, "weight": columns.weight}
    wanted |= {one: Scanned(name, pa.float32()) for one, name in numbers.items() if name}
    wanted |= {"held": Scanned(columns.validation)} if columns.validation else {}
    ids = all(
        isinstance(types[name], (T.IntegerType, T.LongType, T.StringType)) for name in (columns.user, columns.item)
    )
    return plain_scan(dataset, wanted) if ids and columns.rating else None


def id_type(kind: T.DataType) -> T.DataType:
    """Return the type in which a side's ids are kept: whole numbers in floating columns become longs."""
    return kind if isinstance(kind, (*_INTEGERS, T.StringType)) else T.LongType()


def wide(ids: pa.Array) -> pa.Array:
    """Return whole ids as longs, so that those of two widths can be compared; texts as they are."""
    return ids.cast(pa.int64()) if pa.types.is_integer(ids.type) else ids


def whole(ids: pa.Array) -> pa.Array:
    """Return floating ids as longs, null where they are not whole numbers (they were counted before)."""
    if not pa.types.is_floating(ids.type):
        return ids
    numbers = ids.to_numpy(zero_copy_only=False)
    good = np.isfinite(numbers) & (np.floor(numbers) == numbers) & (np.abs(numbers) < 2**53)
    return pa.array(np.where(good, numbers, 0).astype(np.int64), mask=~good)
