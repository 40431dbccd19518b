"""Stratified distributed SGD (DSGD; Gemulla, Nijkamp, Haas, Sismanis 2011) as one gang of tasks.

Users and items are cut into d blocks each. Task g holds some blocks of users with their ratings, and keeps their
factors from the first epoch to the last. Blocks of items go round: an epoch is d strata, in each of which every block
of users meets another block of items, so that no two tasks ever touch the same row. A task sends an item block on as
soon as it is done with it, to the task that needs it next. Worked example, d = 2, two tasks: in stratum 0 task 0 passes
over cell (0, 0) while task 1 passes over (1, 1); they swap item blocks; in stratum 1 they pass over (0, 1) and (1, 0).

With more blocks than tasks (``tasks`` divides d) a task passes over several cells a stratum, one after the other.

The driver starts one job and gets the factors at its end. Everything that is drawn is a function of the seed, the epoch
and the cell, and the order in which a row meets its ratings does not depend on the speed of any task: the same seed, d
and number of tasks give the same factors bit for bit, also when Spark runs the stage again after a failure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from mfspark.blocks.build import place, read_block
from mfspark.errors import ParameterError, TrainingError
from mfspark.kernels.csr import Side
from mfspark.kernels.sgd.cells import Rows, UserBlock
from mfspark.training.history import Iteration
from mfspark.training.sgd_worker import Job, Worker
from mfspark.transport.barrier import Gang, Solo

_SCHEMA = "kind string, block int, first long, data binary"
_KINDS = (pa.string(), pa.int32(), pa.int64(), pa.binary())
_CELL_BYTES = 64 << 20
Batches = Iterator[pa.RecordBatch]


def run(batches: Batches, job: Job) -> Batches:
    """Run one task of a fit: the rows of its blocks in; factors, and from the first task the history, out."""
    bounds = job.bounds
    own = replace(job.layout, bounds=(bounds[Side.USER],) * 2)
    users = []
    for batch in batches:
        for row in range(batch.num_rows):
            number = batch.column("block")[row].as_py()
            if number < job.blocks:
                block = read_block(batch, row, Side.USER, own)
                users.append(UserBlock(number, int(bounds[Side.USER][number]), block, bounds[Side.ITEM], job.recipe))
    gang = Gang(job.secret) if job.tasks > 1 else Solo()
    worker = Worker(job, users, gang)
    try:
        history = worker.train()
    except TrainingError as error:
        history = []
        yield _row("error", 0, 0, str(error).encode())
    gang.close()
    if gang.number == 0:
        table = np.array([[np.nan if x is None else x for x in vars(line).values()] for line in history], np.float64)
        yield _row("history", 0, 0, table.tobytes())
    for side, blocks in zip(Side, ({u.number: u.rows for u in worker.users}, worker.items), strict=True):
        for number, rows in blocks.items():
            yield from _rows(side.stem, number, rows, job.recipe.rank)


def _rows(kind: str, number: int, rows: Rows, rank: int) -> Batches:
    parts = [rows.factors[:, :rank]] + ([] if rows.bias is None else [rows.bias[:, None]])
    table = np.column_stack(parts)
    some = max(1, _CELL_BYTES // (4 * table.shape[1]))
    for first in range(0, len(table), some):
        yield _row(kind, number, first, table[first : first + some].tobytes())


def _row(*cells: Any) -> pa.RecordBatch:
    arrays = [pa.array([cell], kind) for cell, kind in zip(cells, _KINDS, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, ["kind", "block", "first", "data"])


def task_count(blocks: int, slots: int) -> int:
    """Return how many tasks share d blocks: the largest divisor of d that the slots can run at once."""
    return max(n for n in range(1, blocks + 1) if blocks % n == 0 and n <= max(slots, 1))


def check_gang(spark: SparkSession, tasks: int) -> None:
    """Raise ParameterError where Spark cannot start several tasks together."""
    if tasks > 1 and str(spark.conf.get("spark.dynamicAllocation.enabled", "false")).lower() == "true":
        raise ParameterError(
            f"SGD starts its {tasks} tasks together, which Spark refuses under dynamic allocation: set "
            "spark.dynamicAllocation.enabled=false, or numUserBlocks=1 to train in a single task"
        )


def fit(blocks: DataFrame, job: Job) -> tuple[list[NDArray[np.float32]], list[Iteration]]:
    """Train on the frame of blocks (users' side), as one job.

    Parameters
    ----------
    blocks : DataFrame
        From ``blocks.build.build`` for the users only.
    job : Job
        How to train.

    Returns
    -------
    sides : two float32 arrays (n, rank, + 1 where the side has a bias)
        Factors, biases last.
    history : list of Iteration
        One line an epoch.

    Raises
    ------
    ParameterError
        The session cannot start the tasks together.
    TrainingError
        The fit diverges.
    """
    check_gang(blocks.sparkSession, job.tasks)
    frame = blocks
    if job.tasks < job.blocks:
        fused = job.blocks // job.tasks
        frame = place(blocks.withColumn("task", F.expr(f"cast(block div {fused} as int)")), "task", job.tasks)

    def task(batches: Batches) -> Batches:
        return run(batches, job)

    found = frame.mapInArrow(task, _SCHEMA, barrier=job.tasks > 1)
    if job.tasks > 1:
        # Spark runs a failed barrier stage again only where a shuffle follows it, not if its output is the result.
        found = place(found, "block", job.tasks)
    return _collect(found.toArrow(), job)


def _collect(found: pa.Table, job: Job) -> tuple[list[NDArray[np.float32]], list[Iteration]]:
    recipe, history = job.recipe, list[Iteration]()
    sides = [
        np.zeros((int(bounds[-1]), recipe.rank + bias), np.float32)
        for bounds, bias in zip(job.bounds, recipe.bias, strict=True)
    ]
    for row in range(found.num_rows):
        kind, number, first = (found.column(name)[row].as_py() for name in ("kind", "block", "first"))
        data = found.column("data")[row].as_buffer()
        if kind == "error":
            raise TrainingError(data.to_pybytes().decode())
        if kind == "history":
            for line in np.frombuffer(data).reshape(-1, 6).tolist():
                valid = None if np.isnan(line[4]) else line[4]
                history.append(Iteration(int(line[0]), line[1], line[2], line[3], valid, line[5]))
            continue
        side = Side[kind.upper()]
        part = np.frombuffer(data, np.float32).reshape(-1, sides[side].shape[1])
        start = int(job.bounds[side][number]) + first
        sides[side][start : start + len(part)] = part
    return sides, history
