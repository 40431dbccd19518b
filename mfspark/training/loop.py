"""How long to train, and when to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mfspark.errors import TrainingError
from mfspark.training.history import Iteration


@dataclass
class Schedule:
    """How long to train: at most ``iterations``; stop when the loss falls by less than ``tol`` of itself (0: never)."""

    iterations: int = 10
    tol: float = 0.0
    limits: tuple[float, float] = (-np.inf, np.inf)
    report: Callable[[Iteration, int], None] | None = None


def finished(history: list[Iteration], schedule: Schedule) -> bool:
    """Return whether the loss has stopped falling by ``tol``.

    Raises
    ------
    TrainingError
        The loss is not finite.
    """
    loss = history[-1].loss
    if not np.isfinite(loss):
        raise TrainingError(f"the loss is {loss} after iteration {history[-1].iteration}: raise regParam")
    if schedule.tol <= 0 or len(history) < 2:
        return False
    return history[-2].loss - loss < schedule.tol * abs(history[-2].loss)
