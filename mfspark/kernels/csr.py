"""Counting sorts: ratings to blocks, and blocks to compressed sparse rows (CSR)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

PANEL = 16
"""Factor rows are padded with zeros to a multiple of this many numbers."""
EMPTY = np.empty(0, np.float32)


class Side(IntEnum):
    """One of the two sides of the ratings; pairs of things, one a side, are indexed by it.

    Examples
    --------
    >>> ("of users", "of items")[Side.ITEM], Side.ITEM.other.stem
    ('of items', 'user')
    """

    USER = 0
    ITEM = 1

    @property
    def other(self) -> Side:
        """The other side: the fixed one when this one is solved."""
        return Side(1 - self)

    @property
    def stem(self) -> str:
        """What names of this side's columns and tables begin with: "user" or "item"."""
        return self.name.lower()


@dataclass(frozen=True)
class Block:
    """The ratings of consecutive rows of one side in CSR form; held-out ratings lie in a second CSR beside them.

    ``values`` are float ratings, or uint8 codes into ``table``.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    values: NDArray[Any]
    table: NDArray[np.float32] = field(default_factory=lambda: EMPTY)
    weights: NDArray[np.float32] = field(default_factory=lambda: EMPTY)
    held_indptr: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))
    held_indices: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    held_values: NDArray[np.float32] = field(default_factory=lambda: EMPTY)

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.indptr.size - 1

    @property
    def ratings(self) -> NDArray[np.float32]:
        """The ratings themselves."""
        return decode(self.values, self.table)

    def distinct(self, part: slice = slice(None)) -> NDArray[np.float32]:
        """Return what a function of a stretch's ratings must be computed for: its ratings, or all that codes stand for.

        Examples
        --------
        >>> block = Block(np.array([0, 3]), np.arange(3), np.array([1, 0, 1], np.uint8), np.array([2, 5], np.float32))
        >>> block.each(block.distinct() > 3).tolist()
        [True, False, True]
        """
        return self.table if self.table.size else self.values[part]

    def each(self, values: NDArray[Any], part: slice = slice(None)) -> NDArray[Any]:
        """Return for each rating of a stretch the value that was computed for it from ``distinct``."""
        return values[self.values[part]] if self.table.size else values

    def take(self, rows: NDArray[np.int64]) -> Block:
        """Return a block of some of the rows, without the held-out ratings."""
        indptr = np.zeros(rows.size + 1, np.int64)
        np.cumsum(np.diff(self.indptr)[rows], out=indptr[1:])
        places = np.repeat(self.indptr[rows] - indptr[:-1], np.diff(indptr)) + np.arange(indptr[-1])
        weights = self.weights[places] if self.weights.size else self.weights
        return Block(indptr, self.indices[places], self.values[places], self.table, weights)


def decode(values: NDArray[Any], table: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the ratings of values that are codes into a table (uint8), or the ratings (floats) already."""
    return table[values] if values.dtype == np.uint8 else values


def counting_order(keys: NDArray[Any], n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sort keys 0 .. n - 1 stably in linear time.

    Returns
    -------
    order : int64 array (len(keys),)
        ``keys[order]`` is sorted, equal keys in their old order.
    indptr : int64 array (n + 1,)
        Key v stands at order[indptr[v] : indptr[v + 1]].

    Examples
    --------
    The ratings (user, item) = (0, 0), (0, 2), (1, 1), (2, 0), by item: item 0 has the ratings 0 and 3.

    >>> order, indptr = counting_order(np.array([0, 2, 1, 0]), 3)
    >>> order.tolist(), indptr.tolist()
    ([0, 3, 2, 1], [0, 2, 3, 4])
    """
    from mfspark.kernels.counting import deal  # the one thing here that is compiled: who only reads blocks need not

    indptr = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(keys, minlength=n), out=indptr[1:])
    order = np.empty(keys.size, np.int64)
    deal(keys, indptr[:-1].copy(), order)
    return order, indptr


def balanced_bounds(counts: NDArray[Any], blocks: int, row_cost: float) -> NDArray[np.int64]:
    """Cut rows 0 .. n into consecutive ranges of about equal work.

    Parameters
    ----------
    counts : array (n,)
        Each row's number of ratings.
    blocks : int
        How many ranges; with more blocks than rows some are empty.
    row_cost : float
        The fixed work of a row, in ratings.

    Returns
    -------
    int64 array (blocks + 1,)
        Range b is bounds[b] .. bounds[b + 1].

    Examples
    --------
    >>> balanced_bounds(np.array([2, 1, 1]), 2, row_cost=150.0).tolist()
    [0, 2, 3]
    """
    work = np.zeros(len(counts) + 1)
    np.cumsum(np.asarray(counts, np.float64) + row_cost, out=work[1:])
    cuts = np.searchsorted(work, np.linspace(0, work[-1], blocks + 1)[1:-1])
    return np.concatenate([[0], cuts, [len(counts)]]).astype(np.int64)
