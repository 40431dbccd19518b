"""What SGD with drawn negatives minimises on average: solved exactly, against draws."""

import naive_sgd
import numpy as np
import pytest
from scipy.optimize import nnls

from mfspark.kernels.csr import Block
from mfspark.kernels.objective import Settings, fix
from mfspark.kernels.sgd.expected import expected_visits, solve_expected
from mfspark.kernels.sgd.negatives import sample_negatives

USERS, ITEMS, K, MEAN = 5, 9, 3, 0.2
EPOCHS = 1000


def rated_pairs(weighted):
    """Return each user's (item, rating, weight): of one item, of some (one twice, one disliked), of all."""
    rng = np.random.default_rng(3)
    rated = []
    for count in (1, 4, 6, ITEMS - 1, ITEMS):
        items = [*rng.permutation(ITEMS)[:count].tolist()]
        items = items + items[:1] if count == 4 else items
        rated.append([(i, -1.0 if t == 2 else 3.0, [1.0, 2.5][weighted and t % 2]) for t, i in enumerate(items)])
    return rated


def block_of(rated, weighted, coded):
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rated])])
    items, ratings, weights = (np.array(column) for column in zip(*(one for row in rated for one in row), strict=True))
    table = np.array([-1.0, 3.0], np.float32)
    values = np.searchsorted(table, ratings).astype(np.uint8) if coded else ratings.astype(np.float32)
    more = {"weights": weights.astype(np.float32)} if weighted else {}
    return Block(indptr, items.astype(np.int32), values, **({"table": table} if coded else {}), **more)


def items_side(settings, seed=5):
    rng = np.random.default_rng(seed)
    side = np.zeros((ITEMS, settings.padded), settings.dtype)
    side[:, :K] = rng.normal(0.3, 0.7, (ITEMS, K))
    if settings.bias[1]:
        side[:, K] = rng.normal(0, 0.3, ITEMS)
    return side


CASES = [
    dict(),
    dict(bias=(True, True)),
    dict(bias=(True, False), exponent=0.0),
    dict(bias=(False, True), exponent=0.5, negatives=1),
    dict(weighted=True, coded=True, bias=(True, True), exponent=0.0),
    dict(weighted=True, negatives=7),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_mean_gradient_over_the_draws_vanishes_at_the_solved_user(case):
    case = dict(case)
    weighted, coded = case.pop("weighted", False), case.pop("coded", False)
    settings = Settings(K, implicit=True, **{"negatives": 3, "reg_param": (0.05, 0.3)} | case)
    rated, side = rated_pairs(weighted), items_side(settings)
    X, unsolved = solve_expected(block_of(rated, weighted, coded), fix(side, settings, MEAN), settings)
    assert unsolved == -1
    F, b_i = side[:, :K].astype(float), side[:, K] if settings.bias[1] else np.zeros(ITEMS)
    for u, row in enumerate(rated):
        b = float(X[u, K]) if settings.bias[0] else 0.0
        args = (u, row, F, b_i, MEAN, 0.05, settings.exponent, settings.negatives, EPOCHS, 1)
        at, at_bias = naive_sgd.expected_gradient(X[u, :K].astype(float), b, *args)
        far, _ = naive_sgd.expected_gradient(X[u, :K] + 0.5, b, *args)
        noise = 0.06 * len(row) ** 0.5 if len(row) < ITEMS else 1e-5
        assert np.abs(at).max() < noise < np.abs(far).max()
        assert not settings.bias[0] or abs(at_bias) < noise


def test_an_unrated_item_is_drawn_as_often_as_the_equations_say():
    rated = rated_pairs(False)
    block = block_of(rated, False, False)
    drawn = np.zeros((USERS, ITEMS))
    for epoch in range(EPOCHS):
        found = sample_negatives(block.indptr, block.indices, ITEMS, 3, seed=1, epoch=epoch, skip_full=True)
        rows = np.repeat(np.arange(USERS), np.diff(block.indptr) * 3)
        np.add.at(drawn, (rows[found.ravel() >= 0], found.ravel()[found.ravel() >= 0]), 1 / EPOCHS)
    visits = expected_visits(block, ITEMS, Settings(K, implicit=True, negatives=3))
    for u, row in enumerate(rated):
        seen = [item for item, _, _ in row]
        others = np.setdiff1d(np.arange(ITEMS), seen)
        assert not drawn[u, seen].any()
        np.testing.assert_allclose(drawn[u, others], visits.unrated[u], rtol=0.1)
    np.testing.assert_allclose(visits.ridge[:-1], 0.1 * 4 * np.diff(block.indptr)[:-1], rtol=1e-6)
    np.testing.assert_allclose(visits.ridge[-1], 0.1 * ITEMS, rtol=1e-6)


def test_nonnegative_users_are_the_constrained_minimum():
    settings = Settings(K, implicit=True, negatives=3, reg_param=(0.05, 0.3), nonnegative=True, dtype="float64")
    rated, side = rated_pairs(False), items_side(settings)
    comp, _ = solve_expected(block_of(rated, False, False), fix(side, settings, MEAN), settings)
    F, active = side[:, :K], 0
    for u, row in enumerate(rated):
        seen = {item for item, _, _ in row}
        z = 3 * len(row) / (ITEMS - len(seen)) if len(seen) < ITEMS else 0.0
        pairs = [(i, float(r > 0), w) for i, r, w in row] + [(i, 0.0, z) for i in range(ITEMS) if i not in seen]
        scale = np.sqrt([w for _, _, w in pairs])[:, None]
        ridge = np.sqrt(0.05 * len(row) * (4 if z else 1)) * np.eye(K)
        lhs = np.vstack([F[[i for i, _, _ in pairs]] * scale, ridge])
        ref, _ = nnls(lhs, np.concatenate([scale[:, 0] * [p - MEAN for _, p, _ in pairs], np.zeros(K)]))
        np.testing.assert_allclose(comp[u, :K], ref, atol=1e-6)
        active += (ref == 0).sum()
    assert active


def test_a_user_without_a_solution_is_named():
    settings = Settings(K, implicit=True, negatives=3, reg_param=(0.0, 0.0))
    rated, side = rated_pairs(False), items_side(settings)
    side[:, 1] = 0
    assert solve_expected(block_of(rated, False, False), fix(side, settings, MEAN), settings)[1] == 0
