"""Orthogonal alignment against its slow equal, and what must not count as drift."""

import numpy as np
import pytest
from naive import nearest_rotation

from mfspark.kernels.procrustes import drift, rotation

RANKS = (1, 2, 3, 8, 64)


def turned(k, seed=0):
    """A random orthogonal matrix."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(k, k)))[0]


@pytest.mark.parametrize("k", RANKS)
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_a_rotated_model_has_not_moved_and_predicts_the_same(k, scale):
    random = np.random.default_rng(k)
    users, items, q = random.normal(size=(50, k)) * scale, random.normal(size=(30, k)) * scale, turned(k)
    np.testing.assert_allclose((users @ q) @ (items @ q).T, users @ items.T, rtol=1e-9, atol=1e-9 * scale**2)
    both = np.concatenate([users, items])
    comp = rotation(both, both @ q)
    np.testing.assert_allclose(comp, q, atol=1e-10)
    for side in (users, items):
        moved = drift(side, side @ q, comp)
        assert moved.relative < 1e-12 and moved.cosine == pytest.approx(1.0)


@pytest.mark.parametrize("k", RANKS)
def test_it_is_the_nearest_rotation(k):
    random = np.random.default_rng(k)
    a, b = random.normal(size=(40 + k, k)), random.normal(size=(40 + k, k)) + 0.3
    comp = rotation(a, b)
    np.testing.assert_allclose(comp @ comp.T, np.eye(k), atol=1e-12)
    np.testing.assert_allclose(comp, nearest_rotation(a, b), atol=1e-8)
    least = np.linalg.norm(a @ comp - b)
    for seed in range(20):
        assert least <= np.linalg.norm(a @ turned(k, seed) - b) + 1e-12


def test_drift_is_the_share_that_changed():
    b = np.random.default_rng(0).normal(size=(200, 5))
    assert drift(1.5 * b, b, np.eye(5)) == pytest.approx((0.5, 1.0))
    other = np.random.default_rng(1).normal(size=(200, 5))
    apart = drift(other, b, rotation(other, b))
    assert 1.0 < apart.relative < 1.5 and abs(apart.cosine) < 0.3


def test_sides_without_rows_or_length():
    none = np.zeros((0, 3))
    assert drift(none, none, np.eye(3))[0] == 0 and np.isnan(drift(none, none, np.eye(3)).cosine)
    zeros = np.zeros((4, 3))
    assert rotation(zeros, zeros).shape == (3, 3) and drift(zeros, zeros, np.eye(3)).relative == 0
    assert drift(zeros + 1, zeros, np.eye(3)).relative == np.inf
