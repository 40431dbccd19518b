"""Alternating least squares as jobs: a sweep is one half step called twice with the sides swapped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from mfspark.blocks.build import Layout
from mfspark.blocks.map_blocks import joined, visit_blocks
from mfspark.errors import TrainingError
from mfspark.kernels.als.half_step import CAUSES, STATISTICS, blame, solve_block
from mfspark.kernels.csr import Block, Side
from mfspark.kernels.objective import Settings, fix
from mfspark.training.history import rmse
from mfspark.training.loop import Measures

_RESULTS = {"solved": "binary", "statistics": "array<double>", "unsolved": "long", "cause": "long"}
_ADVICE = {
    "lambda": "raise regParam",
    "magnitude": "its ratings are extreme, divide all ratings by a constant",
    "weight": "its weights are extreme, bring all weights closer to 1",
}


@dataclass
class Factors:
    """Both sides as arrays (n x padded; column ``rank`` holds the bias where there is one), intercept, ids if known."""

    sides: list[NDArray[Any]]
    intercept: float = 0.0
    ids: tuple[pa.Array, ...] = ()

    def parts(self) -> dict[str, Any]:
        """Return what a checkpoint stores."""
        return {"users": self.sides[0], "items": self.sides[1], "intercept": float(self.intercept)}

    def restore(self, parts: Mapping[str, Any]) -> None:
        """Become what a checkpoint stored."""
        self.sides, self.intercept = [parts["users"], parts["items"]], parts["intercept"]


@dataclass(frozen=True)
class HalfSteps:
    """Half steps on the workers; the object itself is ALS's sweep.

    Parameters
    ----------
    blocks, layout
        The frame of blocks and how both sides are cut.
    settings : Settings
        The model, seen from the user side.
    limits : (float, float)
        The range to which predictions of held-out ratings are clipped.
    carrier : str
        How factors reach the workers.
    """

    blocks: DataFrame
    layout: Layout
    settings: Settings
    limits: tuple[float, float] = (-np.inf, np.inf)
    carrier: str = "auto"

    def __call__(self, factors: Factors, iteration: int) -> Measures:  # noqa: ARG002
        """Run a sweep, replacing ``factors``; items first, so that users end at their exact optimum.

        The loss is exact for the factors at the end: the second half step measures the fit and its own regularisation,
        the first the other side's.
        """
        first = self.solve(factors, Side.ITEM)
        return measures(first, self.solve(factors, Side.USER, measure=True))

    def solve(self, factors: Factors, dst: Side, measure: bool = False) -> NDArray[np.float64]:
        """Solve one side against the other, replace it in ``factors``, and return the summed statistics.

        Raises
        ------
        TrainingError
            Some row's equations have no finite solution.
        """
        seen, limits = seen_from(self.settings, dst), self.limits
        fixed = fix(factors.sides[dst.other], seen, factors.intercept)
        start = factors.sides[dst] if seen.warm else None

        def solve(block: Block, _number: int, rows: slice, data: Any) -> tuple[bytes, list[float], int, int]:
            fixed, start = data
            before = None if start is None else start[rows]
            X, statistics, unsolved = solve_block(block, fixed, seen, before, measure, limits)
            return X.tobytes(), statistics.tolist(), unsolved, CAUSES.index(blame(block, unsolved))

        results = visit_blocks(self.blocks, self.layout, dst, (fixed, start), solve, _RESULTS, self.carrier)
        for row in results:
            if row["unsolved"] >= 0:
                place = int(self.layout.bounds[dst][row["block"]] + row["unsolved"])
                raise UnsolvableError(dst, place, cause=CAUSES[row["cause"]]).named(factors)
        factors.sides[dst] = joined(results, "solved", factors.sides[dst])
        return np.sum([row["statistics"] for row in results], axis=0)


def seen_from(settings: Settings, dst: Side) -> Settings:
    """Return the user side's settings as the solved side sees them."""
    return settings if dst == Side.USER else settings.swapped()


class UnsolvableError(TrainingError):
    """A row whose equations have no finite solution: number ``place`` of a side, named by its id if that is known."""

    def __init__(self, side: Side, place: int, name: str | None = None, cause: str = "lambda") -> None:
        row = f"{side.stem} {name or f'number {place}'}"
        super().__init__(f"the equations of {row} have no finite solution ({cause}): {_ADVICE[cause]}")
        self.side, self.place, self.name, self.cause = side, place, name, cause

    def __reduce__(self) -> tuple[type, tuple[Side, int, str | None, str]]:
        """Say how to pickle it: not by its message."""
        return UnsolvableError, (self.side, self.place, self.name, self.cause)

    def named(self, factors: Factors) -> UnsolvableError:
        """Return the error with the row's id, where the factors have ids."""
        ids = factors.ids
        name = repr(ids[self.side][self.place].as_py()) if ids else self.name
        return UnsolvableError(self.side, self.place, name, self.cause)


def measures(first: NDArray[Any], second: NDArray[Any]) -> Measures:
    """Return what a sweep measured, from the statistics of its two half steps."""
    sums = dict(zip(STATISTICS, second.tolist(), strict=True))
    before = dict(zip(STATISTICS, first.tolist(), strict=True))
    valid = rmse(sums["valid_squares"], sums["valid_rows"])
    repaired = int(sums["repaired"] + before["repaired"])
    return Measures(sums["fit"], sums["regularisation"] + before["regularisation"], valid, repaired)
