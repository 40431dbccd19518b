"""Step size schedules of stochastic gradient descent: the step of an epoch from the first step and the history."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from mfspark.errors import ParameterError


@dataclass(frozen=True)
class ScheduleState:
    """What a schedule may look at.

    Attributes
    ----------
    step : float
        Step size of the previous epoch (the first step before the first epoch).
    losses : tuple of float
        Training loss after each epoch so far, oldest first.
    decay : float
        Speed of the "inverse" and of the "exponential" schedule, per epoch; default 0.1.
    """

    step: float
    losses: tuple[float, ...] = ()
    decay: float = 0.1


Schedule = Callable[[float, int, ScheduleState], float]

BOLD_GROWTH, BOLD_CUT = 1.05, 0.5


def constant(first_step: float, epoch: int, state: ScheduleState) -> float:  # noqa: ARG001
    """Keep the first step."""
    return first_step


def inverse(first_step: float, epoch: int, state: ScheduleState) -> float:
    """first_step / (1 + decay * epoch): the 1/t schedule, which meets the Robbins-Monro conditions."""
    return first_step / (1.0 + state.decay * epoch)


def exponential(first_step: float, epoch: int, state: ScheduleState) -> float:
    """first_step * exp(-decay * epoch)."""
    return first_step * math.exp(-state.decay * epoch)


def bold_driver(first_step: float, epoch: int, state: ScheduleState) -> float:
    """Grow the step by 5 % after an epoch that lowered the loss, halve it after one that did not.

    Gemulla, Nijkamp, Haas, Sismanis (2011), "Large-scale matrix factorization with distributed stochastic gradient
    descent", section 5.1 (step size selection); after Battiti (1989).
    """
    if epoch == 0 or len(state.losses) < 2:
        return first_step if epoch == 0 else state.step
    fell = state.losses[-1] < state.losses[-2]
    return state.step * (BOLD_GROWTH if fell else BOLD_CUT)


def adagrad(first_step: float, epoch: int, state: ScheduleState) -> float:  # noqa: ARG001
    """Keep the first step: the kernel divides it by the root of each row's accumulated squared gradient."""
    return first_step


STEP_SCHEDULES: dict[str, Schedule] = {
    "constant": constant,
    "inverse": inverse,
    "exponential": exponential,
    "bold_driver": bold_driver,
    "adagrad": adagrad,
}


def get_schedule(name: str) -> Schedule:
    """Return the schedule called `name`.

    Parameters
    ----------
    name : str
        One of the keys of `STEP_SCHEDULES`.

    Returns
    -------
    callable
        ``schedule(first_step, epoch, state) -> step``; `epoch` counts from 0.

    Raises
    ------
    ParameterError
        There is no such schedule; the message lists those there are.
    """
    if name not in STEP_SCHEDULES:
        raise ParameterError(f"step schedule '{name}' does not exist; choose one of {', '.join(STEP_SCHEDULES)}")
    return STEP_SCHEDULES[name]
