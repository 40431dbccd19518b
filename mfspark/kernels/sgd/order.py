"""The order in which SGD visits the ratings of a block: tiles that fit in the cache, streams that overlap.

Two ratings of one user in a row make each update wait for the last one. So the ratings of a tile (a range of users by a
range of items, both small enough for the L2 cache) are sorted by user, items in random order, and dealt out from
`STREAMS` places of that list in turn: neighbours in the order mostly have different users, and the processor overlaps
their updates, while each user's row stays in the L1 cache until the user is done.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfspark.errors import DataError
from mfspark.kernels.compile import jit
from mfspark.kernels.rng import mix, uniform_below
from mfspark.kernels.sgd.simd import padded_rank

TILE_BYTES = 512 * 1024
"""Bytes of item rows of a tile: half an L2 cache of 1 MB, the rest is for users (read in order) and ratings."""
MAX_TILES_PER_SIDE = 64
"""Users are read in order, so their side of a tile may outgrow `TILE_BYTES` rather than make ever smaller tiles."""
STREAMS = 4
"""Users visited in turn; more than four gained nothing measurable at rank 64."""


class RatingOrder(NamedTuple):
    """An order of visit.

    Attributes
    ----------
    positions : int32 array (n,)
        Number of the rating to visit at each step: take ``rows[positions]`` and so on.
    tile_starts : int64 array (n_tiles + 1,)
        Step at which each tile starts.
    """

    positions: NDArray[np.int32]
    tile_starts: NDArray[np.int64]


def order_ratings(
    rows: NDArray[np.int32],
    cols: NDArray[np.int32],
    n_rows: int,
    n_cols: int,
    *,
    rank: int,
    seed: int,
    tile_bytes: int = TILE_BYTES,
    streams: int = STREAMS,
) -> RatingOrder:
    """Return a fast, seeded order of visit for the ratings of a block.

    Parameters
    ----------
    rows, cols : int32 array (n,)
        User and item of each rating, in any order; n below 2^31.
    n_rows, n_cols : int
        Users and items of the block.
    rank : int
        Number of factors.
    seed : int
        Same seed, same order, on any machine.
    tile_bytes : int, default 512 KiB
        Bytes of factor rows on each side of a tile, unless that would make more than 64 tiles a side.
    streams : int, default 4
        How many users of a tile are visited in turn.

    Returns
    -------
    RatingOrder
        Positions and tiles.

    Raises
    ------
    DataError
        A row or column number lies outside the block.
    """
    for name, ids, size in (("rows", rows, n_rows), ("cols", cols, n_cols)):
        outside = int(np.count_nonzero((ids < 0) | (ids >= size)))
        if outside:
            raise DataError(f"{outside} of {len(ids)} {name} lie outside 0..{size - 1}; rebuild the block's index")
    height, width = (_tile_side(size, rank, tile_bytes) for size in (n_rows, n_cols))
    n_tiles = -(-max(n_rows, 1) // height) * -(-max(n_cols, 1) // width)
    positions, starts = _by_tile(rows, cols, height, width, -(-max(n_cols, 1) // width), n_tiles)
    _order_tiles(positions, starts, rows, np.uint64(seed & 0xFFFFFFFFFFFFFFFF), height, streams)
    return RatingOrder(positions, starts)


def _tile_side(size: int, rank: int, tile_bytes: int) -> int:
    """Return the rows of a tile side: equal shares of `size` that fit, but not more than the maximum of tiles."""
    fitting = max(tile_bytes // (4 * padded_rank(rank)), 1)
    n_parts = min(-(-max(size, 1) // fitting), MAX_TILES_PER_SIDE)
    return -(-max(size, 1) // n_parts)


@jit
def _by_tile(rows, cols, height, width, tiles_across, n_tiles):  # type: ignore[no-untyped-def]
    """Sort the rating numbers by tile (counting sort), keeping their order within a tile."""
    tiles = np.empty(rows.size, dtype=np.int32)
    starts = np.zeros(n_tiles + 1, dtype=np.int64)
    for x in range(rows.size):
        tiles[x] = rows[x] // height * tiles_across + cols[x] // width
        starts[tiles[x] + 1] += 1
    starts = np.cumsum(starts)
    fill = starts[:-1].copy()
    positions = np.empty(rows.size, dtype=np.int32)
    for x in range(rows.size):
        positions[fill[tiles[x]]] = x
        fill[tiles[x]] += 1
    return positions, starts


@jit
def _order_tiles(positions, starts, rows, seed, height, streams):  # type: ignore[no-untyped-def]
    """Within each tile: shuffle, counting sort by user, deal out to the streams."""
    largest = np.int64(0)
    for tile in range(starts.size - 1):
        largest = max(largest, starts[tile + 1] - starts[tile])
    by_user = np.empty(largest, dtype=np.int32)
    users = np.empty(largest, dtype=np.int32)
    fill = np.empty(height + 1, dtype=np.int64)
    for tile in range(starts.size - 1):
        ratings = positions[starts[tile] : starts[tile + 1]]
        n = ratings.size
        _shuffle(ratings, mix(seed, np.uint64(tile)))
        fill[:] = 0
        for x in range(n):
            users[x] = rows[ratings[x]] % height
            fill[users[x] + 1] += 1
        for u in range(height):
            fill[u + 1] += fill[u]
        for x in range(n):
            by_user[fill[users[x]]] = ratings[x]
            fill[users[x]] += 1
        length = -(-n // streams)
        at = 0
        for x in range(length):
            for stream in range(streams):
                if stream * length + x < min((stream + 1) * length, n):
                    ratings[at] = by_user[stream * length + x]
                    at += 1


@jit
def _shuffle(values, seed):  # type: ignore[no-untyped-def]
    """Fisher-Yates shuffle in place."""
    for x in range(values.size - 1, 0, -1):
        other = uniform_below(mix(seed, np.uint64(x)), x + 1)
        values[x], values[other] = values[other], values[x]
