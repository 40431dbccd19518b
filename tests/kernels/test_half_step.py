"""The half step kernel against the naive one: all solvers, forms, precisions and edge cases."""

from dataclasses import replace

import naive
import numpy as np
import pytest

from mfspark.kernels.als.half_step import STATISTICS, blame, solve_block
from mfspark.kernels.cholesky import coordinate_descent
from mfspark.kernels.csr import Block, counting_order
from mfspark.kernels.objective import Settings, fix

IMPLICIT_FORMS = ("mllib", "linear", "log", "ials")


def make_block(rows, columns, r, n_rows, weights=None, coded=False):
    order, indptr = counting_order(rows, n_rows)
    values, table = np.asarray(r, np.float32)[order], np.empty(0, np.float32)
    if coded:
        table = np.unique(values)
        values = np.searchsorted(table, values).astype(np.uint8)
    w = np.empty(0, np.float32) if weights is None else np.asarray(weights, np.float32)[order]
    return Block(indptr, columns[order].astype(np.int32), values, table, w)


def padded(F, settings):
    out = np.zeros((len(F), settings.padded), settings.dtype)
    out[:, : F.shape[1]] = F
    return out


def solve(users, items, r, n_users, V, settings, weights=None, coded=False, start=None):
    block = make_block(users, items, r, n_users, weights, coded)
    fixed = fix(padded(V, settings), settings)
    begin = None if start is None else padded(start, settings)
    X, statistics, unsolved = solve_block(block, fixed, settings, begin, measure=True)
    assert unsolved == -1
    return X[:, : settings.rank], dict(zip(STATISTICS, statistics, strict=True))


def case(seed, n_users=40, n_items=30, rank=5, share=0.3):
    users, items, r = naive.random_ratings(n_users, n_items, share, seed)
    rng = np.random.default_rng(seed + 1)
    return users, items, r, rng.normal(size=(n_items, rank))


@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize("rank", [1, 5, 16, 33, 70])
@pytest.mark.parametrize("solver", ["cholesky", "dual"])
def test_explicit_matches_naive(solver, rank, coded):
    users, items, r, V = case(rank, rank=rank)
    comp, _ = solve(users, items, r, 40, V, Settings(rank, solver=solver, dtype="float64"), coded=coded)
    ref = naive.half_step(users, items, r, 40, V)
    np.testing.assert_allclose(comp, ref, rtol=1e-7, atol=1e-9)
    comp, _ = solve(users, items, r, 40, V, Settings(rank, solver=solver), coded=coded)
    np.testing.assert_allclose(comp, ref, rtol=2e-3, atol=2e-4 * np.abs(ref).max())


@pytest.mark.parametrize("nu", [0.0, 0.5, 1.0])
def test_weights_count_as_repetitions(nu):
    users, items, r, V = case(3)
    repeats = np.random.default_rng(0).integers(1, 4, len(r))
    settings = Settings(5, exponent=nu, dtype="float64")
    comp, _ = solve(users, items, r, 40, V, settings, weights=repeats)
    many = [np.repeat(x, repeats) for x in (users, items, r)]
    ref, _ = solve(*many, 40, V, settings)
    np.testing.assert_allclose(comp, ref, rtol=1e-7)
    np.testing.assert_allclose(comp, naive.half_step(users, items, r, 40, V, nu=nu, weights=repeats), rtol=1e-7)


@pytest.mark.parametrize("form", IMPLICIT_FORMS)
@pytest.mark.parametrize("w0", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("solver", ["cholesky", "dual"])
def test_implicit_matches_naive(form, w0, solver):
    users, items, r, V = case(4)
    r = r - 2  # zeros are observed but not liked, negative ones disliked
    settings = Settings(5, implicit=True, confidence=form, alpha=2.5, w0=w0, solver=solver, dtype="float64")
    comp, _ = solve(users, items, r, 40, V, settings)
    ref = naive.half_step(users, items, r, 40, V, form=form, alpha=2.5, w0=w0)
    np.testing.assert_allclose(comp, ref, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("solver,steps", [("cg", 60), ("subspace", 3)])
def test_iterative_solvers_converge_to_cholesky(solver, steps, implicit):
    users, items, r, V = case(5, rank=24)
    base = Settings(24, implicit=implicit, alpha=3.0, reg_param=(1.0, 1.0), dtype="float64")
    ref, _ = solve(users, items, r, 40, V, base)
    settings = replace(base, solver=solver, steps=steps, size=16)
    comp = np.zeros_like(ref)
    for _ in range(400):
        comp, _ = solve(users, items, r, 40, V, settings, start=comp)
    np.testing.assert_allclose(comp, ref, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("solver", ["cg", "subspace"])
def test_iterative_solvers_never_raise_the_objective(solver):
    users, items, r, V = case(6, rank=20)
    settings = Settings(20, solver=solver, steps=1, size=16, dtype="float64")
    X, losses = np.random.default_rng(0).normal(size=(40, 20)), []
    for _ in range(8):
        X, sums = solve(users, items, r, 40, V, settings, start=X)
        losses.append(sums["fit"] + sums["regularisation"])
    assert np.all(np.diff(losses) <= 1e-9 * losses[0])
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("implicit", [False, True])
def test_nonnegative_is_exact(implicit):
    users, items, r, V = case(7, rank=4)
    settings = Settings(4, implicit=implicit, nonnegative=True, steps=500, dtype="float64")
    comp, _ = solve(users, items, r, 40, V, settings)
    options = dict(form="mllib", alpha=1.0, w0=1.0) if implicit else {}
    ref = naive.half_step(users, items, r, 40, V, nonnegative=True, **options)
    assert (comp >= 0).all()
    assert (ref == 0).any()
    np.testing.assert_allclose(comp, ref, rtol=1e-3, atol=1e-5)


def test_l1_soft_threshold_on_a_diagonal_matrix():
    A, b = np.diag([2.0, 4.0, 1.0]), np.array([[3.0, -1.0, 0.2]])
    x = np.zeros((1, 3))
    coordinate_descent(A, b, x, 0.5, False, 50, 0.0)
    np.testing.assert_allclose(x[0], [(3 - 0.5) / 2, -(1 - 0.5) / 4, 0.0])


def test_explicit_objective_in_parts():
    users, items, r, V = case(8)
    X, sums = solve(users, items, r, 40, V, Settings(5, dtype="float64"))
    fit, _ = naive.explicit_loss(users, items, r, X, V)
    penalty = sum(0.1 * (users == u).sum() * X[u] @ X[u] for u in range(40))
    assert sums["fit"] == pytest.approx(fit, rel=1e-9)
    assert sums["regularisation"] == pytest.approx(penalty, rel=1e-9)
    errors = [r[t] - X[users[t]] @ V[items[t]] for t in range(len(r))]
    assert sums["residual"] == pytest.approx(sum(errors), abs=1e-8)


@pytest.mark.parametrize("form", IMPLICIT_FORMS)
def test_implicit_objective_over_all_pairs(form):
    users, items, r, V = case(9)
    r = r - 2
    settings = Settings(5, implicit=True, confidence=form, alpha=2.0, w0=0.5, dtype="float64")
    X, sums = solve(users, items, r, 40, V, settings)
    fit, _ = naive.implicit_loss(users, items, r, X, V, form=form, alpha=2.0, w0=0.5)
    assert sums["fit"] == pytest.approx(fit, rel=1e-9)


def test_dislikes_predict_what_implicit_predicts():
    """The peer's own numbers: ``implicit`` 0.7.3, its Cholesky in fp64, regularization 0.1, alpha 2, 4 iterations."""
    R = np.array(
        [[3, 0, 1, 0, 2], [1, 2, 0, -0.5, 0], [0, 1, 4, 0, 1], [2, 0, -2, 1, 0], [0, 3, 0, 2, 1], [1, 0, 2, 0, -1]]
    )
    peer = np.array(
        [
            [0.927843, 0.942926, 0.862950, 0.610082, 0.807670],
            [0.822149, 0.705551, 0.623377, 0.578284, 0.576609],
            [0.134563, 0.950677, 1.009904, -0.147622, 0.988015],
            [0.999823, 0.167238, 0.007195, 0.903638, -0.037907],
            [1.004208, 0.910744, 0.814632, 0.692142, 0.756674],
            [0.692034, 0.657874, 0.594272, 0.468204, 0.553816],
        ]
    )
    users, items = np.nonzero(R)
    options = dict(implicit=True, confidence="linear", alpha=2.0, exponent=0.0)
    settings = Settings(2, reg_param=(0.1, 0.1), dtype="float64", **options)
    U, V = np.cos(np.arange(12)).reshape(6, 2), np.sin(1 + np.arange(10)).reshape(5, 2)
    ref_U, ref_V = U, V
    naive_options = dict(reg=0.1, nu=0.0, form="linear", alpha=2.0, w0=1.0)
    for _ in range(4):
        U, _ = solve(users, items, R[users, items], 6, V, settings)
        V, _ = solve(items, users, R[users, items], 5, U, settings)
        ref_U = naive.half_step(users, items, R[users, items], 6, ref_V, **naive_options)
        ref_V = naive.half_step(items, users, R[users, items], 5, ref_U, **naive_options)
    np.testing.assert_allclose(U @ V.T, peer, atol=2e-6)
    np.testing.assert_allclose(ref_U @ ref_V.T, peer, atol=2e-6)


def test_bias_is_solved_jointly():
    users, items, r, V = case(10)
    bias = np.random.default_rng(1).normal(size=len(V))
    settings = Settings(5, bias=(True, True), dtype="float64")
    side = np.zeros((len(V), settings.padded))
    side[:, :5], side[:, 5] = V, bias
    block = make_block(users, items, r, 40)
    X, _, _ = solve_block(block, fix(side, settings, 3.1), settings)
    ref = naive.biased_half_step(users, items, r, 40, V, bias, 3.1, 0.1)
    np.testing.assert_allclose(X[:, :6], ref, rtol=1e-7, atol=1e-9)


def test_rows_without_ratings_are_zero_and_padding_stays_zero():
    settings = Settings(3)
    X, _, _ = solve_block(
        make_block(np.array([1, 1]), np.array([0, 1]), np.array([1.0, 2.0]), 3),
        fix(padded(np.ones((2, 3)), settings), settings),
        settings,
    )
    assert (X[[0, 2]] == 0).all()
    assert (X[:, 3:] == 0).all()
    assert (X[1, :3] != 0).all()


def test_empty_block():
    settings = Settings(3)
    empty = np.empty(0, np.int32)
    X, statistics, unsolved = solve_block(
        make_block(empty, empty, np.empty(0), 0), fix(padded(np.ones((2, 3)), settings), settings), settings, None, True
    )
    assert X.shape == (0, settings.padded) and statistics.sum() == 0 and unsolved == -1


def test_singular_row_without_regularisation_is_finite_and_counted():
    settings = Settings(8, reg_param=(0.0, 0.0), solver="cholesky")
    block = make_block(np.zeros(2, int), np.array([0, 1]), np.array([1.0, 2.0]), 1)
    V = np.random.default_rng(0).normal(size=(2, 8))
    X, statistics, unsolved = solve_block(block, fix(padded(V, settings), settings), settings)
    assert unsolved == -1 and np.isfinite(X).all()
    assert statistics[STATISTICS.index("repaired")] == 1
    np.testing.assert_allclose(V @ X[0, :8], [1, 2], rtol=1e-2)


def test_overflowing_row_is_reported_not_nan():
    settings = Settings(4)
    V = np.full((3, 4), 1e-8)
    block = make_block(np.array([0, 1, 1]), np.array([0, 1, 2]), np.array([1e37, 1.0, 1.0]), 2)
    settings = Settings(4, reg_param=(0.0, 0.0))
    X, _, unsolved = solve_block(block, fix(padded(V, settings), settings), settings)
    assert unsolved == 0 and blame(block, 0) == "magnitude" and blame(block, 1) == "lambda"
    weights = np.array([1e-8, 1e8, 1.0], np.float32)
    assert blame(replace(block, indptr=np.array([0, 2, 3]), weights=weights), 0) == "weight"
    np.testing.assert_allclose(V[1:] @ X[1, :4], 1, rtol=1e-5)


def test_a_row_that_overflows_in_fp32_alone_is_solved():
    settings = Settings(4)
    V = np.full((3, 4), 1e30)
    block = make_block(np.array([0, 1, 1]), np.array([0, 1, 2]), np.array([1.0, 1.0, 1.0]), 2)
    X, statistics, unsolved = solve_block(block, fix(padded(V, settings), settings), settings)
    assert unsolved == -1 and statistics[STATISTICS.index("repaired")] == 2
    np.testing.assert_allclose(X[:, :4].astype(float) @ V[0], 1, rtol=1e-5)


def test_held_out_errors():
    users, items, r, V = case(11)
    tested = np.random.default_rng(2).random(len(r)) < 0.3
    train, held = ~tested, tested
    block = make_block(users[train], items[train], r[train], 40)
    order, indptr = counting_order(users[held], 40)
    full = Block(
        block.indptr, block.indices, block.values, held_indptr=indptr,
        held_indices=items[held][order].astype(np.int32), held_values=r[held][order].astype(np.float32),
    )  # fmt: skip
    settings = Settings(5, dtype="float64")
    X, statistics, _ = solve_block(full, fix(padded(V, settings), settings), settings, None, True, (1.0, 5.0))
    predicted = np.clip([X[u, :5] @ V[i] for u, i in zip(users[held], items[held], strict=True)], 1, 5)
    sums = dict(zip(STATISTICS, statistics, strict=True))
    assert sums["valid_rows"] == held.sum()
    assert sums["valid_squares"] == pytest.approx(np.sum((r[held] - predicted) ** 2), rel=1e-9)


def test_the_implicit_twin_of_the_worked_example():
    C = np.array(
        [
            [0.85, 0, 0, 0.34, 0, 0.98],
            [0, 0.37, 0.10, 0, 0.63, 0.01],
            [0.45, 0.42, 0.43, 0, 0, 0.23],
            [0, 0, 0.26, 0, 0, 0.88],
        ]
    )
    V = np.array([[1, 10, 11, 10, 4, 20], [1, -1, -2, -1, 1, -4]], float).T
    users, items = np.nonzero(C)
    settings = Settings(
        2, implicit=True, confidence="linear", alpha=1.0, w0=0.0, reg_param=(0.1, 0.1), exponent=0.0, dtype="float64"
    )
    comp, _ = solve(users, items, C[users, items], 4, V, settings)
    P = (C > 0).astype(float)
    for u in range(4):
        ref = np.linalg.solve(V.T @ np.diag(C[u]) @ V + 0.1 * np.eye(2), V.T @ np.diag(C[u]) @ P[u])
        np.testing.assert_allclose(comp[u], ref, rtol=1e-5)
