"""From ratings to blocks: one shuffle of packed pieces gives every block's ratings by user and by item, in CSR form.

Worked example: 3 users x 3 items with ratings (0,0) (0,2) (1,1) (2,0), two blocks a side. By user, block 0 holds
rows 0..1 (indptr 0 2 3, indices 0 2 1) and block 1 row 2 (indptr 0 1, indices 0); by item, block 0 holds rows 0..1
(indptr 0 2 3, indices 0 2 1) and block 1 row 2 (indptr 0 1, indices 0). Row b of the frame of blocks carries block b
of both sides. (``tests/training/test_als_training.py`` builds these very blocks.)

Each input partition sorts its encoded ratings by block and sends a few large binary pieces, not rows: what is
shuffled is nine to thirteen bytes a rating, twice. Pieces are put together in the order of the input, so that a fit is
the same every time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from mfspark.blocks.encode import CHUNK
from mfspark.blocks.index import index_of_codes
from mfspark.blocks.profile import Profile
from mfspark.blocks.sizes import usual_blocks
from mfspark.errors import DataError
from mfspark.kernels.csr import Block, Side, balanced_bounds, counting_order
from mfspark.transport.arrow import row_batch
from mfspark.transport.carriers import Carried, carry

ROW_COST = 150.0  # solving a row of rank 64 costs about as much as assembling this many ratings
_PARTS = ("indptr", "indices", "values", "weights", "held_indptr", "held_indices", "held_values")
_PIECE = ("target", "side", "order", "rows", "others", "values", "weights", "held")
_PIECE_SCHEMA = (
    "target int, side int, order long, rows binary, others binary, values binary, weights binary, held binary"
)
_PIECE_KINDS = dict(zip(_PIECE, [pa.int32(), pa.int32(), pa.int64(), *[pa.binary()] * 5], strict=True))


@dataclass(frozen=True)
class Layout:
    """How both sides are cut.

    ``bounds[s]`` are side s's block bounds, ``table`` the distinct ratings (or empty); ``weighted`` and ``held`` say
    which columns there are. With ``known_only`` pairs with unknown ids are left out, and blocks without ratings are
    kept.
    """

    bounds: tuple[NDArray[np.int64], NDArray[np.int64]]
    table: NDArray[np.float32]
    weighted: bool
    held: bool
    known_only: bool = False

    @property
    def blocks(self) -> int:
        """The number of rows of the frame of blocks."""
        return max(len(bounds) - 1 for bounds in self.bounds)


def plan(profile: Profile, slots: int, wanted: tuple[int | None, int | None], weighted: bool) -> Layout:
    """Decide the number of blocks and cut both sides into consecutive ranges of about equal work.

    Parameters
    ----------
    profile : Profile
        What the first pass learned.
    slots : int
        How many tasks run at once; without a wish there are as many blocks, or more where a block would pass
        BLOCK_BYTES.
    wanted : (int or None, int or None)
        numUserBlocks, numItemBlocks.
    weighted : bool
        Whether the ratings carry weights.

    Returns
    -------
    Layout
        The bounds of the blocks of both sides, and which columns their ratings have.
    """
    usual = usual_blocks(profile.rows, slots, profile.values is not None, weighted)
    bounds = [
        balanced_bounds(side.counts, number or usual, ROW_COST)
        for side, number in zip(profile.sides, wanted, strict=True)
    ]
    table = profile.values if profile.values is not None else np.empty(0, np.float32)
    return Layout((bounds[0], bounds[1]), table, weighted, profile.held_out > 0)


def build(
    encoded: DataFrame,
    profile: Profile,
    layout: Layout,
    carrier: str = "auto",
    sides: tuple[Side, ...] = tuple(Side),
    pieces_only: bool = False,
) -> Carried:
    """Return the frame of blocks (lazy): block, and for each side the parts of its Block as binary columns.

    Parameters
    ----------
    encoded : DataFrame
        From ``encode``.
    profile : Profile
        Both sides' ids.
    layout : Layout
        How to cut both sides.
    carrier : str, default "auto"
        How the ids reach the workers.
    sides : tuple of Side
        The sides whose blocks are wanted.
    pieces_only : bool, default False
        Whether to return the pieces of the blocks, each on its block's task, which puts them together (``assembled``).

    Returns
    -------
    Carried
        The frame of blocks or of pieces, row b or target b in partition b, and how to free the ids that were sent.

    Raises
    ------
    DataError
        When it is computed: the ratings are not those that were encoded.
    """
    data = (layout, tuple(side.ids for side in profile.sides), sides)
    pieces, release = carry(encoded, data, _cut, _PIECE_SCHEMA, packed=True, carrier=carrier)
    if layout.known_only:
        pieces = pieces.unionByName(_empty_pieces(encoded, layout, sides))
    placed = place(pieces, "target", layout.blocks)
    if pieces_only:
        return Carried(placed, release)
    columns = ", ".join(f"{side.stem}_{part} binary" for side in sides for part in _PARTS)

    def assemble(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return assembled(batches, layout, sides)

    return Carried(placed.mapInArrow(assemble, f"block int, {columns}"), release)


def _empty_pieces(encoded: DataFrame, layout: Layout, sides: tuple[Side, ...]) -> DataFrame:
    targets = [block for side in sides for block in range(len(layout.bounds[side]) - 1)]
    owners = [side for side in sides for _ in range(len(layout.bounds[side]) - 1)]
    cells = [targets, owners, [0] * len(targets), *[[b""] * len(targets)] * 5]
    table = pa.table(dict(zip(_PIECE, cells, strict=True)), schema=pa.schema(_PIECE_KINDS))
    return encoded.sparkSession.createDataFrame(table, schema=_PIECE_SCHEMA)


def place(frame: DataFrame, column: str, partitions: int) -> DataFrame:
    """Send every row to the partition whose number stands in a column.

    Parameters
    ----------
    frame : DataFrame
        The rows.
    column : str
        An int column with numbers from 0 to ``partitions`` - 1.
    partitions : int
        How many partitions the result has.

    Returns
    -------
    DataFrame
        The rows after one shuffle. Before Spark 4.1 a row goes to the partition of its number's hash, so that some
        partitions hold the rows of several numbers and some hold none.
    """
    if hasattr(frame, "repartitionById"):
        return frame.repartitionById(partitions, F.col(column))
    return frame.repartition(partitions, F.col(column))


def read_block(batch: pa.RecordBatch, row: int, side: Side, layout: Layout) -> Block:
    """Return one side of one row of the frame of blocks, without copying."""
    kinds = {"indptr": np.int64, "indices": np.int32, "weights": np.float32, "values": _value_kind(layout)}
    kinds |= {"held_indptr": np.int64, "held_indices": np.int32, "held_values": np.float32}
    arrays: dict[str, NDArray[Any]] = {}
    for part in _PARTS:
        arrays[part] = np.frombuffer(batch.column(f"{side.stem}_{part}")[row].as_buffer(), kinds[part])
    return Block(table=layout.table, **arrays)


def _value_kind(layout: Layout) -> type:
    return np.uint8 if layout.table.size else np.float32


def _cut(batches: Iterator[pa.RecordBatch], data: Any) -> Iterator[pa.RecordBatch]:
    """Turn a partition's encoded ratings into pieces, one per chunk and block that they touch on each side."""
    from pyspark import TaskContext

    layout, ids, sides = data
    context = TaskContext.get()
    order = (context.partitionId() if context else 0) << 32
    block_of = [np.repeat(np.arange(len(bounds) - 1, dtype=np.int32), np.diff(bounds)) for bounds in layout.bounds]
    for places, chunk in _decoded(batches, ids):
        ratings = _indexed(chunk, places, layout)
        for side in sides:
            target = block_of[side][ratings.index[side]]
            sorting, starts = counting_order(target, len(layout.bounds[side]) - 1)
            arrays = (ratings.index[side], ratings.index[side.other], ratings.values, ratings.weights, ratings.held)
            moved = [array[sorting] if array.size else array for array in arrays]
            for block in np.flatnonzero(np.diff(starts)):
                part = slice(starts[block], starts[block + 1])
                cells = [moved[0][part] - np.int32(layout.bounds[side][block]), *(array[part] for array in moved[1:])]
                row = [int(block), side, order, *(cell.tobytes() for cell in cells)]
                yield row_batch(_PIECE_KINDS, row)
        order += 1


def _decoded(batches: Iterator[pa.RecordBatch], ids: tuple[pa.Array, pa.Array]) -> Iterator[tuple[Any, Any]]:
    """Yield a partition's chunks with the dense index of each of the partition's own ids (last: -1, for null)."""
    held: list[dict[str, Any]] = []
    for batch in batches:
        for row in range(batch.num_rows):
            if batch.column("problems")[row].is_valid:
                places = [index_of_codes(batch.column(f"{side.stem}_ids")[row], ids[side]) for side in Side]
                for chunk in held:
                    yield places, chunk
                held = []
            else:
                held.append({name: batch.column(name)[row].as_buffer() for name in CHUNK})


@dataclass(frozen=True)
class _Ratings:
    """A chunk's ratings: both sides' indices, values (codes or floats), and weights and held-out marks, or empty."""

    index: list[NDArray[np.int32]]
    values: NDArray[Any]
    weights: NDArray[np.float32]
    held: NDArray[np.uint8]


def _indexed(chunk: dict[str, Any], places: list[NDArray[np.int32]], layout: Layout) -> _Ratings:
    """Return a chunk's ratings under the indices of their ids, without those that are not wanted."""
    index = [place[np.frombuffer(chunk[name], np.int32)] for place, name in zip(places, CHUNK[:2], strict=True)]
    ratings, weights = (np.frombuffer(chunk[name], np.float32) for name in ("ratings", "weights"))
    held = np.frombuffer(chunk["held"], np.uint8)
    known = (index[0] >= 0) & (index[1] >= 0)
    # A held-out rating of an unknown user or item cannot be predicted, so it is not measured.
    usable = known if layout.known_only else known | (held == 0) if layout.held else None
    if usable is not None and not usable.all():
        index = [array[usable] for array in index]
        ratings = ratings[usable]
        weights, held = (weights[usable] if weights.size else weights), (held[usable] if held.size else held)
        known = known[usable]
    if not known.all():
        raise DataError("the ratings changed between two passes over them: cache or write them before fit")
    if layout.held:  # coded later: the held-out ones among them need not be in the table
        return _Ratings(index, ratings, weights, held)
    return _Ratings(index, _codes(ratings, layout), weights, held[:0])


def _codes(ratings: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """Return ratings as a block's values: codes into its table where it has one, else the ratings."""
    return np.searchsorted(layout.table, ratings).astype(np.uint8) if layout.table.size else ratings


def assembled(
    batches: Iterator[pa.RecordBatch], layout: Layout, sides: tuple[Side, ...] = tuple(Side)
) -> Iterator[pa.RecordBatch]:
    """Put the pieces of a partition's blocks together; a block without ratings is empty, not missing."""
    pieces = [row for batch in batches for row in batch.to_pylist()]
    pieces.sort(key=lambda row: (row["target"], row["side"], row["order"]))
    for target in sorted({row["target"] for row in pieces}):
        cells: list[Any] = [target]
        for side in sides:
            chosen = [row for row in pieces if row["target"] == target and row["side"] == side]
            bounds = layout.bounds[side]
            rows = int(bounds[target + 1] - bounds[target]) if target + 1 < len(bounds) else 0
            cells += [part.tobytes() for part in _compress(chosen, rows, layout)]
        parts = dict.fromkeys((f"{side.stem}_{part}" for side in sides for part in _PARTS), pa.binary())
        yield row_batch({"block": pa.int32()} | parts, cells)


def _compress(pieces: list[dict[str, Any]], rows: int, layout: Layout) -> list[NDArray[Any]]:
    """Return the parts of one side's Block from its pieces, by counting sort."""

    def joined(name: str, kind: type) -> NDArray[Any]:
        return np.concatenate([np.empty(0, kind), *(np.frombuffer(piece[name], kind) for piece in pieces)])

    value_kind = np.float32 if layout.held else _value_kind(layout)
    row, other = joined("rows", np.int32), joined("others", np.int32)
    values, weights, held = joined("values", value_kind), joined("weights", np.float32), joined("held", np.uint8)
    if not layout.held:
        order, indptr = counting_order(row, rows)
        return [
            indptr, other[order], values[order], weights[order] if weights.size else weights,
            np.zeros(rows + 1, np.int64), other[:0], np.empty(0, np.float32),
        ]  # fmt: skip
    trained, tested = held == 0, held != 0
    order, indptr = counting_order(row[trained], rows)
    held_order, held_indptr = counting_order(row[tested], rows)
    codes = _codes(values[trained], layout)
    return [
        indptr, other[trained][order], codes[order], weights[trained][order] if weights.size else weights,
        held_indptr, other[tested][held_order], values[tested][held_order],
    ]  # fmt: skip
