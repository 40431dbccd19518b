"""The training loop: one half step called twice with the sides swapped, the objective, the history and when to stop."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from mfspark.blocks.build import Layout
from mfspark.blocks.map_blocks import joined, visit_blocks
from mfspark.blocks.profile import Profile
from mfspark.errors import TrainingError
from mfspark.kernels.als.half_step import STATISTICS, solve_block
from mfspark.kernels.csr import Block, Side
from mfspark.kernels.objective import Settings, fix
from mfspark.training.history import Iteration
from mfspark.training.loop import Schedule, finished

_RESULTS = {"solved": "binary", "statistics": "array<double>", "unsolved": "long"}


@dataclass
class Factors:
    """Both sides as arrays (n x padded; column ``rank`` holds the bias where there is one), intercept, ids if known."""

    sides: list[NDArray[Any]]
    intercept: float = 0.0
    ids: tuple[pa.Array, ...] = ()


def initial_factors(profile: Profile, settings: Settings, seed: int, std: float, signed: bool) -> Factors:
    """Draw the start: entries N(0, std^2 / rank), their absolute value unless ``signed``; the padding is 0."""
    generator = np.random.default_rng(seed)
    sides = []
    for side in profile.sides:
        array = np.zeros((len(side), settings.padded), settings.dtype)
        drawn = generator.standard_normal((len(side), settings.rank), np.float32) * (std / np.sqrt(settings.rank))
        array[:, : settings.rank] = drawn if signed else np.abs(drawn)
        sides.append(array)
    return Factors(sides, ids=tuple(side.ids for side in profile.sides))


def half_step(
    blocks: DataFrame,
    layout: Layout,
    factors: Factors,
    dst: Side,
    settings: Settings,
    measure: bool,
    limits: tuple[float, float],
    carrier: str = "auto",
) -> NDArray[np.float64]:
    """Solve one side against the other on the workers, replace it in ``factors``, and return the summed statistics.

    ``settings`` are those of the users; ``dst`` names the side to solve.
    """
    seen = settings if dst == Side.USER else settings.swapped()
    fixed = fix(factors.sides[dst.other], seen, factors.intercept)
    start = factors.sides[dst] if seen.warm else None

    def solve(block: Block, _number: int, rows: slice, data: Any) -> tuple[bytes, list[float], int]:
        fixed, start = data
        before = None if start is None else start[rows]
        X, statistics, unsolved = solve_block(block, fixed, seen, before, measure, limits)
        return X.tobytes(), statistics.tolist(), unsolved

    found = visit_blocks(blocks, layout, dst, (fixed, start), solve, _RESULTS, carrier)
    for row in found:
        if row["unsolved"] >= 0:
            raise unsolvable(factors, dst, int(layout.bounds[dst][row["block"]] + row["unsolved"]))
    factors.sides[dst] = joined(found, "solved", factors.sides[dst])
    return np.sum([row["statistics"] for row in found], axis=0)


def unsolvable(factors: Factors, side: Side, place: int) -> TrainingError:
    """Return the error for a row whose equations have no finite solution."""
    name = f"{factors.ids[side][place].as_py()!r}" if factors.ids else f"number {place}"
    return TrainingError(
        f"the equations of {side.stem} {name} have no finite solution: raise regParam, or look for extreme ratings "
        "or weights of that id"
    )


def alternate(
    blocks: DataFrame,
    layout: Layout,
    factors: Factors,
    settings: Settings,
    schedule: Schedule,
    carrier: str = "auto",
) -> list[Iteration]:
    """Run ALS from the given start, replacing ``factors``; items first, so that users end at their exact optimum.

    Each iteration's loss is exact for the factors at its end: the second half step measures the fit and its own
    regularisation, the first the other side's.
    """
    history: list[Iteration] = []
    for iteration in range(1, schedule.iterations + 1):
        began = time.perf_counter()
        first = half_step(blocks, layout, factors, Side.ITEM, settings, False, schedule.limits, carrier)
        second = half_step(blocks, layout, factors, Side.USER, settings, True, schedule.limits, carrier)
        history.append(summed(iteration, first, second, time.perf_counter() - began))
        if schedule.report is not None:
            schedule.report(history[-1], schedule.iterations)
        if finished(history, schedule):
            break
    return history


def summed(iteration: int, first: NDArray[Any], second: NDArray[Any], seconds: float) -> Iteration:
    """Return an iteration's line from the statistics of its two half steps."""
    sums = dict(zip(STATISTICS, second.tolist(), strict=True))
    regularisation = sums["regularisation"] + first[STATISTICS.index("regularisation")]
    rmse = float(np.sqrt(sums["valid_squares"] / sums["valid_rows"])) if sums["valid_rows"] else None
    return Iteration(iteration, float(sums["fit"] + regularisation), sums["fit"], float(regularisation), rmse, seconds)
