"""The ladder of extremes: every solver in fp32 beside the naive one in fp64, at any magnitude, weight, length and rank.

A row's solution is judged by what it is for, the row's objective: at most 1e-3 above that of the same algorithm in
numpy and double precision, as is a whole fit's training loss.
"""

from dataclasses import replace

import naive
import numpy as np
import pytest

from mfspark.kernels.als.gibbs import Prior, normals, sample_rows
from mfspark.kernels.als.half_step import STATISTICS, solve_block
from mfspark.kernels.csr import Block, counting_order
from mfspark.kernels.objective import Settings, coefficients, fix

RANKS = (1, 7, 10, 15, 16, 17, 64, 65)
OPTIONS = {
    "cholesky": dict(solver="cholesky"),
    "dual": dict(solver="dual"),
    "cg": dict(solver="cg", steps=3),
    "subspace": dict(solver="subspace", size=16),
    "coordinate": dict(solver="coordinate", steps=2),
    "nonnegative": dict(nonnegative=True, steps=60),
    "elastic net": dict(l1=(0.3, 0.3), steps=60),
    "nonnegative coordinates": dict(solver="coordinate", nonnegative=True, steps=2),
}
ABOVE = 1e-3


def twin(settings, l1):
    """Return the solver's readable equal: from lhs, rhs and the start to x."""
    return {
        "cholesky": lambda lhs, rhs, _: np.linalg.solve(lhs, rhs),
        "dual": lambda lhs, rhs, _: np.linalg.solve(lhs, rhs),
        "cg": lambda lhs, rhs, x: naive.conjugate_gradients(lhs, rhs, x, settings.steps),
        "subspace": lambda lhs, rhs, x: naive.newton_by_subspaces(lhs, rhs, x, settings.size),
        "coordinate": lambda lhs, rhs, x: naive.coordinate_sweeps(
            lhs, rhs, x, settings.steps, l1, settings.nonnegative
        ),
        "descent": lambda lhs, rhs, x: naive.coordinate_sweeps(lhs, rhs, x, settings.steps, l1, settings.nonnegative),
    }[settings.method]


def block_of(rows, columns, r, n_rows, weights=None):
    order, indptr = counting_order(rows, n_rows)
    w = np.empty(0, np.float32) if weights is None else np.asarray(weights, np.float32)[order]
    return Block(indptr, columns[order].astype(np.int32), np.asarray(r, np.float32)[order], weights=w)


def padded(F, settings):
    out = np.zeros((len(F), settings.padded), settings.dtype)
    out[:, : F.shape[1]] = F
    return out


def naive_rows(block, F, settings, start):
    """Solve every row in fp64, and return the rows with a function that gives the objective of any rows X.

    Ratings of one fixed row are added up, so that millions of ratings of few fixed rows are few.
    """
    counts = np.diff(block.indptr).astype(float)
    weights = block.weights.astype(float) if block.weights.size else np.ones(len(block.values))
    owner = np.repeat(np.arange(block.rows), np.diff(block.indptr))
    y = block.values.astype(float)
    n = len(F)
    if settings.implicit:
        a, b = (weights * x for x in coefficients(settings.confidence, y, settings.alpha, settings.w0))
        constant, base = b, settings.w0 * F.T @ F
        counts = np.bincount(owner, (y > 0).astype(float), block.rows)
    else:
        a, b, constant, base = weights, weights * y, weights * y**2, np.zeros((F.shape[1],) * 2)
        counts = np.bincount(owner, weights, block.rows) if block.weights.size else counts
    place = owner * n + block.indices
    a, b = (np.bincount(place, x, block.rows * n).reshape(block.rows, n) for x in (a, b))
    constant = np.bincount(owner, constant, block.rows)
    counts += settings.w0 * n if settings.implicit and settings.confidence == "ials" else 0
    lam, l1 = settings.reg_param[0] * counts, settings.l1[0] / 2 * counts
    X, systems = np.zeros((block.rows, F.shape[1])), []
    for row in range(block.rows):
        lhs = base + (F.T * a[row]) @ F + lam[row] * np.eye(F.shape[1])
        systems.append((lhs, F.T @ b[row]))
        X[row] = twin(settings, l1[row])(*systems[-1], start[row])

    def objective(X):
        scores = X @ F.T
        fit = np.sum(a * scores**2 - 2 * b * scores, axis=1) + constant + np.einsum("ij,jk,ik->i", X, base, X)
        return fit + lam * np.sum(X**2, axis=1) + 2 * l1 * np.abs(X).sum(axis=1)

    return X, objective


def check_rows(block, F, settings, seed=0):
    start = np.random.default_rng(seed).uniform(0, 1, (block.rows, F.shape[1])) / np.sqrt(F.shape[1])
    F = padded(F, settings)  # what fp32 holds of it is the truth for both
    wide = F[:, : settings.rank].astype(float)
    X, statistics, unsolved = solve_block(block, fix(F, settings), settings, padded(start, settings), True)
    ref, objective = naive_rows(block, wide, settings, padded(start, settings)[:, : settings.rank].astype(float))
    assert unsolved == -1 and not X[:, settings.rank :].any()
    comp, best = objective(X[:, : settings.rank].astype(float)), objective(ref)
    assert comp.sum() <= best.sum() * (1 + ABOVE), comp.sum() / best.sum() - 1
    sums = dict(zip(STATISTICS, statistics, strict=True))
    assert sums["fit"] + sums["regularisation"] == pytest.approx(comp.sum(), rel=1e-4)
    return sums


def rows_of(rank, magnitude, seed=1, lengths=(1, 5, 12, 40, 150), n_fixed=200):
    """Return a block whose ratings of size ``magnitude`` are products and 5 % noise, and the fixed side."""
    rng = np.random.default_rng(seed)
    F = np.abs(rng.normal(size=(n_fixed, rank))) * magnitude / rank
    X = np.abs(rng.normal(1, 0.3, (len(lengths), rank)))
    owner = np.repeat(np.arange(len(lengths)), lengths)
    columns = np.concatenate([rng.permutation(n_fixed)[:n] for n in lengths])
    r = np.sum(X[owner] * F[columns], axis=1)
    return block_of(owner, columns, r * rng.normal(1, 0.05, len(r)), len(lengths)), F


LADDER = [
    (name, rank, magnitude)
    for number, name in enumerate(OPTIONS)
    for step, magnitude in enumerate((1e-6, 1e-3, 1.0, 1e3, 1e5, 1e6))
    for rank in (RANKS[(number + step) % 8], RANKS[(number + step + 3) % 8])
]


@pytest.mark.parametrize("name,rank,magnitude", LADDER)
def test_magnitudes(name, rank, magnitude):
    block, F = rows_of(rank, magnitude)
    check_rows(block, F, Settings(rank=rank, **OPTIONS[name]))


@pytest.mark.parametrize("rank", [7, 10, 16, 65])
@pytest.mark.parametrize("name", list(OPTIONS))
def test_weights(name, rank):
    block, F = rows_of(rank, 3.0)
    weights = 10.0 ** np.random.default_rng(2).uniform(-6, 6, len(block.values))
    check_rows(replace(block, weights=weights.astype(np.float32)), F, Settings(rank=rank, **OPTIONS[name]))


@pytest.mark.parametrize(
    "alpha,form,rank", [(1.0, "mllib", 15), (40.0, "mllib", 10), (1e3, "log", 17), (1e3, "ials", 64)]
)
@pytest.mark.parametrize("name", list(OPTIONS))
def test_confidences(name, alpha, form, rank):
    block, F = rows_of(rank, 1.0)
    counts = np.random.default_rng(3).integers(1, 50, len(block.values)).astype(np.float32)
    options = dict(implicit=True, alpha=alpha, confidence=form)
    check_rows(replace(block, values=counts), F, Settings(rank=rank, **options, **OPTIONS[name]))


@pytest.mark.parametrize("name,rank", [("cholesky", 1), ("cholesky", 64), *[(name, 10) for name in OPTIONS]])
def test_three_million_ratings_in_one_row(name, rank):
    rng = np.random.default_rng(4)
    n, F = 3_000_000, np.abs(rng.normal(size=(500, rank))) / np.sqrt(rank)
    columns, r = rng.integers(0, 500, n), rng.integers(1, 6, n)
    check_rows(block_of(np.zeros(n, int), columns, r, 1), F, Settings(rank=rank, **OPTIONS[name]))


@pytest.mark.parametrize("name,rank", [("cholesky", 10), ("dual", 65), ("cg", 16), ("subspace", 16), ("coordinate", 7)])
def test_no_row_is_left_at_its_start(name, rank):
    """Nearly collinear fixed rows and a lambda near 0: the equations are singular in fp32.

    Three conjugate gradient steps solve nothing so ill-conditioned in any precision; they are asked something easier.
    """
    rng = np.random.default_rng(5)
    F = 1e4 * (1 + (0.1 if name == "cg" else 1e-4) * rng.normal(size=(300, rank)))
    columns, owner = np.tile(np.arange(300), 4), np.repeat(np.arange(4), 300)
    block = block_of(owner, columns, F[columns, 0] * (1 + owner) * rng.normal(1, 0.05, 1200), 4)
    sums = check_rows(block, F, Settings(rank=rank, reg_param=(1e-7, 1e-7), **OPTIONS[name]))
    assert sums["repaired"] == (4 if name in ("cholesky", "dual", "subspace") else 0)


@pytest.mark.parametrize("magnitude,n", [(1e-6, 50), (1.0, 50), (1e6, 50), (1.0, 1_200_000)])
@pytest.mark.parametrize("rank", [1, 10, 16])
def test_gibbs_rows(rank, magnitude, n):
    rng = np.random.default_rng(6)
    settings = Settings(rank=rank)
    F = padded(np.abs(rng.normal(size=(100, rank))) * magnitude, settings)
    wide, columns = F[:, :rank].astype(float), rng.integers(0, 100, n).astype(np.int32)
    alpha = 2 / magnitude**2
    y = (wide[columns].sum(axis=1) * rng.normal(1, 0.05, n)).astype(np.float32)
    prior = Prior(np.zeros(rank), np.eye(rank))
    base, shift = prior.padded(settings.padded, "float32")
    a, X = np.full(n, alpha, np.float32), np.zeros((1, settings.padded), np.float32)
    indptr, seed = np.array([0, n]), np.uint64(5)
    drawn = sample_rows(indptr, columns, a, a * y, F, base, shift, rank, seed, 0, 0, np.zeros(1, np.uint64), X)
    z = np.zeros((1, settings.padded))
    normals(seed, 0, 0, 0, z, rank)
    counts, sums = np.bincount(columns, minlength=100), np.bincount(columns, y, 100)
    precision = np.eye(rank) + alpha * (wide.T * counts) @ wide
    ref = np.linalg.solve(precision, alpha * wide.T @ sums) + np.linalg.solve(
        np.linalg.cholesky(precision).T, z[0, :rank]
    )
    error = X[0, :rank] - ref
    assert drawn.unsolved == -1
    assert error @ precision @ error < 0.05**2 * rank  # in standard deviations of the draw


def full(n_users, n_items, share, seed):
    """Return the places of random ratings in which everybody occurs."""
    users, items, _ = naive.random_ratings(n_users, n_items, share, seed)
    return users, items, np.random.default_rng(seed)


def noisy(magnitude, noise):
    def ratings(users, items, rng):
        left, right = np.abs(rng.normal(1, 0.3, (users.max() + 1, 3))), np.abs(rng.normal(1, 0.3, (items.max() + 1, 3)))
        return magnitude / 3 * np.sum(left[users] * right[items], axis=1) * rng.normal(1, noise, len(users)), None

    return ratings


def weighted(users, items, rng):  # noqa: ARG001
    return rng.integers(1, 6, len(users)).astype(float), 10.0 ** rng.uniform(0, 6, len(users))


def counted(users, items, rng):  # noqa: ARG001
    return rng.integers(1, 50, len(users)).astype(float), None


FITS = {
    "alpha 40": ((2000, 40, 0.5), counted, dict(implicit=True, alpha=40.0)),
    "around 1,000": ((300, 60, 0.4), noisy(1e3, 0.05), {}),
    "weights to 1e6": ((300, 60, 0.4), weighted, {}),
    "1e5": ((300, 60, 0.4), noisy(1e5, 0.05), {}),
    "1e5, few": ((80, 30, 0.95), noisy(1e5, 0.05), {}),
    "1e6": ((300, 60, 0.4), noisy(1e6, 0.05), {}),
    "1e-6": ((300, 60, 0.4), noisy(1e-6, 0.05), {}),
    "1e-6, its lambda": ((300, 60, 0.4), noisy(1e-6, 0.05), dict(reg_param=(1e-8, 1e-8))),
}
FIT_CASES = [
    *[(case, "dual", 10) for case in FITS],
    *[("1e5", name, 16) for name in ("cholesky", "cg", "subspace", "coordinate", "nonnegative coordinates")],
    *[("1e5, few", name, 16) for name in OPTIONS],
    ("alpha 40", "cg", 16), ("alpha 40", "subspace", 10), ("1e6", "subspace", 10), 
    ("1e6", "cholesky", 16), ("weights to 1e6", "subspace", 17), ("1e5", "dual", 64), ("1e6", "cg", 10),
]  # fmt: skip


@pytest.mark.parametrize("case,name,rank", FIT_CASES)
def test_fits_end_where_naive_fits_end(case, name, rank):
    shape, ratings, options = FITS[case]
    users, items, rng = full(*shape, seed=7)
    r, weights = ratings(users, items, rng)
    settings = Settings(rank=rank, **options, **OPTIONS[name])
    blocks = block_of(users, items, r, shape[0], weights), block_of(items, users, r, shape[1], weights)
    U, V = (padded(np.abs(rng.normal(size=(n, rank))) / np.sqrt(rank), settings) for n in shape[:2])
    ref_U, ref_V = (side[:, :rank].astype(float) for side in (U, V))
    losses = []
    for _ in range(6):
        V, first, bad = solve_block(blocks[1], fix(U, settings), settings, V)
        U, second, worse = solve_block(blocks[0], fix(V, settings), settings, U, True)
        assert bad == worse == -1
        losses.append(first[STATISTICS.index("regularisation")] + second[:2].sum())
        ref_V, _ = naive_rows(blocks[1], ref_U, settings, ref_V)
        ref_U, users_part = naive_rows(blocks[0], ref_V, settings, ref_U)
    ref = users_part(ref_U).sum() + side_penalty(blocks[1], ref_V, settings)
    assert losses[-1] <= ref * (1 + ABOVE), losses[-1] / ref - 1
    assert np.all(np.diff(losses) <= 1e-6 * losses[0]), losses


def side_penalty(block, X, settings):
    """Return the L2 and L1 part of one side."""
    counts = (
        np.add.reduceat(block.weights.astype(float), block.indptr[:-1]) if block.weights.size else np.diff(block.indptr)
    )
    return np.sum(counts * (settings.reg_param[0] * np.sum(X**2, axis=1) + settings.l1[0] * np.abs(X).sum(axis=1)))
