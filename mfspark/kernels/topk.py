"""Scores of pairs and the best n of a row of scores, without sorting the row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mfspark.kernels.compile import jit


@jit(fastmath=True)
def pair_scores(left, right, rows, columns, out):  # type: ignore[no-untyped-def]
    """Set out[t] = left[rows[t]] . right[columns[t]], NaN where an index is negative (an unknown id)."""
    for t in range(rows.size):
        if rows[t] < 0 or columns[t] < 0:
            out[t] = np.nan
            continue
        one, other = left[rows[t]], right[columns[t]]
        total = left.dtype.type(0)
        for j in range(left.shape[1]):
            total += one[j] * other[j]
        out[t] = total


@jit
def _sift_down(values, places, n):  # type: ignore[no-untyped-def]
    """Restore the heap order (smallest first; on ties the larger place first) after its root changed."""
    at = 0
    while True:
        child = 2 * at + 1
        if child >= n:
            return
        other = child + 1
        if other < n and (
            values[other] < values[child] or (values[other] == values[child] and places[other] > places[child])
        ):
            child = other
        if values[at] < values[child] or (values[at] == values[child] and places[at] > places[child]):
            return
        values[at], values[child] = values[child], values[at]
        places[at], places[child] = places[child], places[at]
        at = child


@jit
def update_best(scores, first, indptr, indices, values, places):  # type: ignore[no-untyped-def]
    """Let the columns first .. first + width of every row compete for the row's best n.

    Parameters
    ----------
    scores : float array (rows, width)
        Scores of the columns; those of seen columns are overwritten with -inf.
    first : int
        The number of the first column.
    indptr, indices : int arrays
        Row r has seen the columns indices[indptr[r] : indptr[r + 1]].
    values, places : arrays (rows, n)
        Per row a heap of the best scores so far and their columns, -inf and -1 at the start.
    """
    width, n = scores.shape[1], values.shape[1]
    for r in range(scores.shape[0]):
        row, heap, place = scores[r], values[r], places[r]
        for t in range(indptr[r], indptr[r + 1]):
            column = indices[t] - first
            if 0 <= column < width:
                row[column] = -np.inf
        worst = heap[0]
        for start in range(0, width, 64):
            stop = min(start + 64, width)
            top = -np.inf
            for j in range(start, stop):
                top = max(top, row[j])
            if not top > worst:
                continue
            for j in range(start, stop):
                if row[j] > worst:
                    heap[0] = row[j]
                    place[0] = first + j
                    _sift_down(heap, place, n)
                    worst = heap[0]


def best_columns(
    left: NDArray[Any],
    right: NDArray[Any],
    n: int,
    block: int,
    indptr: NDArray[np.int64] | None = None,
    indices: NDArray[np.int32] | None = None,
) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Return each row's n best columns by the scores left @ right.T, best first, ties by the smaller column.

    Parameters
    ----------
    left, right : float arrays (rows, k), (columns, k)
    n : int
        How many; rows with fewer candidates end with column -1 and score -inf.
    block : int
        Scores are formed in tiles of at most block x block.
    indptr, indices : arrays, optional
        The columns each row must not get.

    Returns
    -------
    places : int32 array (rows, n)
    values : float array (rows, n)
    """
    rows, columns = len(left), len(right)
    values = np.full((rows, n), -np.inf, left.dtype)
    places = np.full((rows, n), -1, np.int32)
    if indptr is None or indices is None:
        indptr, indices = np.zeros(rows + 1, np.int64), np.empty(0, np.int32)
    height = max(1, min(block, 1024))
    with threadpool_limits(1):
        for top in range(0, rows, height):
            part = slice(top, min(top + height, rows))
            seen = indptr[part.start : part.stop + 1]
            for first in range(0, columns, block):
                scores = left[part] @ right[first : first + block].T
                update_best(scores, first, seen, indices, values[part], places[part])
    order = np.lexsort((places, -values), axis=1)
    return np.take_along_axis(places, order, 1), np.take_along_axis(values, order, 1)
