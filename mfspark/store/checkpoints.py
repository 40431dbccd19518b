"""Where the checkpoints of one fit are kept: data in tables of their own, then one commit that makes them a checkpoint.

The table at the fit's address has a row, the header, for each of the newest two checkpoints. Before a header is
committed, all that it names has been written to tables beside: the arrays, in pieces, to one, and every frame to its
own. Without a header nobody reads them, so that a process may be killed at any moment. The header takes the place of
the older one of two, whose tables are then deleted. (VACUUM, which would delete the files of replaced rows, takes half
a minute for a table of three files on a busy machine.)
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession

from mfspark.errors import StoreError
from mfspark.session import delete_folders
from mfspark.store import tables

_PIECES = pa.schema([("name", pa.string()), ("part", pa.int32()), ("data", pa.binary())])
_PIECE_BYTES = 16 << 20
_HEADERS = "iteration int, tables string, header string"
_ARRAYS = "arrays"


class _Held(NamedTuple):
    """A checkpoint that is there: the addresses of its tables, in JSON, and its header."""

    tables: str
    header: str


class StateTable:
    """The checkpoints of one fit (see ``training.checkpoint.Storage``).

    Parameters
    ----------
    spark : SparkSession
        The session, classic or Connect.
    address : str
        A path or a dotted name; no other fit writes there.
    """

    def __init__(self, spark: SparkSession, address: str) -> None:
        self._spark, self.address = spark, address
        self._held: dict[int, _Held] = {}

    def exists(self) -> bool:
        """Return whether anything is stored, whole or not."""
        try:
            return tables.exists(self._spark, self.address)
        except StoreError:
            return True

    def headers(self) -> dict[int, str]:
        """Return the header of every whole checkpoint, by its iteration."""
        rows = tables.read(self._spark, self.address).collect() if self.exists() else []
        self._held = {row["iteration"]: _Held(row["tables"], row["header"]) for row in rows}
        return {iteration: held.header for iteration, held in self._held.items()}

    def read(self, iteration: int, names: Sequence[str]) -> dict[str, bytearray]:
        """Return arrays of a checkpoint.

        Raises
        ------
        StoreError
            A piece is missing.
        """
        if not names:
            return {}
        table = self.frame(iteration, _ARRAYS).toArrow()
        pieces: dict[tuple[str, int], Any] = {}
        for row in range(table.num_rows):
            key = table.column("name")[row].as_py(), table.column("part")[row].as_py()
            pieces[key] = table.column("data")[row].as_buffer()
        arrays = {}
        for name in names:
            parts = sorted(part for key, part in pieces if key == name)
            if not parts or parts != list(range(len(parts))):
                raise StoreError(f"the array {name!r} of iteration {iteration} has lost a piece")
            arrays[name] = bytearray().join(pieces[name, part] for part in parts)
        return arrays

    def frame(self, iteration: int, name: str) -> DataFrame:
        """Return a frame of a checkpoint, read from its table."""
        return tables.read(self._spark, self.addresses(iteration)[name])

    def write(
        self, iteration: int, header: str, arrays: Mapping[str, NDArray[Any]], frames: Mapping[str, DataFrame]
    ) -> None:
        """Store a checkpoint, in place of the older one of two; it can be seen wholly or not at all."""
        every = dict(frames)
        if arrays:
            pieces = pa.Table.from_batches([piece for item in arrays.items() for piece in _pieces(*item)], _PIECES)
            every[_ARRAYS] = self._spark.createDataFrame(pieces)
        mark = uuid.uuid4().hex[:8]  # a session remembers what a path held
        addresses = {name: f"{self.address}_{iteration}_{name}_{mark}" for name in every}
        for name, frame in every.items():
            tables.overwrite(frame, addresses[name])
        newest = sorted(held for held in self._held if held < iteration)[-1:]  # a later one was left for an earlier one
        kept = {held: self._held[held] for held in newest} | {iteration: _Held(json.dumps(addresses), header)}
        gone = [address for held in {*self._held} - {*newest} for address in self.addresses(held).values()]
        rows = [(held, *row) for held, row in kept.items()]
        tables.overwrite(self._spark.createDataFrame(rows, _HEADERS).coalesce(1), self.address)
        self._held = kept
        for address in gone:
            _remove(self._spark, address)

    def remove(self) -> None:
        """Remove all checkpoints, and what a killed process left of one."""
        remove(self._spark, self.address)
        self._held = {}

    def addresses(self, iteration: int) -> dict[str, str]:
        """Return the addresses of a checkpoint's tables."""
        return json.loads(self._held[iteration].tables)


def remove(spark: SparkSession, address: str) -> None:
    """Remove the checkpoints at an address, where there are any, and tables that a killed process left beside them."""
    if not tables.is_name(address):
        _remove(spark, address)
        delete_folders(spark, address, "_*")
        return
    schema, _, name = address.rpartition(".")
    inside = ".".join(map(tables.quoted, schema.split(".")))
    found = spark.sql(f"SHOW TABLES IN {inside} LIKE {tables.literal(name + '*')}").collect()
    for row in found:
        _remove(spark, f"{schema}.{row['tableName']}")


def _remove(spark: SparkSession, address: str) -> None:
    """Remove a table that nobody else writes to: its files too, but for a Connect client's in a remote folder."""
    if tables.is_name(address):
        spark.sql(f"DROP TABLE IF EXISTS {tables.sql_name(address)}").collect()
    elif not delete_folders(spark, address) and tables.exists(spark, address):
        tables.delete(spark, address, "true")


def _pieces(name: str, array: NDArray[Any]) -> list[pa.RecordBatch]:
    data = array.data.cast("B") if array.size else memoryview(b"")
    starts = range(0, max(len(data), 1), _PIECE_BYTES)
    return [
        pa.RecordBatch.from_arrays(
            [pa.array([name]), pa.array([n], pa.int32()), pa.array([data[at : at + _PIECE_BYTES]], pa.binary())],
            schema=_PIECES,
        )
        for n, at in enumerate(starts)
    ]
