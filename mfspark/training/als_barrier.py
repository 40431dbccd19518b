"""ALS as one barrier stage: the whole loop in one job, in which tasks exchange what they solved directly.

Task g holds block g of both sides and a copy of both sides' factors. In each half step it solves its own rows, and all
tasks give each other what they solved. The driver starts one job and gets the factors at its end, so that a sweep costs
no job, no plan and no trip through the driver; the price is that all tasks must run at once, and that a lost task
starts the fit again. ``training.als.HalfSteps`` is the same sweep with one job a half step; both call the same kernels
in the same order and give the same factors.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from mfspark.blocks.build import Layout, assembled, place, read_block
from mfspark.errors import MFSparkError
from mfspark.kernels.als.half_step import blame, solve_block
from mfspark.kernels.csr import Block, Side
from mfspark.kernels.objective import Settings, fix
from mfspark.training import task_rows
from mfspark.training.als import Factors, UnsolvableError, measures, seen_from
from mfspark.training.checkpoint import NEVER, Checkpoints
from mfspark.training.history import Iteration
from mfspark.training.loop import Measures, Stopping, run
from mfspark.training.progress import reporter
from mfspark.transport.barrier import Alone, Peers
from mfspark.transport.carriers import Carried, carry
from mfspark.transport.slots import together


@dataclass(frozen=True)
class Job:
    """What every task is told.

    Parameters
    ----------
    layout : Layout
        How both sides are cut; as many tasks as its blocks.
    settings : Settings
        The model, seen from the user side.
    stopping : Stopping
        When to stop.
    limits : (float, float)
        The range to which predictions of held-out ratings are clipped.
    stage, every
        Of the first task's progress, see ``progress.reporter``.
    secret : bytes
        By which the tasks know each other.
    until : int, optional
        After which iteration the stage ends: where the next checkpoint is due.
    earlier : tuple of Iteration
        The lines of the iterations before.
    """

    layout: Layout
    settings: Settings
    stopping: Stopping
    limits: tuple[float, float] = (-np.inf, np.inf)
    stage: str = "ALS"
    every: float | None = None
    secret: bytes = field(default_factory=lambda: os.urandom(16), repr=False)
    until: int | None = None
    earlier: tuple[Iteration, ...] = ()

    @property
    def tasks(self) -> int:
        """How many tasks there are: one for a block of each side."""
        return self.layout.blocks


def fit(blocks: DataFrame, job: Job, factors: Factors, checkpoints: Checkpoints = NEVER) -> list[Iteration]:
    """Run ALS from the given start, replacing ``factors``; there must be a slot for every task.

    ``blocks`` is the frame of blocks, or that of their pieces, which are then put together in the tasks. With
    checkpoints a stage ends where one is due, and the next one starts from what the driver has then stored.

    Raises
    ------
    TrainingError
        Some row's equations have no finite solution, or the loss is not finite.
    SlotsLostError
        An executor was lost, and for too long no other one took its place.
    """
    history = checkpoints.resume(factors)
    while True:
        until = checkpoints.pause(len(history), job.stopping.max_iter)
        stage = replace(job, until=until, earlier=tuple(history), secret=os.urandom(16))
        history = _stage(blocks, stage, factors)
        if job.stopping.ends(history):
            return history
        checkpoints(history, factors)


def _stage(blocks: DataFrame, job: Job, factors: Factors) -> list[Iteration]:
    start = [factors.sides[0], factors.sides[1] if job.settings.warm else np.zeros_like(factors.sides[1])]
    data = (Factors(start, factors.intercept), job)
    frame, release = carry(blocks, data, _task, task_rows.SCHEMA, packed=True, barrier=job.tasks > 1)
    if job.tasks > 1:
        # Spark runs a failed barrier stage again only where a shuffle follows it, not if its output is the result.
        frame = place(frame, "block", job.tasks)
    try:
        with together(blocks.sparkSession, job.tasks):
            return task_rows.collect(Carried(frame, release).collect(), factors.sides)
    except UnsolvableError as error:
        raise error.named(factors) from None


def _task(batches: Iterator[pa.RecordBatch], data: tuple[Factors, Job]) -> Iterator[pa.RecordBatch]:
    """Run one task: the row with its blocks in; its rows of both sides, and from the first task the history, out."""
    start, job = data
    first = next(batches, None)
    if first is not None:
        batches = itertools.chain([first], batches)
        batches = assembled(batches, job.layout) if "target" in first.schema.names else batches
    rows = [(batch, row) for batch in batches for row in range(batch.num_rows)]
    peers = Peers(job.secret) if job.tasks > 1 else Alone()
    own = [_own_block(rows, side, peers.number, job.layout) for side in Side]
    factors = Factors([side.copy() for side in start.sides], start.intercept)
    hooks = [reporter(job.stopping.max_iter, job.every, job.stage)] if peers.number == 0 else []
    stopping = job.stopping if job.until is None else replace(job.stopping, max_iter=job.until)
    try:
        history = run(HalfSteps(own, job, peers), factors, stopping, hooks, job.earlier)
    except MFSparkError as error:
        peers.close()
        if peers.number == 0:
            yield task_rows.error_row(error)
        return
    peers.close()
    if peers.number == 0:
        yield task_rows.history_row(history)
    for side in Side:
        part = _rows(job.layout, side, peers.number)
        yield from task_rows.side_rows(side, peers.number, part.start, factors.sides[side][part])


@dataclass(frozen=True)
class HalfSteps:
    """One task's half steps, after each of which all tasks have the solved side; the object itself is the sweep."""

    own: list[Block]
    job: Job
    peers: Alone

    def __call__(self, factors: Factors, iteration: int) -> Measures:  # noqa: ARG002
        """Run a sweep, replacing ``factors``, the same in every task."""
        first = self.solve(factors, Side.ITEM)
        return measures(first, self.solve(factors, Side.USER, measure=True))

    def solve(self, factors: Factors, dst: Side, measure: bool = False) -> NDArray[np.float64]:
        """Solve this task's rows of a side, exchange them with the other tasks', and return the summed statistics."""
        layout, seen = self.job.layout, seen_from(self.job.settings, dst)
        fixed = fix(factors.sides[dst.other], seen, factors.intercept)
        start = factors.sides[dst][_rows(layout, dst, self.peers.number)] if seen.warm else None
        solved = solve_block(self.own[dst], fixed, seen, start, measure, self.job.limits)
        parts = self.peers.gather((*solved, blame(self.own[dst], solved[2])))
        for number, (_, _, unsolved, cause) in enumerate(parts):
            if unsolved >= 0:
                raise UnsolvableError(dst, int(layout.bounds[dst][number] + unsolved), cause=cause)
        factors.sides[dst] = np.concatenate([part[0] for part in parts])
        return np.sum([part[1] for part in parts], axis=0)


def _own_block(rows: list[tuple[pa.RecordBatch, int]], side: Side, number: int, layout: Layout) -> Block:
    bounds = layout.bounds[side]
    own = replace(layout, bounds=(bounds, bounds))
    for batch, row in rows:
        if batch.column("block")[row].as_py() == number and number + 1 < len(bounds):
            return read_block(batch, row, side, own)
    part = _rows(layout, side, number)
    return Block(np.zeros(part.stop - part.start + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))


def _rows(layout: Layout, side: Side, number: int) -> slice:
    """Return the rows of a side's block, none where the side has fewer blocks."""
    bounds = layout.bounds[side]
    return slice(int(bounds[number]), int(bounds[number + 1])) if number + 1 < len(bounds) else slice(0, 0)
