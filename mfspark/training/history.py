"""The history of a fit: one line an iteration, and how lines travel from a task to the driver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np


@dataclass(frozen=True)
class Iteration:
    """One line of a fit's history.

    Parameters
    ----------
    iteration : int
        Its number, from 1.
    loss, fit, regularisation : float
        The objective at the iteration's end, and its two parts.
    validation_rmse : float or None
        The error of the held-out ratings; None where there are none.
    seconds : float
        How long the iteration took.
    repaired : int, default 0
        How many rows the kernels had to repair: their equations were solved by another way than the chosen one.
    """

    iteration: int
    loss: float
    fit: float
    regularisation: float
    validation_rmse: float | None
    seconds: float
    repaired: int = 0


def rmse(squares: float, number: float) -> float | None:
    """Return the root of the mean of ``number`` squared errors whose sum is ``squares``, None for no errors."""
    return float(np.sqrt(squares / number)) if number else None


def to_bytes(history: Sequence[Iteration]) -> bytes:
    """Return lines as bytes, for ``from_bytes``."""
    cells = [[np.nan if value is None else value for value in astuple(line)] for line in history]
    return np.array(cells, np.float64).tobytes()


def from_bytes(data: bytes | memoryview) -> list[Iteration]:
    """Return the lines that ``to_bytes`` made bytes of."""
    lines = []
    for cells in np.frombuffer(data).reshape(-1, len(Iteration.__dataclass_fields__)).tolist():
        number, loss, fit, regularisation, error, seconds, repaired = cells
        valid = None if np.isnan(error) else error
        lines.append(Iteration(int(number), loss, fit, regularisation, valid, seconds, int(repaired)))
    return lines
