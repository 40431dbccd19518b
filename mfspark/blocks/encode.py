"""The first pass over the ratings: check every row, and learn the ids, the counts and the distinct values.

Nothing is changed and nothing dropped: a row that cannot be trained on is an error that says how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from mfspark.blocks.columns import whole
from mfspark.blocks.index import PartitionIds
from mfspark.kernels.csr import Side
from mfspark.transport.arrow import chunks, flat, row_batch
from mfspark.transport.scan import Scan
from mfspark.transport.workers import check_workers

MOST_CODES = 256
PROBLEMS = (
    "null ids in column {user}",
    "null ids in column {item}",
    "ids in column {user} that are not whole numbers",
    "ids in column {item} that are not whole numbers",
    "null, NaN or infinite values in column {rating}",
    "null, NaN, infinite or negative values in column {weight}",
)


class _Encoder:
    """Encodes one partition, chunk by chunk, and sums up what it saw."""

    def __init__(self) -> None:
        self.problems = np.zeros(len(PROBLEMS), np.int64)
        self.rows = self.held = 0
        self.total = self.weight = 0.0
        self.values: NDArray[np.float32] | None = np.empty(0, np.float32)
        self.low, self.high = np.inf, -np.inf
        self.sides = (PartitionIds(), PartitionIds())

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
        codes = [self.sides[side].codes(whole(flat(table, side.stem)), trained) for side in Side]
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
        for side in Side:
            ids = flat(table, side.stem)
            self.problems[side] += ids.null_count
            self.problems[2 + side] += whole(ids).null_count - ids.null_count
        for place, name in ((4, "rating"), (5, "weight")):
            if name in table.column_names:
                numbers = flat(table, name).to_numpy(zero_copy_only=False)
                bad = ~np.isfinite(numbers) | ((numbers < 0) if name == "weight" else False)
                self.problems[place] += int(np.count_nonzero(bad))

    def summary(self) -> list[Any]:
        """Return the cells of the partition's last row."""
        values = None if self.values is None else self.values.tobytes()
        numbers = [self.total, self.weight, self.low, self.high]
        ids = [side.to_ipc() for side in self.sides]
        listed = [len(side.counts) for side in self.sides]
        return [*ids, values, self.problems.tolist(), [self.rows, self.held, *listed], numbers]


_NO_FLOATS = np.empty(0, np.float32)
CHUNK = ("users", "items", "ratings", "weights", "held")
SUMMARY = ("user_ids", "item_ids", "values", "problems", "rows", "numbers")
_ENCODED_SCHEMA = (
    "users binary, items binary, ratings binary, weights binary, held binary, user_ids binary, item_ids binary, "
    "values binary, problems array<long>, rows array<long>, numbers array<double>"
)
_ENCODED_KINDS = dict.fromkeys((*CHUNK, *SUMMARY[:3]), pa.binary()) | {
    "problems": pa.list_(pa.int64()), "rows": pa.list_(pa.int64()), "numbers": pa.list_(pa.float64()),
}  # fmt: skip


def encode(ratings: DataFrame, scan: Scan | None = None) -> DataFrame:
    """Return selected ratings (``select``) as a few large rows per partition: the only pass over the data set.

    A row of CHUNK holds the ratings of about ROWS_AT_ONCE rows, ids being places in the partition's own list of ids; a
    partition ends with a row of SUMMARY, that list included. Nine to thirteen bytes a rating, and no id twice.

    Parameters
    ----------
    ratings : DataFrame
        From ``columns.select``.
    scan : Scan, optional
        How the workers can read the same rows themselves, from ``columns.scan``.

    Raises
    ------
    SetupError
        The session's workers cannot run mfspark (``check_workers``).
    """
    check_workers(ratings.sparkSession)
    return ratings.mapInArrow(_encode, _ENCODED_SCHEMA) if scan is None else scan.map(ratings, _encode, _ENCODED_SCHEMA)


def _encode(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    encoder = _Encoder()
    for table in chunks(batches):
        if table.num_rows:
            yield row_batch(_ENCODED_KINDS, [*encoder.add(table), *[None] * len(SUMMARY)])
    if encoder.rows:
        yield row_batch(_ENCODED_KINDS, [*[None] * len(CHUNK), *encoder.summary()])
