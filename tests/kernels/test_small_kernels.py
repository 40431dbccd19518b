"""Cholesky, tiles, counting sorts, block bounds and top-k."""

import doctest

import naive
import numpy as np
import pytest
from numba import njit

from mfspark.errors import ParameterError
from mfspark.kernels import csr
from mfspark.kernels.cholesky import OK, cholesky, solve_triangular
from mfspark.kernels.csr import balanced_bounds, counting_order
from mfspark.kernels.objective import ridge
from mfspark.kernels.simd import PANEL, add_outer, add_scaled, dot_rows
from mfspark.kernels.topk import best_columns, pair_scores


@njit
def dot_of(C, i, A, t, start):
    return dot_rows(C, i, A, t, start)


@njit
def add_to(C, i, A, t, f, start):
    add_scaled(C, i, A, t, f, start)


DTYPES = [np.float32, np.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [16, 32, 48, 64, 80, 112, 128, 144])
def test_tiles_add_up_the_product(k, dtype):
    rng = np.random.default_rng(k)
    A, B = (rng.normal(size=(37, k)).astype(dtype) for _ in range(2))
    C = rng.normal(size=(k, k)).astype(dtype)
    ref = C + A[:29].T.astype(float) @ B[:29]
    add_outer(A, B, 29, 0, C)
    rtol = 1e-4 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(np.triu(C), np.triu(ref), rtol=rtol, atol=rtol * 10)


@pytest.mark.parametrize("dtype", DTYPES)
def test_row_operations(dtype):
    rng = np.random.default_rng(0)
    A, C = (rng.normal(size=(3, 48)).astype(dtype) for _ in range(2))
    ref = C.copy()
    ref[1, 16:] += dtype(2.5) * A[2, 16:]
    dot = float(C[0, 16:] @ A[1, 16:])
    assert dot_of(C, 0, A, 1, 16) == pytest.approx(dot, rel=1e-4)
    add_to(C, 1, A, 2, dtype(2.5), 16)
    np.testing.assert_allclose(C, ref, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [16, 32, 64, 96, 160])
def test_cholesky_solves(k, dtype):
    rng = np.random.default_rng(k)
    X = rng.normal(size=(2 * k, k))
    A, b = X.T @ X, rng.normal(size=(1, k))
    U, x = A.astype(dtype), b.astype(dtype)
    assert cholesky(U, np.empty((PANEL, k), dtype), dtype(0)) == OK
    solve_triangular(U, x)
    ref = np.linalg.solve(A, b[0])
    np.testing.assert_allclose(x[0], ref, rtol=2e-3 if dtype == np.float32 else 1e-9, atol=1e-4 * np.abs(ref).max())


def test_cholesky_names_the_bad_pivot():
    A = np.eye(32)
    A[20, 20] = -1.0
    assert cholesky(A, np.empty((PANEL, 32)), 0.0) == 20


def test_counting_order_is_stable():
    keys = np.random.default_rng(0).integers(0, 7, 100)
    order, indptr = counting_order(keys, 9)
    np.testing.assert_array_equal(order, np.argsort(keys, kind="stable"))
    np.testing.assert_array_equal(np.diff(indptr), np.bincount(keys, minlength=9))


@pytest.mark.parametrize("blocks", [1, 2, 7, 100])
def test_bounds_cover_all_rows_and_balance(blocks):
    counts = np.random.default_rng(1).pareto(1.2, 60) * 100
    bounds = balanced_bounds(counts, blocks, 5.0)
    assert bounds[0] == 0 and bounds[-1] == 60 and len(bounds) == blocks + 1
    assert (np.diff(bounds) >= 0).all()
    work = counts + 5.0
    loads = [work[a:b].sum() for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
    assert max(loads) <= work.sum() / blocks + work.max() + 1e-9


@pytest.mark.parametrize("n", [1, 3, 10, 60])
@pytest.mark.parametrize("size", [1, 7, 64, 4096])
def test_best_columns_match_a_full_sort(n, size):
    rng = np.random.default_rng(n)
    left, right = rng.integers(-3, 4, (23, 4)).astype(np.float64), rng.integers(-3, 4, (60, 4)).astype(np.float64)
    seen = [sorted(rng.choice(60, rng.integers(0, 30), replace=False)) for _ in range(23)]
    indptr = np.concatenate([[0], np.cumsum([len(s) for s in seen])])
    indices = np.concatenate(seen).astype(np.int32)
    places, values = best_columns(left, right, n, size, indptr, indices)
    for row in range(23):
        scores = left[row] @ right.T
        ref = naive.best(scores, n, seen[row])
        comp = places[row][places[row] >= 0]
        np.testing.assert_array_equal(comp, ref)
        np.testing.assert_array_equal(values[row][: len(ref)], scores[ref])


def test_pair_scores_of_unknown_ids_are_nan():
    out = np.empty(3)
    pair_scores(np.eye(2), np.ones((2, 2)), np.array([0, -1, 1]), np.array([1, 0, -1]), out)
    assert out[0] == 1 and np.isnan(out[1:]).all()


@pytest.mark.parametrize("module", [csr])
def test_examples_in_docstrings(module):
    failed, attempted = doctest.testmod(module)
    assert attempted > 0 and failed == 0


def test_ridge_conventions():
    np.testing.assert_allclose(ridge(np.array([1, 4]), 0.5, 1.0), [0.5, 2.0])
    np.testing.assert_allclose(ridge(np.array([1, 4]), 0.5, 0.0), [0.5, 0.5])
    np.testing.assert_allclose(ridge(np.array([1, 4]), 0.5, 1.0, extra=10), [5.5, 7.0])
    with pytest.raises(ParameterError, match="regParam"):
        ridge(np.array([1]), -0.1, 1.0)
