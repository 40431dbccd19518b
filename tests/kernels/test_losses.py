"""Losses: gradients by finite differences, known values, compiled equal to numpy, responses, domains."""

import numpy as np
import pytest
from numba import njit

from mfspark.errors import ParameterError
from mfspark.kernels import losses
from mfspark.kernels.losses import LOSSES, MAX_LOG_MEAN, MIN_MEAN, get_loss

SCORES = np.array([-40.0, -3.0, -0.5, -0.02, 0.005, 0.3, 1.7, 6.0, 15.0])
RATINGS = {
    "squared": [-1.0, 2.5],
    "logistic": [0.0, 1.0],
    "poisson": [0.0, 1.0, 7.0],
    "poisson_identity": [0.0, 1.0, 7.0],
}
CASES = [(name, y) for name, ys in RATINGS.items() for y in ys]


@pytest.mark.parametrize(("name", "y"), CASES)
def test_derivative_is_the_finite_difference_of_the_value(name, y):
    loss, h = LOSSES[name], 1e-6
    ref = (loss.value(SCORES + h, y) - loss.value(SCORES - h, y)) / (2 * h)
    comp = loss.derivative(SCORES, y)
    np.testing.assert_allclose(comp, ref, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "y"), CASES)
def test_loss_is_convex_in_the_score(name, y):
    assert np.all(np.diff(LOSSES[name].derivative(np.sort(SCORES), y)) >= 0)


@pytest.mark.parametrize(
    ("name", "score", "rating", "ref"),
    [
        ("squared", 3.0, 5.0, 2.0),
        ("logistic", 0.0, 1.0, np.log(2)),
        ("logistic", 200.0, 0.0, 200.0),
        ("logistic", -200.0, 0.0, 0.0),
        ("poisson", 0.0, 3.0, 1.0),
        ("poisson", np.log(2.0), 3.0, 2.0 - 3.0 * np.log(2.0)),
        ("poisson_identity", 2.0, 3.0, 2.0 - 3.0 * np.log(2.0)),
    ],
)
def test_known_values(name, score, rating, ref):
    assert LOSSES[name].value(np.float64(score), rating) == pytest.approx(ref, abs=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_extreme_scores_stay_finite_in_float32(name):
    s = np.array([-1e4, -100, 0, 100, 1e4], dtype=np.float32)
    for comp in (
        LOSSES[name].value(s, np.float32(1)),
        LOSSES[name].derivative(s, np.float32(1)),
        LOSSES[name].response(s),
    ):
        assert np.all(np.isfinite(comp))
        assert comp.dtype == np.float32


@pytest.mark.parametrize(("name", "y"), CASES)
def test_compiled_equals_numpy(name, y):
    value, derivative = getattr(losses, f"{name}_value"), getattr(losses, f"{name}_derivative")
    response = getattr(losses, f"{name}_response")

    @njit
    def compiled(score, rating):
        return value(score, rating), derivative(score, rating), response(score)

    loss, y = LOSSES[name], np.float32(y)
    for s in SCORES.astype(np.float32):
        ref = [float(loss.value(s, y)), float(loss.derivative(s, y)), float(loss.response(s))]
        np.testing.assert_allclose(compiled(s, y), ref, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "mean"), [("squared", 3.5), ("logistic", 0.2), ("poisson", 4.0), ("poisson_identity", 4.0)]
)
def test_response_of_the_link_is_the_mean(name, mean):
    assert LOSSES[name].response(np.float64(LOSSES[name].link(mean))) == pytest.approx(mean, rel=1e-6)


@pytest.mark.parametrize(("name", "y"), CASES)
def test_derivative_is_zero_where_the_response_is_the_rating(name, y):
    loss = LOSSES[name]
    mean = np.clip(y, 0.25, 0.75) if name == "logistic" else max(y, 0.5)
    assert loss.derivative(np.float64(loss.link(mean)), mean) == pytest.approx(0, abs=1e-6)


def test_tangents_join_without_a_jump():
    for name, s in (("poisson", MAX_LOG_MEAN), ("poisson_identity", MIN_MEAN)):
        below, above = np.float64(s) * (1 - 1e-9), np.float64(s) * (1 + 1e-9)
        for f in (LOSSES[name].value, LOSSES[name].derivative):
            assert f(below, 2.0) == pytest.approx(f(above, 2.0), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "ref"),
    [
        ("squared", [True, True, True, True, False]),
        ("logistic", [False, True, True, False, False]),
        ("poisson", [False, True, True, True, False]),
        ("poisson_identity", [False, True, True, True, False]),
    ],
)
def test_accepted_ratings(name, ref):
    comp = LOSSES[name].accepts(np.array([-1.0, 0.0, 1.0, 2.0, np.nan]))
    np.testing.assert_array_equal(comp, ref)


def test_unknown_loss_names_the_known_ones():
    with pytest.raises(ParameterError, match="'hinge'.*squared, logistic, poisson, poisson_identity"):
        get_loss("hinge")


def test_codes_are_distinct():
    assert len({loss.code for loss in LOSSES.values()}) == len(LOSSES)
