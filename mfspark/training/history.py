"""One line of a fit's history."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Iteration:
    """One line of a fit's history."""

    iteration: int
    loss: float
    fit: float
    regularisation: float
    validation_rmse: float | None
    seconds: float
