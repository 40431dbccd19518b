"""The one loop of all fits: a method is a sweep over its state; when to stop and who is told of it stand here.

A *sweep* takes the state one iteration further, in place, and says what it measured at the end. A *state* holds all
that changes from iteration to iteration, and nothing else: who copies it after iteration t and gives the copy and the
first t lines to ``run`` gets the rest of the fit (``training.checkpoint`` does). A *hook* is called after every
iteration with its line and the state: progress here, and whatever else looks on without the methods' knowing.

Free of pyspark: a loop may run in the driver, or inside the tasks of a barrier stage, the same in each of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np

from mfspark.errors import TrainingError
from mfspark.training.history import Iteration

State = TypeVar("State")
Hook = Callable[[Iteration, Any], None]
"""``hook(line, state)`` is called after each iteration, in the order of the hooks; it may copy the state."""
Keep = Callable[[Sequence[Iteration], Any], None]
"""``keep(lines, state)`` is called after each iteration but the last, with the lines of all of them so far."""


class Measures(NamedTuple):
    """What a sweep measured at its end.

    Parameters
    ----------
    fit, regularisation : float
        The parts of the objective.
    validation_rmse : float or None
        Of the held-out ratings; None where there are none.
    repaired : int
        Rows that the kernels had to repair.
    moved : bool
        False where the sweep undid its step, so that an unchanged loss is no reason to stop.
    """

    fit: float
    regularisation: float = 0.0
    validation_rmse: float | None = None
    repaired: int = 0
    moved: bool = True


Sweep = Callable[[State, int], Measures]
"""``sweep(state, t)`` runs iteration t = 0, 1, ... and returns what it measured."""


@dataclass(frozen=True)
class Stopping:
    """When a fit ends.

    Parameters
    ----------
    max_iter : int
        After at most so many iterations.
    tol : float, default 0
        After an iteration that lowered the loss by less than this share; 0: never.
    whole : float, optional
        Of what ``tol`` is a share, by default the loss before.
    advice : str
        What to do about a loss that is not finite.
    """

    max_iter: int = 10
    tol: float = 0.0
    whole: float | None = None
    advice: str = "raise regParam"

    def settled(self, before: float, after: float) -> bool:
        """Return whether the loss fell too little from one iteration to the next for going on."""
        return self.tol > 0 and before - after < self.tol * abs(before if self.whole is None else self.whole)

    def ends(self, lines: Sequence[Iteration], moved: bool = True) -> bool:
        """Return whether a fit ends after these lines; ``moved`` is False where the last sweep undid its step."""
        if len(lines) >= self.max_iter:
            return True
        return moved and len(lines) > 1 and self.settled(lines[-2].loss, lines[-1].loss)

    def check(self, line: Iteration) -> None:
        """Raise TrainingError for a loss that is not finite."""
        if not np.isfinite(line.loss):
            raise TrainingError(f"the loss is {line.loss} after iteration {line.iteration}: {self.advice}")


def run(
    sweep: Sweep[State],
    state: State,
    stopping: Stopping,
    hooks: Sequence[Hook] = (),
    history: Sequence[Iteration] = (),
    keep: Keep | None = None,
) -> list[Iteration]:
    """Run sweeps until it is time to stop.

    Parameters
    ----------
    sweep : callable
        ``sweep(state, t)`` changes the state and returns its Measures.
    state : object
        Where to start from; at the end, the result.
    stopping : Stopping
        When to stop.
    hooks : sequence of callables
        ``hook(line, state)``, called after every iteration whose loss is finite.
    history : sequence of Iteration
        The lines of earlier iterations, where the state is not the very first.
    keep : callable, optional
        ``keep(lines, state)``, called after every iteration with which the fit does not end.

    Returns
    -------
    list of Iteration
        The lines of all iterations, the earlier ones among them.

    Raises
    ------
    TrainingError
        The loss is not finite, or what the sweep raises.
    """
    lines = list(history)
    while len(lines) < stopping.max_iter:
        began = time.perf_counter()
        measures = sweep(state, len(lines))
        parts = (measures.fit + measures.regularisation, measures.fit, measures.regularisation)
        seconds = time.perf_counter() - began
        line = Iteration(len(lines) + 1, *parts, measures.validation_rmse, seconds, measures.repaired)
        stopping.check(line)
        lines.append(line)
        for hook in hooks:
            hook(line, state)
        if stopping.ends(lines, measures.moved):
            break
        if keep is not None:
            keep(lines, state)
    return lines
