"""What a fit went through, as the summaries of pyspark.ml tell it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mfspark.training.history import Iteration


@dataclass(frozen=True)
class TrainingSummary:
    """What a fit went through, iteration by iteration.

    Parameters
    ----------
    lines : sequence of Iteration
        One an iteration.
    """

    lines: Sequence[Iteration]

    @property
    def totalIterations(self) -> int:
        """The number of iterations."""
        return len(self.lines)

    @property
    def objectiveHistory(self) -> list[float]:
        """The loss (fit and regularisation) after every iteration."""
        return [line.loss for line in self.lines]

    @property
    def validationHistory(self) -> list[float]:
        """The RMSE of the held-out ratings after every iteration; empty where none were held out."""
        return [line.validation_rmse for line in self.lines if line.validation_rmse is not None]

    @property
    def seconds(self) -> float:
        """How long the iterations took together."""
        return sum(line.seconds for line in self.lines)

    def __repr__(self) -> str:
        """Say in one line how the fit ended."""
        told = [f"{self.totalIterations} iterations in {self.seconds:.2f} s"]
        told += [f"loss {self.lines[-1].loss:.6g}"] if self.lines else []
        told += [f"validation RMSE {self.validationHistory[-1]:.4f}"] if self.validationHistory else []
        return f"TrainingSummary: {', '.join(told)}"
