"""A number that tells encoded ratings from all others: the sum of the hashes of the ratings, in whatever order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from mfspark.blocks.encode import CHUNK
from mfspark.blocks.index import hash_ids
from mfspark.kernels.csr import Side
from mfspark.kernels.hashing import hash_ratings
from mfspark.transport.arrow import flat, row_batch

_MASK = 2**64 - 1


def digest(encoded: DataFrame) -> str:
    """Return 16 letters that depend on every id, rating, weight and held-out mark, not on order or partitions.

    One pass over the encoded ratings (``encode``), of which a number a partition comes to the driver.
    """
    sums = encoded.mapInArrow(_sums, "part decimal(20, 0)").toArrow().column("part").to_pylist()
    return f"{sum(map(int, sums)) & _MASK:016x}"


def _sums(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    held: list[list[Any]] = []
    for batch in batches:
        for row in range(batch.num_rows):
            if batch.column("problems")[row].is_valid:  # the last row of a partition: its ids
                hashes = [_hashes(batch.column(f"{side.stem}_ids")[row]) for side in Side]
                yield row_batch({"part": pa.decimal128(20, 0)}, [sum(_sum(chunk, hashes) for chunk in held) & _MASK])
                held = []
            else:
                held.append([batch.column(name)[row].as_buffer() for name in CHUNK])


def _hashes(ids: Any) -> NDArray[np.uint64]:
    return hash_ids(flat(pa.ipc.open_stream(ids.as_buffer()).read_all().combine_chunks(), "id"))


def _sum(chunk: list[Any], hashes: list[NDArray[np.uint64]]) -> int:
    users, items = (hashes[side][np.frombuffer(chunk[side], np.int32)] for side in Side)
    ratings, weights = (np.frombuffer(part, np.float32) for part in chunk[2:4])
    return hash_ratings(users, items, ratings, weights, np.frombuffer(chunk[4], np.uint8))
