"""Blocks for sides that fit no single process: ids go to blocks by hash and get their places on the workers.

A block of a side (dst) holds, in one row of its frame, its ids in sorted order, its ratings in CSR form, the ids of the
other side (src) that these ratings name, and, once ``blocks.routes`` has been to both sides, which of its own rows each
block of the other side needs (the out-blocks of MLlib's ALS). Nothing lists all ids in one place.

Worked example: users 1, 2, 3, items 7, 8, ratings (1,7) (2,8) (3,7); two blocks a side, users 1 and 2 in block 0, item
7 in block 1, item 8 in block 0. User block 0 needs item 8 of block 0 and item 7 of block 1, so that its src rows are
[8, 7] and its indices [1, 0]; user block 1 needs item 7. The routes of item block 1 are: row 0 to user blocks 0 and 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from mfspark.blocks.build import place
from mfspark.blocks.encode import CHUNK
from mfspark.blocks.index import hash_ids
from mfspark.blocks.profile import Totals
from mfspark.blocks.sizes import usual_blocks
from mfspark.kernels.csr import Side, counting_order
from mfspark.transport.arrow import flat, kinds_of, row_batch, to_ipc

_PIECE = (
    "target int, side int, order long, own binary, other binary, rows binary, others binary, values binary, "
    "weights binary, held binary"
)
CSR = ("indptr", "indices", "values", "weights", "held_indptr", "held_indices", "held_values")
BLOCK = "block int, ids binary, needed binary, starts binary, " + ", ".join(f"{part} binary" for part in CSR)


@dataclass(frozen=True)
class HashLayout:
    """How ids are spread: the number of blocks by side, the distinct ratings (or empty), which columns there are."""

    blocks: tuple[int, int]
    table: NDArray[np.float32]
    weighted: bool
    held: bool


def hash_layout(found: Totals, slots: int, wanted: tuple[int | None, int | None], weighted: bool) -> HashLayout:
    """Decide the numbers of blocks: as many as slots, or a multiple where a block would pass BLOCK_BYTES.

    Parameters
    ----------
    found : Totals
        What the first pass learned.
    slots : int
        How many tasks run at once.
    wanted : (int or None, int or None)
        numUserBlocks, numItemBlocks.
    weighted : bool
        Whether the ratings carry weights.
    """
    table = found.values if found.values is not None else np.empty(0, np.float32)
    usual = usual_blocks(found.rows, slots, table.size > 0, weighted)
    return HashLayout((wanted[0] or usual, wanted[1] or usual), table, weighted, found.held_out > 0)


def block_of(ids: pa.Array, blocks: int) -> NDArray[np.int32]:
    """Return the block in which each id lives."""
    return (hash_ids(ids) % np.uint64(blocks)).astype(np.int32)


def rating_pieces(encoded: DataFrame, layout: HashLayout, side: Side) -> DataFrame:
    """Return encoded ratings cut by the blocks of a side, each piece with its ids and in its block's partition."""

    def cut(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return _cut(batches, layout, side)

    return place(encoded.mapInArrow(cut, _PIECE), "target", layout.blocks[side])


def side_blocks(encoded: DataFrame, layout: HashLayout, side: Side) -> DataFrame:
    """Return the frame of a side's blocks (lazy), not yet routed."""

    def assemble(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return _assemble(batches, layout, side)

    return rating_pieces(encoded, layout, side).mapInArrow(assemble, BLOCK)


def _cut(batches: Iterator[pa.RecordBatch], layout: HashLayout, side: Side) -> Iterator[pa.RecordBatch]:
    from pyspark import TaskContext

    context = TaskContext.get()
    order = context.partitionId() if context else 0
    chunks: list[list[Any]] = []
    for batch in batches:
        for row in range(batch.num_rows):
            if not batch.column("problems")[row].is_valid:
                chunks.append([batch.column(name)[row].as_buffer() for name in CHUNK])
                continue
            ids = [ids_from(batch.column(f"{one.stem}_ids")[row].as_buffer()) for one in Side]
            yield from _pieces(_joined(chunks), ids, layout, side, order)
            chunks = []


def _joined(chunks: list[list[Any]]) -> list[NDArray[Any]]:
    kinds = (np.int32, np.int32, np.float32, np.float32, np.uint8)
    return [
        np.concatenate([np.frombuffer(chunk[at], kind) for chunk in chunks]) if chunks else np.empty(0, kind)
        for at, kind in enumerate(kinds)
    ]


def _pieces(
    arrays: list[NDArray[Any]], ids: list[pa.Array], layout: HashLayout, side: Side, order: int
) -> Iterator[pa.RecordBatch]:
    """Yield one piece for each block of the side that a partition's ratings touch."""
    codes, others, values, weights, held = arrays[side], arrays[side.other], *arrays[2:]
    home = block_of(ids[side], layout.blocks[side])
    sorting, starts = counting_order(home[codes], layout.blocks[side])
    for target in np.flatnonzero(np.diff(starts)):
        chosen = sorting[starts[target] : starts[target + 1]]
        own, rows = _compact(ids[side], codes[chosen])
        other, columns = _compact(ids[side.other], others[chosen])
        parts = [array[chosen] if array.size else array for array in (values, weights, held)]
        cells = [int(target), side, order, ids_to_bytes(own), ids_to_bytes(other), rows.tobytes(), columns.tobytes()]
        yield one_row(_PIECE, [*cells, *(part.tobytes() for part in parts)])


def _compact(ids: pa.Array, codes: NDArray[np.int32]) -> tuple[pa.Array, NDArray[np.int32]]:
    """Return the ids that codes name, and the codes as places among these."""
    used = np.zeros(len(ids), np.bool_)
    used[codes] = True
    kept = np.flatnonzero(used)
    places = np.empty(len(ids), np.int32)
    places[kept] = np.arange(kept.size, dtype=np.int32)
    return ids.take(pa.array(kept)), places[codes]


def _assemble(batches: Iterator[pa.RecordBatch], layout: HashLayout, side: Side) -> Iterator[pa.RecordBatch]:
    pieces = [row for batch in batches for row in batch.to_pylist()]
    pieces.sort(key=lambda piece: (piece["target"], piece["order"]))
    for target in sorted({piece["target"] for piece in pieces}):
        chosen = [piece for piece in pieces if piece["target"] == target]
        cells = _compressed(chosen, layout, side)
        if cells is not None:
            yield one_row(BLOCK, [target, *cells])


def _compressed(pieces: list[dict[str, Any]], layout: HashLayout, side: Side) -> list[Any] | None:
    """Return the cells of a block from its pieces; None where it has no rating to train on."""
    joined = {
        name: np.concatenate([np.frombuffer(piece[name], kind) for piece in pieces])
        for name, kind in (("values", np.float32), ("weights", np.float32), ("held", np.uint8))
    }
    own = _merged([ids_from(pa.py_buffer(piece["own"])) for piece in pieces])
    other = _merged([ids_from(pa.py_buffer(piece["other"])) for piece in pieces])
    rows, columns = (
        np.concatenate([np.frombuffer(piece[name], np.int32) + at for piece, at in zip(pieces, side_.at, strict=True)])
        for name, side_ in (("rows", own), ("others", other))
    )
    rows, columns = own.codes[rows], other.codes[columns]
    trained = joined["held"] == 0 if layout.held else np.ones(rows.size, np.bool_)
    if not trained.any():
        return None
    ids, rows = _sorted(own.ids, rows, trained)
    known = rows >= 0  # a held-out rating of an id without training ratings cannot be predicted
    rows, columns, trained = rows[known], columns[known], trained[known]
    needed, columns, starts = _by_block(other.ids, columns, layout.blocks[side.other])
    parts = _csr(rows, columns, {name: part[known] if part.size else part for name, part in joined.items()}, trained,
                 len(ids), layout)  # fmt: skip
    return [ids_to_bytes(ids), ids_to_bytes(needed), starts.tobytes(), *(part.tobytes() for part in parts)]


class _Merged(NamedTuple):
    """Several lists of ids as one: the distinct ids, each list's start in the concatenation, codes of the latter."""

    ids: pa.Array
    at: list[int]
    codes: NDArray[np.int32]


def _merged(lists: list[pa.Array]) -> _Merged:
    encoded = pa.concat_arrays(lists).dictionary_encode()
    at = np.concatenate([[0], np.cumsum([len(part) for part in lists])[:-1]]).astype(np.int32)
    return _Merged(encoded.dictionary, list(at), encoded.indices.to_numpy())


def _sorted(ids: pa.Array, rows: NDArray[np.int32], trained: NDArray[np.bool_]) -> tuple[pa.Array, NDArray[np.int32]]:
    """Return the ids that have training ratings, sorted, and the rows as places among them, -1 for the others."""
    used = np.zeros(len(ids), np.bool_)
    used[rows[trained]] = True
    order = pc.array_sort_indices(ids).to_numpy()
    order = order[used[order]]
    places = np.full(len(ids), -1, np.int32)
    places[order] = np.arange(order.size, dtype=np.int32)
    return ids.take(pa.array(order)), places[rows]


def _by_block(
    ids: pa.Array, columns: NDArray[np.int32], blocks: int
) -> tuple[pa.Array, NDArray[np.int32], NDArray[np.int64]]:
    """Return src ids in the order of their blocks, the columns as places among them, and where each block starts."""
    order, starts = counting_order(block_of(ids, blocks), blocks)
    places = np.empty(len(ids), np.int32)
    places[order] = np.arange(order.size, dtype=np.int32)
    return ids.take(pa.array(order)), places[columns], starts


def _csr(
    rows: NDArray[np.int32],
    columns: NDArray[np.int32],
    parts: dict[str, NDArray[Any]],
    trained: NDArray[np.bool_],
    count: int,
    layout: HashLayout,
) -> list[NDArray[Any]]:
    """Return the parts of a Block in the order of ``CSR``."""
    order, indptr = counting_order(rows[trained], count)
    held_order, held_indptr = counting_order(rows[~trained], count)
    values, weights = parts["values"][trained][order], parts["weights"]
    if layout.table.size:
        values = np.searchsorted(layout.table, values).astype(np.uint8)
    weights = weights[trained][order] if weights.size else weights
    held = (columns[~trained][held_order], parts["values"][~trained][held_order])
    return [indptr, columns[trained][order], values, weights, held_indptr, *held]


def ids_to_bytes(ids: pa.Array) -> bytes:
    """Return ids as an Arrow IPC stream."""
    return to_ipc(pa.table({"id": ids}))


def ids_from(data: Any) -> pa.Array:
    """Return the ids of an Arrow IPC stream."""
    return flat(pa.ipc.open_stream(data).read_all().combine_chunks(), "id")


def one_row(schema: str, cells: list[Any]) -> pa.RecordBatch:
    """Return one row of a frame of such a schema."""
    return row_batch(kinds_of(schema), cells)
