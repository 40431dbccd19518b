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


class _SideEncoder:
    """One side of a partition: its ids in order of appearance, and the training ratings of each."""

    def __init__(self) -> None:
        self.ids: pa.Array | None = None
        self.counts = np.empty(0, np.int64)

    def codes(self, column: pa.Array, trained: NDArray[np.bool_] | slice) -> NDArray[np.int32]:
        """Return the places of a column's ids in ``ids``, -1 for null, adding new ids."""
        encoded = column.dictionary_encode()
        known = encoded.dictionary
        if self.ids is None:
            self.ids, places = known, np.arange(len(known), dtype=np.int32)
        else:
            found = pc.index_in(known, value_set=self.ids)
            new = found.is_null().to_numpy(zero_copy_only=False)
            places = found.fill_null(0).to_numpy().copy()
            places[new] = len(self.ids) + np.arange(new.sum())
            self.ids = pa.concat_arrays([self.ids, known.filter(pa.array(new))])
        codes = np.append(places, np.int32(-1))[encoded.indices.fill_null(-1).to_numpy()].astype(np.int32, copy=False)
        counted = codes[trained]
        counts = np.bincount(counted[counted >= 0], minlength=len(self.ids))
        counts[: len(self.counts)] += self.counts
        self.counts = counts
        return codes

    def ipc(self) -> bytes | None:
        """Return the table of ids and counts as Arrow IPC."""
        return None if self.ids is None else _to_ipc(pa.table({"id": self.ids, "count": self.counts}))


class _Encoder:
    """Encodes one partition, chunk by chunk, and sums up what it saw."""

    def __init__(self) -> None:
        self.problems = np.zeros(len(PROBLEMS), np.int64)
        self.rows = self.held = 0
        self.total = self.weight = 0.0
        self.values: NDArray[np.float32] | None = np.empty(0, np.float32)
        self.low, self.high = np.inf, -np.inf
        self.sides = (_SideEncoder(), _SideEncoder())

    def add(self, table: pa.Table) -> list[bytes]:
        """Return a chunk's codes, ratings, weights and held-out marks as bytes."""
        names = table.column_names
        self.rows += table.num_rows
        self._check(table)
        ratings = flat(table, "rating").to_numpy(zero_copy_only=False)
        weights = flat(table, "weight").to_numpy(zero_copy_only=False) if "weight" in names else _NO_FLOATS
        held = np.empty(0, np.bool_)
        trained: NDArray[np.bool_] | slice = slice(None)
        if "held" in names:
            held = pc.fill_null(flat(table, "held"), False).to_numpy(zero_copy_only=False)
            trained = ~held
            self.held += int(held.sum())
        codes = [side.codes(whole(flat(table, name)), trained) for name, side in zip(SIDES, self.sides, strict=True)]
        self._measure(ratings[trained], weights[trained] if weights.size else None)
        return [array.tobytes() for array in (*codes, ratings, weights, held)]

    def _measure(self, ratings: NDArray[Any], weights: NDArray[Any] | None) -> None:
        if ratings.size == 0:
            return
        self.total += float(np.sum(ratings if weights is None else ratings * weights, dtype=np.float64))
        self.weight += float(len(ratings) if weights is None else np.sum(weights, dtype=np.float64))
        self.low, self.high = min(self.low, float(ratings.min())), max(self.high, float(ratings.max()))
        if self.values is not None:
            values = np.union1d(self.values, pc.unique(pa.array(ratings)).to_numpy(zero_copy_only=False))
            self.values = values.astype(np.float32) if len(values) <= MOST_CODES else None

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

    def summary(self) -> list[Any]:
        """Return the cells of the partition's last row."""
        values = None if self.values is None else self.values.tobytes()
        numbers = [self.total, self.weight, self.low, self.high]
        ids = [side.ipc() for side in self.sides]
        return [*ids, values, self.problems.tolist(), [self.rows, self.held], numbers]


_NO_FLOATS = np.empty(0, np.float32)
CHUNK = ("users", "items", "ratings", "weights", "held")
SUMMARY = ("user_ids", "item_ids", "values", "problems", "rows", "numbers")
_ENCODED_SCHEMA = (
    "users binary, items binary, ratings binary, weights binary, held binary, user_ids binary, item_ids binary, "
    "values binary, problems array<long>, rows array<long>, numbers array<double>"
)
_ENCODED_KINDS = [*[pa.binary()] * 8, pa.list_(pa.int64()), pa.list_(pa.int64()), pa.list_(pa.float64())]


def encode(ratings: DataFrame) -> DataFrame:
    """Return selected ratings (``select``) as a few large rows per partition: the only pass over the data set.

    A row of CHUNK holds the ratings of about ROWS_AT_ONCE rows, ids being places in the partition's own list of ids; a
    partition ends with a row of SUMMARY, that list included. Nine to thirteen bytes a rating, and no id twice.
    """
    return ratings.mapInArrow(_encode, _ENCODED_SCHEMA)


def _encode(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    encoder = _Encoder()
    for table in chunks(batches):
        if table.num_rows:
            yield _encoded_row([*encoder.add(table), *[None] * len(SUMMARY)])
    if encoder.rows:
        yield _encoded_row([*[None] * len(CHUNK), *encoder.summary()])


def _encoded_row(cells: list[Any]) -> pa.RecordBatch:
    arrays = [pa.array([cell], kind) for cell, kind in zip(cells, _ENCODED_KINDS, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=[*CHUNK, *SUMMARY])


def profile(encoded: DataFrame, columns: Columns, explicit: bool = True) -> Profile:
    """Sum up encoded ratings.

    Parameters
    ----------
    encoded : DataFrame
        From ``encode``.
    columns : Columns
        The original names, for messages.
    explicit : bool
        Whether ratings are explicit; implicit ones need a positive value.

    Raises
    ------
    DataError
        There is no row to train on, or some rows have an id, rating or weight that cannot be used.
    """
    found = encoded.where("problems is not null").select(*SUMMARY).toArrow().to_pylist()
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
    if not explicit and numbers[:, 3].max() <= 0:
        raise DataError(
            f"column {columns.rating!r} has no positive value, so that no pair is liked (implicitPrefs=True)"
        )
    sides = (_side([row["user_ids"] for row in found]), _side([row["item_ids"] for row in found]))
    return Profile(
        sides, coded, rows, held, numbers[:, 0].sum(), numbers[:, 1].sum(), numbers[:, 2].min(), numbers[:, 3].max()
    )


def _add_up(tables: list[pa.Table]) -> pa.Table:
    joined = pa.concat_tables(tables)
    if len(tables) > 1:
        joined = joined.group_by("id").aggregate([("count", "sum")]).rename_columns(["id", "count"])
    return joined.combine_chunks()


def _side(parts: list[bytes | None]) -> Side:
    counted = _add_up([pa.ipc.open_stream(part).read_all() for part in parts if part is not None])
    counted = counted.filter(pc.greater(counted.column("count"), 0)).sort_by("id")
    return Side(counted.column("id").combine_chunks(), counted.column("count").to_numpy())


def _to_ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
