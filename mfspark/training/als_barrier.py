"""ALS as one gang of tasks: the whole loop in one job, in which tasks exchange what they solved directly.

Task g holds block g of both sides and a copy of both sides' factors. In each half step it solves its own rows, and all
tasks give each other what they solved. The driver starts one job and gets the factors at its end, so that a sweep costs
no job, no plan and no trip through the driver; the price is that all tasks must run at once, and that a lost task
starts the fit again. ``training.als.alternate`` is the same loop with one job a half step; both call the same kernels
in the same order and give the same factors.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession

from mfspark.blocks.build import Layout, assembled, place, read_block
from mfspark.errors import TrainingError
from mfspark.kernels.als.half_step import solve_block
from mfspark.kernels.csr import Block, Side
from mfspark.kernels.objective import Settings, fix
from mfspark.session import is_connect
from mfspark.training.als import Factors, summed, unsolvable
from mfspark.training.history import Iteration
from mfspark.training.loop import Schedule, finished
from mfspark.training.progress import reporter
from mfspark.transport.barrier import Gang, Solo
from mfspark.transport.carriers import carry

_SCHEMA = "side int, block int, data binary"
_KINDS = (pa.int32(), pa.int32(), pa.binary())
_HISTORY, _ERROR = -1, -2


@dataclass(frozen=True)
class _Task:
    """What every task of the gang is told."""

    layout: Layout
    settings: Settings
    schedule: Schedule  # without ``report``, which is a function of the driver
    verbose: bool
    intercept: float
    secret: bytes


class _UnsolvableError(Exception):
    """Some row's equations have no finite solution: which side, and which row."""

    def __init__(self, side: Side, row: int) -> None:
        super().__init__(side, row)
        self.place = [int(side), row]


def possible(spark: SparkSession, carrier: str) -> bool:
    """Return whether a gang is the better way here: one machine, whose tasks all run at once."""
    if is_connect(spark) or carrier not in ("auto", "broadcast") or not hasattr(DataFrame, "repartitionById"):
        return False
    return str(spark.sparkContext.master).startswith("local")


def alternate_together(
    blocks: DataFrame, layout: Layout, factors: Factors, settings: Settings, schedule: Schedule, verbose: bool = False
) -> list[Iteration]:
    """Run ALS from the given start, replacing ``factors``; there must be as many slots as ``layout.blocks``.

    ``blocks`` is the frame of blocks, or that of their pieces, which are then put together in the gang's own tasks.

    Raises
    ------
    TrainingError
        Some row's equations have no finite solution.
    """
    task = _Task(layout, settings, replace(schedule, report=None), verbose, factors.intercept, os.urandom(16))
    start = [factors.sides[0], factors.sides[1] if settings.warm else np.zeros_like(factors.sides[1])]
    frame, release = carry(blocks, (start, task), _run, _SCHEMA, packed=True, barrier=layout.blocks > 1)
    if layout.blocks > 1:
        # Spark runs a failed barrier stage again only where a shuffle follows it, not if its output is the result.
        frame = place(frame, "block", layout.blocks)
    found = frame.toArrow()
    release()
    history: list[Iteration] = []
    for row in range(found.num_rows):
        side, number = found.column("side")[row].as_py(), found.column("block")[row].as_py()
        data = found.column("data")[row].as_buffer()
        if side == _ERROR:
            error = json.loads(data.to_pybytes())
            raise unsolvable(factors, Side(error[0]), error[1]) if isinstance(error, list) else TrainingError(error)
        if side == _HISTORY:
            history = [_iteration(line) for line in np.frombuffer(data).reshape(-1, 6).tolist()]
            continue
        bounds, target = layout.bounds[side], factors.sides[side]
        part = target[bounds[number] : bounds[number + 1]]
        part[:] = np.frombuffer(data, target.dtype).reshape(part.shape)
    return history


def _run(batches: Iterator[pa.RecordBatch], data: Any) -> Iterator[pa.RecordBatch]:
    """Run one task: the row with its blocks in; its rows of both sides, and from the first task the history, out."""
    sides, task = data
    first = next(batches, None)
    if first is not None:
        batches = itertools.chain([first], batches)
        batches = assembled(batches, task.layout) if "target" in first.schema.names else batches
    rows = [(batch, row) for batch in batches for row in range(batch.num_rows)]
    gang = Gang(task.secret) if task.layout.blocks > 1 else Solo()
    own = [_own_block(rows, side, gang.number, task.layout) for side in Side]
    try:
        history = _train(own, [side.copy() for side in sides], task, gang)
    except (TrainingError, _UnsolvableError) as error:
        gang.close()
        if gang.number == 0:
            yield _row(
                _ERROR, 0, json.dumps(error.place if isinstance(error, _UnsolvableError) else str(error)).encode()
            )
        return
    gang.close()
    if gang.number == 0:
        lines = [[np.nan if value is None else value for value in vars(line).values()] for line in history[0]]
        yield _row(_HISTORY, 0, np.array(lines, np.float64).tobytes())
    for side, solved in zip(Side, history[1], strict=True):
        if gang.number + 1 < len(task.layout.bounds[side]):
            yield _row(side, gang.number, solved.tobytes())


def _train(
    own: list[Block], sides: list[NDArray[Any]], task: _Task, gang: Solo
) -> tuple[list[Iteration], list[NDArray[Any]]]:
    """Run the loop in one task, and return the history and this task's rows of both sides."""
    tell = reporter(task.verbose and gang.number == 0)
    settings, schedule, history = task.settings, task.schedule, list[Iteration]()
    solved = [_part(sides[side], task.layout, side, gang.number) for side in Side]
    for iteration in range(1, schedule.iterations + 1):
        began, sums = time.perf_counter(), []
        for dst in (Side.ITEM, Side.USER):
            seen = settings if dst == Side.USER else settings.swapped()
            fixed = fix(sides[dst.other], seen, task.intercept)
            start = solved[dst] if seen.warm else None
            X, statistics, unsolved = solve_block(own[dst], fixed, seen, start, dst == Side.USER, schedule.limits)
            parts = gang.gather((X, statistics, unsolved))
            for number, part in enumerate(parts):
                if part[2] >= 0:
                    raise _UnsolvableError(dst, int(task.layout.bounds[dst][number] + part[2]))
            sides[dst] = np.concatenate([part[0] for part in parts])
            solved[dst] = X
            sums.append(np.sum([part[1] for part in parts], axis=0))
        history.append(summed(iteration, sums[0], sums[1], time.perf_counter() - began))
        tell(history[-1], schedule.iterations)
        if finished(history, schedule):
            break
    return history, solved


def _own_block(rows: list[tuple[pa.RecordBatch, int]], side: Side, number: int, layout: Layout) -> Block:
    bounds = layout.bounds[side]
    own = replace(layout, bounds=(bounds, bounds))
    for batch, row in rows:
        if batch.column("block")[row].as_py() == number and number + 1 < len(bounds):
            return read_block(batch, row, side, own)
    empty = int(bounds[number + 1] - bounds[number]) if number + 1 < len(bounds) else 0
    return Block(np.zeros(empty + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))


def _part(array: NDArray[Any], layout: Layout, side: Side, number: int) -> NDArray[Any]:
    bounds = layout.bounds[side]
    return array[bounds[number] : bounds[number + 1]] if number + 1 < len(bounds) else array[:0]


def _iteration(line: list[float]) -> Iteration:
    rmse = None if np.isnan(line[4]) else line[4]
    return Iteration(int(line[0]), line[1], line[2], line[3], rmse, line[5])


def _row(*cells: Any) -> pa.RecordBatch:
    arrays = [pa.array([cell], kind) for cell, kind in zip(cells, _KINDS, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, ["side", "block", "data"])
