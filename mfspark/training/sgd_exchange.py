"""Stratified SGD whose sides never come together: blocks by hash, and what the tasks come to stays on the workers.

The barrier stage is that of ``training.sgd``, whose factors never pass the driver while it runs. Here its blocks are
those of the exchange (``blocks.exchange``), whose ids nobody lists: block b of a side holds the ids whose hash says so,
and its rows are numbered after those of the blocks before it. The rows that the tasks give back are kept where they
are. The driver sees the history, and one number a block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from mfspark.blocks.build import Layout, place
from mfspark.blocks.routes import row_counts
from mfspark.kernels.csr import Side
from mfspark.kernels.rows import padded
from mfspark.training import task_rows
from mfspark.training.als_exchange import Exchange, packed_of
from mfspark.training.checkpoint import Checkpoints
from mfspark.training.history import Iteration
from mfspark.training.sgd import in_stages, staged
from mfspark.training.sgd_state import Part, columns
from mfspark.training.sgd_worker import Job
from mfspark.transport.persist import Kept
from mfspark.transport.slots import together


@dataclass
class State:
    """Where a fit is: both sides' rows (``task_rows.SCHEMA``) on the workers, None at the start, and the course."""

    rows: DataFrame | None = None
    course: dict[str, Any] = field(default_factory=dict)
    let_go: Callable[[], None] | None = None

    def replace(self, kept: Kept) -> None:
        """Put what a stage came to in the place of what it began with, which is let go."""
        self.close()
        self.rows, self.let_go = kept.frame.where("kind IN ('user', 'item')"), kept.let_go

    def parts(self) -> dict[str, Any]:
        """Return what a checkpoint stores."""
        return {"rows": self.rows, "course": self.course}

    def restore(self, parts: Mapping[str, Any]) -> None:
        """Become what a checkpoint stored."""
        self.close()
        self.rows, self.course = parts["rows"], dict(parts["course"])

    def close(self) -> None:
        """Let the rows go."""
        if self.let_go is not None:
            self.let_go()
        self.rows, self.let_go = None, None


def layout_of(exchange: Exchange) -> Layout:
    """Return how rows are numbered and cut: the rows of a block follow those of the block before."""
    layout = exchange.layout
    sizes = [row_counts(frame, count) for frame, count in zip(exchange.sides, layout.blocks, strict=True)]
    users, items = (np.concatenate([[0], np.cumsum(part)]).astype(np.int64) for part in sizes)
    return Layout((users, items), layout.table, layout.weighted, layout.held)


def fit(exchange: Exchange, blocks: DataFrame, job: Job, state: State, checkpoints: Checkpoints) -> list[Iteration]:
    """Train on the blocks of an exchange, which has as many for users as for items: return one line an epoch.

    Parameters
    ----------
    exchange : Exchange
        What is common to all stages.
    blocks : DataFrame
        ``blocks.routes.numbered`` of its sides.
    job : Job
        How to train; its layout is ``layout_of`` the exchange.
    state : State
        Becomes what the fit comes to.
    checkpoints : Checkpoints
        Where the state is stored: with them there is a stage from each to the next, as in ``training.sgd.fit``.

    Raises
    ------
    TrainingError
        The fit diverges.
    SlotsLostError
        An executor was lost, and for too long no other one took its place.
    """
    return in_stages(job, state, checkpoints, lambda stage: _stage(exchange, blocks, stage, state))


def _stage(exchange: Exchange, blocks: DataFrame, job: Job, state: State) -> list[Iteration]:
    """Run one stage from a state, replacing it; return the lines of all epochs."""
    part = None
    if state.rows is not None:
        both, part = blocks.unionByName(state.rows, allowMissingColumns=True), Part(state.course)
        blocks = place(both, "block", job.blocks)
    with together(blocks.sparkSession, job.tasks):
        kept = exchange.keep(staged(blocks, job, part).frame)
    state.replace(kept)
    told = kept.frame.where("kind NOT IN ('user', 'item')").toArrow()
    return task_rows.collect(told, [], state.course)


def packed(exchange: Exchange, side: Side, state: State, job: Job, whole: bool) -> DataFrame:
    """Return a side's ids and factors: block int, ids binary (Arrow IPC), data binary (rows x columns in use)."""
    settings, own = exchange.settings, columns(job.recipe, side, whole=False)
    given = columns(job.recipe, side, whole)

    def array_of(rows: pa.Table) -> NDArray[np.float32]:
        tables = task_rows.Tables()
        for row in range(rows.num_rows):
            tables.add(rows, row)
        (data,) = tables.joined().values()
        # A last column of zeros where only the other side has biases.
        return np.ascontiguousarray(padded(data.reshape(-1, given)[:, :own], settings)[:, : settings.width])

    assert state.rows is not None
    sent = state.rows.where(f"kind = '{side.stem}'").select("kind", "block", "first", "data")
    return packed_of(exchange, side, sent, array_of)
