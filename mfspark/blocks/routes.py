"""The routing plan of the exchange: which of a block's rows every block of the other side needs, made once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from mfspark.blocks.build import place
from mfspark.blocks.exchange import BLOCK, CSR, HashLayout, ids_from, ids_to_bytes, one_row
from mfspark.kernels.csr import Block, Side
from mfspark.transport.arrow import kinds_of, nothing

_REQUEST = "target int, block int, ids binary"
_ROUTED = BLOCK + ", routes binary, route_starts binary"
_PLACES = "target int, block int, places binary"
_NUMBERED = "block int, " + ", ".join(f"user_{part} binary" for part in CSR)


class Sides(NamedTuple):
    """The frames of both sides' routed blocks, in the order user, item."""

    user: DataFrame
    item: DataFrame


def route(blocks: DataFrame, others: DataFrame, count: int, other_count: int) -> DataFrame:
    """Return a side's blocks with the places that each block of the other side needs (lazy), in their partitions.

    Parameters
    ----------
    blocks, others : DataFrame
        ``side_blocks`` of this side and of the other one, kept.
    count, other_count : int
        Their numbers of blocks.
    """

    def ask(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for row in range(batch.num_rows):
                needed = ids_from(batch.column("needed")[row].as_buffer())
                starts = np.frombuffer(batch.column("starts")[row].as_buffer(), np.int64)
                number = batch.column("block")[row].as_py()
                for target in np.flatnonzero(np.diff(starts)):
                    part = needed.slice(starts[target], starts[target + 1] - starts[target])
                    yield one_row(_REQUEST, [int(target), number, ids_to_bytes(part)])

    def answer(own: pa.Table, asked: pa.Table) -> pa.Table:
        if own.num_rows == 0:
            return nothing(_ROUTED)
        ids = ids_from(own.column("ids")[0].as_buffer())
        wanted: dict[int, NDArray[np.int32]] = {}
        for row in range(asked.num_rows):
            places = pc.index_in(ids_from(asked.column("ids")[row].as_buffer()), value_set=ids).fill_null(-1)
            wanted[asked.column("block")[row].as_py()] = places.to_numpy(zero_copy_only=False).astype(np.int32)
        empty = np.empty(0, np.int32)
        routes = [wanted.get(block, empty) for block in range(other_count)]
        starts = np.concatenate([[0], np.cumsum([len(part) for part in routes])]).astype(np.int64)
        cells = [own.column(name)[0].as_py() for name in kinds_of(BLOCK)]
        return pa.Table.from_batches([one_row(_ROUTED, [*cells, np.concatenate(routes).tobytes(), starts.tobytes()])])

    columns = others.select("block", "needed", "starts")
    requests = place(columns.mapInArrow(ask, _REQUEST), "target", count)
    pair = blocks.groupBy("block").cogroup(requests.groupBy("target"))
    return place(pair.applyInArrow(answer, _ROUTED), "block", count)


@dataclass(frozen=True)
class RoutedBlock:
    """One block of a side: its ids, its ratings against the src rows it needs, and its rows that others need."""

    number: int
    ids: pa.Array
    csr: Block
    starts: NDArray[np.int64]
    routes: NDArray[np.int32]
    route_starts: NDArray[np.int64]


def read_routed(table: pa.Table | pa.RecordBatch, row: int, layout: HashLayout) -> RoutedBlock:
    """Return one row of a routed frame, without copying its ratings."""
    coded = np.uint8 if layout.table.size else np.float32
    kinds = {"indptr": np.int64, "indices": np.int32, "weights": np.float32, "values": coded}
    kinds |= {"held_indptr": np.int64, "held_indices": np.int32, "held_values": np.float32}

    def array(name: str, kind: Any) -> NDArray[Any]:
        return np.frombuffer(table.column(name)[row].as_buffer(), kind)

    csr = Block(table=layout.table, **{name: array(name, kind) for name, kind in kinds.items()})
    ids = ids_from(table.column("ids")[row].as_buffer())
    routes = (array("routes", np.int32), array("route_starts", np.int64))
    return RoutedBlock(table.column("block")[row].as_py(), ids, csr, array("starts", np.int64), *routes)


def row_counts(blocks: DataFrame, count: int) -> NDArray[np.int64]:
    """Return the number of ids of each of a side's ``count`` blocks; one that is missing has none."""
    sizes = np.zeros(count, np.int64)
    rows = blocks.select("block", (F.length("indptr") / F.lit(8) - F.lit(1)).cast("bigint").alias("n")).collect()
    for row in rows:
        sizes[row["block"]] = row["n"]
    return sizes


def numbered(sides: Sides, layout: HashLayout, item_bounds: NDArray[np.int64]) -> DataFrame:
    """Return the users' blocks as ``blocks.build.build`` gives them, items numbered in the order of their blocks.

    A held-out rating of an item without training ratings cannot be predicted and is left out.

    Parameters
    ----------
    sides : Sides
        Both sides' routed blocks.
    layout : HashLayout
        How ids are spread.
    item_bounds : int64 array (item blocks + 1,)
        The number of each item block's first item.
    """

    def tell(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for row in range(batch.num_rows):
                number = batch.column("block")[row].as_py()
                routes, starts = (
                    np.frombuffer(batch.column(name)[row].as_buffer(), kind)
                    for name, kind in (("routes", np.int32), ("route_starts", np.int64))
                )
                for target in np.flatnonzero(np.diff(starts)):
                    yield one_row(_PLACES, [int(target), number, routes[starts[target] : starts[target + 1]].tobytes()])

    def renumber(own: pa.Table, told: pa.Table) -> pa.Table:
        if own.num_rows == 0:
            return nothing(_NUMBERED)
        block = read_routed(own, 0, layout)
        items = np.full(int(block.starts[-1]), -1, np.int32)
        for row, source in enumerate(told.column("block").to_pylist()):
            places = np.frombuffer(told.column("places")[row].as_buffer(), np.int32)
            first = np.int32(item_bounds[source])
            items[block.starts[source] : block.starts[source + 1]] = np.where(places >= 0, places + first, -1)
        csr = known_held(block.csr, items >= 0)
        csr = replace(csr, indices=items[csr.indices], held_indices=items[csr.held_indices])
        cells = [np.ascontiguousarray(getattr(csr, part)).tobytes() for part in CSR]
        return pa.Table.from_batches([one_row(_NUMBERED, [block.number, *cells])])

    columns = sides.item.select("block", "routes", "route_starts")
    places = place(columns.mapInArrow(tell, _PLACES), "target", layout.blocks[Side.USER])
    pair = sides.user.groupBy("block").cogroup(places.groupBy("target"))
    return place(pair.applyInArrow(renumber, _NUMBERED), "block", layout.blocks[Side.USER])


def known_held(csr: Block, known: NDArray[np.bool_]) -> Block:
    """Return a block's ratings without the held-out ones of src rows that are not known."""
    kept = known[csr.held_indices]
    rows = np.repeat(np.arange(csr.rows), np.diff(csr.held_indptr))[kept]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=csr.rows))]).astype(np.int64)
    return replace(csr, held_indptr=indptr, held_indices=csr.held_indices[kept], held_values=csr.held_values[kept])
