"""Solvers of one row that use its ratings directly: dense, dual, conjugate gradients, subspace descent.

For a row with ratings t in first..last, all solve (base + sum_t a_t h_t h_t^T + reg I) x = sum_t b_t h_t, where h_t
is the row ``indices[t]`` of F. ``a`` of size 0 means a_t = 1. ``b`` and the residual target ``y`` are indexed from 0
for the row. Each function's slow, readable equal is in ``tests/naive.py``.
"""

from __future__ import annotations

import numpy as np

from mfspark.kernels.cholesky import OK, cholesky, coordinate_descent, mirror, solve_triangular
from mfspark.kernels.compile import jit
from mfspark.kernels.simd import PANEL, add_outer, add_scaled, copy_row, dot_rows, prefetch_row

JITTERS = (0.0, 1e-6, 1e-4, 1e-2)
UNSOLVED = -1
AHEAD = 12  # how many ratings ahead a factor row is asked of the memory


@jit(fastmath=True)
def gram(indices, a, first, last, F, H, W, A):  # type: ignore[no-untyped-def]
    """Add sum_t a_t h_t h_t^T to the upper triangle of A, in chunks gathered into H (and W = a H)."""
    chunk = H.shape[0]
    for start in range(first, last, chunk):
        n = min(chunk, last - start)
        for t in range(n):
            if start + t + AHEAD < last:
                prefetch_row(F, indices[start + t + AHEAD])
            copy_row(H, t, F, indices[start + t])
        if a.size == 0:
            add_outer(H, H, n, 0, A)
            continue
        for t in range(n):
            W[t] = 0
            add_scaled(W, t, H, t, A.dtype.type(a[start + t]), 0)
        add_outer(H, W, n, 0, A)


@jit(fastmath=True)
def right_side(indices, b, first, last, F, x):  # type: ignore[no-untyped-def]
    """Set x (1 x k) to sum_t b_t h_t."""
    x[0] = 0
    for t in range(first, last):
        add_scaled(x, 0, F, indices[t], b[t - first], 0)


@jit(fastmath=True)
def finish_left_side(A, reg, rank, jitter):  # type: ignore[no-untyped-def]
    """Add the ridge, and a jitter relative to the largest diagonal entry, which is returned; padding gets ones."""
    largest = A.dtype.type(0)
    for j in range(rank):
        largest = max(largest, A[j, j])
    largest += reg
    for j in range(A.shape[0]):
        A[j, j] += reg + A.dtype.type(jitter) * largest if j < rank else A.dtype.type(1)
    return largest


@jit(fastmath=True)
def dense(indices, a, first, last, F, base, reg, rank, b, H, W, A, work, x):  # type: ignore[no-untyped-def]
    """Solve by Cholesky into x; return how many jitters it took, or UNSOLVED."""
    floor = A.dtype.type(8) * np.finfo(A.dtype).eps
    for attempt in range(len(JITTERS)):
        A[:] = base
        gram(indices, a, first, last, F, H, W, A)
        largest = finish_left_side(A, reg, rank, JITTERS[attempt])
        right_side(indices, b, first, last, F, x)
        if cholesky(A, work, floor * largest) == OK:
            solve_triangular(A, x)
            return attempt
    return UNSOLVED


@jit(fastmath=True)
def dual(indices, a, first, last, F, reg, y, x):  # type: ignore[no-untyped-def]
    """Solve the n x n system x = H^T z, (H H^T + reg / a) z = y, exact and cheaper when n is well below k.

    Needs base = 0, reg > 0 and every a_t > 0 (Woodbury's identity). Returns 0, or UNSOLVED.
    """
    n, k = last - first, F.shape[1]
    padded = (n + PANEL - 1) // PANEL * PANEL
    T, K = np.zeros((k, padded), F.dtype), np.zeros((padded, padded), F.dtype)
    z, work = np.zeros((1, padded), F.dtype), np.empty((PANEL, padded), F.dtype)
    for t in range(n):
        row = F[indices[first + t]]
        for j in range(k):
            T[j, t] = row[j]
    add_outer(T, T, k, 0, K)
    for t in range(padded):
        if t >= n:
            K[t, t] = 1
        else:
            K[t, t] += reg / a[first + t] if a.size else reg
            z[0, t] = y[t]
    if cholesky(K, work, F.dtype.type(0)) != OK:
        return UNSOLVED
    solve_triangular(K, z)
    x[0] = 0
    for t in range(n):
        add_scaled(x, 0, F, indices[first + t], z[0, t], 0)
    return 0


@jit(fastmath=True)
def apply_left_side(indices, a, first, last, F, base, reg, x, out):  # type: ignore[no-untyped-def]
    """Set out = (base + sum_t a_t h_t h_t^T + reg I) x without forming the matrix."""
    out[0] = reg * x[0]
    for j in range(base.shape[0]):
        out[0, j] += dot_rows(base, j, x, 0, 0)
    for t in range(first, last):
        row = indices[t]
        s = dot_rows(F, row, x, 0, 0)
        add_scaled(out, 0, F, row, s * a[t] if a.size else s, 0)


@jit(fastmath=True)
def conjugate_gradients(indices, a, first, last, F, base, reg, b, steps, x):  # type: ignore[no-untyped-def]
    """Improve x by a number of conjugate gradient steps (Takacs, Pilaszy, Tikk 2011), starting from x."""
    residual, product = np.empty_like(x), np.empty_like(x)
    right_side(indices, b, first, last, F, residual)
    apply_left_side(indices, a, first, last, F, base, reg, x, product)
    residual -= product
    direction = residual.copy()
    square = dot_rows(residual, 0, residual, 0, 0)
    start = square
    for _ in range(steps):
        if square <= np.finfo(F.dtype).eps ** 2 * start or square == 0:
            break
        apply_left_side(indices, a, first, last, F, base, reg, direction, product)
        curvature = dot_rows(direction, 0, product, 0, 0)
        if not curvature > 0:
            break
        step = square / curvature
        add_scaled(x, 0, direction, 0, step, 0)
        add_scaled(residual, 0, product, 0, -step, 0)
        after = dot_rows(residual, 0, residual, 0, 0)
        direction *= after / square
        direction += residual
        square = after
    return 0


@jit(fastmath=True)
def subspace(indices, a, first, last, F, base, reg, rank, b, size, x):  # type: ignore[no-untyped-def]
    """Improve x by one exact Newton step per block of ``size`` dimensions (iALS++, Rendle et al. 2021, section 3).

    Scores h_t . x are kept up to date between the blocks, so that a pass costs n k size instead of n k^2.
    """
    n, k = last - first, F.shape[1]
    scores = np.empty(n, F.dtype)
    H, W = np.empty((n, size), F.dtype), np.empty((n, size), F.dtype)
    A, work, step = np.empty((size, size), F.dtype), np.empty((PANEL, size), F.dtype), np.empty((1, size), F.dtype)
    for t in range(n):
        scores[t] = dot_rows(F, indices[first + t], x, 0, 0)
    jitters = 0
    for start in range(0, k, size):
        stop = min(start + size, k)
        H[:] = 0
        W[:] = 0
        A[:] = 0
        step[:] = 0
        A[: stop - start, : stop - start] = base[start:stop, start:stop]
        for j in range(start, stop):
            step[0, j - start] = -dot_rows(base, j, x, 0, 0) - reg * x[0, j]
        for t in range(n):
            weight = F.dtype.type(a[first + t]) if a.size else F.dtype.type(1)
            H[t, : stop - start] = F[indices[first + t], start:stop]
            add_scaled(W, t, H, t, weight, 0)
            add_scaled(step, 0, H, t, b[t] - weight * scores[t], 0)
        add_outer(H, W, n, 0, A)
        largest = finish_left_side(A, reg, min(rank - start, size), 0.0)
        if cholesky(A, work, F.dtype.type(8) * np.finfo(F.dtype).eps * largest) != OK:
            jitters = 1  # leaves this block as it was: still a descent
            continue
        solve_triangular(A, step)
        x[0, start:stop] += step[0, : stop - start]
        for t in range(n):
            scores[t] += dot_rows(H, t, step, 0, 0)
    return jitters


@jit(fastmath=True)
def descent(  # type: ignore[no-untyped-def]
    indices, a, first, last, F, base, reg, rank, b, l1, nonnegative, sweeps, H, W, A, x
):
    """Solve with x >= 0 and/or an L1 penalty by coordinate descent on the assembled equations, starting from x."""
    A[:] = base
    gram(indices, a, first, last, F, H, W, A)
    finish_left_side(A, reg, rank, 0.0)
    mirror(A)
    right = np.empty_like(x)
    right_side(indices, b, first, last, F, right)
    if nonnegative:
        x[:] = np.maximum(x, 0)
    coordinate_descent(A, right, x, F.dtype.type(l1), nonnegative, sweeps, 1e-5)
    return 0
