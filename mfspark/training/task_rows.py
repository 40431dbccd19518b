"""What the tasks of a barrier stage give back to the driver: their rows of both sides, the history, or an error."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mfspark.errors import MFSparkError
from mfspark.kernels.csr import Side
from mfspark.training import history as lines
from mfspark.training.history import Iteration
from mfspark.transport.arrow import row_batch

SCHEMA = "kind string, block int, first long, data binary"
"""``data`` is the history (kind "history"), a pickled error ("error"), a note, or a side's rows from ``first``."""
_KINDS = {"kind": pa.string(), "block": pa.int32(), "first": pa.int64(), "data": pa.binary()}
_CELL_BYTES = 64 << 20


def side_rows(side: Side, block: int, first: int, rows: NDArray[Any]) -> Iterator[pa.RecordBatch]:
    """Yield a block's rows of a side, the first of which is number ``first`` of the side, in cells of some MB.

    A block without rows is one cell, too: somebody must have it.
    """
    some = max(1, _CELL_BYTES // max(1, rows.itemsize * rows.shape[1]))
    for start in range(0, max(1, len(rows)), some):
        yield row_batch(_KINDS, (side.stem, block, first + start, rows[start : start + some].tobytes()))


class Tables:
    """Rows of sides, block by block, as tasks gave them and other tasks get them back."""

    def __init__(self) -> None:
        self._parts: dict[tuple[Side, int], dict[int, pa.Buffer]] = {}

    def add(self, batch: pa.RecordBatch | pa.Table, row: int) -> None:
        """Take one row of ``side_rows``."""
        kind, block, first = (batch.column(name)[row].as_py() for name in ("kind", "block", "first"))
        self._parts.setdefault((Side[kind.upper()], block), {})[first] = batch.column("data")[row].as_buffer()

    def joined(self) -> dict[tuple[Side, int], NDArray[np.float32]]:
        """Return the numbers of every block's table, by side and block."""
        return {
            key: np.concatenate([np.frombuffer(parts[first], np.float32) for first in sorted(parts)])
            for key, parts in self._parts.items()
        }


def history_row(history: list[Iteration]) -> pa.RecordBatch:
    """Return the history of the fit, which one of the tasks gives."""
    return row_batch(_KINDS, ("history", 0, 0, lines.to_bytes(history)))


def note_row(note: dict[str, Any]) -> pa.RecordBatch:
    """Return what else one of the tasks has to say, as JSON holds it."""
    return row_batch(_KINDS, ("note", 0, 0, json.dumps(note).encode()))


def error_row(error: MFSparkError) -> pa.RecordBatch:
    """Return the error that ended the fit in every task: a task that raised it would be run again by Spark."""
    return row_batch(_KINDS, ("error", 0, 0, pickle.dumps(error)))


def collect(table: pa.Table, sides: list[NDArray[Any]], note: dict[str, Any] | None = None) -> list[Iteration]:
    """Put the tasks' rows into ``sides`` and their note into ``note``, and return the history.

    Raises
    ------
    MFSparkError
        The error with which the fit ended.
    """
    history: list[Iteration] = []
    for row in range(table.num_rows):
        kind, data = table.column("kind")[row].as_py(), table.column("data")[row].as_buffer()
        if kind == "error":
            raise pickle.loads(data)
        if kind == "history":
            history = lines.from_bytes(memoryview(data))
            continue
        if kind == "note":
            if note is not None:
                note.update(json.loads(data.to_pybytes()))
            continue
        target, first = sides[Side[kind.upper()]], table.column("first")[row].as_py()
        part = np.frombuffer(data, target.dtype).reshape(-1, target.shape[1])
        target[first : first + len(part)] = part
    return history
