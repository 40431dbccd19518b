"""The gradient kernel against finite differences, against D Y and D^T X with a dense D, batches, the worked example."""

import naive
import numpy as np
import pytest

from mfspark.kernels.csr import Block
from mfspark.kernels.gradient_descent import FIT, SLOPE, VALID_ROWS, VALID_SQUARES, WEIGHT, Batch, gradient_block
from mfspark.kernels.losses import LOSSES
from mfspark.kernels.objective import Settings

RANK, N_USERS, N_ITEMS = 3, 7, 5
BIAS = [(False, False), (True, True), (True, False), (False, True)]
RATINGS = {"squared": (1, 2, 5), "logistic": (0, 1), "poisson": (0, 1, 4), "poisson_identity": (0, 1, 4)}


def csr(rows, columns, values, n_rows, weights=None):
    order = np.argsort(rows, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n_rows))])
    some = np.empty(0, np.float32) if weights is None else weights[order].astype(np.float32)
    return Block(indptr, columns[order].astype(np.int32), values[order].astype(np.float32), weights=some)


def point(settings, seed=3, low=-0.4):
    rng = np.random.default_rng(seed)
    sides = []
    for n, biased in zip((N_USERS, N_ITEMS), settings.bias, strict=True):
        side = np.zeros((n, settings.padded), settings.dtype)
        side[:, :RANK] = rng.uniform(low, 0.9, (n, RANK))
        if biased:
            side[:, RANK] = rng.uniform(low, 0.5, n)
        sides.append(side)
    return sides


def objective(loss, users, items, r, w, X, Y, alpha, bias):
    """Sum w l(s, r), score by score."""
    total, scale = 0.0, 2.0 if loss.name == "squared" else 1.0
    for u, i, rating, weight in zip(users, items, r, w, strict=True):
        s = alpha + X[u, :RANK] @ Y[i, :RANK]
        s += (X[u, RANK] if bias[0] else 0) + (Y[i, RANK] if bias[1] else 0)
        total += scale * float(weight) * float(loss.value(np.float64(s), rating))
    return total


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("bias", BIAS)
@pytest.mark.parametrize("name", list(LOSSES))
def test_gradient_is_the_finite_difference(name, bias, weighted):
    users, items, r = naive.random_ratings(N_USERS, N_ITEMS, 0.5, 11, RATINGS[name])
    settings, loss, alpha, h = Settings(RANK, bias=bias, dtype="float64"), LOSSES[name], 0.2, 1e-6
    w = np.random.default_rng(5).uniform(0.5, 2, len(r)).astype(np.float32) if weighted else np.ones(len(r))
    X, Y = point(settings, low=0.1 if name == "poisson_identity" else -0.4)
    block = csr(users, items, r, N_USERS, w if weighted else None)
    dX, dY, statistics = gradient_block(block, X, Y, settings, loss, alpha)
    value = lambda X, Y, alpha: objective(loss, users, items, r, w, X, Y, alpha, bias)  # noqa: E731
    assert statistics[FIT] == pytest.approx(value(X, Y, alpha), rel=1e-6)
    assert statistics[WEIGHT] == pytest.approx(w.sum(), rel=1e-6)
    ref = (value(X, Y, alpha + h) - value(X, Y, alpha - h)) / (2 * h)
    assert statistics[SLOPE] == pytest.approx(ref, rel=1e-5)
    for side, comp, biased in ((0, dX, bias[0]), (1, dY, bias[1])):
        for place in np.ndindex(comp.shape):
            used = place[1] < RANK or (place[1] == RANK and biased)
            points = [[X.copy(), Y.copy()] for _ in range(2)]
            points[0][side][place] += h
            points[1][side][place] -= h
            ref = (value(*points[0], alpha) - value(*points[1], alpha)) / (2 * h) if used else 0.0
            assert comp[place] == pytest.approx(ref, rel=1e-4, abs=1e-5)


def test_worked_example_equals_the_dense_formula():
    """dE/dU = -(2/N) D V and dE/dV = -(2/N) D^T U with D = mask o (M - U V^T), on the 4 x 6 example."""
    R = naive.EXAMPLE
    U = np.array([[0.3, 0.7], [0.3, 0.5], [0.2, 0.4], [0.2, 0.1]])
    V = np.array([[1, 10, 11, 10, 4, 20], [1, -1, -2, -1, 1, -4]], float).T
    printed = np.array([[1, 2.3, 1.9, 2.3, 1.9, 3.2], [0.8, 2.5, 2.3, 2.5, 1.7, 4], [0.6, 1.6, 1.4, 1.6, 1.2, 2.4],
                        [0.3, 1.9, 2, 1.9, 0.9, 3.6]])  # fmt: skip
    np.testing.assert_allclose(U @ V.T, printed, atol=1e-12)
    D = np.where(np.isnan(R), 0, R - U @ V.T)
    N = np.sum(~np.isnan(R))
    settings = Settings(2, dtype="float64")
    X, Y = np.zeros((4, settings.padded)), np.zeros((6, settings.padded))
    X[:, :2], Y[:, :2] = U, V
    users, items, r = naive.triples(R)
    dX, dY, statistics = gradient_block(csr(users, items, r, 4), X, Y, settings, LOSSES["squared"])
    assert statistics[WEIGHT] == N == 13
    np.testing.assert_allclose(dX[:, :2] / N, -2 / N * D @ V, rtol=1e-12)
    np.testing.assert_allclose(dY[:, :2] / N, -2 / N * D.T @ U, rtol=1e-12)
    assert statistics[FIT] == pytest.approx(np.sum(D**2), rel=1e-12)


def test_single_precision_and_stretches_agree_with_double(monkeypatch):
    users, items, r = naive.random_ratings(N_USERS, N_ITEMS, 0.6, 2)
    settings = Settings(RANK, bias=(True, True), dtype="float64")
    X, Y = point(settings)
    block = csr(users, items, r, N_USERS)
    ref = gradient_block(block, X, Y, settings, LOSSES["squared"], 1.5)
    monkeypatch.setattr("mfspark.kernels.objective.RATINGS_AT_ONCE", 6)
    comp = gradient_block(block, X, Y, settings, LOSSES["squared"], 1.5)
    single = Settings(RANK, bias=(True, True))
    small = [side.astype(np.float32) for side in (X, Y)]
    rough = gradient_block(block, *small, single, LOSSES["squared"], 1.5)
    assert rough[0].dtype == np.float32
    for one, two, three in zip(ref, comp, rough, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-10)
        np.testing.assert_allclose(three, one, rtol=1e-4, atol=1e-3)


def test_batches_are_the_wanted_share_differ_by_step_and_do_not_depend_on_the_blocks():
    users, items = (index.ravel() for index in np.indices((200, 100)))
    block = csr(users, items, np.ones(len(users)), 200)
    settings = Settings(1)
    X, Y = np.zeros((200, settings.padded), np.float32), np.zeros((100, settings.padded), np.float32)
    found = []
    for key in range(3):
        dX, dY, statistics = gradient_block(block, X, Y, settings, LOSSES["squared"], 0.0, Batch(0.3, key))
        assert statistics[WEIGHT] == pytest.approx(6000, abs=5 * np.sqrt(20000 * 0.21))
        assert statistics[FIT] == statistics[WEIGHT]
        found.append(statistics[WEIGHT])
    assert len(set(found)) > 1
    tail = Block(block.indptr[150:] - block.indptr[150], block.indices[15000:], block.values[15000:])
    head = Block(block.indptr[:151], block.indices[:15000], block.values[:15000])
    parts = [
        gradient_block(part, X, Y, settings, LOSSES["squared"], 0.0, Batch(0.3, 2), first)[2][WEIGHT]
        for part, first in ((head, 0), (tail, 150))
    ]
    assert sum(parts) == found[2]


def test_without_a_gradient_only_the_statistics_and_held_out_errors_are_computed():
    users, items, r = naive.random_ratings(N_USERS, N_ITEMS, 0.5, 4, (0, 1))
    settings, loss = Settings(RANK, dtype="float64"), LOSSES["logistic"]
    X, Y = point(settings)
    whole = csr(users, items, r, N_USERS)
    block = Block(
        whole.indptr, whole.indices, whole.values,
        held_indptr=whole.indptr, held_indices=whole.indices, held_values=whole.values,
    )  # fmt: skip
    ref = gradient_block(block, X, Y, settings, loss, 0.1)[2]
    dX, dY, statistics = gradient_block(block, X, Y, settings, loss, 0.1, limits=(0.0, 0.5), gradient=False)
    assert dX.size == dY.size == 0
    assert statistics[FIT] == ref[FIT] and statistics[VALID_ROWS] == len(r)
    p = 1 / (1 + np.exp(-(0.1 + X @ Y.T)))[users, items]
    assert ref[VALID_SQUARES] == pytest.approx(np.sum((r - p) ** 2), rel=1e-9)
    assert statistics[VALID_SQUARES] == pytest.approx(np.sum((r - np.minimum(p, 0.5)) ** 2), rel=1e-9)
