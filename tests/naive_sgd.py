"""Readable slow twins of the SGD kernels: float64, one rating at a time, numpy only."""

import numpy as np

SLOW = 8


def value(loss, s, y):
    """Negative log likelihood of one rating, without terms free of s."""
    return {
        "squared": lambda: (s - y) ** 2 / 2,
        "logistic": lambda: np.logaddexp(0, s) - y * s,
        "poisson": lambda: np.exp(s) - y * s,
        "poisson_identity": lambda: (
            s - y * np.log(s) if s >= 0.01 else 0.01 - y * np.log(0.01) + (s - 0.01) * (1 - 100 * y)
        ),
    }[loss]()


def slope(loss, s, y):
    """Derivative of `value` with respect to s."""
    return {
        "squared": lambda: s - y,
        "logistic": lambda: 1 / (1 + np.exp(-s)) - y,
        "poisson": lambda: np.exp(s) - y,
        "poisson_identity": lambda: 1 - y / max(s, 0.01),
    }[loss]()


def visits(rows, cols, ratings, weights, negatives):
    """Give (user, item, rating, weight) in the order of visit: each rating, then its negatives as zeros."""
    for x in range(len(rows)):
        yield rows[x], cols[x], ratings[x], 1.0 if weights is None else weights[x]
        for item in [] if negatives is None else negatives[x]:
            yield rows[x], item, 0.0, 1.0


def sgd_pass(
    rows, cols, ratings, P, Q, *, step, loss="squared", reg=(0.0, 0.0), weights=None, negatives=None, b_u=None,
    b_i=None, mean=0.0, reg_bias=(0.0, 0.0), squares=None, slow_only=False, nonnegative=False,
):  # fmt: skip
    """One pass in the given order, everything in place; returns the sum of weighted losses, each before its update.

    `reg` holds one array per side with the regularisation of each row; `squares` the AdaGrad accumulators of both sides
    with columns (mean square of the first 8 dimensions, of the rest, square of the bias, unused).
    """
    reg_p, reg_q = np.broadcast_to(reg[0], len(P)), np.broadcast_to(reg[1], len(Q))
    total = 0.0
    for u, i, y, w in visits(rows, cols, ratings, weights, negatives):
        s = mean + P[u] @ Q[i] + (0 if b_u is None else b_u[u]) + (0 if b_i is None else b_i[i])
        total += w * value(loss, s, y)
        d = w * slope(loss, s, y)
        gradients = (d * Q[i] + reg_p[u] * P[u], d * P[u] + reg_q[i] * Q[i])
        for side, (row, F, b) in enumerate(((u, P, b_u), (i, Q, b_i))):
            g, G = gradients[side], None if squares is None else squares[side]
            size = np.full(F.shape[1], step)
            if G is not None:
                size[:SLOW], size[SLOW:] = step / np.sqrt(G[row, 0]), step / np.sqrt(G[row, 1]) * (not slow_only)
                G[row, 0] += np.mean(g[:SLOW] ** 2)
                if len(g) > SLOW and not slow_only:
                    G[row, 1] += np.mean(g[SLOW:] ** 2)
            F[row] -= size * g
            if nonnegative:
                F[row] = np.maximum(F[row], 0)
            if b is not None:
                g = d + reg_bias[side] * b[row]
                b[row] -= (step if G is None else step / np.sqrt(G[row, 2])) * g
                if G is not None:
                    G[row, 2] += g**2
    return total


def expected_gradient(x, b, u, rated, F, b_i, mean, lam, nu, n_negatives, epochs, seed):
    """Mean over drawn epochs of a user's gradient (factors, bias), everything held at the epoch's start.

    `rated` are (item, rating, weight); a negative is drawn among the unrated ones with weight 1, for each rating.
    `lam` times (sum of weights, drawn ones among them) ** nu is the L2 weight of an epoch, given out evenly by visits.
    """
    rng, seen = np.random.default_rng([seed, u]), {item for item, _, _ in rated}
    others = [item for item in range(len(F)) if item not in seen]
    weight = sum(w for _, _, w in rated) + n_negatives * len(rated)
    per_visit = lam * weight**nu / (len(rated) * (1 + n_negatives))
    total, bias = np.zeros(F.shape[1]), 0.0
    for _ in range(epochs):
        met = [(item, float(r > 0), w) for item, r, w in rated]
        if others:
            met += [(item, 0.0, 1.0) for item in rng.choice(others, n_negatives * len(rated))]
        for item, p, w in met:
            d = w * (mean + b + b_i[item] + x @ F[item] - p)
            total += d * F[item] + per_visit * x
            bias += d + per_visit * b
    return total / epochs, bias / epochs
