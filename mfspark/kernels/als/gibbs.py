"""The sampling twin of the half step: every row drawn from its conditional Gaussian (Bayesian matrix factorization).

Salakhutdinov and Mnih 2008, "Bayesian probabilistic matrix factorization using Markov chain Monte Carlo": with
r | u, v ~ N(u . v, 1 / alpha) and u ~ N(mu, Lambda^-1), the conditional of one row given the other side H (their
equations 11 to 13) is N(A^-1 b, A^-1) with

    A = Lambda + alpha sum_t w_t h_t h_t^T        b = Lambda mu + alpha sum_t w_t y_t h_t

which are the equations of the half step of ALS with ``base = Lambda`` and no ridge: the same Gram kernel and the same
Cholesky factor A = U^T U serve, and a draw is A^-1 b + U^-1 z with z ~ N(0, I).

The normals of a row depend on the seed, the sweep, the side and the row's key, a hash of its id, alone: not on the
block it is in, nor on what other ids there are.
The slow, readable equal is ``ref_sample`` in ``tests/kernels/test_gibbs.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfspark.kernels.als.row_solvers import begin, finish_left_side, gram, right_side, trusted
from mfspark.kernels.cholesky import OK, cholesky, solve_triangular
from mfspark.kernels.compile import REORDERED, jit
from mfspark.kernels.rng import mix
from mfspark.kernels.simd import PANEL, dot_rows

MOMENT_NUMBERS = 1 << 20  # how many factors are converted to double precision at a time
GATHERED_NUMBERS = 8192  # a chunk of gathered rows stays in the first-level cache
_UNIT = 2.0**-53
_S11 = np.uint64(11)


@dataclass(frozen=True)
class Prior:
    """One side's Gaussian prior: mean mu (k,) and precision Lambda (k, k)."""

    mean: NDArray[np.float64]
    precision: NDArray[np.float64]

    def padded(self, width: int, dtype: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return Lambda (width x width) and Lambda mu (width,), padded with zeros."""
        k = len(self.mean)
        base, shift = np.zeros((width, width), dtype), np.zeros(width, dtype)
        base[:k, :k] = self.precision
        shift[:k] = self.precision @ self.mean
        return base, shift


def moments(X: NDArray[Any], rank: int) -> NDArray[np.float64]:
    """Return what a side's prior is drawn from, a matrix (rank + 1, rank + 1) that is the sum of its blocks' matrices.

    Row 0 has the number of rows and the sums of their factors, the rest the sums of the factors' products.
    """
    total, part = np.zeros((rank + 1, rank + 1)), max(1, MOMENT_NUMBERS // (rank + 1))
    for start in range(0, len(X), part):
        rows = X[start : start + part, :rank]
        wide = np.ones((len(rows), rank + 1))
        wide[:, 1:] = rows
        total += wide.T @ wide
    return total


def sample_prior(sums: NDArray[np.float64], generator: np.random.Generator, beta0: float, dof0: int) -> Prior:
    """Draw a side's prior given its factors, from the Normal-Wishart posterior (their equation 14).

    Parameters
    ----------
    sums : array (k + 1, k + 1)
        The ``moments`` of the side's factors.
    generator : numpy Generator
        Where the draws come from.
    beta0 : float
        How many observations the prior mean 0 counts as.
    dof0 : int
        The Wishart's degrees of freedom, at least k; its scale matrix is I, so that its mean is dof0 I.

    Returns
    -------
    Prior
    """
    n, k = sums[0, 0], len(sums) - 1
    mean = sums[0, 1:] / n
    scatter = sums[1:, 1:] - n * np.outer(mean, mean)
    inverse = np.eye(k) + scatter + (beta0 * n / (beta0 + n)) * np.outer(mean, mean)
    scale = np.linalg.inv(inverse)
    precision = sample_wishart(dof0 + n, (scale + scale.T) / 2, generator)
    lower = np.linalg.cholesky((beta0 + n) * precision)
    spread = np.linalg.solve(lower.T, generator.standard_normal(k))
    return Prior(n * mean / (beta0 + n) + spread, precision)


def sample_wishart(dof: int, scale: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    """Draw from Wishart(dof, scale), of mean dof scale, by Bartlett's decomposition (Smith and Hocking 1972, AS 53).

    Parameters
    ----------
    dof : int
        Degrees of freedom, at least k.
    scale : float64 array (k, k)
        Symmetric and positive definite.
    generator : numpy Generator
        Where the draws come from.

    Returns
    -------
    float64 array (k, k)
        ``L A A^T L^T``, where ``L L^T = scale`` and the lower triangular A has standard normals below a diagonal of
        chi variates of dof, dof - 1, ... degrees of freedom.
    """
    k = len(scale)
    A = np.zeros((k, k))
    A[np.tril_indices(k, -1)] = generator.standard_normal(k * (k - 1) // 2)
    A[np.diag_indices(k)] = np.sqrt(generator.chisquare(dof - np.arange(k)))
    root = np.linalg.cholesky(scale) @ A
    return root @ root.T


@jit
def _uniform(seed, counter):  # type: ignore[no-untyped-def]
    """Return a number in (0, 1]."""
    return (np.float64(mix(seed, counter) >> _S11) + 1.0) * _UNIT


@jit
def normals(seed, sweep, side, key, z, n):  # type: ignore[no-untyped-def]
    """Set z[0, :n] to the standard normals of (seed, sweep, side, key), by Box and Muller's transform (1958)."""
    key = mix(mix(mix(seed, np.uint64(sweep)), np.uint64(side)), np.uint64(key))
    for j in range(0, n, 2):
        radius = np.sqrt(-2.0 * np.log(_uniform(key, np.uint64(j))))
        angle = 2.0 * np.pi * _uniform(key, np.uint64(j + 1))
        z[0, j] = radius * np.cos(angle)
        if j + 1 < n:
            z[0, j + 1] = radius * np.sin(angle)


class Drawn(NamedTuple):
    """The first row whose precision is not positive definite in fp64, or -1; how many rows were drawn in fp64."""

    unsolved: int
    repaired: int


def sample_rows(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    a: NDArray[Any],
    b: NDArray[Any],
    F: NDArray[Any],
    base: NDArray[Any],
    shift: NDArray[Any],
    rank: int,
    seed: np.uint64,
    sweep: int,
    side: int,
    keys: NDArray[np.uint64],
    X: NDArray[Any],
) -> Drawn:
    """Draw all rows of one CSR block; those whose equations lose their digits are drawn again in fp64.

    Parameters
    ----------
    indptr, indices : int64 array (rows + 1,), int32 array (nnz,)
        Row r has the ratings indptr[r] .. indptr[r + 1]; indices name the fixed side's rows.
    a, b : float arrays (nnz,)
        alpha w_t and alpha w_t y_t.
    F : float array (n, k)
        The fixed side, rows padded with zeros to a multiple of PANEL.
    base, shift : float arrays (k, k), (k,)
        Lambda and Lambda mu of the drawn side.
    rank : int
        The number of columns of F that are not padding.
    seed, sweep, side : int
        What the normals depend on, beside the row's key.
    keys : uint64 array (rows,)
        The hashes of the rows' ids.
    X : float array (rows, k)
        Replaced by the draws; a row without ratings is drawn from the prior.

    Returns
    -------
    Drawn
    """
    weak = np.zeros(len(X), np.bool_)
    stream, every = (rank, seed, sweep, side, keys), np.arange(len(X))
    _draw(indptr, indices, a, b, F, base, shift, *stream, every, X, weak)
    rows = np.flatnonzero(weak)
    if rows.size:
        Z, weak = np.zeros(X.shape), np.zeros(len(X), np.bool_)
        wide = (array.astype(np.float64) for array in (a, b, F, base, shift))
        _draw(indptr, indices, *wide, *stream, rows, Z, weak)
        X[rows] = Z[rows]
    failed = rows[weak[rows] | ~np.isfinite(X[rows]).all(axis=1)]
    return Drawn(int(failed[0]) if failed.size else -1, rows.size)


@jit(fastmath=REORDERED)
def _draw(  # type: ignore[no-untyped-def]
    indptr, indices, a, b, F, base, shift, rank, seed, sweep, side, keys, chosen, X, weak
):
    """Draw the ``chosen`` rows of a block, marking as ``weak`` those whose equations lost their digits."""
    k = F.shape[1]
    chunk = max(PANEL, GATHERED_NUMBERS // k)
    H, W = np.empty((chunk, k), F.dtype), np.empty((chunk, k), F.dtype)
    A, work = np.empty((k, k), F.dtype), np.empty((PANEL, k), F.dtype)
    x, z = np.empty((1, k), F.dtype), np.zeros((1, k), F.dtype)
    for r in chosen:
        first, last = indptr[r], indptr[r + 1]
        begin(A, base)
        gram(indices, a, first, last, F, H, W, A)
        finish_left_side(A, F.dtype.type(0), 0.0)
        right_side(indices, b[first:last], first, last, F, x)
        x[0] += shift
        if cholesky(A, work, trusted(A)) != OK:
            weak[r] = True
            continue
        solve_triangular(A, x)
        normals(np.uint64(seed), sweep, side, keys[r], z, rank)
        _solve_upper(A, z)
        for j in range(rank):
            X[r, j] = x[0, j] + z[0, j]
        weak[r] = not dot_rows(x, 0, x, 0, 0) < np.inf


@jit(fastmath=REORDERED)
def _solve_upper(U, z):  # type: ignore[no-untyped-def]
    """Replace z (1 x k) by U^-1 z."""
    for t in range(U.shape[0] - 1, -1, -1):
        y = z[0, t]
        z[0, t] = 0
        z[0, t] = (y - dot_rows(z, 0, U, t, t - t % PANEL)) / U[t, t]


@jit(fastmath=REORDERED)
def pair_spread(left, right, samples, rows, columns, out):  # type: ignore[no-untyped-def]
    """Set out[t] to the variance over the samples of the score of pair t, NaN where an index is negative.

    ``left`` (n, samples * k) and ``right`` (m, samples * k) hold the samples side by side, ``left`` divided by their
    number. The variance has the divisor samples - 1, and is 0 for a single sample.
    """
    k = left.shape[1] // samples
    scores = np.empty(samples)
    for t in range(rows.size):
        if rows[t] < 0 or columns[t] < 0:
            out[t] = np.nan
            continue
        mean = 0.0
        for s in range(samples):
            total = 0.0
            for j in range(s * k, (s + 1) * k):
                total += np.float64(left[rows[t], j]) * np.float64(right[columns[t], j])
            scores[s] = total * samples
            mean += total
        squares = 0.0
        for s in range(samples):
            squares += (scores[s] - mean) ** 2
        out[t] = squares / max(samples - 1, 1)
