"""Coordinate-wise ALS: stationary after every update, never rising, equal to the assembled equations in the limit."""

import naive
import numpy as np
import pytest

from mfspark.kernels.als.coordinate import update
from mfspark.kernels.als.half_step import solve_block
from mfspark.kernels.csr import Block
from mfspark.kernels.objective import Settings, fix

NONE = np.empty(0)


class BiasedModel:
    """The objective of issue and lecture: (1/n) sum e^2 + lambda1 sum_u (...) + lambda2 sum_i (...), in plain numpy."""

    def __init__(self, lambda1=0.05, lambda2=0.02, rank=2, seed=0):
        self.users, self.items, self.r = naive.random_ratings(6, 5, 0.5, 9)
        self.lambdas = (lambda1, lambda2)
        rng = np.random.default_rng(seed)
        self.alpha = np.array([0.3])
        self.beta = [rng.normal(size=6), rng.normal(size=5)]
        self.gamma = [rng.normal(size=(6, rank)), rng.normal(size=(5, rank))]

    def residuals(self):
        products = np.sum(self.gamma[0][self.users] * self.gamma[1][self.items], axis=1)
        return self.r - self.alpha[0] - self.beta[0][self.users] - self.beta[1][self.items] - products

    def objective(self):
        penalty = [lam * (b @ b + np.sum(g * g)) for lam, b, g in zip(self.lambdas, self.beta, self.gamma, strict=True)]
        return np.mean(self.residuals() ** 2) + sum(penalty)

    def coordinates(self):
        """Yield array, place, the ratings it is in, its partners in them, its lambda, in the order of one sweep."""
        every = np.arange(len(self.r))
        yield self.alpha, 0, every, np.ones(len(every)), 0.0
        for side, index in enumerate((self.users, self.items)):
            other = (self.items, self.users)[side]
            for row in range(len(self.beta[side])):
                mine = every[index == row]
                yield self.beta[side], row, mine, np.ones(len(mine)), self.lambdas[side]
                for k in range(self.gamma[side].shape[1]):
                    partners = self.gamma[1 - side][other[mine], k]
                    yield self.gamma[side], (row, k), mine, partners, self.lambdas[side]


def slope_of(model, array, place, h=1e-5):
    kept = array[place]
    array[place] = kept + h
    above = model.objective()
    array[place] = kept - h
    below = model.objective()
    array[place] = kept
    return (above - below) / (2 * h)


def test_every_update_is_stationary_and_the_objective_never_rises():
    model, n = BiasedModel(), len(BiasedModel().r)
    values = [model.objective()]
    assert max(abs(slope_of(model, *one[:2])) for one in model.coordinates()) > 0.1
    for _ in range(3):
        for array, place, mine, partners, lam in model.coordinates():
            g = model.residuals()[mine]
            rho = g + array[place] * partners
            closed = np.mean(rho * partners) if lam == 0 else rho @ partners / n / (partners @ partners / n + lam)
            old = array[place]
            array[place] = update(partners, NONE, 0, g, old, n * lam * old, n * lam, 0.0, False)
            assert array[place] == pytest.approx(closed, rel=1e-10)
            np.testing.assert_allclose(g, model.residuals()[mine], atol=1e-12)
            assert slope_of(model, array, place) == pytest.approx(0, abs=1e-8)
            values.append(model.objective())
    assert np.all(np.diff(values) <= 1e-12)
    assert values[-1] < 0.5 * values[0]


def test_the_printed_closed_form_is_not_stationary():
    """Without 1/n in the numerator and without gamma_ik, as lecture notes print it, the derivative is not zero."""
    model = BiasedModel()
    n = len(model.r)
    array, place, mine, partners, lam = list(model.coordinates())[2]
    rho = model.residuals()[mine] + array[place] * partners
    array[place] = np.sum(rho) / (partners @ partners / n + lam)
    assert abs(slope_of(model, array, place)) > 0.1


def test_simultaneous_updates_can_diverge():
    """Two equal coordinates that both correct the whole residual overshoot, more so with every step."""
    h, y = np.ones(4), np.full(4, 3.0)
    x, together = np.zeros(3), []
    for _ in range(20):
        g = y - h * x.sum()
        x = np.array([update(h, NONE, 0, g.copy(), one, 0.0, 0.0, 0.0, False) for one in x])
        together.append(np.sum((y - h * x.sum()) ** 2))
    assert together[-1] > 1e6 * together[0]
    x, g = np.zeros(3), y.copy()
    for j in range(3):
        x[j] = update(h, NONE, 0, g, x[j], 0.0, 0.0, 0.0, False)
    np.testing.assert_allclose(g, 0, atol=1e-12)


def block_of(users, items, r, n, weights=None):
    order = np.argsort(users, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(users, minlength=n))])
    some = np.empty(0, np.float32) if weights is None else weights[order].astype(np.float32)
    return Block(indptr, items[order].astype(np.int32), r[order].astype(np.float32), weights=some)


def case(weighted=False, **options):
    users, items, r = naive.random_ratings(9, 7, 0.5, 21)
    settings = Settings(3, dtype="float64", **options)
    rng = np.random.default_rng(8)
    weights = rng.uniform(0.5, 2, len(r)) if weighted else None
    side, start = np.zeros((7, settings.padded)), np.zeros((9, settings.padded))
    side[:, :3] = rng.normal(size=(7, 3))
    if any(settings.bias):
        side[:, 3] = rng.normal(size=7) * settings.bias[1]
    start[:, : settings.width] = rng.uniform(0, 1, (9, settings.width))
    return block_of(users, items, r, 9, weights), fix(side, settings, 0.5), settings, start


CASES = {
    "explicit": dict(),
    "weighted": dict(weighted=True),
    "biased": dict(bias=(True, True)),
    "implicit": dict(implicit=True, alpha=0.7, w0=0.3),
    "ials": dict(implicit=True, confidence="ials", alpha=0.7, w0=0.3),
    "nonnegative": dict(nonnegative=True),
    "elastic net": dict(l1=(0.8, 0.8)),
    "nonnegative elastic net": dict(l1=(0.8, 0.8), nonnegative=True),
}


@pytest.mark.parametrize("name", list(CASES))
def test_many_sweeps_solve_the_assembled_equations(name):
    from dataclasses import replace

    block, fixed, settings, start = case(**CASES[name])
    ref = solve_block(block, fixed, replace(settings, steps=2000), start)[0]
    sweeps = replace(settings, solver="coordinate", steps=2000)
    assert sweeps.method == "coordinate" and settings.method != "coordinate"
    comp = solve_block(block, fixed, sweeps, start)[0]
    np.testing.assert_allclose(comp, ref, atol=2e-4 if settings.method == "descent" else 1e-7)
    values, X = [], start
    for _ in range(5):
        X, statistics, _ = solve_block(block, fixed, replace(sweeps, steps=1), X, measure=True)
        values.append(statistics[0] + statistics[1])
    assert np.all(np.diff(values) <= 1e-10) and values[-1] < values[0]


@pytest.mark.parametrize("solver", ["auto", "coordinate"])
def test_l1_is_the_exact_soft_threshold_for_orthonormal_partners(solver):
    """For H^T H = I the minimum of |r - H x|^2 + reg |x|^2 + l1 |x|_1 is soft(H^T r, l1/2) / (1 + reg)."""
    H = np.linalg.qr(np.random.default_rng(1).normal(size=(8, 3)))[0]
    r = np.random.default_rng(2).normal(size=8) * 2
    settings = Settings(3, reg_param=(0.4, 0.0), l1=(1.2, 0.0), exponent=0.0, dtype="float64", solver=solver, steps=50)
    F = np.zeros((8, settings.padded))
    F[:, :3] = H
    block = block_of(np.zeros(8, int), np.arange(8), r, 1)
    comp = solve_block(block, fix(F, settings), settings)[0][0, :3]
    z = H.T @ r.astype(np.float32)
    ref = np.sign(z) * np.maximum(np.abs(z) - 0.6, 0) / 1.4
    assert 0 < np.count_nonzero(ref) < 3
    np.testing.assert_allclose(comp, ref, atol=1e-8)


@pytest.mark.parametrize("solver", ["auto", "coordinate"])
def test_elastic_net_meets_its_optimality_conditions(solver):
    """Where x_j is not 0 the derivative of the smooth part is -l1 sign(x_j); where it is 0 it is at most l1."""
    block, fixed, settings, _ = case(l1=(2.5, 2.5), reg_param=(0.2, 0.2), solver=solver, steps=3000)
    X = solve_block(block, fixed, settings)[0]
    zeros = 0
    for u in range(block.rows):
        mine = slice(block.indptr[u], block.indptr[u + 1])
        H, y, n = fixed.F[block.indices[mine], :3], block.values[mine] - 0.5, block.indptr[u + 1] - block.indptr[u]
        slope = 2 * H.T @ (H @ X[u, :3] - y) + 2 * 0.2 * n * X[u, :3]
        for j in range(3):
            if X[u, j] == 0:
                zeros += 1
                assert abs(slope[j]) <= 2.5 * n + 1e-6
            else:
                assert slope[j] == pytest.approx(-2.5 * n * np.sign(X[u, j]), abs=1e-3)
    assert zeros > 3
