"""Arrow batches and tables: small ones joined, columns taken out, tables as bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from mfspark.transport.garbage import set_modules_apart

ROWS_AT_ONCE = 1_000_000


_SQL = {
    "int": pa.int32(), "long": pa.int64(), "double": pa.float64(), "string": pa.string(), "binary": pa.binary(),
    "array<double>": pa.list_(pa.float64()),
}  # fmt: skip


def kinds_of(schema: str) -> dict[str, pa.DataType]:
    """Return the Arrow types of a schema's columns by name, in their order; the schema as Spark takes it.

    Examples
    --------
    >>> kinds_of("block int, data binary")
    {'block': DataType(int32), 'data': DataType(binary)}
    """
    return {name: _SQL[kind] for name, kind in (column.split() for column in schema.split(", "))}


def nothing(schema: str) -> pa.Table:
    """Return a table of such a schema without rows."""
    return pa.schema(list(kinds_of(schema).items())).empty_table()


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


def row_batch(kinds: Mapping[str, pa.DataType], cells: Sequence[Any]) -> pa.RecordBatch:
    """Return a batch of one row: the cells of the columns whose names and types ``kinds`` gives."""
    arrays = [pa.array([cell], kind) for cell, kind in zip(cells, kinds.values(), strict=True)]
    set_modules_apart()  # nearly every task of ours passes here, and has imported by now what it needs
    return pa.RecordBatch.from_arrays(arrays, list(kinds))


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
