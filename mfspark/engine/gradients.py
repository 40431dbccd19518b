"""Full-batch gradient descent on the frame of blocks: one pass over the blocks of users is one gradient.

Every task computes dE/dX of its own users and its part of dE/dY; the driver adds the parts up, adds the regularisation
and moves both sides. Nothing of the size users x items exists anywhere; what travels per step is both sides out, one
side back once and the other once per block.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from mfspark.engine.blocks import Layout, read_block
from mfspark.engine.carriers import carry
from mfspark.engine.fitting import Factors, Iteration, Schedule
from mfspark.engine.ratings import SIDES, Profile
from mfspark.errors import TrainingError
from mfspark.kernels.block import Settings
from mfspark.kernels.confidence import ridge
from mfspark.kernels.gradients import (
    FIT,
    HALVES,
    SLOPE,
    STATISTICS,
    VALID_ROWS,
    VALID_SQUARES,
    WEIGHT,
    Batch,
    gradient_block,
)
from mfspark.kernels.losses import get_loss
from mfspark.kernels.optimisers import Hyper, Optimiser, clip_by_norm, learning_rate
from mfspark.kernels.schedules import ScheduleState

_SCHEMA = "block int, own binary, other binary, statistics array<double>"
_KINDS = (pa.int32(), pa.binary(), pa.binary(), pa.list_(pa.float64()))
_SIDE = 0  # the side whose blocks are passed over


@dataclass(frozen=True)
class Descent:
    """How to descend.

    Parameters
    ----------
    loss : str
        A key of ``losses.LOSSES``.
    optimiser : str
        A key of ``optimisers.OPTIMISERS``.
    rate, schedule, decay, every
        The first learning rate, one of ``optimisers.RATE_SCHEDULES``, its decay per step, the length of its stairs.
    clip_norm : float, optional
        The largest norm of a gradient.
    share, seed : float, int
        The share of the ratings that a step looks at, and the seed of its hash.
    intercept : bool
        Whether alpha is learned; it is not regularised.
    hyper : Hyper
        The optimiser's constants.
    """

    loss: str = "squared"
    optimiser: str = "adam"
    rate: float = 0.05
    schedule: str = "constant"
    decay: float = 0.1
    every: int = 10
    clip_norm: float | None = None
    share: float = 1.0
    seed: int = 0
    intercept: bool = False
    hyper: Hyper = field(default_factory=Hyper)


@dataclass(frozen=True)
class Gradient:
    """What one pass found at a point: the objective's parts, its derivatives, the held-out errors."""

    fit: float
    regularisation: float
    sides: list[NDArray[Any]]
    intercept: float
    validation_rmse: float | None

    @property
    def loss(self) -> float:
        """The objective."""
        return self.fit + self.regularisation


def row_weights(blocks: DataFrame, layout: Layout, profile: Profile) -> list[NDArray[np.float64]]:
    """Return the sum of the weights of every row's ratings, by side: the counts where ratings have no weights."""
    if not layout.weighted:
        return [side.counts.astype(np.float64) for side in profile.sides]
    name, bounds, others = SIDES[_SIDE], layout.bounds[_SIDE], len(profile.sides[1 - _SIDE])
    own = replace(layout, bounds=(bounds, bounds))

    def weigh(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch, row, number in owned_blocks(batches, bounds):
            block = read_block(batch, row, name, own)
            rows = np.repeat(np.arange(block.rows), np.diff(block.indptr))
            sums = (np.bincount(at, block.weights, n) for at, n in ((rows, block.rows), (block.indices, others)))
            cells = [pa.array([number], pa.int32()), *(pa.array([one.tobytes()], pa.binary()) for one in sums)]
            yield pa.RecordBatch.from_arrays(cells, ["block", "own", "other"])

    weights = [np.zeros(len(side)) for side in profile.sides]
    for found in blocks.mapInArrow(weigh, "block int, own binary, other binary").toArrow().to_pylist():
        weights[_SIDE][bounds[found["block"]] : bounds[found["block"] + 1]] = np.frombuffer(found["own"])
        weights[1 - _SIDE] += np.frombuffer(found["other"])
    return weights


def owned_blocks(
    batches: Iterator[pa.RecordBatch], bounds: NDArray[np.int64]
) -> Iterator[tuple[pa.RecordBatch, int, int]]:
    """Yield batch, row and number of every block of a side (the frame may have more rows than a side has blocks)."""
    for batch in batches:
        for row in range(batch.num_rows):
            number = batch.column("block")[row].as_py()
            if number + 1 < len(bounds):
                yield batch, row, number


class Pass:
    """The pass over the blocks that gives the gradient at a point.

    Parameters
    ----------
    blocks, layout
        The frame of blocks and how both sides are cut.
    settings : Settings
        The model, seen from the user side; its regularisation is ALS's: reg_param * (a row's weight) ** exponent
        beside the *sum* of the losses; half of it for losses other than the squared one.
    descent : Descent
        The loss and the batches.
    weights : pair of arrays
        From ``row_weights``.
    limits : (float, float)
        The range to which predictions of held-out ratings are clipped.
    carrier : str
        How factors reach the workers.
    """

    def __init__(
        self,
        blocks: DataFrame,
        layout: Layout,
        settings: Settings,
        descent: Descent,
        weights: list[NDArray[np.float64]],
        limits: tuple[float, float] = (-np.inf, np.inf),
        carrier: str = "auto",
    ) -> None:
        name = SIDES[_SIDE]
        columns = [column for column in blocks.columns if column == "block" or column.startswith(f"{name}_")]
        self.blocks, self.carrier, self.settings, self.descent = blocks.select(columns), carrier, settings, descent
        self.bounds, self.layout, self.limits = layout.bounds[_SIDE], layout, limits
        self.ridges = [
            ridge(weight, reg, settings.exponent) for weight, reg in zip(weights, settings.reg_param, strict=True)
        ]
        self.total = float(weights[_SIDE].sum())
        self.half = HALVES.get(descent.loss, 1.0) / 2

    def at(self, factors: Factors, step: int, last: bool = False) -> Gradient:
        """Return the gradient at a point, of the ratings of a step's batch; of all, without derivatives, if last."""
        sides, sums = self._collect(factors, step, last)
        n, regularisation = sums[WEIGHT], 0.0
        if not n > 0:
            raise TrainingError("a step's batch has no ratings: raise miniBatchFraction")
        for place, (array, own) in enumerate(zip(factors.sides, self.ridges, strict=True)):
            regularisation += float(own @ np.einsum("ij,ij->i", array, array, dtype=np.float64))
            if not last:
                slope = sides[place] / n + (2 * self.half / self.total) * own[:, None] * array
                sides[place] = slope.astype(array.dtype, copy=False)
        regularisation *= self.half / self.total
        rmse = float(np.sqrt(sums[VALID_SQUARES] / sums[VALID_ROWS])) if sums[VALID_ROWS] else None
        return Gradient(float(sums[FIT] / n), regularisation, sides, float(sums[SLOPE] / n), rmse)

    def _collect(self, factors: Factors, step: int, last: bool) -> tuple[list[NDArray[Any]], NDArray[np.float64]]:
        settings, bounds, limits = self.settings, self.bounds, self.limits
        loss, name = self.descent.loss, SIDES[_SIDE]
        own = replace(self.layout, bounds=(bounds, bounds))
        batch_of = Batch(1.0 if last else self.descent.share, ((self.descent.seed << 32) + step) % 2**64)

        def derive(batches: Iterator[pa.RecordBatch], data: Any) -> Iterator[pa.RecordBatch]:
            (X, Y), intercept = data
            for batch, row, number in owned_blocks(batches, bounds):
                block, part = read_block(batch, row, name, own), slice(bounds[number], bounds[number + 1])
                dX, dY, statistics = gradient_block(
                    block, X[part], Y, settings, get_loss(loss), intercept, batch_of, int(bounds[number]), limits,
                    not last,
                )  # fmt: skip
                cells = (number, dX.tobytes(), dY.tobytes(), statistics.tolist())
                arrays = [pa.array([cell], kind) for cell, kind in zip(cells, _KINDS, strict=True)]
                yield pa.RecordBatch.from_arrays(arrays, ["block", "own", "other", "statistics"])

        data = ((factors.sides[_SIDE], factors.sides[1 - _SIDE]), factors.intercept)
        frame, release = carry(self.blocks, data, derive, _SCHEMA, packed=True, carrier=self.carrier)
        found = frame.toArrow()
        release()
        return self._add_up(found, factors, last)

    def _add_up(self, found: pa.Table, factors: Factors, last: bool) -> tuple[list[NDArray[Any]], NDArray[np.float64]]:
        sides = [] if last else [np.zeros_like(side, np.float64) for side in factors.sides]
        sums = np.zeros(len(STATISTICS))
        order = np.argsort(found.column("block").to_numpy(), kind="stable")  # floating sums depend on their order
        for row in order.tolist():
            number = found.column("block")[row].as_py()
            sums += np.array(found.column("statistics")[row].as_py())
            for place, name in () if last else ((_SIDE, "own"), (1 - _SIDE, "other")):
                array = np.frombuffer(found.column(name)[row].as_buffer(), factors.sides[place].dtype)
                part = slice(self.bounds[number], self.bounds[number + 1]) if name == "own" else slice(None)
                sides[place][part] += array.reshape(-1, factors.sides[place].shape[1])
        return sides, sums


def descend(gradients: Pass, factors: Factors, schedule: Schedule) -> list[Iteration]:
    """Descend from the given start, replacing ``factors``; one iteration is one step.

    Each iteration's loss is that of the factors at its end: exact, or with mini-batches estimated on the next step's
    batch (the last one is exact). Under the bold driver a step that raised the loss is undone, so that the loss never
    rises.
    """
    descent, history = gradients.descent, list[Iteration]()
    optimiser, state = Optimiser(descent.optimiser, descent.hyper), ScheduleState(descent.rate, (), descent.decay)
    careful, began = descent.schedule == "bold_driver", time.perf_counter()
    here = gradients.at(factors, 0, last=schedule.iterations == 0)
    for step in range(schedule.iterations):
        rate = learning_rate(descent.schedule, descent.rate, step, state, descent.every)
        before = Factors([side.copy() for side in factors.sides] if careful else [], factors.intercept)
        _move(gradients, factors, here, optimiser, rate)
        there = gradients.at(factors, step + 1, last=step + 1 == schedule.iterations)
        losses = (*(state.losses or (here.loss,)), there.loss)
        if careful and not there.loss <= here.loss:
            factors.sides, factors.intercept = before.sides, before.intercept
            optimiser.states.clear()
            losses = (here.loss, np.inf)  # the schedule halves the rate
        elif not np.isfinite(there.loss):
            raise TrainingError(f"the loss is {there.loss} after iteration {step + 1}: lower stepSize")
        else:
            here = there
        state = ScheduleState(rate, losses, descent.decay)
        seconds, began = time.perf_counter() - began, time.perf_counter()
        line = Iteration(step + 1, here.loss, here.fit, here.regularisation, here.validation_rmse, seconds)
        history.append(line)
        if schedule.report is not None:
            schedule.report(line, schedule.iterations)
        if here is there and _settled(history, schedule.tol):
            break
    return history


def _settled(history: list[Iteration], tol: float) -> bool:
    if tol <= 0 or len(history) < 2:
        return False
    before, after = history[-2].loss, history[-1].loss
    return before - after < tol * abs(before)


def _move(gradients: Pass, factors: Factors, here: Gradient, optimiser: Optimiser, rate: float) -> None:
    """Take one step: clip, step, project onto the non-negative numbers where asked."""
    descent = gradients.descent
    intercept = np.array([factors.intercept])
    parameters, slopes = [*factors.sides], [side.copy() for side in here.sides]
    if descent.intercept:
        parameters.append(intercept)
        slopes.append(np.array([here.intercept]))
    if descent.clip_norm is not None:
        clip_by_norm(slopes, descent.clip_norm)
    optimiser.step(parameters, slopes, rate)
    factors.intercept = float(intercept[0])
    if gradients.settings.nonnegative:
        for side in factors.sides:
            np.maximum(side, 0, out=side)
