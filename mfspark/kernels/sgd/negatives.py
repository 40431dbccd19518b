"""Negative sampling for implicit data: unobserved pairs to train on as zeros."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mfspark.errors import DataError, ParameterError
from mfspark.kernels.compile import jit
from mfspark.kernels.rng import mix, uniform_below

_MASK = 0xFFFFFFFFFFFFFFFF


def sample_negatives(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    n_items: int,
    n_negatives: int,
    *,
    seed: int,
    epoch: int,
    first_row: int = 0,
    exclude_observed: bool = True,
    skip_full: bool = False,
) -> NDArray[np.int32]:
    """Draw items uniformly for each observed pair, with replacement.

    The draws of a row depend on (seed, epoch, row) and on nothing else, so a task that is run again, or another split
    of the rows into blocks, gives the same ones.

    Parameters
    ----------
    indptr : int64 array (n_rows + 1,)
        Start of each row's observed items in `indices` (CSR).
    indices : int32 array (n,)
        Observed items, in any order within a row.
    n_items : int
        Items to draw from, numbered from 0.
    n_negatives : int
        Draws per observed pair.
    seed, epoch : int
        Keys of the draws.
    first_row : int, default 0
        Number of the block's first row in the whole matrix.
    exclude_observed : bool, default True
        Draw again while the item is one the row has observed. False draws from all items, which is faster: a draw is
        then an observed item as often as the row's share of all items.
    skip_full : bool, default False
        Give a row that has observed every item -1 instead of items.

    Returns
    -------
    int32 array (n, n_negatives)
        Items for each observed pair, in the order of `indices`.

    Raises
    ------
    ParameterError
        `n_negatives` is below 1.
    DataError
        An item lies outside 0..n_items-1, or a row has observed every item, so that nothing is left to draw (unless
        `skip_full`).
    """
    if n_negatives < 1:
        raise ParameterError(f"n_negatives is {n_negatives}; it must be at least 1")
    outside = int(np.count_nonzero((indices < 0) | (indices >= n_items)))
    if outside:
        raise DataError(f"{outside} of {len(indices)} items lie outside 0..{n_items - 1}; rebuild the item index")
    negatives = np.empty((len(indices), n_negatives), dtype=np.int32)
    key = np.uint64(_python_mix(seed, epoch))
    full = _sample(indptr, indices, n_items, key, first_row, exclude_observed, skip_full, negatives)
    if full >= 0:
        raise DataError(
            f"row {full + first_row} has observed all {n_items} items, so no negative is left for it; drop the row or "
            "draw with exclude_observed=False"
        )
    return negatives


def _python_mix(seed: int, epoch: int) -> int:
    """Return one 64-bit key for (seed, epoch)."""
    return int(mix(np.uint64(seed & _MASK), np.uint64(epoch)))


@jit
def _sample(indptr, indices, n_items, key, first_row, exclude_observed, skip_full, negatives):  # type: ignore[no-untyped-def]
    """Fill `negatives`; return -1, or the first row that has observed every item and is not to be skipped."""
    seen_by = np.full(n_items, -1, dtype=np.int64)
    for row in range(indptr.size - 1):
        n_seen = 0
        if exclude_observed:
            for x in range(indptr[row], indptr[row + 1]):
                n_seen += seen_by[indices[x]] != row
                seen_by[indices[x]] = row
            if n_seen == n_items:
                if not skip_full:
                    return row
                negatives[indptr[row] : indptr[row + 1]] = -1
                continue
        row_key, counter = mix(key, np.uint64(first_row + row)), np.uint64(0)
        for x in range(indptr[row], indptr[row + 1]):
            for draw in range(negatives.shape[1]):
                item = uniform_below(mix(row_key, counter), n_items)
                counter += np.uint64(1)
                while exclude_observed and seen_by[item] == row:
                    item = uniform_below(mix(row_key, counter), n_items)
                    counter += np.uint64(1)
                negatives[x, draw] = item
    return -1
