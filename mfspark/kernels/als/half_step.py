"""The half step of ALS on one block: solve every row against the fixed side, and report the objective's parts.

For a row with ratings t, and h_t the k factors of the fixed side's row that rating t names:

    lhs = base + sum_t a_t h_t h_t^T + reg I        rhs = sum_t b_t h_t

Explicit ALS (Zhou et al. 2008, section 3.1): a_t is the rating's weight, b_t = a_t y_t, base = 0. Implicit ALS (Hu,
Koren, Volinsky 2008, section 4): base = w0 H^T H, a_t = c_t - w0, b_t = c_t p_t. The forms of confidence differ only
in a and b (``mfspark.kernels.objective``), so one kernel serves them all. The slow, readable equal is
``tests/naive.py``.

In fp32 most rows are solved as well as fp32 can hold them. The few that are not (great magnitudes or weights beside a
small lambda: the equations lose their digits) are noticed by what the pivots keep of their diagonal, and solved again
in fp64; where that is not enough, with a jitter. How many were is the statistic ``repaired``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfspark.kernels.als.solvers import Descent, Exact, Row, Scratch, solve_row, solver
from mfspark.kernels.compile import REORDERED, jit
from mfspark.kernels.csr import Block
from mfspark.kernels.objective import Fixed, Settings, expand, row_ridges, stretches
from mfspark.kernels.simd import PANEL, copy_row, dot_rows


def solve_block(
    block: Block,
    fixed: Fixed,
    settings: Settings,
    start: NDArray[Any] | None = None,
    measure: bool = False,
    limits: tuple[float, float] = (-np.inf, np.inf),
) -> tuple[NDArray[Any], NDArray[np.float64], int]:
    """Solve a block's rows against the fixed side.

    Parameters
    ----------
    block, fixed, settings
        The ratings, the fixed side, and the model as the solved side sees it.
    start : array (rows, padded), optional
        The rows' previous factors, for the solvers that improve on them.
    measure : bool
        Whether the fit and the held-out errors are wanted too; the regularisation always is.
    limits : (float, float)
        The range to which held-out predictions are clipped.

    Returns
    -------
    X : array (rows, padded)
        The solved rows.
    statistics : array (len(STATISTICS),)
        Sums over the block, in the order of STATISTICS.
    unsolved : int
        The first row whose equations have no finite solution, or -1.
    """
    number = np.dtype(settings.dtype)
    X = np.zeros((block.rows, settings.padded), number)
    if start is not None:
        X[:] = start
    reg, l1 = row_ridges(block, settings, fixed.total)
    statistics, unsolved = np.zeros(len(STATISTICS)), -1
    base = fixed.base.astype(number)
    for first, last in stretches(block.indptr):
        part, rows = slice(block.indptr[first], block.indptr[last]), slice(first, last)
        a, y = expand(block, part, settings, fixed.intercept)
        indptr = block.indptr[first : last + 1] - block.indptr[first]
        ratings = (indptr, block.indices[part], a, y, settings.implicit, fixed.F, fixed.offset, base)
        weak = np.zeros(last - first, np.bool_)
        half_step(solver(settings), *ratings, reg[rows], l1[rows], settings.width, X[rows], weak)
        if weak.any():
            statistics[REPAIRED] += np.count_nonzero(weak)
            failed = repair(block, first + np.flatnonzero(weak), fixed, settings, (reg, l1), X)
            unsolved = int(failed[0]) if failed.size and unsolved < 0 else unsolved
        if measure:
            objective(*ratings, reg[rows], l1[rows], X[rows], statistics)
    if not measure:
        squares = np.einsum("ij,ij->i", X, X, dtype=np.float64)
        statistics[REGULARISATION] = reg @ squares + l1 @ np.abs(X).sum(axis=1)
    if measure and block.held_indices.size:
        low, high = limits[0] - fixed.intercept, limits[1] - fixed.intercept
        held = (block.held_values - fixed.intercept).astype(number)
        held_out(block.held_indptr, block.held_indices, held, fixed.F, fixed.offset, low, high, X, statistics)
    return X, statistics, unsolved


def repair(
    block: Block,
    rows: NDArray[np.int64],
    fixed: Fixed,
    settings: Settings,
    weights: tuple[NDArray[np.float64], NDArray[np.float64]],
    X: NDArray[Any],
) -> NDArray[np.int64]:
    """Solve some rows of a block again, exactly and in fp64, if need be with a jitter; return the unsolved ones.

    The equations are the row's own; only the entries of the result are rounded to the precision of X. ``weights`` are
    the L2 and the L1 weight of all rows of the block.
    """
    exact = replace(settings, dtype="float64")
    constrained = settings.nonnegative or any(settings.l1)
    for jitter in JITTERS:
        how = Descent(settings.nonnegative, max(settings.steps, 200)) if constrained else Exact(True, jitter)
        chosen = block.take(rows)
        places = np.zeros(len(fixed.F), np.int32)
        places[chosen.indices] = 1
        needed = np.flatnonzero(places)
        places[needed] = np.arange(needed.size)
        a, y = expand(chosen, slice(None), exact, fixed.intercept)
        F = fixed.F[needed].astype(np.float64)
        offset = (fixed.offset[needed] if fixed.offset.size else fixed.offset).astype(np.float64)
        Z, weak = np.zeros((rows.size, X.shape[1])), np.zeros(rows.size, np.bool_)
        half_step(
            how, chosen.indptr, places[chosen.indices], a, y, exact.implicit, F, offset, fixed.base,
            weights[0][rows], weights[1][rows], exact.width, Z, weak,
        )  # fmt: skip
        with np.errstate(over="ignore"):
            X[rows] = Z
        rows = rows[weak | ~np.isfinite(X[rows]).all(axis=1)]
        if rows.size == 0:
            break
    X[rows] = 0
    return rows


CAUSES = ("lambda", "magnitude", "weight")
EXTREME = 1e12  # ratings so large, or weights so far apart, are more likely the cause of a failure than lambda is
# The entries of the statistics that ``half_step`` adds up.
STATISTICS = ("fit", "regularisation", "residual", "weight", "repaired", "valid_squares", "valid_rows")
FIT, REGULARISATION, RESIDUAL, WEIGHT, REPAIRED, VALID_SQUARES, VALID_ROWS = range(7)
JITTERS = (0.0, 1e-12, 1e-9, 1e-6, 1e-3)
"""Shares by which the diagonal of equations that are singular even in fp64 is raised, until they are not."""
GATHERED_NUMBERS = 8192  # a chunk of gathered rows stays in the first-level cache


def blame(block: Block, row: int) -> str:
    """Return which of CAUSES most likely makes the equations of a row unsolvable; "lambda" for row -1."""
    own = slice(block.indptr[row], block.indptr[row + 1]) if row >= 0 else slice(0)
    weights = block.weights[own].astype(np.float64)
    weights = weights[weights > 0]
    if weights.size and weights.max() > EXTREME * min(weights.min(), 1.0):
        return "weight"
    ratings = np.abs(block.ratings[own])
    return "magnitude" if ratings.size and ratings.max() > EXTREME else "lambda"


@jit(fastmath=REORDERED)
def half_step(  # type: ignore[no-untyped-def]
    how, indptr, indices, a, y, implicit, F, offset, base, reg, l1, rank, X, weak
):
    """Solve all rows of one CSR block.

    Parameters
    ----------
    how : named tuple
        How a row is solved: one of ``solvers.SOLVERS``.
    indptr : int64 array (rows + 1,)
        Row r has the ratings indptr[r] .. indptr[r + 1].
    indices : int32 array (nnz,)
        The fixed side's row of each rating.
    a : float array (nnz,) or (0,)
        The quadratic coefficients; size 0 means all are 1.
    y : float array (nnz,)
        The targets (explicit), or the linear coefficients b (implicit).
    implicit : bool
        How ``y`` is meant; in the implicit case the target is 1.
    F : float array (n, k)
        The fixed side, rows padded with zeros to a multiple of PANEL.
    offset : float array (n,) or (0,)
        Subtracted from the targets of the ratings that name row n (the fixed side's biases).
    base : float array (k, k)
        What every row's left side starts from (w0 times the Gramian), or zeros.
    reg, l1 : float arrays (rows,)
        The L2 weight and the L1 weight of each row.
    rank : int
        The number of columns of F that are not padding.
    X : float array (rows, k)
        The start, replaced by the solution; rows without ratings become 0 (or the minimum of the base form, also 0).
    weak : bool array (rows,)
        Set where a row was not solved to the precision of F: its X is not to be used.
    """
    k, rows = F.shape[1], indptr.size - 1
    chunk = max(PANEL, GATHERED_NUMBERS // k)
    H, W = np.empty((chunk, k), F.dtype), np.empty((chunk if a.size else 1, k), F.dtype)
    A, work, x = np.empty((k, k), F.dtype), np.empty((PANEL, k), F.dtype), np.empty((1, k), F.dtype)
    longest = 0
    for r in range(rows):
        longest = max(longest, indptr[r + 1] - indptr[r])
    b, target = np.empty(longest, F.dtype), np.empty(longest, F.dtype)
    for r in range(rows):
        first, last = indptr[r], indptr[r + 1]
        if first == last:
            X[r] = 0
            continue
        for t in range(first, last):
            target[t - first] = y[t] if offset.size == 0 else y[t] - offset[indices[t]]
            b[t - first] = target[t - first] if implicit or a.size == 0 else target[t - first] * a[t]
        copy_row(x, 0, X, r)
        ridge = F.dtype.type(reg[r])
        # The solvers see half of everything: the derivative of reg |x|^2 + l1 |x|_1 is 2 (reg x +- l1 / 2).
        row = Row(indices, a, first, last, F, base, ridge, l1[r] / 2, rank, implicit, b, target)
        solved = solve_row(how, row, Scratch(H, W, A, work), x)
        copy_row(X, r, x, 0)
        weak[r] = not (solved and dot_rows(x, 0, x, 0, 0) < np.inf)


@jit(fastmath=REORDERED)
def objective(indptr, indices, a, y, implicit, F, offset, base, reg, l1, X, statistics):  # type: ignore[no-untyped-def]
    """Add the parts of the objective at X (rows x k), the fixed side being F, to ``statistics``.

    fit = sum_t (a_t s_t^2 - 2 b_t s_t + b_t y_t) + sum_r x_r^T base x_r with s_t = h_t . x_r: for explicit ratings the
    weighted squared error, for implicit ones the loss of all pairs, observed or not, without visiting the unobserved
    (the Gramian trick, Rendle et al. 2022, section 3.1). ``residual`` and ``weight`` sum a (y - s) and a.
    """
    x = np.empty((1, F.shape[1]), F.dtype)
    for r in range(indptr.size - 1):
        copy_row(x, 0, X, r)
        fit = 0.0
        for t in range(indptr[r], indptr[r + 1]):
            s = np.float64(dot_rows(F, indices[t], x, 0, 0))
            weight = np.float64(a[t]) if a.size else 1.0
            target = np.float64(y[t]) if offset.size == 0 else np.float64(y[t]) - np.float64(offset[indices[t]])
            if implicit:
                fit += weight * s * s - 2.0 * target * s + target
            else:
                fit += weight * (target - s) * (target - s)
                statistics[RESIDUAL] += weight * (target - s)
                statistics[WEIGHT] += weight
        if implicit:
            for j in range(base.shape[0]):
                fit += np.float64(x[0, j]) * np.float64(dot_rows(base, j, x, 0, 0))
        square, absolute = 0.0, 0.0
        for j in range(F.shape[1]):
            square += np.float64(x[0, j]) ** 2
            absolute += abs(np.float64(x[0, j]))
        statistics[FIT] += fit
        statistics[REGULARISATION] += reg[r] * square + l1[r] * absolute


@jit(fastmath=REORDERED)
def held_out(indptr, indices, y, F, offset, low, high, X, statistics):  # type: ignore[no-untyped-def]
    """Add the squared errors and the number of the held-out ratings of a block to ``statistics``.

    ``y`` and the range ``low .. high``, to which predictions are clipped, are relative to the model's intercept.
    """
    x = np.empty((1, F.shape[1]), F.dtype)
    for r in range(indptr.size - 1):
        copy_row(x, 0, X, r)
        for t in range(indptr[r], indptr[r + 1]):
            s = np.float64(dot_rows(F, indices[t], x, 0, 0))
            if offset.size:
                s += np.float64(offset[indices[t]])
            error = np.float64(y[t]) - min(max(s, low), high)
            statistics[VALID_SQUARES] += error * error
            statistics[VALID_ROWS] += 1.0
