"""The first pass over the ratings: check every row, and learn the ids, the counts and the distinct values.

Nothing is changed and nothing dropped: a row that cannot be trained on is an error that says how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from mfspark.errors import DataError

SIDES = ("user", "item")
ROWS_AT_ONCE = 1_000_000
MOST_CODES = 256
_INTEGERS = (T.ByteType, T.ShortType, T.IntegerType, T.LongType)
_NUMBERS = (*_INTEGERS, T.FloatType, T.DoubleType, T.DecimalType)
PROBLEMS = (
    "null ids in column {user}",
    "null ids in column {item}",
    "ids in column {user} that are not whole numbers",
    "ids in column {item} that are not whole numbers",
    "null, NaN or infinite values in column {rating}",
    "null, NaN, infinite or negative values in column {weight}",
)


@dataclass(frozen=True)
class Columns:
    """The names of the columns that hold the ratings; an empty rating column means that every rating is 1."""

    user: str = "user"
    item: str = "item"
    rating: str = "rating"
    weight: str | None = None
    validation: str | None = None


@dataclass(frozen=True)
class Side:
    """One side's ids in index order, and the number of training ratings of each."""

    ids: pa.Array
    counts: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of ids."""
        return len(self.ids)


@dataclass(frozen=True)
class Profile:
    """What the first pass learned; ``sides`` are in the order of SIDES, ``values`` the distinct ratings or None."""

    sides: tuple[Side, Side]
    values: NDArray[np.float32] | None
    rows: int
    held_out: int
    total: float
    weight: float
    low: float
    high: float

    @property
    def mean(self) -> float:
        """The weighted mean of the training ratings."""
        return self.total / self.weight if self.weight else 0.0


def select(dataset: DataFrame, columns: Columns) -> DataFrame:
    """Return the columns user, item, rating (and weight, held) of a data set, with their types checked."""
    found = {field.name: field.dataType for field in dataset.schema.fields}

    def column(name: str, kinds: tuple[type, ...], what: str) -> Column:
        if name not in found:
            raise DataError(f"column {name!r} is missing; the data has {', '.join(found) or 'no columns'}")
        if not isinstance(found[name], kinds):
            raise DataError(f"column {name!r} is {found[name].simpleString()}, but must be {what}: cast it first")
        return F.col(f"`{name}`")

    chosen = []
    for side, name in zip(SIDES, (columns.user, columns.item), strict=True):
        ids = column(name, (*_NUMBERS, T.StringType), "a string or a number")
        chosen.append((ids.cast("double") if isinstance(found[name], T.DecimalType) else ids).alias(side))
    rating = column(columns.rating, _NUMBERS, "a number") if columns.rating else F.lit(1.0)
    chosen.append(rating.cast("float").alias("rating"))
    if columns.weight:
        chosen.append(column(columns.weight, _NUMBERS, "a number").cast("float").alias("weight"))
    if columns.validation:
        chosen.append(column(columns.validation, (T.BooleanType,), "a boolean").alias("held"))
    return dataset.select(*chosen)


def id_type(kind: T.DataType) -> T.DataType:
    """Return the type in which a side's ids are kept: whole numbers in floating columns become longs."""
    return kind if isinstance(kind, (*_INTEGERS, T.StringType)) else T.LongType()


def chunks(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Join small Arrow batches into tables of about ROWS_AT_ONCE rows."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(part.num_rows for part in held) >= ROWS_AT_ONCE:
            yield pa.Table.from_batches(held).combine_chunks()
            held = []
    if held:
        yield pa.Table.from_batches(held).combine_chunks()


def flat(table: pa.Table, name: str) -> pa.Array:
    """Return a column of a combined table as one array."""
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def whole(ids: pa.Array) -> pa.Array:
    """Return floating ids as longs, null where they are not whole numbers (they were counted before)."""
    if not pa.types.is_floating(ids.type):
        return ids
    numbers = ids.to_numpy(zero_copy_only=False)
    good = np.isfinite(numbers) & (np.floor(numbers) == numbers) & (np.abs(numbers) < 2**53)
    return pa.array(np.where(good, numbers, 0).astype(np.int64), mask=~good)


def training_rows(table: pa.Table) -> tuple[pa.Table, int]:
    """Return the rows that are trained on, and how many are held out (a null indicator trains)."""
    if "held" not in table.column_names:
        return table, 0
    held = pc.fill_null(flat(table, "held"), False)
    kept = table.filter(pc.invert(held)).combine_chunks()
    return kept, table.num_rows - kept.num_rows


class _Tally:
    """What one partition adds to the profile."""

    def __init__(self) -> None:
        self.problems = np.zeros(len(PROBLEMS), np.int64)
        self.rows = self.held = 0
        self.total = self.weight = 0.0
        self.values: NDArray[np.float32] | None = np.empty(0, np.float32)
        self.low, self.high = np.inf, -np.inf
        self.counts: list[list[pa.Table]] = [[], []]

    def add(self, table: pa.Table) -> None:
        self.rows += table.num_rows
        self._check(table)
        table, held = training_rows(table)
        self.held += held
        if table.num_rows == 0:
            return
        ratings = flat(table, "rating").to_numpy(zero_copy_only=False)
        weights = flat(table, "weight").to_numpy(zero_copy_only=False) if "weight" in table.column_names else None
        self.total += float(np.sum(ratings if weights is None else ratings * weights, dtype=np.float64))
        self.weight += float(len(ratings) if weights is None else np.sum(weights, dtype=np.float64))
        self.low, self.high = min(self.low, float(ratings.min())), max(self.high, float(ratings.max()))
        if self.values is not None:
            values = np.union1d(self.values, pc.unique(flat(table, "rating")).to_numpy(zero_copy_only=False))
            self.values = values.astype(np.float32) if len(values) <= MOST_CODES else None
        for side, counts in zip(SIDES, self.counts, strict=True):
            found = pc.value_counts(whole(flat(table, side)))
            counts.append(pa.table({"id": found.field("values"), "count": found.field("counts")}))

    def _check(self, table: pa.Table) -> None:
        for place, side in enumerate(SIDES):
            ids = flat(table, side)
            self.problems[place] += ids.null_count
            self.problems[2 + place] += whole(ids).null_count - ids.null_count
        for place, name in ((4, "rating"), (5, "weight")):
            if name in table.column_names:
                numbers = flat(table, name).to_numpy(zero_copy_only=False)
                bad = ~np.isfinite(numbers) | ((numbers < 0) if name == "weight" else False)
                self.problems[place] += int(np.count_nonzero(bad))

    def row(self) -> dict[str, Any]:
        codes = None if self.values is None else self.values.tobytes()
        numbers = [self.total, self.weight, self.low, self.high]
        parts = [_to_ipc(_add_up(counts)) if counts else None for counts in self.counts]
        return {
            "user": parts[0],
            "item": parts[1],
            "values": codes,
            "problems": self.problems.tolist(),
            "rows": [self.rows, self.held],
            "numbers": numbers,
        }


_TALLY_SCHEMA = "user binary, item binary, values binary, problems array<long>, rows array<long>, numbers array<double>"


def _tally(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    tally = _Tally()
    for table in chunks(batches):
        tally.add(table)
    if tally.rows:
        kinds = [
            pa.binary(),
            pa.binary(),
            pa.binary(),
            pa.list_(pa.int64()),
            pa.list_(pa.int64()),
            pa.list_(pa.float64()),
        ]
        row = tally.row()
        yield pa.RecordBatch.from_arrays(
            [pa.array([row[name]], kind) for name, kind in zip(row, kinds, strict=True)], names=list(row)
        )


def profile(ratings: DataFrame, columns: Columns, explicit: bool = True) -> Profile:
    """Pass once over the selected ratings.

    Parameters
    ----------
    ratings : DataFrame
        From ``select``.
    columns : Columns
        The original names, for messages.
    explicit : bool
        Unused ratings of 0 are kept in both cases; only the messages differ.

    Raises
    ------
    DataError
        There is no row to train on, or some rows have an id, rating or weight that cannot be used.
    """
    found = ratings.mapInArrow(_tally, _TALLY_SCHEMA).toArrow().to_pylist()
    problems = np.sum([row["problems"] for row in found], axis=0) if found else np.zeros(len(PROBLEMS))
    names = {"user": columns.user, "item": columns.item, "rating": columns.rating, "weight": columns.weight}
    wrong = [f"{int(n)} {text.format(**names)}" for n, text in zip(problems, PROBLEMS, strict=True) if n]
    if wrong:
        raise DataError(
            f"the ratings have {'; '.join(wrong)}: remove these rows, or pass them through mfspark.data.check"
        )
    rows = sum(row["rows"][0] for row in found)
    held = sum(row["rows"][1] for row in found)
    if rows == held:
        what = "all of them are held out" if rows else "the data set is empty"
        raise DataError(f"no ratings to train on: {rows} rows, {what}")
    numbers = np.array([row["numbers"] for row in found])
    coded = None
    if all(row["values"] is not None for row in found):
        values = np.unique(np.concatenate([np.frombuffer(row["values"], np.float32) for row in found]))
        coded = values if len(values) <= MOST_CODES else None
    sides = (_side([row["user"] for row in found]), _side([row["item"] for row in found]))
    if explicit is False and numbers[:, 3].max() <= 0:
        raise DataError(
            f"column {columns.rating!r} has no positive value, so that no pair is liked (implicitPrefs=True)"
        )
    return Profile(
        sides, coded, rows, held, numbers[:, 0].sum(), numbers[:, 1].sum(), numbers[:, 2].min(), numbers[:, 3].max()
    )


def _add_up(tables: list[pa.Table]) -> pa.Table:
    joined = pa.concat_tables(tables)
    if len(tables) > 1:
        joined = joined.group_by("id").aggregate([("count", "sum")]).rename_columns(["id", "count"])
    return joined.combine_chunks()


def _side(parts: list[bytes | None]) -> Side:
    counted = _add_up([pa.ipc.open_stream(part).read_all() for part in parts if part is not None]).sort_by("id")
    return Side(counted.column("id").combine_chunks(), counted.column("count").to_numpy())


def _to_ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
