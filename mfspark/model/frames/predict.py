"""Values of pairs by two joins of blocks: rows go to their users' blocks, and on with these users to their items'.

The bytes shuffled are the rows, twice, and of each user 4 (8 in double precision) x columns in use for every block of
items that its rows name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import types as T

from mfspark.blocks.build import place
from mfspark.kernels.als.gibbs import pair_spread
from mfspark.kernels.csr import Side
from mfspark.kernels.objective import Settings
from mfspark.kernels.topk import pair_scores
from mfspark.model.cold_start import ColdStart
from mfspark.model.factorization import respond, scoring_rows
from mfspark.model.frames.blocks import FrameFactorization, read_rows
from mfspark.model.frames.pieces import (
    PIECE_BYTES,
    by_target,
    combined,
    home,
    opened,
    pieces,
    places,
    table_of,
    unpack,
)
from mfspark.model.predict import require_free
from mfspark.transport.arrow import flat, nothing, to_ipc

_PAIR = ("__user", "__item")
_SENT = "target int, rows binary, codes binary, data binary"
Places = NDArray[np.int32]
Value = Callable[[NDArray[Any], NDArray[Any], Places, Places], NDArray[Any]]
"""``value(users' rows, items' rows, places, places)`` gives what is wanted of each pair, NaN where a place is -1."""


@dataclass(frozen=True)
class Prediction:
    """The prediction of a pair."""

    settings: Settings
    intercept: float
    limits: tuple[float, float]
    cold: ColdStart | None = None

    def __call__(self, left: NDArray[Any], right: NDArray[Any], rows: Places, columns: Places) -> NDArray[Any]:
        """Return the predictions of pairs of rows."""
        sides = [
            scoring_rows(data, self.settings, self.intercept, side)
            for side, data in zip(Side, (left, right), strict=True)
        ]
        out = np.empty(len(rows), left.dtype)
        pair_scores(*sides, rows, columns, out)
        found = respond(out, self.limits, self.settings.loss)
        if self.cold is None:
            return found
        users, items = (
            data[:, self.settings.rank] if self.settings.bias[side] else None
            for side, data in zip(Side, (left, right), strict=True)
        )
        return self.cold.fill(found, rows, columns, (users, items))


@dataclass(frozen=True)
class Deviation:
    """The predictive standard deviation of a pair, from samples side by side and the variance of the noise."""

    samples: int
    noise: float
    rank: int

    def __call__(self, left: NDArray[Any], right: NDArray[Any], rows: Places, columns: Places) -> NDArray[Any]:
        """Return the deviations of pairs of rows."""
        variance = np.empty(len(rows))
        factors = [np.ascontiguousarray(data[:, : self.rank]) for data in (left, right)]
        pair_spread(*factors, self.samples, rows, columns, variance)
        return np.sqrt(variance + self.noise)


def add_values(
    model: FrameFactorization, dataset: DataFrame, pair: tuple[Column, Column], name: str, value: Value
) -> DataFrame:
    """Return the data set, in any order, with a float column of a value of each pair.

    Parameters
    ----------
    model : FrameFactorization
        The factors.
    dataset : DataFrame
        The rows, which keep all their columns.
    pair : (Column, Column)
        User and item, in the types of the model's ids.
    name : str
        The new column; DataError where there is one of that name.
    value : callable
        What it is to hold.
    """
    require_free(dataset, name)
    users, items = model.blocks
    settings, first_blocks, last_blocks = model.settings, users.blocks, items.blocks

    def key(table: pa.Table) -> NDArray[np.int32]:
        return home(flat(table, _PAIR[0]), first_blocks)

    def meet_users(own: pa.Table, given: pa.Table) -> pa.Table:
        table = combined(opened(given.column("rows"))) if given.num_rows else None
        if table is None:
            return nothing(_SENT)
        known = read_rows(own, settings) if own.num_rows else None
        codes = np.full(table.num_rows, -1, np.int32) if known is None else places(flat(table, _PAIR[0]), known.ids)
        data = np.zeros((0, settings.width), settings.dtype) if known is None else known.data
        targets = home(flat(table, _PAIR[1]), last_blocks)
        sent = [
            row for target, rows in by_target(targets, last_blocks) for row in _sent(target, table, rows, codes, data)
        ]
        return table_of(_SENT, sent)

    def meet_items(own: pa.Table, given: pa.Table) -> pa.Table:
        known = read_rows(own, settings) if own.num_rows else None
        done = []
        for row in range(given.num_rows):
            (table,) = opened(given.column("rows").slice(row, 1))
            codes, data = given.column("codes")[row].as_buffer(), given.column("data")[row].as_buffer()
            left = np.frombuffer(data, settings.dtype).reshape(-1, settings.width)
            right = left[:0] if known is None else known.data
            items = flat(table.combine_chunks(), _PAIR[1])
            columns = np.full(table.num_rows, -1, np.int32) if known is None else places(items, known.ids)
            found = value(left, right, np.frombuffer(codes, np.int32), columns).astype(np.float32, copy=False)
            done.append(to_ipc(table.drop_columns(list(_PAIR)).append_column(name, pa.array(found))))
        return pa.table({"rows": pa.array(done, pa.binary())})

    marked = dataset.select("*", *(column.alias(one) for column, one in zip(pair, _PAIR, strict=True)))
    coming = pieces(marked, key, first_blocks)
    met = users.frame.groupBy("block").cogroup(coming.groupBy("target")).applyInArrow(meet_users, _SENT)
    going = place(met, "target", last_blocks)
    valued = items.frame.groupBy("block").cogroup(going.groupBy("target")).applyInArrow(meet_items, "rows binary")
    return unpack(valued, T.StructType([*dataset.schema.fields, T.StructField(name, T.FloatType())]))


def _sent(
    target: int, table: pa.Table, rows: NDArray[np.int64], codes: Places, data: NDArray[Any]
) -> Iterator[tuple[int, bytes, bytes, bytes]]:
    """Yield the rows for a block of items, with the distinct users that they name."""
    wide = table.nbytes / max(1, table.num_rows) + data.itemsize * data.shape[1]
    step = max(1, int(PIECE_BYTES / wide))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        used, short = np.unique(codes[part], return_inverse=True)
        unknown = int(used.size > 0 and used[0] < 0)
        short = short.astype(np.int32) - np.int32(unknown)
        yield target, to_ipc(table.take(pa.array(part))), short.tobytes(), data[used[unknown:]].tobytes()
