"""The full-batch gradient of a masked factorization on one block of ratings ("Funk SVD" without the S in SGD).

With scores s_ui = alpha + b_u + b_i + x_u . y_i, a loss l of each rating and its derivative d = dl/ds, the data's part
of the objective is E = (1/N) sum over the ratings of w l, and

    dE/dX = (1/N) D Y      dE/dY = (1/N) D^T X      dE/db_u = (1/N) sum_i D_ui      dE/dalpha = (1/N) sum D

where D holds w d at the rated pairs and nothing elsewhere: for the squared error D = -2 R o (M - X Y^T), R being the
mask. D has the sparsity of the ratings and lives for a stretch of one block only. Divisions by N are the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfspark.kernels.compile import jit
from mfspark.kernels.csr import Block, Side
from mfspark.kernels.losses import Loss
from mfspark.kernels.objective import Settings, expand, stretches
from mfspark.kernels.rng import mix
from mfspark.kernels.simd import add_scaled, dot_rows

STATISTICS = ("fit", "slope", "weight", "valid_squares", "valid_rows")
"""Sums over the ratings: w l, w dl/ds, w; over the held-out ones: squared errors of the response, and their number."""
FIT, SLOPE, WEIGHT, VALID_SQUARES, VALID_ROWS = range(5)
HALVES = {"squared": 2.0}
"""By what a loss of ``losses.LOSSES`` is multiplied: the squared error is meant whole, not halved."""


@dataclass(frozen=True)
class Batch:
    """Which ratings a step looks at: those whose hash of (key, user, item) falls into the share."""

    share: float = 1.0
    key: int = 0


@jit
def _drawn(indptr, indices, first_row, key, bound, keep):  # type: ignore[no-untyped-def]
    """Set keep[t] where the hash of (key, row, column) is below the bound."""
    for r in range(indptr.size - 1):
        own = mix(key, np.uint64(first_row + r))
        for t in range(indptr[r], indptr[r + 1]):
            keep[t] = (mix(own, np.uint64(indices[t])) >> np.uint64(32)) < bound


@jit(fastmath=True)
def _scores(indptr, indices, X, bias_x, Y, bias_y, out):  # type: ignore[no-untyped-def]
    """Set out[t] = x_r . y_i + b_r + b_i for every rating."""
    for r in range(indptr.size - 1):
        for t in range(indptr[r], indptr[r + 1]):
            out[t] = dot_rows(X, r, Y, indices[t], 0) + bias_x[r] + bias_y[indices[t]]


@jit(fastmath=True)
def _add_products(indptr, indices, slopes, X, Y, dX, dbias_x, dY, dbias_y):  # type: ignore[no-untyped-def]
    """Add D Y to dX and D^T X to dY, and the sums of D's rows and columns to the biases' gradients."""
    for r in range(indptr.size - 1):
        for t in range(indptr[r], indptr[r + 1]):
            add_scaled(dX, r, Y, indices[t], slopes[t], 0)
            add_scaled(dY, indices[t], X, r, slopes[t], 0)
            dbias_x[r] += slopes[t]
            dbias_y[indices[t]] += slopes[t]


def split_bias(side: NDArray[Any], rank: int, biased: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return a side's factors with zeros from column ``rank`` on (n x padded), and its biases (n,) or zeros."""
    factors = np.ascontiguousarray(side).copy()
    factors[:, rank:] = 0
    bias = np.ascontiguousarray(side[:, rank]) if biased else np.zeros(len(side), side.dtype)
    return factors, bias


def gradient_block(
    block: Block,
    X: NDArray[Any],
    Y: NDArray[Any],
    settings: Settings,
    loss: Loss,
    intercept: float = 0.0,
    batch: Batch | None = None,
    first_row: int = 0,
    limits: tuple[float, float] = (-np.inf, np.inf),
    gradient: bool = True,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
    """Return the sums that make the gradient of the data's part of the objective.

    Parameters
    ----------
    block : Block
        The ratings of consecutive rows of one side.
    X, Y : arrays (rows, padded), (n, padded)
        The rows' factors and the other side's; column ``rank`` is the bias of a side that has one.
    settings : Settings
        Seen from the side of X.
    loss : Loss
        Of ``mfspark.kernels.losses``.
    intercept : float, default 0
        alpha.
    batch : Batch, optional
        The share of the ratings to look at; default all.
    first_row : int, default 0
        The number of the block's first row, for the batch's hash.
    limits : (float, float)
        The range to which predictions of held-out ratings are clipped.
    gradient : bool, default True
        Whether the gradient is wanted; without it the two arrays are empty and only the statistics are right.

    Returns
    -------
    dX, dY : arrays (rows, padded), (n, padded), or (0, padded) both
        N times the derivatives, biases in column ``rank``.
    statistics : float64 array (len(STATISTICS),)
        In the order of STATISTICS.
    """
    rank, number = settings.rank, np.dtype(settings.dtype)
    x, bias_x = split_bias(X, rank, settings.bias[Side.USER])
    y, bias_y = split_bias(Y, rank, settings.bias[Side.ITEM])
    dX, dY = (np.zeros((len(side) if gradient else 0, settings.padded), number) for side in (X, Y))
    sums = (np.zeros(len(dX), number), np.zeros(len(dY), number))
    statistics = np.zeros(len(STATISTICS))
    for first, last in stretches(block.indptr):
        weights, ratings, indptr, indices = _stretch(block, first, last, settings, batch, first_row)
        rows = slice(first, last)
        s = np.empty(len(indices), number)
        _scores(indptr, indices, x[rows], bias_x[rows], y, bias_y, s)
        slopes = _slopes(s + number.type(intercept), ratings, weights, loss, statistics)
        if gradient:
            _add_products(indptr, indices, slopes, x[rows], y, dX[rows], sums[0][rows], dY, sums[1])
    for array, total, biased in zip((dX, dY), sums, settings.bias, strict=True):
        if biased:
            array[:, rank] = total
    _add_held_out(block, (x, bias_x, y, bias_y), loss, intercept, limits, statistics)
    return dX, dY, statistics


def _stretch(
    block: Block, first: int, last: int, settings: Settings, batch: Batch | None, first_row: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64], NDArray[np.int32]]:
    """Return weights, ratings, indptr and indices of a stretch of rows, or of the batch's share of it."""
    part = slice(block.indptr[first], block.indptr[last])
    weights, ratings = expand(block, part, settings, 0.0)
    indptr, indices = block.indptr[first : last + 1] - block.indptr[first], block.indices[part]
    if batch is None or batch.share >= 1:
        return weights, ratings, indptr, indices
    keep = np.zeros(len(indices), np.bool_)
    bound = np.uint64(int(batch.share * 2**32))
    _drawn(indptr, indices, first_row + first, np.uint64(batch.key), bound, keep)
    kept = np.concatenate([[0], np.cumsum(keep)])
    return weights[keep] if weights.size else weights, ratings[keep], kept[indptr], indices[keep]


def _slopes(
    s: NDArray[Any], ratings: NDArray[Any], weights: NDArray[Any], loss: Loss, statistics: NDArray[np.float64]
) -> NDArray[Any]:
    """Return w dl/ds of every rating, and add up the statistics."""
    scale = s.dtype.type(HALVES.get(loss.name, 1.0))
    with np.errstate(over="ignore", invalid="ignore"):  # a descent that diverges is told by its loss
        values, slopes = loss.value(s, ratings), loss.derivative(s, ratings)
    if weights.size:
        values, slopes = values * weights, slopes * weights
    slopes = (slopes * scale).astype(s.dtype, copy=False)
    statistics[FIT] += float(scale) * np.sum(values, dtype=np.float64)
    statistics[SLOPE] += np.sum(slopes, dtype=np.float64)
    statistics[WEIGHT] += np.sum(weights, dtype=np.float64) if weights.size else len(ratings)
    return slopes


def _add_held_out(
    block: Block,
    parts: tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]],
    loss: Loss,
    intercept: float,
    limits: tuple[float, float],
    statistics: NDArray[np.float64],
) -> None:
    if not block.held_indices.size:
        return
    s = np.empty(len(block.held_indices), parts[0].dtype)
    _scores(block.held_indptr, block.held_indices, *parts, s)
    predicted = np.clip(loss.response(s + s.dtype.type(intercept)), *limits)
    statistics[VALID_SQUARES] += np.sum((block.held_values - predicted) ** 2, dtype=np.float64)
    statistics[VALID_ROWS] += len(s)
