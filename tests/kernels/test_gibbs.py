"""The Gibbs kernel against its readable equal, and the draws against the distributions they come from."""

import naive
import numpy as np
import pytest
import scipy.stats
from numpy.random import default_rng

from mfspark.kernels.als.gibbs import Prior, moments, normals, pair_spread, sample_prior, sample_rows, sample_wishart
from mfspark.kernels.csr import counting_order
from mfspark.kernels.simd import PANEL

SEED = np.uint64(5)


def ref_sample(indptr, indices, weights, y, H, prior, alpha, z):
    """Draw every row: mean A^-1 b plus U^-1 z, where A = U^T U."""
    k, rows = H.shape[1], []
    for r in range(len(indptr) - 1):
        part = slice(indptr[r], indptr[r + 1])
        lhs, rhs = naive.row_equations(y[part], alpha * weights[part], H[indices[part]], 0.0)
        lhs, rhs = lhs + prior.precision, rhs + prior.precision @ prior.mean
        upper = np.linalg.cholesky(lhs).T
        rows.append(np.linalg.solve(lhs, rhs) + np.linalg.solve(upper, z[r, :k]))
    return np.array(rows)


def draws(sweep, side, rows, k):
    """Return the normals of rows, one call a row."""
    out = np.zeros((len(rows), k))
    for place, row in enumerate(rows):
        z = np.zeros((1, k))
        normals(SEED, sweep, side, row, z, k)
        out[place] = z[0]
    return out


def problem(k, dtype, n_rows=23, n_columns=17):
    rng = default_rng(k)
    users, items, y = naive.random_ratings(n_rows, n_columns, 0.4, seed=k, values=(-2, -1, 0, 1, 2))
    order, indptr = counting_order(users, n_rows)
    width = -(-k // PANEL) * PANEL
    F = np.zeros((n_columns, width), dtype)
    F[:, :k] = rng.standard_normal((n_columns, k))
    half = rng.standard_normal((k, k + 2))
    prior = Prior(rng.standard_normal(k), half @ half.T / k + np.eye(k))
    weights = rng.uniform(0.5, 2, len(y))
    return indptr, items[order].astype(np.int32), weights[order], y[order], F, prior


def run(indptr, indices, weights, y, F, prior, k, alpha=2.0, sweep=3, side=1, keys=None):
    X = np.zeros((len(indptr) - 1, F.shape[1]), F.dtype)
    a = (alpha * weights).astype(F.dtype)
    base, shift = prior.padded(F.shape[1], F.dtype.name)
    keys = np.arange(len(X), dtype=np.uint64) if keys is None else keys
    bad = sample_rows(
        indptr, indices, a, (a * y).astype(F.dtype), F, base, shift, k, SEED, sweep, side, keys, X
    ).unsolved
    return X, bad


@pytest.mark.parametrize("k,dtype,tolerance", [(1, "float64", 1e-10), (5, "float64", 1e-9), (20, "float32", 2e-3)])
def test_rows_equal_the_readable_draws(k, dtype, tolerance):
    indptr, indices, weights, y, F, prior = problem(k, dtype)
    ref = ref_sample(indptr, indices, weights, y, F[:, :k].astype(float), prior, 2.0, draws(3, 1, range(23), k))
    comp, bad = run(indptr, indices, weights, y, F, prior, k)
    assert bad == -1
    np.testing.assert_allclose(comp[:, :k], ref, rtol=tolerance, atol=tolerance)
    assert not comp[:, k:].any()


def test_a_row_does_not_depend_on_its_block():
    indptr, indices, weights, y, F, prior = problem(4, "float64")
    whole, _ = run(indptr, indices, weights, y, F, prior, 4)
    start = indptr[10]
    part = (indptr[10:] - start, indices[start:], weights[start:], y[start:])
    tail, _ = run(*part, F, prior, 4, keys=np.arange(10, 23, dtype=np.uint64))
    np.testing.assert_array_equal(tail, whole[10:])
    other, _ = run(indptr, indices, weights, y, F, prior, 4, sweep=4)
    assert abs(other - whole)[:, :4].min() > 0


def test_a_row_without_ratings_comes_from_the_prior():
    rows, k = 20_000, 3
    prior = Prior(np.array([1.0, -2.0, 0.5]), np.array([[2.0, 0.6, 0.0], [0.6, 1.0, 0.2], [0.0, 0.2, 4.0]]))
    empty = np.zeros(rows + 1, np.int64), np.empty(0, np.int32), np.empty(0), np.empty(0)
    X, _ = run(*empty, np.zeros((1, PANEL)), prior, k)
    np.testing.assert_allclose(X[:, :k].mean(axis=0), prior.mean, atol=0.03)
    np.testing.assert_allclose(np.cov(X[:, :k].T), np.linalg.inv(prior.precision), atol=0.03)


def test_normals_are_normal():
    z = draws(0, 0, range(4000), 5)
    assert abs(z.mean()) < 0.02 and abs(z.std() - 1) < 0.02
    np.testing.assert_allclose(np.corrcoef(z.T), np.eye(5), atol=0.06)
    assert abs(np.mean(z**4) - 3) < 0.2


def test_a_precision_that_is_not_positive_is_told():
    indptr, indices, weights, y, F, _ = problem(2, "float64")
    _, bad = run(indptr, indices, 0 * weights, y, F, Prior(np.zeros(2), np.diag([1.0, -1.0])), 2)
    assert bad == 0


def test_priors_have_the_moments_of_the_normal_wishart():
    X = default_rng(1).multivariate_normal([1.0, -1.0], [[0.5, 0.2], [0.2, 0.3]], size=40)
    generator = default_rng(2)
    sums = moments(X[:30], 2) + moments(X[30:], 2)
    found = [sample_prior(sums, generator, 2.0, 2) for _ in range(4000)]
    n, mean = 40, X.mean(axis=0)
    centred = X - mean
    inverse = np.eye(2) + centred.T @ centred + (2 * n / (2 + n)) * np.outer(mean, mean)
    ref_precision = (2 + n) * np.linalg.inv(inverse)  # the Wishart's mean: its degrees of freedom times its scale
    comp_precision = np.mean([prior.precision for prior in found], axis=0)
    np.testing.assert_allclose(comp_precision, ref_precision, rtol=0.05)
    np.testing.assert_allclose(np.mean([prior.mean for prior in found], axis=0), n * mean / (2 + n), atol=0.02)
    ref_spread = inverse / (2 + n - 2 - 1) / (2 + n)  # E[precision^-1] = scale^-1 / (dof - k - 1)
    np.testing.assert_allclose(np.cov(np.array([prior.mean for prior in found]).T), ref_spread, atol=0.003)


@pytest.mark.parametrize("magnitude", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("rank", [1, 10, 17])
def test_moments_of_blocks_add_up(rank, magnitude, monkeypatch):
    monkeypatch.setattr("mfspark.kernels.als.gibbs.MOMENT_NUMBERS", 100)
    X = (magnitude * (default_rng(3).standard_normal((57, 24)) + 3)).astype(np.float32)
    comp = moments(X[:20], rank) + moments(X[20:20], rank) + moments(X[20:], rank)
    wide = np.column_stack([np.ones(57), X[:, :rank].astype(float)])
    np.testing.assert_allclose(comp, wide.T @ wide, rtol=1e-13)


def test_spread_of_pairs():
    rng = default_rng(3)
    left, right = rng.standard_normal((4, 6)), rng.standard_normal((5, 6))
    rows, columns = np.array([0, 3, -1]), np.array([4, 0, 2])
    comp = np.empty(3)
    pair_spread(left / 3, right, 3, rows, columns, comp)
    scores = (left.reshape(4, 3, 2)[rows[:2]] * right.reshape(5, 3, 2)[columns[:2]]).sum(axis=2)
    np.testing.assert_allclose(comp[:2], scores.var(axis=1, ddof=1))
    assert np.isnan(comp[2])


@pytest.mark.parametrize("k,dof", [(1, 1), (4, 4), (7, 1000)])
def test_wishart_draws_are_those_of_scipy(k, dof):
    half = default_rng(k).standard_normal((k, k + 2))
    scale = half @ half.T / dof
    comp = sample_wishart(dof, scale, default_rng(5))
    ref = scipy.stats.wishart.rvs(dof, scale, random_state=default_rng(5))
    np.testing.assert_allclose(comp, np.reshape(ref, (k, k)), rtol=1e-9)
