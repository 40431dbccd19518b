"""What SGD with drawn negatives minimises on average, solved exactly for one user.

In an epoch a user with n ratings of d distinct items, of N items in all, meets each rating once, weight w and target p,
and n times ``negatives`` items drawn uniformly from the N - d unrated ones, weight 1 and target 0. On average over the
draws (linearity of expectation; the draws are those of ``negatives.sample_negatives``) an unrated item is met

    z = negatives n / (N - d)

times, so that with the squared loss, c_i = intercept + b_i and h_i the item's factors (and 1 for the user's bias) an
epoch's gradient vanishes where

    (sum w h h^T + z sum over unrated items of h h^T + lambda I) x = sum w (p - c) h - z sum over unrated items of c h,

lambda being the L2 weight that ``objective.visit_regularisation`` spreads over the user's visits. A sum over unrated
items is that over all items, the same for every user, less that over the rated ones. A user who has rated all items
meets no drawn ones: z = 0. The slow, readable equal is ``tests/naive_sgd.py``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfspark.kernels.csr import Block
from mfspark.kernels.objective import Fixed, Settings, gramian, visit_regularisation

Doubles = NDArray[np.float64]


class Visits(NamedTuple):
    """By user, on average over the draws: how often an unrated item is met in an epoch (z), and the L2 weight."""

    unrated: Doubles
    ridge: Doubles


def expected_visits(block: Block, n_items: int, settings: Settings) -> Visits:
    """Return z and lambda of every user of a block.

    Parameters
    ----------
    block : Block
        The users' ratings.
    n_items : int
        N, how many items there are to draw from.
    settings : Settings
        The objective as the users see it.
    """
    rows = np.repeat(np.arange(block.rows), np.diff(block.indptr))
    rated = np.diff(block.indptr).astype(np.float64)
    different = np.bincount(np.unique(rows * np.int64(n_items) + block.indices) // n_items, minlength=block.rows)
    left = n_items - different
    drawn = rated * settings.negatives
    counts = rated + drawn
    weight = counts
    if block.weights.size:
        weight = np.bincount(rows, block.weights, block.rows) + drawn
    own = visit_regularisation(weight, counts, settings.reg_param[0], settings.exponent)
    unrated = np.divide(drawn, left, out=np.zeros(block.rows), where=left > 0)
    return Visits(unrated, np.float64(own) * np.where(left > 0, counts, rated))


class All(NamedTuple):
    """Sums over all items, which every user meets: of h h^T (padded x padded), and of c h (padded,)."""

    gramian: Doubles
    pull: Doubles


def all_rows(fixed: Fixed) -> All:
    """Return the sums over the rows of a fixed side."""
    pull = _constant(fixed).astype(fixed.F.dtype) @ fixed.F
    return All(gramian(fixed.F), pull.astype(np.float64))


def _constant(fixed: Fixed) -> Doubles:
    return np.full(len(fixed.F), fixed.intercept) + (fixed.offset if fixed.offset.size else 0)


def solve_expected(
    block: Block, fixed: Fixed, settings: Settings, total: All | None = None
) -> tuple[NDArray[Any], int]:
    """Solve a block's users against the items, in double precision.

    Parameters
    ----------
    block : Block
        The users' ratings: a pair is liked where its rating is > 0.
    fixed : Fixed
        The items; where they are only those that the block needs, ``fixed.total`` is the number of all.
    settings : Settings
        The objective as the users see it, ``negatives`` > 0 and the loss squared.
    total : All, optional
        The sums over all items, by default over those in ``fixed``.

    Returns
    -------
    X : array (rows, padded)
        The solved rows; those without ratings are 0.
    unsolved : int
        The first row whose equations have no solution, or -1.
    """
    k = settings.rank + settings.bias[0]
    F = fixed.F
    constant = _constant(fixed)
    total = all_rows(fixed) if total is None else total
    whole, pull = total.gramian[:k, :k], total.pull[:k]
    liked = ((block.table[block.values] if block.table.size else block.values) > 0).astype(np.float64)
    weights = block.weights.astype(np.float64) if block.weights.size else np.ones(len(liked))
    unrated, ridge = expected_visits(block, fixed.total, settings)
    X = np.zeros((block.rows, settings.padded), settings.dtype)
    for row in np.flatnonzero(np.diff(block.indptr)):
        part = slice(block.indptr[row], block.indptr[row + 1])
        items, w = block.indices[part], weights[part]
        once = np.unique(items)
        H, own = (F[at, :k].astype(np.float64) for at in (items, once))
        lhs = (H.T * w) @ H + unrated[row] * (whole - own.T @ own) + ridge[row] * np.eye(k)
        rhs = H.T @ (w * (liked[part] - constant[items])) - unrated[row] * (pull - own.T @ constant[once])
        try:
            x = _nonnegative(lhs, rhs) if settings.nonnegative else np.linalg.solve(lhs, rhs)
        except np.linalg.LinAlgError:
            return X, int(row)
        if not np.isfinite(x).all():
            return X, int(row)
        X[row, :k] = x
    return X, -1


def _nonnegative(lhs: Doubles, rhs: Doubles) -> Doubles:
    """Return the minimum of x^T lhs x / 2 - rhs^T x under x >= 0 (Lawson and Hanson 1974, chapter 23)."""
    from scipy.linalg import solve_triangular
    from scipy.optimize import nnls

    L = np.linalg.cholesky(lhs)
    return np.asarray(nnls(L.T, solve_triangular(L, rhs, lower=True))[0])
