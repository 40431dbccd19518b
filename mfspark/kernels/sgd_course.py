"""An SGD fit's course: the step of each epoch, whether the epoch counts, and when to stop."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mfspark.kernels.schedules import ScheduleState, get_schedule
from mfspark.kernels.sgd_blocks import Recipe
from mfspark.kernels.sgd_guard import loss_diverges

MOST_REDONE = 10
"""How often in a row an epoch is redone with half the step before the fit fails."""


@dataclass(frozen=True)
class Found:
    """What one pass over all cells found.

    ``fit`` is the sum of the losses, each before its update, ``penalty`` the regularisation at the end.
    """

    fit: float
    penalty: float
    finite: bool

    @property
    def loss(self) -> float:
        """The objective."""
        return self.fit + self.penalty


class Course:
    """Decides by the losses alone, so that every task that sees the same losses decides the same.

    Parameters
    ----------
    recipe : Recipe
        Gives the schedule and when to stop.

    Attributes
    ----------
    epoch : int
        The epoch to run next, from 0.
    step : float
        Its step size.
    done : bool
        Whether the fit is over.
    failed : bool
        Whether it is over because no step size was small enough.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.epoch, self.redone = 0, 0
        self.done, self.failed = recipe.epochs == 0, False
        self._first, self._losses = recipe.step, list[float]()
        self.step = self._next(recipe.step)

    def keeps(self, found: Found) -> bool:
        """Return whether an epoch counts, and move on; otherwise it must be redone with the new ``step``."""
        if not found.finite or not math.isfinite(found.loss) or loss_diverges([*self._losses, found.loss]):
            self.redone += 1
            self.done = self.failed = self.redone > MOST_REDONE
            self._first, self.step = self._first / 2, self.step / 2
            return False
        self.redone = 0
        self._losses.append(found.loss)
        self.epoch += 1
        self.done = self.epoch >= self.recipe.epochs or self._settled()
        self.step = self._next(self.step)
        return True

    def _next(self, before: float) -> float:
        state = ScheduleState(before, tuple(self._losses), self.recipe.decay)
        return get_schedule(self.recipe.schedule)(self._first, self.epoch, state)

    def _settled(self) -> bool:
        if self.recipe.tol <= 0 or len(self._losses) < 2:
            return False
        before, after = self._losses[-2:]
        return before - after < self.recipe.tol * abs(before)
