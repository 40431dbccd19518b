"""First-order optimisers, learning-rate schedules and gradient clipping, on plain arrays.

Each optimiser is a function ``direction(state, gradient, hyper) -> array``: what is to be multiplied by the learning
rate and subtracted. ``state`` belongs to one parameter array and starts empty.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfspark.errors import ParameterError
from mfspark.kernels.schedules import STEP_SCHEDULES, ScheduleState

Array = NDArray[Any]
State = dict[str, Any]


@dataclass(frozen=True)
class Hyper:
    """What the optimisers may be told.

    Parameters
    ----------
    momentum : float, default 0.9
        Share of the previous direction that is kept ("momentum"; beta_1 of "adam").
    square_decay : float, optional
        Share of the mean squared gradient that is kept: default 0.9 for "rmsprop", 0.999 (beta_2) for "adam".
    epsilon : float, default 1e-8
        Added to the root of the mean squared gradient.
    """

    momentum: float = 0.9
    square_decay: float | None = None
    epsilon: float = 1e-8


def gd(state: State, gradient: Array, hyper: Hyper) -> Array:  # noqa: ARG001
    """Steepest descent: the gradient itself."""
    return gradient


def momentum(state: State, gradient: Array, hyper: Hyper) -> Array:
    """Heavy ball (Polyak 1964): v <- momentum v + g."""
    v = state.setdefault("v", np.zeros_like(gradient))
    v *= hyper.momentum
    v += gradient
    return v


def rmsprop(state: State, gradient: Array, hyper: Hyper) -> Array:
    """RMSProp (Tieleman, Hinton 2012, lecture 6.5): the gradient over the root of its recent mean square."""
    decay = 0.9 if hyper.square_decay is None else hyper.square_decay
    s = state.setdefault("s", np.zeros_like(gradient))
    s *= decay
    s += (1 - decay) * gradient * gradient
    return gradient / (np.sqrt(s) + hyper.epsilon)


def adam(state: State, gradient: Array, hyper: Hyper) -> Array:
    """Adam (Kingma, Ba 2015, algorithm 1): both moments, corrected for their start at zero."""
    decay = 0.999 if hyper.square_decay is None else hyper.square_decay
    m = state.setdefault("m", np.zeros_like(gradient))
    s = state.setdefault("s", np.zeros_like(gradient))
    t = state["t"] = state.get("t", 0) + 1
    m *= hyper.momentum
    m += (1 - hyper.momentum) * gradient
    s *= decay
    s += (1 - decay) * gradient * gradient
    return (m / (1 - hyper.momentum**t)) / (np.sqrt(s / (1 - decay**t)) + hyper.epsilon)


OPTIMISERS: dict[str, Callable[[State, Array, Hyper], Array]] = {
    "gd": gd,
    "momentum": momentum,
    "rmsprop": rmsprop,
    "adam": adam,
}
"""The optimisers by name."""


@dataclass
class Optimiser:
    """An optimiser with the states of its parameter arrays.

    Parameters
    ----------
    name : str
        A key of OPTIMISERS.
    hyper : Hyper
        Its constants.
    states : list of dict, default []
        What it remembers of each parameter array; filled by the first step.
    """

    name: str
    hyper: Hyper = field(default_factory=Hyper)
    states: list[State] = field(default_factory=list)

    def step(self, parameters: list[Array], gradients: list[Array], rate: float) -> None:
        """Move all parameter arrays, in place: p <- p - rate * direction(g)."""
        while len(self.states) < len(parameters):
            self.states.append({})
        for parameter, gradient, state in zip(parameters, gradients, self.states, strict=True):
            parameter -= parameter.dtype.type(rate) * OPTIMISERS[self.name](state, gradient, self.hyper)


def clip_by_norm(gradients: list[Array], limit: float) -> float:
    """Scale all gradients, in place, so that the Euclidean norm of all together is at most ``limit``.

    Pascanu, Mikolov, Bengio 2013, algorithm 1. Returns the norm before.
    """
    norm = math.sqrt(sum(float(np.sum(np.square(g, dtype=np.float64))) for g in gradients))
    if norm > limit:
        for gradient in gradients:
            gradient *= gradient.dtype.type(limit / norm)
    return norm


RATE_SCHEDULES = ("constant", "inverse", "exponential", "step", "bold_driver")
"""The learning-rate schedules by name: those of ``mfspark.kernels.schedules`` without AdaGrad, and "step"."""


def learning_rate(name: str, first: float, step: int, state: ScheduleState, every: int = 10) -> float:
    """Return the learning rate of a step, counted from 0.

    Parameters
    ----------
    name : str
        One of RATE_SCHEDULES: "constant"; "inverse" first / (1 + decay t); "exponential" first exp(-decay t); "step"
        as exponential, but only every ``every`` steps; "bold_driver" 5 % more after a fall of the loss, half after a
        rise.
    first : float
        The first rate.
    step : int
        t.
    state : ScheduleState
        The decay, the previous rate and the losses so far.
    every : int, default 10
        The length of a stair of "step".

    Raises
    ------
    ParameterError
        There is no such schedule.
    """
    if name not in RATE_SCHEDULES:
        raise ParameterError(f"stepSchedule must be one of {', '.join(RATE_SCHEDULES)}, not {name!r}")
    if name == "step":
        return first * math.exp(-state.decay * every * (step // every))
    return STEP_SCHEDULES[name](first, step, state)
