"""Full-batch gradient descent on the frame of blocks: one pass over the blocks of users is one gradient.

Every task computes dE/dX of its own users and its part of dE/dY; the driver adds the parts up, adds the regularisation
and moves both sides. Nothing of the size users x items exists anywhere; what travels per step is both sides out, one
side back once and the other once per block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from mfspark.blocks.build import Layout
from mfspark.blocks.map_blocks import joined, side_sums, summed, visit_blocks
from mfspark.blocks.profile import Profile
from mfspark.errors import TrainingError
from mfspark.kernels.csr import Block, Side
from mfspark.kernels.gradient_descent import (
    FIT,
    HALVES,
    SLOPE,
    VALID_ROWS,
    VALID_SQUARES,
    WEIGHT,
    Batch,
    gradient_block,
)
from mfspark.kernels.losses import get_loss
from mfspark.kernels.objective import Settings, ridge
from mfspark.kernels.optimisers import Hyper, Optimiser, clip_by_norm, learning_rate
from mfspark.kernels.schedules import ScheduleState
from mfspark.training.als import Factors
from mfspark.training.history import rmse
from mfspark.training.loop import Measures

_RESULTS = {"own": "binary", "other": "binary", "statistics": "array<double>"}


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
    return side_sums(blocks, layout, (len(profile.sides[0]), len(profile.sides[1])), lambda block: block.weights)


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
        self.blocks, self.carrier, self.settings, self.descent = blocks, carrier, settings, descent
        self.layout, self.limits = layout, limits
        self.ridges = [
            ridge(weight, reg, settings.exponent) for weight, reg in zip(weights, settings.reg_param, strict=True)
        ]
        self.total = float(weights[Side.USER].sum())
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
        valid = rmse(sums[VALID_SQUARES], sums[VALID_ROWS])
        return Gradient(float(sums[FIT] / n), regularisation, sides, float(sums[SLOPE] / n), valid)

    def _collect(self, factors: Factors, step: int, last: bool) -> tuple[list[NDArray[Any]], NDArray[np.float64]]:
        settings, limits, loss = self.settings, self.limits, self.descent.loss
        batch_of = Batch(1.0 if last else self.descent.share, ((self.descent.seed << 32) + step) % 2**64)

        def derive(block: Block, _number: int, rows: slice, data: Any) -> tuple[bytes, bytes, list[float]]:
            (X, Y), intercept = data
            dX, dY, statistics = gradient_block(
                block, X[rows], Y, settings, get_loss(loss), intercept, batch_of, rows.start, limits, not last
            )
            return dX.tobytes(), dY.tobytes(), statistics.tolist()

        here = (factors.sides[Side.USER], factors.sides[Side.ITEM])
        data = (here, factors.intercept)
        results = visit_blocks(self.blocks, self.layout, Side.USER, data, derive, _RESULTS, self.carrier)
        sums = np.sum([row["statistics"] for row in results], axis=0)
        if last:
            return [], sums
        return [joined(results, "own", here[0]).astype(np.float64), summed(results, "other", here[1])], sums


@dataclass
class Position:
    """Where a descent is: the factors, the gradient there, and what the optimiser and the step schedule remember."""

    factors: Factors
    here: Gradient
    optimiser: Optimiser
    schedule: ScheduleState

    def parts(self) -> dict[str, Any]:
        """Return what a checkpoint stores."""
        here, slopes = self.here, dict(zip(("user_slopes", "item_slopes"), self.here.sides, strict=True))
        remembered = {
            f"remembered {place} {name}": value
            for place, memory in enumerate(self.optimiser.states)
            for name, value in memory.items()
        }
        numbers = [float(here.fit), float(here.regularisation), float(here.intercept), here.validation_rmse]
        step, losses = float(self.schedule.step), [float(loss) for loss in self.schedule.losses]
        course = {"gradient": numbers, "step": step, "losses": losses}
        return {**self.factors.parts(), **slopes, **remembered, **course, "memories": len(self.optimiser.states)}

    def restore(self, parts: Mapping[str, Any]) -> None:
        """Become what a checkpoint stored."""
        self.factors.restore(parts)
        fit, regularisation, intercept, error = parts["gradient"]
        slopes = [parts["user_slopes"], parts["item_slopes"]]
        self.here = Gradient(fit, regularisation, slopes, intercept, error)
        self.optimiser.states = [{} for _ in range(parts["memories"])]
        for key in (key for key in parts if key.startswith("remembered ")):
            _, place, name = key.split(" ", 2)
            self.optimiser.states[int(place)][name] = parts[key]
        self.schedule = replace(self.schedule, step=parts["step"], losses=tuple(parts["losses"]))


def start(gradients: Pass, factors: Factors) -> Position:
    """Return the position at the start, which moves the given factors."""
    descent = gradients.descent
    optimiser, schedule = Optimiser(descent.optimiser, descent.hyper), ScheduleState(descent.rate, (), descent.decay)
    return Position(factors, gradients.at(factors, 0), optimiser, schedule)


@dataclass(frozen=True)
class Steps:
    """Steps down the gradient; the object itself is the sweep, one iteration being one step.

    Each iteration's loss is that of the factors at its end: exact, or with mini-batches estimated on the next step's
    batch (the last one is exact). Under the bold driver a step that raised the loss is undone, so that the loss never
    rises.

    Parameters
    ----------
    gradients : Pass
        Gives the gradient at a point.
    number : int
        How many steps there are at most: after the last one no derivatives are needed.
    """

    gradients: Pass
    number: int

    def __call__(self, position: Position, step: int) -> Measures:
        """Take one step, replacing the position."""
        descent, here, factors = self.gradients.descent, position.here, position.factors
        rate = learning_rate(descent.schedule, descent.rate, step, position.schedule, descent.every)
        careful = descent.schedule == "bold_driver"
        before = Factors([side.copy() for side in factors.sides] if careful else [], factors.intercept)
        _move(self.gradients, factors, here, position.optimiser, rate)
        there = self.gradients.at(factors, step + 1, last=step + 1 == self.number)
        losses = (*(position.schedule.losses or (here.loss,)), there.loss)
        undone = careful and not there.loss <= here.loss
        if undone:
            factors.sides, factors.intercept = before.sides, before.intercept
            position.optimiser.states.clear()
            losses = (here.loss, np.inf)  # the schedule halves the rate
        else:
            position.here = there
        position.schedule = ScheduleState(rate, losses, descent.decay)
        here = position.here
        return Measures(here.fit, here.regularisation, here.validation_rmse, moved=not undone)


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
