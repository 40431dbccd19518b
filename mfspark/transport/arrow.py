"""Arrow batches and tables: small ones joined, columns taken out, tables as bytes."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

ROWS_AT_ONCE = 1_000_000


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


def to_ipc(table: pa.Table) -> bytes:
    """Return a table as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
