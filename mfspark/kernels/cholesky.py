"""Solvers of one row's k x k equations A x = b that see only A and b: Cholesky and coordinate descent.

All arrays are padded with zeros to a multiple of ``simd.PANEL``; vectors are 1 x k arrays, so that the same row
operations serve vectors and matrices. Only the upper triangle of A is read.
"""

from __future__ import annotations

import numpy as np

from mfspark.kernels.compile import REORDERED, jit
from mfspark.kernels.simd import PANEL, add_outer, add_scaled, dot_rows, scale_row

OK = -1
"""What ``cholesky`` returns when every pivot was large enough."""


@jit(fastmath=REORDERED)
def cholesky(A, work, floor):  # type: ignore[no-untyped-def]
    """Replace the upper triangle of A by U with A = U^T U (blocked, right-looking).

    Parameters
    ----------
    A : array (k, k)
        A symmetric positive definite matrix; its lower triangle is not read, and zeroed inside the panels.
    work : array (PANEL, k)
        Scratch space.
    floor : float
        Each pivot must be larger than this share of what stood in its place at first. A pivot is what is left of a
        diagonal entry, so that the share says how many digits were lost, whatever the scale of each column.

    Returns
    -------
    int
        OK, or the first column whose pivot is too small.
    """
    k, one = A.shape[0], A.dtype.type(1)
    least = np.empty(k, A.dtype)
    for t in range(k):
        least[t] = A.dtype.type(floor) * A[t, t]
    for start in range(0, k, PANEL):
        stop = start + PANEL
        for t in range(start, stop):
            if not A[t, t] > least[t]:
                return t
            scale = one / np.sqrt(A[t, t])
            A[t, start:t] = 0
            scale_row(A, t, scale, start)
            for row in range(t + 1, stop):
                add_scaled(A, row, A, t, -A[t, row], start)
        if stop < k:
            for t in range(PANEL):
                for j in range(stop, k):
                    work[t, j] = -A[start + t, j]
            add_outer(work, A[start:stop], PANEL, stop, A)
    return OK


@jit(fastmath=REORDERED)
def solve_triangular(U, x):  # type: ignore[no-untyped-def]
    """Replace x (1 x k) by the solution of U^T U x = x, for U from ``cholesky``."""
    k = U.shape[0]
    for t in range(k):
        y = x[0, t] / U[t, t]
        add_scaled(x, 0, U, t, -y, t - t % PANEL)
        x[0, t] = y
    for t in range(k - 1, -1, -1):
        y = x[0, t]
        x[0, t] = 0
        x[0, t] = (y - dot_rows(x, 0, U, t, t - t % PANEL)) / U[t, t]


@jit(fastmath=REORDERED)
def mirror(A):  # type: ignore[no-untyped-def]
    """Copy the upper triangle of A onto the lower one."""
    for i in range(A.shape[0]):
        for j in range(i):
            A[i, j] = A[j, i]


@jit
def coordinate_descent(A, b, x, l1, nonnegative, sweeps, tol):  # type: ignore[no-untyped-def]
    """Minimise x^T A x / 2 - b^T x + l1 |x|_1, with x >= 0 where asked, one coordinate at a time.

    Each step is the exact minimum in its coordinate (a soft threshold), so the objective never rises; for a positive
    definite A the limit is the minimum (Tseng 2001). With ``l1 = 0`` and ``nonnegative`` it is exact NNLS.

    Parameters
    ----------
    A : array (k, k)
        A symmetric positive definite matrix, both triangles.
    b, x : array (1, k)
        The right-hand side, and the start, which is replaced by the solution.
    l1 : float
        The weight of the L1 norm.
    nonnegative : bool
        Whether x >= 0 is required.
    sweeps : int
        The largest number of passes over the coordinates.
    tol : float
        Stop when no coordinate moved by more than ``tol`` times the largest coordinate.
    """
    k = A.shape[0]
    gradient = np.empty(k, A.dtype)
    for i in range(k):
        total = -b[0, i]
        for j in range(k):
            total += A[i, j] * x[0, j]
        gradient[i] = total
    for _ in range(sweeps):
        largest, moved = A.dtype.type(0), A.dtype.type(0)
        for i in range(k):
            if A[i, i] <= 0:
                continue
            point = A[i, i] * x[0, i] - gradient[i]
            if point > l1:
                point = (point - l1) / A[i, i]
            elif point < -l1 and not nonnegative:
                point = (point + l1) / A[i, i]
            else:
                point = A.dtype.type(0)
            step = point - x[0, i]
            if step != 0:
                x[0, i] = point
                for j in range(k):
                    gradient[j] += step * A[i, j]
            moved, largest = max(moved, abs(step)), max(largest, abs(point))
        if moved <= tol * largest:
            break
