"""One task of stratified SGD: the blocks of users that stay with it, and the blocks of items that come and go."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfspark.blocks.build import Layout
from mfspark.errors import TrainingError
from mfspark.kernels.csr import Block, Side
from mfspark.kernels.objective import visit_regularisation
from mfspark.kernels.sgd.cells import (
    Recipe,
    Rows,
    UserBlock,
    empty_rows,
    first_rows,
    penalty,
    strata,
)
from mfspark.kernels.sgd.control import Course, EpochSums, all_finite
from mfspark.training.history import Iteration, rmse
from mfspark.training.loop import Measures, Stopping, run
from mfspark.training.progress import reporter
from mfspark.training.sgd_state import Part, State
from mfspark.transport.barrier import Alone


@dataclass(frozen=True)
class Job:
    """What every task of a fit is told: the recipe, how both sides are cut, the number of tasks, a secret of theirs.

    The first task tells of the epochs, see ``progress.reporter`` for ``every``: on its stderr, which is the terminal in
    local mode, else a log. A fit with checkpoints is several stages: each ends after epoch ``until``, knows the lines
    of those before (``earlier``), and gives its whole state back (``whole``), not the factors only.
    """

    recipe: Recipe
    layout: Layout
    tasks: int
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    every: float | None = None
    until: int | None = None
    earlier: tuple[Iteration, ...] = ()
    whole: bool = False

    @property
    def bounds(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Both sides' block bounds."""
        return self.layout.bounds

    @property
    def blocks(self) -> int:
        """The number d of blocks a side."""
        return len(self.bounds[Side.USER]) - 1

    @property
    def twice(self) -> float:
        """2 for the squared loss, whose history is in squared errors like ALS's, not half squared errors."""
        return 2.0 if self.recipe.loss == "squared" else 1.0


@dataclass(frozen=True)
class Snapshot:
    """The rows of a task's blocks of users, and of the blocks of items that are with it."""

    users: list[Rows]
    items: dict[int, Rows]

    def copy(self) -> Snapshot:
        """Return the same with arrays of its own."""
        return Snapshot(
            [rows.copy() for rows in self.users], {block: rows.copy() for block, rows in self.items.items()}
        )


class Worker:
    """One task: its blocks of users, and the blocks of items that are with it at the moment.

    It is the state of its fit: what changes from epoch to epoch are the rows in its ``snapshot``, and its ``course``.
    """

    def __init__(self, job: Job, users: list[UserBlock], peers: Alone, start: State | Part | None = None) -> None:
        self.job, self.recipe, self.peers, self.start = job, job.recipe, peers, start
        self.owner: dict[int, int] = {}
        for task, numbers in enumerate(peers.gather([user.number for user in users])):
            self.owner |= dict.fromkeys(numbers, task)
        missing = sorted(set(range(job.blocks)) - set(self.owner))
        self.owner |= dict.fromkeys(missing, 0)
        if peers.number == 0:
            users = users + [_without_users(number, job) for number in missing]
        self.users = sorted(users, key=lambda user: user.number)
        self.counts, self.weight = self._item_weights()
        reg = self.recipe.reg_param[Side.ITEM]
        self.regularisation = visit_regularisation(self.weight, self.counts, reg, self.recipe.exponent)
        self.items: dict[int, Rows] = {}
        self.rounds, self.course = 0, Course(self.recipe)
        if start is not None:
            self.course.restore(start.course)
            for user in self.users:
                user.rows = start.rows(user.first, len(user.rows.factors), Side.USER, self.recipe)

    def train(self) -> list[Iteration]:
        """Run the fit; return its history, the same in every task.

        Raises
        ------
        TrainingError
            The loss rises or is not finite however small the step is.
        """
        job, epochs, first = self.job, self.recipe.epochs, self.peers.number == 0
        self._start(strata(job.blocks, job.tasks, self.recipe, len(job.earlier))[0])
        hooks = [reporter(epochs, job.every, "SGD")] if first else []
        until = epochs if job.until is None else job.until
        return run(Worker.epoch, self, Stopping(until, self.recipe.tol), hooks, job.earlier)

    def epoch(self, number: int) -> Measures:
        """Run an epoch, the sweep of this loop; one that diverges is undone, and redone with half the step."""
        while True:
            order = strata(self.job.blocks, self.job.tasks, self.recipe, number)
            self._bring(order[0])
            before = self.snapshot()
            for user in self.users:
                user.prepare(number)
            sums = self._pass(order, number, self.course.step)
            kept = self.course.keeps(sums, partial(self._loss_at, before, order, number))
            if not kept:
                self.restore(before)
            if self.course.failed:
                raise TrainingError(
                    f"epoch {number + 1} diverges even with step {self.course.step:.3g}: raise regParam, lower "
                    "stepSize or initStd, or look for extreme ratings or weights"
                )
            if kept:
                break
        valid = self._measure(number + 1) if self.job.layout.held else None
        fit, regularisation = self.job.twice * sums.fit, self.job.twice * sums.penalty
        return Measures(fit, regularisation, valid, moved=not self.course.overshot)

    def _item_weights(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the visits of an epoch and the sum of weights, by item, over all tasks."""
        n, own = int(self.job.bounds[Side.ITEM][-1]), [user.item_weights() for user in self.users]
        summed = [np.sum([pair[place] for pair in own], axis=0) if own else np.zeros(n) for place in range(2)]
        gathered = self.peers.gather(summed)
        counts, weight = (np.sum([task[place] for task in gathered], axis=0) for place in range(2))
        drawn = self.recipe.negatives * counts.sum() / n
        return (counts + drawn, weight + drawn) if self.job.layout.weighted else (counts + drawn,) * 2

    def _start(self, stratum: NDArray[np.int64]) -> None:
        needed = [int(stratum[user.number]) for user in self.users]
        for block in needed if self.start is None or self.start.items is None else self.start.items:
            first = int(self.job.bounds[Side.ITEM][block])
            rows = first_rows if self.start is None else self.start.rows
            self.items[block] = rows(first, self._width(block), Side.ITEM, self.recipe)

    def _width(self, block: int) -> int:
        return int(self.job.bounds[Side.ITEM][block + 1] - self.job.bounds[Side.ITEM][block])

    def _loss_at(self, state: Snapshot, order: NDArray[np.int64], epoch: int) -> float:
        """Return the loss of another state over an epoch's pairs; nothing changes. All tasks call this together."""
        now = Snapshot([user.rows for user in self.users], self.items)
        self.restore(state.copy())
        loss = self._pass(order, epoch, step=0.0).loss
        self.restore(now)
        return loss

    def _pass(self, order: NDArray[np.int64], epoch: int, step: float) -> EpochSums:
        """Run an epoch's strata; with step 0 they only add up the losses (and AdaGrad's squares)."""

        def descend(user: UserBlock, block: int) -> float:
            part = slice(self.job.bounds[Side.ITEM][block], self.job.bounds[Side.ITEM][block + 1])
            regularisation = self.regularisation
            own = regularisation[part] if isinstance(regularisation, np.ndarray) else regularisation
            return user.descend(self.items[block], block, own, step, epoch)

        fits = self._visit(order, descend)
        (own, other), exponent = self.recipe.reg_param, self.recipe.exponent
        penalties = {(Side.USER, user.number): penalty(user.rows, user.weight, own, exponent) for user in self.users}
        for block, rows in self.items.items():
            part = slice(self.job.bounds[Side.ITEM][block], self.job.bounds[Side.ITEM][block + 1])
            penalties[Side.ITEM, block] = penalty(rows, self.weight[part], other, exponent)
        held = [*self.items.values(), *(user.rows for user in self.users)]
        finite = all(all_finite(*rows.arrays()) for rows in held)
        parts = self.peers.gather((fits, penalties, finite))
        fit, total = (_ordered_sum(part[place] for part in parts) for place in range(2))
        return EpochSums(fit, total, finite=all(part[2] for part in parts))

    def _measure(self, epoch: int) -> float | None:
        """Return the RMSE of the held-out ratings: item blocks go round once more, unchanged."""
        order = strata(self.job.blocks, self.job.tasks, self.recipe, epoch)
        self._bring(order[0])

        def measure(user: UserBlock, block: int) -> tuple[float, int]:
            return user.measure(self.items[block], block) if user.held else (0.0, 0)

        parts = self.peers.gather(self._visit(order, measure))
        squares = _ordered_sum({key: pair[0] for key, pair in part.items()} for part in parts)
        number = sum(pair[1] for part in parts for pair in part.values())
        return rmse(squares, number)

    def _visit(self, order: NDArray[np.int64], act: Callable[[UserBlock, int], Any]) -> dict[tuple[int, int], Any]:
        """Act on every cell, stratum by stratum; item blocks are sent on as soon as they are not needed any more."""
        outcomes = {}
        self.rounds += 1
        for stratum, then in zip(order, [*order[1:], None], strict=True):
            for user in self.users:
                block = int(stratum[user.number])
                if block not in self.items:
                    self._receive(block)
                outcomes[user.number, block] = act(user, block)
                if then is not None:
                    self._send(block, self.owner[int(np.flatnonzero(then == block)[0])])
        return outcomes

    def _bring(self, stratum: NDArray[np.int64]) -> None:
        """Bring every item block to the task that needs it first."""
        self.rounds += 1
        needed = {int(stratum[user.number]) for user in self.users}
        for block in sorted(set(self.items) - needed):
            self._send(block, self.owner[int(np.flatnonzero(stratum == block)[0])])
        for block in sorted(needed - set(self.items)):
            self._receive(block)

    def _send(self, block: int, to: int) -> None:
        if to != self.peers.number:
            rows = self.items.pop(block)
            self.peers.send(to, ("items", self.rounds, block), [array.tobytes() for array in rows.arrays()])

    def _receive(self, block: int) -> None:
        rows = empty_rows(self._width(block), Side.ITEM, self.recipe)
        for array, data in zip(rows.arrays(), self.peers.take(("items", self.rounds, block)), strict=True):
            array[:] = np.frombuffer(data, np.float32).reshape(array.shape)
        self.items[block] = rows

    def snapshot(self) -> Snapshot:
        """Return a copy of this task's rows."""
        return Snapshot([user.rows for user in self.users], self.items).copy()

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot, which is used up."""
        for user, rows in zip(self.users, snapshot.users, strict=True):
            user.rows = rows
        self.items = snapshot.items


def _without_users(number: int, job: Job) -> UserBlock:
    """Return a block that the frame lacks because it has no users: more blocks than users."""
    none = np.empty(0, np.int32)
    block = Block(np.zeros(1, np.int64), none, np.empty(0, np.float32))
    return UserBlock(number, int(job.bounds[Side.USER][number]), block, job.bounds[Side.ITEM], job.recipe)


def _ordered_sum(parts: Any) -> float:
    """Add up numbers by their keys: floating sums depend on the order, and keys may be with any task."""
    joined = {key: value for part in parts for key, value in part.items()}
    return float(sum(joined[key] for key in sorted(joined)))
