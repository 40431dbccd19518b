"""Stratified distributed SGD (DSGD; Gemulla, Nijkamp, Haas, Sismanis 2011) as one barrier stage.

Users and items are cut into d blocks each. Task g holds some blocks of users with their ratings, and keeps their
factors from the first epoch to the last. Blocks of items go round: an epoch is d strata, in each of which every block
of users meets another block of items, so that no two tasks ever touch the same row. A task sends an item block on as
soon as it is done with it, to the task that needs it next. Worked example, d = 2, two tasks: in stratum 0 task 0 passes
over cell (0, 0) while task 1 passes over (1, 1); they swap item blocks; in stratum 1 they pass over (0, 1) and (1, 0).

With more blocks than tasks (``tasks`` divides d) a task passes over several cells a stratum, one after the other.

The driver starts one job and gets the factors at its end; with checkpoints one job for the epochs between two of them,
which gives back the whole state (``sgd_state``), to be stored and handed to the next. Everything that is drawn is a
function of the seed, the epoch and the cell, and the order in which a row meets its ratings does not depend on the
speed of any task: the same seed, d and number of tasks give the same factors bit for bit, also when Spark runs the
stage again after a failure.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from mfspark.blocks.build import place, read_block
from mfspark.errors import TrainingError
from mfspark.kernels.csr import Side
from mfspark.kernels.sgd.cells import UserBlock
from mfspark.session import is_connect
from mfspark.training import task_rows
from mfspark.training.checkpoint import NEVER, Checkpoints, Resumable
from mfspark.training.history import Iteration
from mfspark.training.loop import Stopping
from mfspark.training.sgd_state import Part, State, columns, table
from mfspark.training.sgd_worker import Job, Worker
from mfspark.transport.barrier import Alone, Peers
from mfspark.transport.carriers import Carried, carry
from mfspark.transport.slots import together

Batches = Iterator[pa.RecordBatch]


def run(batches: Batches, job: Job, start: State | Part | None = None) -> Batches:
    """Run one task of a fit: the rows of its blocks in; factors, and from the first task the history, out.

    Where the start is a Part, its tables come as rows beside the blocks, of the kinds of ``task_rows``.
    """
    bounds = job.bounds
    own = replace(job.layout, bounds=(bounds[Side.USER],) * 2)
    users = []
    given = task_rows.Tables()
    for batch in batches:
        for row in range(batch.num_rows):
            number = batch.column("block")[row].as_py()
            if isinstance(start, Part) and batch.column("kind")[row].is_valid:
                given.add(batch, row)
            elif number < job.blocks:
                block = read_block(batch, row, Side.USER, own)
                users.append(UserBlock(number, int(bounds[Side.USER][number]), block, bounds[Side.ITEM], job.recipe))
    if isinstance(start, Part):
        for (side, number), data in given.joined().items():
            start.tables[side, int(bounds[side][number])] = data.reshape(-1, columns(job.recipe, side, whole=True))
            start.items += [number] if side is Side.ITEM else []
    peers = Peers(job.secret) if job.tasks > 1 else Alone()
    worker = Worker(job, users, peers, start)
    try:
        history = worker.train()
    except TrainingError as error:
        peers.close()
        yield task_rows.error_row(error)
        return
    peers.close()
    if peers.number == 0:
        yield task_rows.history_row(history)
        if job.whole:
            yield task_rows.note_row(worker.course.numbers())
    for side, blocks in zip(Side, ({user.number: user.rows for user in worker.users}, worker.items), strict=True):
        for number, rows in blocks.items():
            first = int(bounds[side][number])
            yield from task_rows.side_rows(side, number, first, table(rows, job.recipe, job.whole))


class Fit(NamedTuple):
    """What a fit came to.

    Parameters
    ----------
    sides : two float32 arrays (n, rank, + 1 where the side has a bias)
        Factors, biases last.
    history : list of Iteration
        One line an epoch.
    """

    sides: list[NDArray[np.float32]]
    history: list[Iteration]


def fit(blocks: DataFrame, job: Job, checkpoints: Checkpoints = NEVER) -> Fit:
    """Train on the frame of blocks (users' side): one job, or one for the epochs from checkpoint to checkpoint.

    Parameters
    ----------
    blocks : DataFrame
        From ``blocks.build.build`` for the users only.
    job : Job
        How to train.
    checkpoints : Checkpoints
        Where the state is stored, and what an earlier process left of it.

    Returns
    -------
    Fit

    Raises
    ------
    TrainingError
        The fit diverges.
    SlotsLostError
        An executor was lost, and for too long no other one took its place.
    """
    recipe = job.recipe
    shapes = [(int(job.bounds[side][-1]), columns(recipe, side, checkpoints.active)) for side in Side]
    state = State([np.zeros(shape, np.float32) for shape in shapes])
    history = in_stages(job, state, checkpoints, lambda stage: _stage(blocks, stage, state))
    widths = [columns(recipe, side, whole=False) for side in Side]
    return Fit([side[:, :width] for side, width in zip(state.sides, widths, strict=True)], history)


class Staged(Resumable, Protocol):
    """A state that a stage replaces."""

    course: dict[str, Any]


def in_stages(
    job: Job, state: Staged, checkpoints: Checkpoints, run_stage: Callable[[Job], list[Iteration]]
) -> list[Iteration]:
    """Run a fit as one stage, or as one from checkpoint to checkpoint; return the lines of all epochs.

    Parameters
    ----------
    job : Job
        How to train.
    state : Staged
        What ``run_stage`` begins with and replaces.
    checkpoints : Checkpoints
        Where the state is stored, and what an earlier process left of it.
    run_stage : callable
        Runs a stage of a job, and returns the lines of all epochs so far.
    """
    recipe = job.recipe
    stopping, history = Stopping(recipe.epochs, recipe.tol), checkpoints.resume(state)
    while True:
        until = checkpoints.pause(len(history), recipe.epochs)
        secret = secrets.token_bytes(32)  # the next stage must not meet tasks of this one
        history = run_stage(replace(job, until=until, earlier=tuple(history), whole=checkpoints.active, secret=secret))
        if stopping.ends(history, moved=not state.course.get("overshot")):
            return history
        checkpoints(history, state)


def _stage(blocks: DataFrame, job: Job, state: State) -> list[Iteration]:
    """Run one stage from a state (with no course: from the start), replacing it; return the lines of all epochs."""
    with together(blocks.sparkSession, job.tasks):
        return task_rows.collect(staged(blocks, job, state).collect(), state.sides, state.course)


def staged(blocks: DataFrame, job: Job, state: State | Part | None = None) -> Carried:
    """Return what the tasks of one stage give back (lazy), see ``task_rows``; without a state they begin.

    The tables of a Part are rows of ``blocks``, see ``run``.
    """
    frame, barrier = blocks, job.tasks > 1
    if job.tasks < job.blocks:
        fused = job.blocks // job.tasks
        frame = place(blocks.withColumn("task", F.expr(f"cast(block div {fused} as int)")), "task", job.tasks)
    start = state if state is not None and state.course else None
    if isinstance(start, State) and not is_connect(blocks.sparkSession):

        def resumed(batches: Batches, start: Any) -> Batches:
            return run(batches, job, start)

        rows, release = carry(frame, start, resumed, task_rows.SCHEMA, True, "broadcast", barrier)
    else:  # a one-row table joined to the blocks would leave tasks without blocks waited for in vain

        def task(batches: Batches) -> Batches:
            return run(batches, job, start)

        rows, release = frame.mapInArrow(task, task_rows.SCHEMA, barrier=barrier), lambda: None
    if barrier:
        # Spark runs a failed barrier stage again only where a shuffle follows it, not if its output is the result.
        rows = place(rows, "block", job.tasks)
    return Carried(rows, release)
