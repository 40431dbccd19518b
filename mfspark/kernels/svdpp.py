"""SGD for SVD++: the factors of a user are p_u and what the set of rated items tells, |N(u)|^-1/2 sum_j y_j.

Koren 2008, "Factorization meets the neighborhood: a multifaceted collaborative filtering model", equation 15:
r_ui ~ mean + b_u + b_i + q_i . (p_u + |N(u)|^-1/2 sum of y_j over j in N(u)), where N(u) are the items that u rated.
With e the error of a rating, eta the step and lambda the regularisation, every rating moves (his section 5)

    b_u += eta (e - lambda b_u)      p_u += eta (e q_i - lambda p_u)      y_j += eta (e |N|^-1/2 q_i - lambda y_j)
    b_i += eta (e - lambda b_i)      q_i += eta (e (p_u + z_u) - lambda q_i)        for all j in N(u)

which are steps down the gradient of the sum over the ratings of e^2 + lambda (the squares of all that moved). The last
rule costs |N(u)| rows per rating; here, as usual, a user's moves of y are added up over its ratings and made at once,
so that an epoch costs a few rows per rating. The slow, readable equal is in ``tests/kernels/test_svdpp.py``.
"""

from __future__ import annotations

import numpy as np

from mfspark.kernels.compile import jit
from mfspark.kernels.rng import mix, uniform_below

# The entries of the statistics that ``measure`` adds up.
STATISTICS = ("fit", "regularisation", "valid_squares", "valid_rows")
FIT, REGULARISATION, VALID_SQUARES, VALID_ROWS = range(4)
# The places of the regularisation weights.
LAMBDAS = ("user", "item", "implicit", "bias")


@jit
def _shuffled(n, seed, out):  # type: ignore[no-untyped-def]
    """Set out[:n] to a random order of 0 .. n - 1 (Fisher and Yates)."""
    for x in range(n):
        out[x] = x
    for x in range(n - 1, 0, -1):
        other = uniform_below(mix(seed, np.uint64(x)), x + 1)
        out[x], out[other] = out[other], out[x]


@jit(fastmath=True)
def implicit_part(indptr, indices, Y, r, z):  # type: ignore[no-untyped-def]
    """Set z (k,) to |N|^-1/2 sum of Y[j] over the ratings of row r; to 0 where there are none."""
    z[:] = 0
    first, last = indptr[r], indptr[r + 1]
    if first == last:
        return
    for t in range(first, last):
        row = Y[indices[t]]
        for f in range(z.size):
            z[f] += row[f]
    z *= Y.dtype.type(1 / np.sqrt(last - first))


@jit(fastmath=True)
def epoch(indptr, indices, values, P, Q, Y, mean, step, lambdas, seed):  # type: ignore[no-untyped-def]
    """Visit every rating of a CSR block of users once, users and their ratings in random order.

    Parameters
    ----------
    indptr, indices, values : int64 (rows + 1,), int32 (nnz,), float (nnz,)
        The ratings of the block's users.
    P : float array (rows, k + 1)
        The users' factors p_u and biases b_u, moved in place.
    Q : float array (n, k + 1)
        The items' factors q_i and biases b_i, moved in place.
    Y : float array (n, k)
        The items' implicit factors, moved in place.
    mean, step : float
        The mean rating; eta.
    lambdas : float array (4,)
        In the order of LAMBDAS.
    seed : uint64
        Of the order of visit.
    """
    k, rows, number = Y.shape[1], indptr.size - 1, Y.dtype.type
    longest = 0
    for r in range(rows):
        longest = max(longest, indptr[r + 1] - indptr[r])
    order, places = np.empty(rows, np.int64), np.empty(longest, np.int64)
    z, moved = np.empty(k, Y.dtype), np.empty(k, Y.dtype)
    lambda_p, lambda_q = number(lambdas[0]), number(lambdas[1])
    lambda_b, eta = number(lambdas[3]), number(step)
    _shuffled(rows, mix(seed, np.uint64(rows)), order)
    for x in range(rows):
        r = order[x]
        first, n = indptr[r], indptr[r + 1] - indptr[r]
        if n == 0:
            continue
        implicit_part(indptr, indices, Y, r, z)
        moved[:] = 0
        p = P[r]
        _shuffled(n, mix(seed, np.uint64(r)), places)
        for t in range(n):
            q = Q[indices[first + places[t]]]
            score = number(mean) + p[k] + q[k]
            for f in range(k):
                score += (p[f] + z[f]) * q[f]
            error = values[first + places[t]] - score
            p[k] += eta * (error - lambda_b * p[k])
            q[k] += eta * (error - lambda_b * q[k])
            for f in range(k):
                old_p, old_q = p[f], q[f]
                moved[f] += error * old_q
                p[f] += eta * (error * old_q - lambda_p * old_p)
                q[f] += eta * (error * (old_p + z[f]) - lambda_q * old_q)
        pull, shrink = number(step / np.sqrt(n)), number(max(0.0, 1.0 - step * lambdas[2] * n))
        for t in range(first, first + n):
            y = Y[indices[t]]
            for f in range(k):
                y[f] = shrink * y[f] + pull * moved[f]


@jit(fastmath=True)
def measure(  # type: ignore[no-untyped-def]
    indptr, indices, values, held_indptr, held_indices, held_values, P, Q, Y, mean, lambdas, low, high, statistics
):
    """Add the objective's parts of a block and its held-out errors to ``statistics``, in the order of STATISTICS.

    Held-out predictions are clipped to low .. high. The other arguments are those of ``epoch``.
    """
    k, n_items = Y.shape[1], Q.shape[0]
    z, penalty = np.empty(k, Y.dtype), np.empty(n_items)
    for i in range(n_items):
        squares = 0.0
        for f in range(k):
            squares += lambdas[1] * np.float64(Q[i, f]) ** 2
        penalty[i] = squares + lambdas[3] * np.float64(Q[i, k]) ** 2
    for r in range(indptr.size - 1):
        implicit_part(indptr, indices, Y, r, z)
        first, last = indptr[r], indptr[r + 1]
        own, implicit, others, fit = 0.0, 0.0, 0.0, 0.0
        for f in range(k):
            own += lambdas[0] * np.float64(P[r, f]) ** 2
        own += lambdas[3] * np.float64(P[r, k]) ** 2
        for t in range(first, last):
            fit += (values[t] - _score(P, Q, z, mean, r, indices[t])) ** 2
            others += penalty[indices[t]]
            for f in range(k):
                implicit += lambdas[2] * np.float64(Y[indices[t], f]) ** 2
        statistics[FIT] += fit
        statistics[REGULARISATION] += (last - first) * (own + implicit) + others
        for t in range(held_indptr[r], held_indptr[r + 1]):
            score = min(max(_score(P, Q, z, mean, r, held_indices[t]), low), high)
            statistics[VALID_SQUARES] += (held_values[t] - score) ** 2
            statistics[VALID_ROWS] += 1.0


@jit(fastmath=True)
def _score(P, Q, z, mean, r, i):  # type: ignore[no-untyped-def]
    score = np.float64(0)
    for f in range(z.size):
        score += (P[r, f] + z[f]) * Q[i, f]
    return score + mean + P[r, z.size] + Q[i, z.size]


@jit(fastmath=True)
def whole_users(indptr, indices, P, Y, out):  # type: ignore[no-untyped-def]
    """Set out (rows, k + 1) to p_u + |N|^-1/2 sum y_j and the bias: what predicts with Q alone."""
    k = Y.shape[1]
    z = np.empty(k, Y.dtype)
    for r in range(indptr.size - 1):
        implicit_part(indptr, indices, Y, r, z)
        for f in range(k):
            out[r, f] = P[r, f] + z[f]
        out[r, k] = P[r, k]
