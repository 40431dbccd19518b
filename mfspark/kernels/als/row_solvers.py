"""Solvers of one row that use its ratings directly: dense, dual, conjugate gradients, subspace descent.

For a row with ratings t in first..last, all solve (base + sum_t a_t h_t h_t^T + reg I) x = sum_t b_t h_t, where h_t
is the row ``indices[t]`` of F. ``a`` of size 0 means a_t = 1. ``b`` and the residual target ``y`` are indexed from 0
for the row. Each function's slow, readable equal is in ``tests/naive.py``. All return whether they solved the row: a
solver that lost too many digits says so, and the row is solved again in fp64 (``half_step.solve_block``).
"""

from __future__ import annotations

import numpy as np

from mfspark.kernels.cholesky import OK, cholesky, coordinate_descent, mirror, solve_triangular
from mfspark.kernels.compile import REORDERED, inlined, jit
from mfspark.kernels.simd import PANEL, add_outer, add_scaled, copy_row, dot_rows, prefetch_row

STRETCH = 4096
"""How many ratings are summed on their own, so that the rounding of a long row's sums does not grow with its length."""
AHEAD = 12  # how many ratings ahead a factor row is asked of the memory


@jit
def trusted(A):  # type: ignore[no-untyped-def]
    """Return the share of its diagonal entry that a pivot must keep for ``cholesky``'s solution to be believed.

    Where a share p is left, rounding is magnified by 1 / p, in the objective by 1 / p^2 at worst. In fp32 there is
    a better place to go, fp64; in fp64 there is only a jitter, which is worse than all but the last lost digit.
    """
    eps = np.finfo(A.dtype).eps
    return 4096 * eps if eps > 1e-10 else 32 * eps


@inlined
def begin(A, base):  # type: ignore[no-untyped-def]
    """Set A to base row by row: with an assignment of arrays numba compiles the text of its error, too, for seconds."""
    for j in range(A.shape[0]):
        copy_row(A, j, base, j)


@jit(fastmath=REORDERED)
def gram(indices, a, first, last, F, H, W, A):  # type: ignore[no-untyped-def]
    """Add sum_t a_t h_t h_t^T to the upper triangle of A."""
    if last - first <= STRETCH:
        _gram(indices, a, first, last, F, H, W, A)
        return
    part = np.empty_like(A)
    for start in range(first, last, STRETCH):
        part[:] = 0
        _gram(indices, a, start, min(start + STRETCH, last), F, H, W, part)
        A += part


@jit(fastmath=REORDERED)
def _gram(indices, a, first, last, F, H, W, A):  # type: ignore[no-untyped-def]
    """Add the sum of one stretch, in chunks gathered into H (and W = a H)."""
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


@jit(fastmath=REORDERED)
def right_side(indices, b, first, last, F, x):  # type: ignore[no-untyped-def]
    """Set x (1 x k) to sum_t b_t h_t."""
    x[0] = 0
    part = np.empty_like(x)
    for start in range(first, last, STRETCH):
        part[0] = 0
        for t in range(start, min(start + STRETCH, last)):
            add_scaled(part, 0, F, indices[t], b[t - first], 0)
        x += part


@jit(fastmath=REORDERED)
def finish_left_side(A, reg, jitter):  # type: ignore[no-untyped-def]
    """Add the ridge, and a jitter in proportion to each diagonal entry; columns that nothing touches get a one.

    Padding is such a column: its solution is 0, and it is never compared with the data.
    """
    for j in range(A.shape[0]):
        A[j, j] = (A[j, j] + reg) * A.dtype.type(1 + jitter)
        if A[j, j] == 0:
            A[j, j] = 1


@jit(fastmath=REORDERED)
def dense(indices, a, first, last, F, base, reg, jitter, b, H, W, A, work, x):  # type: ignore[no-untyped-def]
    """Solve by Cholesky into x."""
    begin(A, base)
    gram(indices, a, first, last, F, H, W, A)
    finish_left_side(A, reg, jitter)
    right_side(indices, b, first, last, F, x)
    if cholesky(A, work, trusted(A)) != OK:
        return False
    solve_triangular(A, x)
    return True


@jit(fastmath=REORDERED)
def dual(indices, a, first, last, F, reg, y, x):  # type: ignore[no-untyped-def]
    """Solve the n x n system x = H^T z, (H H^T + reg / a) z = y, exact and cheaper when n is well below k.

    Needs base = 0, reg > 0 and every a_t > 0 (Woodbury's identity).
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
    if cholesky(K, work, trusted(K)) != OK:
        return False
    solve_triangular(K, z)
    x[0] = 0
    for t in range(n):
        add_scaled(x, 0, F, indices[first + t], z[0, t], 0)
    return True


@jit(fastmath=REORDERED)
def apply_left_side(indices, a, first, last, F, base, reg, x, out):  # type: ignore[no-untyped-def]
    """Set out = (base + sum_t a_t h_t h_t^T + reg I) x without forming the matrix."""
    out[0] = reg * x[0]
    part = np.empty_like(x)
    for j in range(base.shape[0]):
        out[0, j] += dot_rows(base, j, x, 0, 0)
    for start in range(first, last, STRETCH):
        part[0] = 0
        for t in range(start, min(start + STRETCH, last)):
            row = indices[t]
            s = dot_rows(F, row, x, 0, 0)
            add_scaled(part, 0, F, row, s * a[t] if a.size else s, 0)
        out += part


@jit(fastmath=REORDERED)
def conjugate_gradients(indices, a, first, last, F, base, reg, b, steps, x):  # type: ignore[no-untyped-def]
    """Improve x by a number of conjugate gradient steps (Takacs, Pilaszy, Tikk 2011), starting from x."""
    residual, product = np.empty_like(x), np.empty_like(x)
    right_side(indices, b, first, last, F, residual)
    apply_left_side(indices, a, first, last, F, base, reg, x, product)
    residual -= product
    square = dot_rows(residual, 0, residual, 0, 0)
    start, length, direction = square, np.sqrt(square), residual.copy()
    for _ in range(steps):
        if square <= np.finfo(F.dtype).eps ** 2 * start or square == 0:
            break
        direction *= F.dtype.type(1) / length  # of length 1, so that the curvature does not overflow
        apply_left_side(indices, a, first, last, F, base, reg, direction, product)
        curvature = dot_rows(direction, 0, product, 0, 0)
        if not (curvature > 0 and curvature < np.inf):
            return False
        step = square / length / curvature
        add_scaled(x, 0, direction, 0, step, 0)
        add_scaled(residual, 0, product, 0, -step, 0)
        # In exact arithmetic these two are 0 and |after|^2 / |before|^2; rounding would bring the direction back.
        add_scaled(residual, 0, direction, 0, -dot_rows(residual, 0, direction, 0, 0), 0)
        direction *= -dot_rows(residual, 0, product, 0, 0) / curvature
        direction += residual
        length = np.sqrt(dot_rows(direction, 0, direction, 0, 0))
        square = dot_rows(residual, 0, residual, 0, 0)
    return square < np.inf


@jit(fastmath=REORDERED)
def subspace(indices, a, first, last, F, base, reg, b, size, x):  # type: ignore[no-untyped-def]
    """Improve x by one exact Newton step per block of ``size`` dimensions (iALS++, Rendle et al. 2021, section 3).

    Scores h_t . x are kept up to date between the blocks, so that a pass costs n k size instead of n k^2.
    """
    n, k = last - first, F.shape[1]
    stretch = min(n, STRETCH)
    scores = np.empty(n, F.dtype)
    H, W = np.zeros((stretch, size), F.dtype), np.empty((stretch, size), F.dtype)
    A, part, work = np.empty((size, size), F.dtype), np.empty((size, size), F.dtype), np.empty((PANEL, size), F.dtype)
    step, slope = np.empty((1, size), F.dtype), np.empty((1, size), F.dtype)
    for t in range(n):
        scores[t] = dot_rows(F, indices[first + t], x, 0, 0)
    for start in range(0, k, size):
        stop = min(start + size, k)
        H[:] = 0
        A[:] = 0
        step[:] = 0
        A[: stop - start, : stop - start] = base[start:stop, start:stop]
        for j in range(start, stop):
            step[0, j - start] = -dot_rows(base, j, x, 0, 0) - reg * x[0, j]
        for begin in range(0, n, stretch):
            count = min(stretch, n - begin)
            part[:] = 0
            slope[:] = 0
            W[:] = 0
            for t in range(count):
                place = begin + t
                weight = F.dtype.type(a[first + place]) if a.size else F.dtype.type(1)
                H[t, : stop - start] = F[indices[first + place], start:stop]
                add_scaled(W, t, H, t, weight, 0)
                add_scaled(slope, 0, H, t, b[place] - weight * scores[place], 0)
            add_outer(H, W, count, 0, part)
            A += part
            step += slope
        finish_left_side(A, reg, 0.0)
        if cholesky(A, work, trusted(A)) != OK:
            return False
        solve_triangular(A, step)
        x[0, start:stop] += step[0, : stop - start]
        for t in range(n):
            if n > stretch:
                H[0, : stop - start] = F[indices[first + t], start:stop]
            scores[t] += dot_rows(H, 0 if n > stretch else t, step, 0, 0)
    return True


@jit(fastmath=REORDERED)
def descent(indices, a, first, last, F, base, reg, b, l1, nonnegative, sweeps, H, W, A, x):  # type: ignore[no-untyped-def]
    """Solve with x >= 0 and/or an L1 penalty by coordinate descent on the assembled equations, starting from x."""
    begin(A, base)
    gram(indices, a, first, last, F, H, W, A)
    finish_left_side(A, reg, 0.0)
    mirror(A)
    right = np.empty_like(x)
    right_side(indices, b, first, last, F, right)
    if nonnegative:
        x[:] = np.maximum(x, 0)
    coordinate_descent(A, right, x, F.dtype.type(l1), nonnegative, sweeps, 1e-5)
    return True
