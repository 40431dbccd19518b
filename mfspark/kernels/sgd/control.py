"""An SGD fit's course: the step of each epoch, whether the epoch counts, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfspark.kernels.compile import jit
from mfspark.kernels.schedules import ScheduleState, get_schedule
from mfspark.kernels.sgd.cells import Recipe

RISE_LIMIT = 1.1
"""Loss over the previous epoch's above which an epoch counts as diverging; bold driver alone handles smaller rises."""


@jit
def _finite(values):  # type: ignore[no-untyped-def]
    """Return whether no value is NaN or infinite: 0 * x is 0 for finite x only, and adds up without branches."""
    total = np.float32(0.0)
    for value in values:
        total += np.float32(0.0) * value
    return total == np.float32(0.0)


def all_finite(*arrays: NDArray[np.float32] | None) -> bool:
    """Return whether no array holds a NaN or an infinity.

    Parameters
    ----------
    *arrays : float32 arrays or None
        C-contiguous factors, biases, accumulators; None is skipped.
    """
    return all(bool(_finite(array.reshape(-1))) for array in arrays if array is not None)


def loss_diverges(losses: Sequence[float], rise_limit: float = RISE_LIMIT) -> bool:
    """Return whether the last epoch's loss is not finite, or higher than the one before by more than the limit.

    Parameters
    ----------
    losses : sequence of float
        Training loss per epoch, oldest first.
    rise_limit : float, default 1.1
        Allowed ratio of the last loss to the one before (for losses above zero; a negative loss, possible for Poisson,
        may rise by the same share of its size).
    """
    if not losses:
        return False
    last = losses[-1]
    if not math.isfinite(last):
        return True
    if len(losses) < 2:
        return False
    before = losses[-2]
    return last > before + (rise_limit - 1.0) * abs(before)


MOST_REDONE = 10
"""How often in a row an epoch is redone with half the step before the fit fails."""


@dataclass(frozen=True)
class EpochSums:
    """What one pass over all cells adds up to.

    ``fit`` is the sum of the losses, each before its update, ``penalty`` the regularisation at the end, ``finite``
    whether all factors are.
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
        Gives the schedule and the number of epochs.

    Attributes
    ----------
    epoch : int
        The epoch to run next, from 0.
    step : float
        Its step size.
    overshot : bool
        Whether the last epoch that counted ended with a higher loss than the first: no reason to stop.
    failed : bool
        Whether no step size was small enough, or the last epoch of all overshot.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.epoch, self.redone = 0, 0
        self.overshot = self.failed = False
        self._first, self._losses = recipe.step, list[float]()
        self.step = self._next(recipe.step)

    def numbers(self) -> dict[str, Any]:
        """Return all that changes from epoch to epoch, as JSON holds it."""
        return {name: value for name, value in vars(self).items() if name != "recipe"}

    def restore(self, numbers: Mapping[str, Any]) -> None:
        """Become what ``numbers`` returned."""
        vars(self).update(numbers)

    def keeps(self, epoch: EpochSums, start_loss: Callable[[], float] | None = None) -> bool:
        """Return whether an epoch counts, and move on; otherwise it must be redone with the new ``step``.

        Parameters
        ----------
        epoch : EpochSums
            Of the epoch that was run.
        start_loss : callable, optional
            Returns the loss of the factors that the epoch began with, over the same pairs. The first epoch is compared
            with it, and with drawn negatives every epoch whose loss has risen: a rise that comes from other negatives
            is there however small the step is, while the two losses over the same pairs meet as the step falls.
        """
        if not epoch.finite or not math.isfinite(epoch.loss) or self._rises(epoch.loss, start_loss):
            self.redone += 1
            self.failed = self.redone > MOST_REDONE
            self._halve()
            return False
        # An epoch that goes wrong at its very end shows only in the next one's loss, which no redoing lowers.
        self.overshot = bool(self._losses) and loss_diverges([self._losses[0], epoch.loss])
        if self.overshot:
            self._halve()
        self.redone = 0
        self._losses.append(epoch.loss)
        self.epoch += 1
        self.failed = self.overshot and self.epoch >= self.recipe.epochs
        self.step = self._next(self.step)
        return True

    def _rises(self, loss: float, start_loss: Callable[[], float] | None) -> bool:
        if self._losses and not loss_diverges([*self._losses, loss]):
            return False
        before = self._losses[-1:] if start_loss is None else [start_loss()]
        return loss_diverges([*before, loss])

    def _halve(self) -> None:
        self._first, self.step = self._first / 2, self.step / 2

    def _next(self, before: float) -> float:
        state = ScheduleState(before, tuple(self._losses), self.recipe.decay)
        return get_schedule(self.recipe.schedule)(self._first, self.epoch, state)
