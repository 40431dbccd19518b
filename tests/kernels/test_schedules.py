"""Step size schedules against their formulas."""

import math

import numpy as np
import pytest

from mfspark.errors import ParameterError
from mfspark.kernels.schedules import STEP_SCHEDULES, ScheduleState, get_schedule


@pytest.mark.parametrize(
    ("name", "ref"),
    [
        ("constant", [0.1, 0.1, 0.1, 0.1]),
        ("adagrad", [0.1, 0.1, 0.1, 0.1]),
        ("inverse", [0.1, 0.1 / 1.5, 0.05, 0.04]),
        ("exponential", [0.1 * math.exp(-0.5 * t) for t in range(4)]),
        ("bold_driver", [0.1, 0.1, 0.105, 0.0525]),
    ],
)
def test_schedules(name, ref):
    losses, step, comp = (9.0, 8.0, 8.5), 0.1, []
    for epoch in range(4):
        step = get_schedule(name)(0.1, epoch, ScheduleState(step, losses[:epoch], decay=0.5))
        comp.append(step)
    np.testing.assert_allclose(comp, ref)
    assert name in STEP_SCHEDULES


def test_unknown_schedule_names_the_known_ones():
    with pytest.raises(ParameterError, match="'cosine'.*bold_driver"):
        get_schedule("cosine")
