"""The slow, readable truth: numpy only, double precision, one loop per sum. Every kernel and engine must match it."""

import numpy as np

# The worked example: 4 users x 6 items, NaN is unknown.
EXAMPLE = np.array(
    [
        [1, np.nan, np.nan, 2, np.nan, 1],
        [np.nan, 2, 3, np.nan, 2, 1],
        [1, 5, 5, np.nan, np.nan, 5],
        [np.nan, np.nan, 2, np.nan, np.nan, 3],
    ]
)


def triples(R):
    """Return users, items, ratings of the known entries of a dense matrix."""
    users, items = np.nonzero(~np.isnan(R))
    return users, items, R[users, items]


def confidence(form, r, alpha, w0):
    """Return c of one observed pair; a negative r is a dislike (p = 0) held with confidence |r|."""
    return {
        "mllib": w0 + alpha * abs(r),
        "linear": alpha * abs(r),
        "log": w0 + alpha * np.log(1 + abs(r)),
        "ials": w0 + alpha * abs(r),
    }[form]


def row_equations(ratings, weights, H, lam, implicit=False, form="mllib", alpha=1.0, w0=1.0, every=None):
    """Return lhs and rhs of one row: ratings r_t with fixed rows H[t]; ``every`` are all rows of the fixed side."""
    lhs = lam * np.eye(H.shape[1])
    if not implicit:
        a, b = weights, weights * ratings
    else:
        lhs = lhs + w0 * every.T @ every
        c = confidence(form, ratings, alpha, w0)
        a, b = weights * (c - w0), weights * np.where(ratings > 0, c - w0 if form == "ials" else c, 0)
    return lhs + (H.T * a) @ H, H.T @ b


def conjugate_gradients(lhs, rhs, x, steps):
    """Take conjugate gradient steps from x."""
    residual = rhs - lhs @ x
    direction = residual
    for _ in range(steps):
        if not residual.any():
            break
        step = residual @ residual / (direction @ lhs @ direction)
        x, after = x + step * direction, residual - step * lhs @ direction
        direction = after + (after @ after) / (residual @ residual) * direction
        residual = after
    return x


def newton_by_subspaces(lhs, rhs, x, size):
    """Minimise over ``size`` dimensions at a time, everything else fixed."""
    x = x.copy()
    for start in range(0, len(x), size):
        part = slice(start, start + size)
        x[part] += np.linalg.solve(lhs[part, part], rhs[part] - lhs[part] @ x)
    return x


def coordinate_sweeps(lhs, rhs, x, sweeps, l1=0.0, nonnegative=False):
    """Minimise x.lhs.x/2 - rhs.x + l1 |x|_1 over one coordinate at a time."""
    x = np.maximum(x, 0) if nonnegative else x.copy()
    for _ in range(sweeps):
        for j in range(len(x)):
            point = rhs[j] - lhs[j] @ x + lhs[j, j] * x[j]
            shrunk = np.sign(point) * max(abs(point) - l1, 0)
            x[j] = max(shrunk, 0) / lhs[j, j] if nonnegative else shrunk / lhs[j, j]
    return x


def row_lambda(ratings, weights, reg, nu, implicit, weighted, form="mllib", w0=1.0, n_fixed=0):
    """Return one row's L2 weight."""
    count = np.sum(weights) if weighted else np.sum(ratings > 0) if implicit else len(ratings)
    extra = w0 * n_fixed if implicit and form == "ials" else 0
    return reg * (count + extra) ** nu


def half_step(rows, columns, r, n_rows, F, reg=0.1, nu=1.0, weights=None, nonnegative=False, **implicit):
    """Solve every row against the fixed side F."""
    weighted = weights is not None
    weights = np.ones(len(r)) if weights is None else weights
    X = np.zeros((n_rows, F.shape[1]))
    for row in range(n_rows):
        mine = rows == row
        if not mine.any():
            continue
        scale = {key: implicit[key] for key in ("form", "w0") if key in implicit}
        lam = row_lambda(r[mine], weights[mine], reg, nu, bool(implicit), weighted, n_fixed=len(F), **scale)
        options = dict(implicit=True, every=F, **implicit) if implicit else {}
        lhs, rhs = row_equations(r[mine], weights[mine], F[columns[mine]], lam, **options)
        X[row] = nnls(lhs, rhs) if nonnegative else np.linalg.solve(lhs, rhs)
    return X


def nnls(lhs, rhs):
    """Minimise x.lhs.x/2 - rhs.x under x >= 0 by trying every set of free coordinates (small k only)."""
    k, best, least = len(rhs), np.zeros(len(rhs)), 0.0
    for mask in range(1, 1 << k):
        free = [j for j in range(k) if mask >> j & 1]
        x = np.zeros(k)
        x[free] = np.linalg.solve(lhs[np.ix_(free, free)], rhs[free])
        value = x @ lhs @ x / 2 - rhs @ x
        if (x >= 0).all() and value < least:
            best, least = x, value
    return best


def als(users, items, r, U, V, sweeps, **options):
    """Run ALS from U, V: items first, then users, as often as ``sweeps``."""
    for _ in range(sweeps):
        V = half_step(items, users, r, len(V), U, **options)
        U = half_step(users, items, r, len(U), V, **options)
    return U, V


def explicit_loss(users, items, r, U, V, reg=0.1, nu=1.0, weights=None):
    """Return fit and regularisation of the explicit objective."""
    w = np.ones(len(r)) if weights is None else weights
    fit = sum(w[t] * (r[t] - U[users[t]] @ V[items[t]]) ** 2 for t in range(len(r)))
    penalty = 0.0
    for side, index in ((U, users), (V, items)):
        for row in range(len(side)):
            mine = index == row
            if mine.any():
                count = w[mine].sum() if weights is not None else mine.sum()
                penalty += reg * count**nu * side[row] @ side[row]
    return fit, penalty


def implicit_loss(users, items, r, U, V, reg=0.1, nu=1.0, form="mllib", alpha=1.0, w0=1.0):
    """Return fit (over all pairs, visited one by one) and regularisation of the implicit objective."""
    rating = {(u, i): x for u, i, x in zip(users, items, r, strict=True)}
    fit = 0.0
    for u in range(len(U)):
        for i in range(len(V)):
            s = U[u] @ V[i]
            x = rating.get((u, i))
            if x is None:
                fit += w0 * s**2
            elif form == "ials":
                fit += w0 * s**2 + alpha * abs(x) * (s - (x > 0)) ** 2
            else:
                fit += confidence(form, x, alpha, w0) * ((x > 0) - s) ** 2
    penalty = 0.0
    for side, index, other in ((U, users, V), (V, items, U)):
        for row in range(len(side)):
            mine = index == row
            if mine.any():
                lam = row_lambda(r[mine], None, reg, nu, True, False, form, w0, len(other))
                penalty += lam * side[row] @ side[row]
    return fit, penalty


def biased_half_step(rows, columns, r, n_rows, F, fixed_bias, mean, reg, nu=1.0):
    """Solve factors and bias of every row jointly: the augmented equations with a constant factor 1."""
    X = np.zeros((n_rows, F.shape[1] + 1))
    for row in range(n_rows):
        mine = rows == row
        if mine.any():
            H = np.column_stack([F[columns[mine]], np.ones(mine.sum())])
            target = r[mine] - mean - fixed_bias[columns[mine]]
            lhs, rhs = row_equations(target, np.ones(mine.sum()), H, reg * mine.sum() ** nu)
            X[row] = np.linalg.solve(lhs, rhs)
    return X


def random_ratings(n_users, n_items, share, seed, values=(1, 2, 3, 4, 5)):
    """Return random triples in which every user and every item occurs."""
    rng = np.random.default_rng(seed)
    known = rng.random((n_users, n_items)) < share
    known[np.arange(n_users), rng.integers(0, n_items, n_users)] = True
    known[rng.integers(0, n_users, n_items), np.arange(n_items)] = True
    users, items = np.nonzero(known)
    return users, items, rng.choice(np.array(values, float), len(users))


def best(scores, n, seen=()):
    """Return the places of the n largest scores, best first, ties by place, without the seen ones."""
    order = [j for j in np.argsort(-scores, kind="stable") if j not in set(seen)]
    return order[:n]


def nearest_rotation(a, b):
    """The orthogonal matrix that brings a nearest to b: the polar factor of a^T b, by Newton's iteration."""
    found = a.T @ b
    for _ in range(60):
        found = (found + np.linalg.inv(found).T) / 2
    return found
