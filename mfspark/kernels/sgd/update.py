"""Stochastic gradient descent over the ratings of one block (Gemulla et al. 2011, algorithm 1; Koren et al. 2009).

One pass visits the ratings in their given order. For a rating y of user u and item i, with score
``s = mean + b_u + b_i + p_u . q_i`` and ``d`` the derivative of the loss at s, times the rating's weight:

    p_u <- p_u - step (d q_i + reg_user p_u)        b_u <- b_u - step (d + reg_user_bias b_u)
    q_i <- q_i - step (d p_u + reg_item q_i)        b_i <- b_i - step (d + reg_item_bias b_i)

both sides from the values before the update. The regularisation is applied at every rating, as Funk's method and LIBMF
do; `row_regularization` gives the per-row values under which an epoch applies ``reg * count ** exponent`` to each row.
The readable slow equal of everything here is ``tests/kernels/naive_sgd.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload
from numpy.typing import NDArray

from mfspark.errors import ParameterError
from mfspark.kernels.compile import inlined, jit
from mfspark.kernels.losses import (
    LOGISTIC,
    POISSON,
    SQUARED,
    get_loss,
    logistic_derivative,
    logistic_value,
    poisson_derivative,
    poisson_identity_derivative,
    poisson_identity_value,
    poisson_value,
    squared_derivative,
    squared_value,
)
from mfspark.kernels.sgd.simd import FAST_MATH, LANES, SLOW_DIMS, adagrad_step_rows, dot_rows, prefetch_row, step_rows

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

PREFETCH_DISTANCE = 16
"""How many updates ahead the factor rows are fetched: far enough to cover a miss to memory."""

_ONE = np.float32(1.0)


def row_regularization(reg: float, counts: NDArray[np.integer], exponent: float) -> float | Floats:
    """Return the regularisation to apply at each rating so that an epoch applies ``reg * count ** exponent`` to a row.

    Parameters
    ----------
    reg : float
        Regularisation, not negative.
    counts : integer array (n_rows,)
        Number of ratings (and of sampled negatives) each row meets in an epoch.
    exponent : float
        1 is the same `reg` at every rating (Funk, LIBMF, MLlib's ALS-WR); 0 is plain L2 on the row.

    Returns
    -------
    float or float32 array (n_rows,)
        `reg` itself for exponent 1, else ``reg * count ** (exponent - 1)``, 0 for rows without ratings.
    """
    if exponent == 1.0:
        return reg
    scale = np.zeros(len(counts), dtype=np.float32)
    rated = counts > 0
    scale[rated] = reg * counts[rated].astype(np.float64) ** (exponent - 1.0)
    return scale


def per_row(value: Any, row: int) -> Any:
    """Return the row's value, from one value for all rows or an array of one value per row."""
    return value[row] if np.ndim(value) else value


@overload(per_row, inline="always")
def _per_row(value, row):  # type: ignore[no-untyped-def]  # noqa: ARG001
    if isinstance(value, types.Array):
        return lambda value, row: value[row]
    return lambda value, row: value  # noqa: ARG005


@inlined
def _bias_step(b, row, slope, reg, step, G):  # type: ignore[no-untyped-def]
    """Step of one bias; under AdaGrad column 2 of G is its accumulated squared gradient."""
    gradient = slope + reg * b[row]
    if G is None:
        b[row] -= step * gradient
    else:
        b[row] -= step / np.sqrt(G[row, 2]) * gradient
        G[row, 2] += gradient * gradient


@inlined
def _value_and_slope(loss, score, y):  # type: ignore[no-untyped-def]
    """Return the loss of a rating and its derivative; `loss` is a compile-time constant."""
    if loss == SQUARED:
        return squared_value(score, y), squared_derivative(score, y)
    if loss == LOGISTIC:
        return logistic_value(score, y), logistic_derivative(score, y)
    if loss == POISSON:
        return poisson_value(score, y), poisson_derivative(score, y)
    return poisson_identity_value(score, y), poisson_identity_derivative(score, y)


@inlined
def _plain_step(P, Q, u, i, n_vectors, nonnegative, slope, reg, step):  # type: ignore[no-untyped-def]
    """Step of one size for both rows."""
    step_rows(P, Q, u, i, n_vectors, nonnegative, -step * slope, _ONE - step * reg[0], _ONE - step * reg[1])


@cache
def _kernel(n_vectors: int, loss: int, nonnegative: bool) -> Callable[..., float]:
    """Return the kernel compiled for one rank, loss and projection; arguments given as None drop their code.

    The rank is a compile-time constant so that an update's rows stay in registers.
    """

    @jit(fastmath=set(FAST_MATH))
    def kernel(  # type: ignore[no-untyped-def]
        rows, cols, ratings, levels, weights, negatives, tile_starts, tile_order,
        P, Q, b_u, b_i, mean, G_p, G_q, steps, shares, reg_p, reg_q, reg_bu, reg_bi,
    ):  # fmt: skip
        total = 0.0
        draws = 0 if negatives is None else negatives.shape[1]
        distance = PREFETCH_DISTANCE // (1 + draws) + 1
        for tile in tile_order:
            for x in range(tile_starts[tile], tile_starts[tile + 1]):
                u, ahead = np.intp(rows[x]), min(x + distance, rows.size - 1)
                prefetch_row(P, np.intp(rows[ahead]), n_vectors)
                prefetch_row(Q, np.intp(cols[ahead]), n_vectors)
                for draw in range(draws + 1):
                    i, w = np.intp(cols[x]), _ONE if weights is None else weights[x]
                    y = np.float32(ratings[x]) if levels is None else levels[ratings[x]]
                    if negatives is not None and draw > 0:
                        prefetch_row(Q, np.intp(negatives[ahead, draw - 1]), n_vectors)
                        i, y, w = np.intp(negatives[x, draw - 1]), np.float32(0.0), _ONE
                    score = mean + dot_rows(P, Q, u, i, n_vectors)
                    score += np.float32(0.0) if b_u is None else b_u[u]
                    score += np.float32(0.0) if b_i is None else b_i[i]
                    value, slope = _value_and_slope(loss, score, y)
                    total += w * value
                    slope *= w
                    reg = (per_row(reg_p, u), per_row(reg_q, i))
                    if G_p is None:
                        _plain_step(P, Q, u, i, n_vectors, nonnegative, slope, reg, steps[0])
                    else:
                        adagrad_step_rows(P, Q, G_p, G_q, u, i, n_vectors, nonnegative, slope, reg, steps, shares)
                    if b_u is not None:
                        _bias_step(b_u, u, slope, per_row(reg_bu, u), steps[0], G_p)
                    if b_i is not None:
                        _bias_step(b_i, i, slope, per_row(reg_bi, i), steps[0], G_q)
        return total

    return kernel


def sgd_block(
    rows: Ints,
    cols: Ints,
    ratings: Floats | NDArray[np.uint8],
    P: Floats,
    Q: Floats,
    *,
    step: float,
    loss: str = "squared",
    reg_user: float | Floats = 0.0,
    reg_item: float | Floats = 0.0,
    levels: Floats | None = None,
    weights: Floats | None = None,
    negatives: Ints | None = None,
    user_bias: Floats | None = None,
    item_bias: Floats | None = None,
    mean: float = 0.0,
    reg_user_bias: float | Floats = 0.0,
    reg_item_bias: float | Floats = 0.0,
    user_squares: Floats | None = None,
    item_squares: Floats | None = None,
    rank: int | None = None,
    slow_only: bool = False,
    nonnegative: bool = False,
    tile_starts: NDArray[np.int64] | None = None,
    tile_order: NDArray[np.int64] | None = None,
) -> float:
    """Update the factors of one block in place, rating by rating, and return the loss met on the way.

    Parameters
    ----------
    rows, cols : int32 array (n,)
        User and item of each rating, as row numbers of `P` and `Q`. Not checked here: `order_ratings` checks them once.
    ratings : float32 array (n,), or uint8 array (n,) with `levels`
        Ratings, or codes into `levels`.
    P, Q : float32 array (m, k), (n_items, k), C-contiguous, updated in place
        User and item factors; k is a multiple of 16, columns from `rank` on are zero (see `aligned_zeros`).
    step : float
        Step size of this pass.
    loss : str, default "squared"
        Key of `mfspark.kernels.losses.LOSSES`.
    reg_user, reg_item : float or float32 array, default 0
        L2 applied at each rating, one for all rows or one per row (see `row_regularization`).
    levels : float32 array, optional
        Distinct rating values, indexed by the codes in `ratings`.
    weights : float32 array (n,), optional
        Weight of each rating, in its loss and its gradient.
    negatives : int32 array (n, draws), optional
        Items updated after each rating as ratings of 0 with weight 1 (see `sample_negatives`).
    user_bias, item_bias : float32 array (m,), (n_items,), optional, updated in place
        Biases.
    mean : float, default 0
        Global mean score.
    reg_user_bias, reg_item_bias : float or float32 array, default 0
        L2 of the biases, applied at each rating.
    user_squares, item_squares : float32 array (m, 4), (n_items, 4), optional, updated in place
        AdaGrad, both or none: accumulated mean squared gradient of the first 8 dimensions, of the rest, of the bias
        (and an unused column that keeps a row in one cache line). Start from ones. Chin, Zhuang, Juan, Lin 2015, "A
        learning-rate schedule for stochastic gradient methods to matrix factorization", twin learners.
    rank : int, optional
        Number of columns in use; default k. Only AdaGrad's mean depends on it.
    slow_only : bool, default False
        Under AdaGrad, leave all but the first 8 dimensions as they are, as Chin et al. do in the first epoch.
    nonnegative : bool, default False
        Project the factors onto the non-negative numbers after each update.
    tile_starts : int64 array (n_tiles + 1,), optional
        Where each tile of ratings starts; default one tile.
    tile_order : int64 array, optional
        Tiles to visit, in this order; default all, first to last.

    Returns
    -------
    float
        Sum over the visited ratings (and negatives) of weight times loss, each before its update.

    Raises
    ------
    ParameterError
        An array has the wrong type, shape or layout, or only one of the AdaGrad arrays is given.
    """
    _check_block(rows, cols, ratings, P, Q, levels, user_squares, item_squares)
    rank = P.shape[1] if rank is None else rank
    fast = 0.0 if slow_only or rank <= SLOW_DIMS else 1.0
    steps = (np.float32(step), np.float32(step * fast))
    shares = (np.float32(1 / min(rank, SLOW_DIMS)), np.float32(fast and fast / (rank - SLOW_DIMS)))
    starts = np.array([0, rows.size], dtype=np.int64) if tile_starts is None else tile_starts
    order = np.arange(starts.size - 1, dtype=np.int64) if tile_order is None else tile_order
    f = np.float32
    regs = [x if isinstance(x, np.ndarray) else f(x) for x in (reg_user, reg_item, reg_user_bias, reg_item_bias)]
    kernel = _kernel(P.shape[1] // LANES, get_loss(loss).code, nonnegative)
    return kernel(
        rows, cols, ratings, levels, weights, negatives, starts, order,
        P, Q, user_bias, item_bias, f(mean), user_squares, item_squares, steps, shares, *regs,
    )  # fmt: skip


def _check_block(
    rows: Ints,
    cols: Ints,
    ratings: NDArray[Any],
    P: Floats,
    Q: Floats,
    levels: Floats | None,
    user_squares: Floats | None,
    item_squares: Floats | None,
) -> None:
    """Refuse what the compiled code would read wrongly."""
    for name, array in (("P", P), ("Q", Q)):
        if array.dtype != np.float32 or not array.flags.c_contiguous or array.ndim != 2 or array.shape[1] % LANES:
            raise ParameterError(
                f"{name} is {array.dtype} of shape {array.shape}; it must be C-contiguous float32 with a number of "
                f"columns that is a multiple of {LANES}: make it with aligned_zeros"
            )
    if P.shape[1] != Q.shape[1]:
        raise ParameterError(f"P has {P.shape[1]} columns and Q has {Q.shape[1]}; they must be equal")
    if not len(rows) == len(cols) == len(ratings):
        raise ParameterError(f"rows, cols, ratings have lengths {len(rows)}, {len(cols)}, {len(ratings)}; need one")
    if (ratings.dtype == np.uint8) != (levels is not None):
        raise ParameterError("uint8 ratings are codes: give them with their levels, and other ratings without")
    if (user_squares is None) != (item_squares is None):
        raise ParameterError("AdaGrad needs both user_squares and item_squares")
