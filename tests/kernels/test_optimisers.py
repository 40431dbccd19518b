"""Optimisers against their formulas written out for one number, schedules, clipping."""

import math

import numpy as np
import pytest

from mfspark.errors import ParameterError
from mfspark.kernels.optimisers import OPTIMISERS, RATE_SCHEDULES, Hyper, Optimiser, clip_by_norm, learning_rate
from mfspark.kernels.schedules import ScheduleState

GRADIENTS = [2.0, -1.0, 0.5, 0.0, 3.0]


def ref_path(name, rate=0.1, momentum=0.9, decay=0.999, epsilon=1e-8):
    """One number's way, each formula as printed in its paper."""
    x, v, m, s, path = 1.0, 0.0, 0.0, 0.0, []
    for t, g in enumerate(GRADIENTS, 1):
        if name == "gd":
            x = x - rate * g
        elif name == "momentum":
            v = momentum * v + g
            x = x - rate * v
        elif name == "rmsprop":
            s = 0.9 * s + 0.1 * g * g
            x = x - rate * g / (math.sqrt(s) + epsilon)
        elif name == "adam":
            m = momentum * m + (1 - momentum) * g
            s = decay * s + (1 - decay) * g * g
            x = x - rate * (m / (1 - momentum**t)) / (math.sqrt(s / (1 - decay**t)) + epsilon)
        path.append(x)
    return path


@pytest.mark.parametrize("name", list(OPTIMISERS))
def test_steps_follow_the_formula(name):
    optimiser, x, other = Optimiser(name), np.ones((2, 3)), np.full(1, 5.0)
    comp = []
    for g in GRADIENTS:
        gradient = np.full((2, 3), g)
        optimiser.step([x, other], [gradient, np.zeros(1)], 0.1)
        np.testing.assert_array_equal(gradient, g)
        comp.append(x[1, 2])
    np.testing.assert_allclose(comp, ref_path(name), rtol=1e-12)
    assert other[0] == 5.0 and np.ptp(x) == 0


@pytest.mark.parametrize("name", list(OPTIMISERS))
def test_a_badly_scaled_bowl_is_descended_in_single_precision(name):
    scale, x = np.array([1.0, 30.0], np.float32), np.array([3.0, -2.0], np.float32)
    optimiser, start = Optimiser(name, Hyper(momentum=0.8)), float(scale @ (x * x))
    for _ in range(300):
        optimiser.step([x], [2 * scale * x], 0.01)
    assert x.dtype == np.float32
    assert float(scale @ (x * x)) < 0.02 * start


def test_clipping_scales_all_gradients_together():
    gradients = [np.array([[3.0, 0.0]]), np.array([4.0])]
    assert clip_by_norm(gradients, 10.0) == 5.0
    np.testing.assert_array_equal(gradients[1], [4.0])
    assert clip_by_norm(gradients, 1.0) == 5.0
    np.testing.assert_allclose(gradients[0], [[0.6, 0.0]])
    np.testing.assert_allclose(gradients[1], [0.8])


def rates(name, steps, losses=None):
    state, found = ScheduleState(0.5, (), 0.2), []
    for step in range(steps):
        rate = learning_rate(name, 0.5, step, state, every=2)
        found.append(rate)
        state = ScheduleState(rate, tuple(losses[: step + 2]) if losses else (), 0.2)
    return found


def test_schedules():
    assert rates("constant", 3) == [0.5] * 3
    np.testing.assert_allclose(rates("inverse", 3), [0.5, 0.5 / 1.2, 0.5 / 1.4])
    np.testing.assert_allclose(rates("exponential", 3), 0.5 * np.exp([0, -0.2, -0.4]))
    np.testing.assert_allclose(rates("step", 5), 0.5 * np.exp([0, 0, -0.4, -0.4, -0.8]))
    np.testing.assert_allclose(rates("bold_driver", 3, [9, 8, 8.5]), [0.5, 0.525, 0.2625])
    assert {"constant", "inverse", "exponential", "step", "bold_driver"} == set(RATE_SCHEDULES)
    with pytest.raises(ParameterError, match="stepSchedule must be one of constant"):
        learning_rate("adagrad", 0.5, 0, ScheduleState(0.5))
