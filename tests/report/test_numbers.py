"""The numbers of a report against their definitions."""

import numpy as np
import pytest

from mfspark.report import numbers


def rows(n, rank, seed=1):
    return np.random.default_rng(seed).normal(size=(n, rank))


@pytest.mark.parametrize(("n", "m", "rank"), [(30, 20, 5), (3, 40, 6), (1, 1, 1), (5, 5, 5)])
def test_the_spectrum_is_that_of_the_product(n, m, rank):
    users, items = rows(n, rank), rows(m, rank, 2)
    ref = np.zeros(rank)
    found = np.linalg.svd(users @ items.T, compute_uv=False)[:rank]
    ref[: len(found)] = found
    comp = numbers.spectrum(users.T @ users, items.T @ items)
    np.testing.assert_allclose(comp, ref, atol=1e-6 * ref[0])


def test_the_spectrum_of_nothing_is_zero():
    np.testing.assert_array_equal(numbers.spectrum(np.zeros((3, 3)), np.eye(3)), np.zeros(3))


def test_the_map_has_the_principal_components():
    features = rows(50, 6) * np.array([3, 2, 1, 0.5, 0.2, 0.1])
    comp, shares = numbers.plane(features)
    values, vectors = np.linalg.eigh(np.cov(features.T))
    ref = (features - features.mean(0)) @ vectors[:, ::-1][:, :2]
    np.testing.assert_allclose(np.abs(comp), np.abs(ref), atol=1e-9)
    np.testing.assert_allclose(shares, values[::-1][:2] / values.sum())
    assert (comp[np.abs(comp).argmax(0), [0, 1]] > 0).all()


def test_factors_that_are_no_numbers_stop_nothing():
    broken = np.array([[1.0, np.nan], [np.inf, 1.0], [0.0, 1.0]])
    assert np.isfinite(numbers.plane(broken)[0]).all()
    assert np.isnan(numbers.spectrum(broken.T @ broken, np.eye(2))).all()


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (5, 1), (2, 2)])
def test_the_map_of_few_items_or_factors_is_finite(shape):
    places, shares = numbers.plane(np.ones(shape))
    assert places.shape == (shape[0], 2)
    assert (places == 0).all()
    assert (shares == 0).all()


def test_errors_by_size_are_those_of_each_group():
    rng = np.random.default_rng(4)
    sizes, wrong = rng.integers(0, 40, 300), rng.normal(size=300)
    comp = {(group.low, group.high): group for group in numbers.groups(sizes, wrong)}
    assert sum(group.ratings for group in comp.values()) == 300
    assert list(comp) == [(0, 0), (1, 1), (2, 3), (4, 7), (8, 15), (16, 31), (32, 63)]
    for (low, high), group in comp.items():
        own = [error for size, error in zip(sizes, wrong, strict=True) if low <= size <= high]
        assert (group.ratings, group.rmse) == (len(own), pytest.approx(np.sqrt(sum(e * e for e in own) / len(own))))
        assert group.mae == pytest.approx(sum(map(abs, own)) / len(own))


def test_powers_of_two_begin_their_group():
    sizes = np.array([2**n for n in range(40)] + [2 ** (n + 1) - 1 for n in range(40)])
    for group in numbers.groups(sizes, np.ones(80)):
        assert group.ratings == 2


def test_predictions_are_spread_by_their_actual_rating():
    actual = np.repeat([1.0, 2.0, 5.0], 101)
    predicted = np.tile(np.linspace(0, 1, 101), 3) + actual
    comp = numbers.spreads(actual, predicted)
    assert [(part.low, part.high, part.count) for part in comp] == [(v, v, 101) for v in (1, 2, 5)]
    for part in comp:
        np.testing.assert_allclose(part.quantiles, np.add(part.low, [0.05, 0.25, 0.5, 0.75, 0.95]))


def test_many_actual_ratings_are_grouped_evenly():
    actual = rows(10_000, 1)[:, 0] ** 5
    comp = numbers.spreads(actual, actual)
    assert len(comp) == numbers.SPREADS
    assert {part.count for part in comp} == {500}
    assert (comp[0].low, comp[-1].high) == (actual.min(), actual.max())


def test_what_is_not_predicted_is_counted_and_left_out():
    actual, predicted = np.array([1.0, 2.0, 3.0]), np.array([2.0, np.nan, 3.0])
    sizes = np.array([1, 1, 9]), np.array([0, 2, 2])
    comp = numbers.errors("x", actual, predicted, sizes)
    assert (comp.sample, comp.unpredicted, comp.mae) == (3, 1, 0.5)
    assert [(group.low, group.mae) for group in comp.by_item] == [(0, 1.0), (2, 0.0)]
    assert numbers.errors("x", actual, np.full(3, np.nan), sizes) is None
