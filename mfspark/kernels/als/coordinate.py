"""One coordinate of one row at a time, with the residuals kept: coordinate-wise ALS.

The biased latent factor model minimises

    E = (1/n) sum (alpha + beta_u + beta_i + gamma_u . gamma_i - r)^2
        + lambda1 sum_u (beta_u^2 + |gamma_u|^2) + lambda2 sum_i (beta_i^2 + |gamma_i|^2).

With rho_ui the residual r - (everything but gamma_uk gamma_ik), dE/dgamma_uk = 0 reads

    (2/n) sum_i (gamma_uk gamma_ik - rho_ui) gamma_ik + 2 lambda1 gamma_uk = 0,  hence
    gamma_uk = (1/n) sum_i rho_ui gamma_ik / ((1/n) sum_i gamma_ik^2 + lambda1),

the sums over the items of user u. Lecture notes print the numerator without 1/n and without gamma_ik; that is not the
stationary point. A bias is the coordinate whose partner is 1, alpha the one of all ratings with lambda = 0. Multiplied
by n this is the ridge of the half step, reg = n lambda1, whose exact minimum in one coordinate is ``update`` below.
Updates are sequential: each sees the residuals that the one before left, so that E never rises. Simultaneous updates
of all coordinates can diverge. After Pilaszy, Zibriczky, Tikk 2010 (ALS1), Yu et al. 2012 (CCD, section 3.1), and for
a base form He et al. 2016 (eALS, section 4.2).
"""

from __future__ import annotations

import numpy as np

from mfspark.kernels.compile import REORDERED, jit


@jit(fastmath=REORDERED)
def update(h, a, first, g, x, pull, stiffness, l1, nonnegative):  # type: ignore[no-untyped-def]
    """Return the exact minimum in one coordinate, and bring the residuals up to date.

    Minimises sum_t (a_t s_t^2 - 2 b_t s_t) + the base form + reg |x|^2 + 2 l1 |x|_1 in the coordinate whose partners
    are h, everything else fixed.

    Parameters
    ----------
    h : float array (n,)
        The partner of the coordinate in each of the row's ratings (1 for a bias).
    a : float array or (0,)
        The ratings' quadratic coefficients, the row's from ``first`` on; size 0 means all are 1.
    first : int
        Where the row's ratings start in ``a``.
    g : float array (n,)
        b_t - a_t s_t, which for explicit ratings is the weighted residual; updated.
    x : float
        The coordinate.
    pull, stiffness : float
        Half the derivative and half the second derivative of what does not depend on the ratings: reg x and reg
        without a base form.
    l1 : float
        The L1 weight.
    nonnegative : bool
        Whether the coordinate must be >= 0.
    """
    slope, curvature = pull, stiffness
    for t in range(h.size):
        weight = a[first + t] if a.size else h.dtype.type(1)
        slope -= g[t] * h[t]
        curvature += weight * h[t] * h[t]
    if curvature <= 0:
        return x
    point = curvature * x - slope
    if point > l1:
        new = (point - l1) / curvature
    elif point < -l1 and not nonnegative:
        new = (point + l1) / curvature
    else:
        new = h.dtype.type(0)
    step = new - x
    if step != 0:
        for t in range(h.size):
            g[t] -= (a[first + t] * step if a.size else step) * h[t]
    return new


@jit(fastmath=REORDERED)
def coordinates(  # type: ignore[no-untyped-def]
    indices, a, first, last, F, base, reg, rank, b, l1, nonnegative, sweeps, x
):
    """Improve a row x (1 x k) by sweeps over its coordinates; arguments as in ``row_solvers``. Returns True.

    A sweep costs n k instead of the n k^2 of the assembled equations. The partners are gathered by coordinate, so that
    each update reads one stretch of memory.
    """
    n, number = last - first, F.dtype.type
    H, g = np.empty((rank, n), F.dtype), np.empty(n, F.dtype)
    for t in range(n):
        row = F[indices[first + t]]
        s = number(0)
        for j in range(rank):
            H[j, t] = row[j]
            s += row[j] * x[0, j]
        g[t] = b[t] - (a[first + t] * s if a.size else s)
    product = np.zeros(rank, F.dtype)
    for j in range(rank):
        for i in range(rank):
            product[j] += base[i, j] * x[0, i]
    for _ in range(sweeps):
        for j in range(rank):
            old = x[0, j]
            pull, stiffness = product[j] + reg * old, base[j, j] + reg
            x[0, j] = update(H[j], a, first, g, old, pull, stiffness, number(l1), nonnegative)
            step = x[0, j] - old
            if step != 0:
                for i in range(rank):
                    product[i] += step * base[j, i]
    return True
