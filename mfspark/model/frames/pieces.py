"""Rows on their way to blocks: packed pieces, one for each block that a partition's rows belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from mfspark.blocks.build import place
from mfspark.blocks.exchange import block_of
from mfspark.kernels.csr import counting_order
from mfspark.transport.arrow import chunks, kinds_of, row_batch, to_ipc
from mfspark.transport.workers import check_workers

PIECE_BYTES = 64 << 20  # well below every limit on one Arrow or Spark cell
ROWS_OUT = 10_000  # rows of a batch that goes to the JVM
PIECES = "target int, rows binary"
Key = Callable[[pa.Table], NDArray[np.int32]]


def home(ids: pa.Array, blocks: int) -> NDArray[np.int32]:
    """Return the block in which each id lives or would live; a null, which lives nowhere, gets any."""
    return block_of(pc.fill_null(ids, "" if pa.types.is_string(ids.type) else 0), blocks)


def places(ids: pa.Array, known: pa.Array) -> NDArray[np.int32]:
    """Return the place of each id among the known ones, -1 where it is null or unknown."""
    found = pc.index_in(ids, value_set=known.cast(ids.type), skip_nulls=True)
    return pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int32, copy=False)


def pieces(rows: DataFrame, key: Key, targets: int) -> DataFrame:
    """Return rows as packed pieces (``cut``), each in its target's partition."""
    return place(cut(rows, key, targets), "target", targets)


def cut(rows: DataFrame, key: Key, targets: int) -> DataFrame:
    """Return rows as packed pieces: target int, rows binary (an Arrow stream).

    Parameters
    ----------
    rows : DataFrame
        Any columns that Arrow knows.
    key : callable
        ``key(table)`` gives each row's target; -1 leaves the row out.
    targets : int
        How many targets there are.
    """
    check_workers(rows.sparkSession)

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for table in chunks(batches):
            for target, chosen in by_target(key(table), targets):
                for part in cells(table.take(pa.array(chosen))):
                    yield row_batch(kinds_of(PIECES), [target, part])

    return rows.mapInArrow(run, PIECES)


def by_target(keys: NDArray[np.int32], targets: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield each target that some keys name, and where these stand; -1 names none."""
    order, starts = counting_order(keys + np.int32(1), targets + 1)
    for target in np.flatnonzero(np.diff(starts)[1:]):
        yield int(target), order[starts[target + 1] : starts[target + 2]]


def cells(table: pa.Table) -> Iterator[bytes]:
    """Yield a table as Arrow streams of about PIECE_BYTES at most."""
    step = max(1, int(table.num_rows * PIECE_BYTES / max(1, table.nbytes)))
    for start in range(0, table.num_rows, step):
        yield to_ipc(table.slice(start, step))


def opened(column: pa.ChunkedArray) -> list[pa.Table]:
    """Return the tables of a column of Arrow streams, without its nulls."""
    return [pa.ipc.open_stream(cell.as_buffer()).read_all() for cell in column if cell.is_valid]


def combined(tables: Iterable[pa.Table]) -> pa.Table | None:
    """Return several tables as one whose columns are in one piece each, None where there is none."""
    joined = list(tables)
    return pa.concat_tables(joined).combine_chunks() if joined else None


def table_of(schema: str, rows: Sequence[Sequence[Any]]) -> pa.Table:
    """Return a table of such a schema (``kinds_of``) from its rows, at least one."""
    kinds = kinds_of(schema)
    arrays = [pa.array(cells, kind) for cells, kind in zip(zip(*rows, strict=True), kinds.values(), strict=True)]
    return pa.table(arrays, names=list(kinds))


def unpack(packed: DataFrame, schema: Any) -> DataFrame:
    """Return the rows of a frame of one column of Arrow streams, in partitions as they are.

    The rows leave Python as they came in: a grouped function's results would be held to Spark's own Arrow types, to
    which a timestamp of the session's zone does not belong.
    """

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for cell in batch.column(0):
                yield from pa.ipc.open_stream(cell.as_buffer()).read_all().to_batches(ROWS_OUT)

    return packed.mapInArrow(run, schema)
