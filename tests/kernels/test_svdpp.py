"""The SVD++ kernel: its objective, its gradient steps and its order of visit against readable equals."""

import naive
import numpy as np
import pytest

from mfspark.kernels.csr import counting_order
from mfspark.kernels.svdpp import STATISTICS, epoch, measure, whole_users

MEAN, LAMBDAS = 3.0, np.array([0.02, 0.03, 0.004, 0.05])


def problem(seed=1, n_users=8, n_items=6, k=3, share=0.5):
    users, items, r = naive.random_ratings(n_users, n_items, share, seed)
    order, indptr = counting_order(users, n_users)
    rng = np.random.default_rng(seed)
    P, Q, Y = (rng.standard_normal((n, width)) * 0.5 for n, width in ((n_users, k + 1), (n_items, k + 1), (n_items, k)))
    return indptr, items[order].astype(np.int32), r[order], P, Q, Y


def ref_implicit(indices, Y):
    return Y[indices].sum(axis=0) / np.sqrt(len(indices)) if len(indices) else np.zeros(Y.shape[1])


def ref_score(p, q, z):
    return MEAN + p[-1] + q[-1] + (p[:-1] + z) @ q[:-1]


def ref_objective(indptr, indices, values, P, Q, Y):
    """Return fit and regularisation, by the definition."""
    fit = penalty = 0.0
    for u in range(len(P)):
        mine = indices[indptr[u] : indptr[u + 1]]
        z = ref_implicit(mine, Y)
        for i, r in zip(mine, values[indptr[u] : indptr[u + 1]], strict=True):
            fit += (r - ref_score(P[u], Q[i], z)) ** 2
            penalty += LAMBDAS[0] * P[u, :-1] @ P[u, :-1] + LAMBDAS[1] * Q[i, :-1] @ Q[i, :-1]
            penalty += LAMBDAS[2] * np.sum(Y[mine] ** 2) + LAMBDAS[3] * (P[u, -1] ** 2 + Q[i, -1] ** 2)
    return fit, penalty


def comp_objective(indptr, indices, values, P, Q, Y, held=None, limits=(-np.inf, np.inf)):
    statistics = np.zeros(len(STATISTICS))
    held = held or (np.zeros(len(indptr), np.int64), np.empty(0, np.int32), np.empty(0))
    measure(indptr, indices, values, *held, P, Q, Y, MEAN, LAMBDAS, *limits, statistics)
    return statistics


def test_the_objective_is_the_definition():
    arrays = problem()
    np.testing.assert_allclose(comp_objective(*arrays)[:2], ref_objective(*arrays))


@pytest.mark.parametrize("n_ratings", [1, 4])
def test_a_small_step_goes_down_the_gradient(n_ratings):
    """One user, so that an epoch with a tiny step is a gradient step of the objective (half of it), to first order."""
    indices, values = np.arange(n_ratings, dtype=np.int32), np.array([5.0, 1.0, 4.0, 2.0])[:n_ratings]
    indptr = np.array([0, n_ratings])
    _, _, _, P, Q, Y = problem()
    P, Q, Y = P[:1].copy(), Q[:4].copy(), Y[:4].copy()
    step, before = 1e-6, [P.copy(), Q.copy(), Y.copy()]
    epoch(indptr, indices, values, P, Q, Y, MEAN, step, LAMBDAS, np.uint64(1))
    for place, after in enumerate((P, Q, Y)):
        comp = (before[place] - after) / step
        ref = np.zeros_like(comp)
        for cell in np.ndindex(*comp.shape):
            ends = []
            for change in (1e-5, -1e-5):
                moved = [array.copy() for array in before]
                moved[place][cell] += change
                ends.append(sum(ref_objective(indptr, indices, values, *moved)))
            ref[cell] = (ends[0] - ends[1]) / 2e-5 / 2
        np.testing.assert_allclose(comp, ref, rtol=1e-3, atol=1e-4)


def test_every_rating_is_visited_once_and_the_order_is_the_seed_s():
    arrays = problem()
    one, two, other = ([array.copy() for array in arrays] for _ in range(3))
    epoch(*one, MEAN, 0.02, LAMBDAS, np.uint64(1))
    epoch(*two, MEAN, 0.02, LAMBDAS, np.uint64(1))
    epoch(*other, MEAN, 0.02, LAMBDAS, np.uint64(2))
    np.testing.assert_array_equal(one[4], two[4])
    assert abs(one[4] - other[4]).max() > 0
    # With a tiny step the order does not matter: both are the sum of all ratings' moves.
    one, other = ([array.copy() for array in arrays] for _ in range(2))
    epoch(*one, MEAN, 1e-6, LAMBDAS, np.uint64(1))
    epoch(*other, MEAN, 1e-6, LAMBDAS, np.uint64(2))
    np.testing.assert_allclose((one[4] - arrays[4]) / 1e-6, (other[4] - arrays[4]) / 1e-6, rtol=1e-3, atol=1e-3)


def test_epochs_lower_the_objective_in_float32():
    indptr, indices, values, P, Q, Y = problem(n_users=60, n_items=20)
    arrays = [indptr, indices, *(array.astype(np.float32) for array in (values, P, Q, Y))]
    before = comp_objective(*arrays)[:2].sum()
    for t in range(20):
        epoch(*arrays, MEAN, 0.01, LAMBDAS, np.uint64(t))
    assert comp_objective(*arrays)[:2].sum() < 0.6 * before


def test_held_out_errors_and_whole_users():
    indptr, indices, values, P, Q, Y = problem()
    rows, items, ratings = np.array([0, 2, 2]), np.array([1, 0, 5], np.int32), np.array([4.0, 2.0, 1.0])
    held = np.searchsorted(rows, np.arange(len(indptr))), items, ratings
    whole = np.empty_like(P)
    whole_users(indptr, indices, P, Y, whole)
    for u in range(len(P)):
        ref = P[u, :-1] + ref_implicit(indices[indptr[u] : indptr[u + 1]], Y)
        np.testing.assert_allclose(whole[u], [*ref, P[u, -1]])
    scores = MEAN + whole[rows, -1] + Q[items, -1] + np.einsum("ij,ij->i", whole[rows, :-1], Q[items, :-1])
    found = comp_objective(indptr, indices, values, P, Q, Y, held, (2.5, 3.5))
    ref = np.sum((ratings - np.clip(scores, 2.5, 3.5)) ** 2)
    np.testing.assert_allclose(found[2:], [ref, 3])
