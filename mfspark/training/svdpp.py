"""Training of SVD++ on the frame of blocks: every block of users runs SGD, the items' moves are put together.

An iteration is one pass over the blocks. A task gets all items (q, y, b) and its users (p, b) as they are at the start
of the iteration, measures the objective and the held-out errors there, visits its ratings once, and sends back its
users and its own version of the items. The driver puts these together by averaging (parameter mixing, McDonald, Hall,
Mann 2010), except that the moves of q and b of rare items are added up (``share_weights``). More blocks therefore learn
more slowly per iteration: they need more iterations, and give slightly different factors.

What travels per iteration: the items out to and back from every block. Spark serves this while the items fit a task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from mfspark.blocks.build import Layout
from mfspark.blocks.map_blocks import joined, visit_blocks
from mfspark.kernels.csr import Block, Side
from mfspark.kernels.svdpp import STATISTICS, epoch, measure, whole_users
from mfspark.training.history import rmse
from mfspark.training.loop import Measures

_RESULTS = {
    "users": "binary", "items": "binary", "implicit": "binary", "counts": "binary", "statistics": "array<double>",
}  # fmt: skip
CURVATURE = 0.5  # the squared length of a user's factors in one direction, roughly; see ``share_weights``


@dataclass(frozen=True)
class Point:
    """Users (n x (k + 1): p and bias), items (m x (k + 1): q and bias), implicit item factors (m x k), the mean."""

    users: NDArray[np.float32]
    items: NDArray[np.float32]
    implicit: NDArray[np.float32]
    mean: float


@dataclass
class State:
    """The point an iteration measured, and the one to which the same pass has moved already (None: not yet).

    ``whole`` says that the users of ``ahead`` are p_u + |N(u)|^-1/2 sum y_j.
    """

    here: Point
    ahead: Point | None = None
    whole: bool = False

    def parts(self) -> dict[str, Any]:
        """Return what a checkpoint stores: the point ahead, from which the next iteration starts."""
        ahead = self.ahead or self.here
        return {"users": ahead.users, "items": ahead.items, "implicit": ahead.implicit}

    def restore(self, parts: Mapping[str, Any]) -> None:
        """Become what a checkpoint stored."""
        self.here = self.ahead = replace(self.here, **parts)


@dataclass(frozen=True)
class Descent:
    """The step eta of iteration t is ``step * exp(-decay t)``; ``lambdas`` are in the order of the kernel's LAMBDAS."""

    step: float
    decay: float
    lambdas: tuple[float, float, float, float]
    seed: int


def start(sizes: tuple[int, int], rank: int, mean: float, seed: int, std: float) -> State:
    """Draw p and q from N(0, std^2 / rank); biases and y start at 0."""
    generator = np.random.default_rng(seed)
    sides = []
    for n in sizes:
        array = np.zeros((n, rank + 1), np.float32)
        array[:, :rank] = generator.standard_normal((n, rank), np.float32) * (std / np.sqrt(rank))
        sides.append(array)
    return State(Point(sides[0], sides[1], np.zeros((sizes[1], rank), np.float32), mean))


@dataclass(frozen=True)
class Epochs:
    """Passes over the blocks; the object itself is the sweep.

    Each iteration's loss is exact for the state at its end: the next pass over the blocks measures it before it moves
    anything.

    Parameters
    ----------
    blocks, layout
        The frame of blocks (users' side) and how both sides are cut.
    descent : Descent
        The steps.
    number : int
        How many epochs there are at most: the pass that measures the last one moves nothing.
    limits : (float, float)
        The range to which predictions of held-out ratings are clipped.
    carrier : str
        How the state reaches the workers.
    """

    blocks: DataFrame
    layout: Layout
    descent: Descent
    number: int
    limits: tuple[float, float] = (-np.inf, np.inf)
    carrier: str = "auto"

    def __call__(self, state: State, iteration: int) -> Measures:
        """Run one epoch from ``state.here``, measure at its end, and begin the next one."""
        if state.ahead is None:
            state.ahead = self._pass(state.here, iteration, self._step(iteration))[0]
        state.here, step = state.ahead, self._step(iteration + 1)
        state.ahead, statistics = self._pass(state.here, iteration + 1, step)
        state.whole = not step
        sums = dict(zip(STATISTICS, statistics.tolist(), strict=True))
        return Measures(sums["fit"], sums["regularisation"], rmse(sums["valid_squares"], sums["valid_rows"]))

    def finish(self, state: State) -> Point:
        """Return the last point measured, its users being p_u + |N(u)|^-1/2 sum y_j."""
        if not state.whole or state.ahead is None:
            state.ahead, state.whole = self._pass(state.here, 0, 0.0)[0], True
        return state.ahead

    def _step(self, iteration: int) -> float:
        last = iteration == self.number
        return 0.0 if last else self.descent.step * float(np.exp(-self.descent.decay * iteration))

    def _pass(self, point: Point, iteration: int, step: float) -> tuple[Point, NDArray[np.float64]]:
        """Measure at a point and move by one epoch, or with step 0 make its users whole; return where to, and sums."""
        descent, limits = self.descent, self.limits

        def visit(
            block: Block, number: int, rows: slice, data: Point
        ) -> tuple[bytes, bytes, bytes, bytes, list[float]]:
            seed = np.random.SeedSequence((descent.seed % 2**64, iteration, number)).generate_state(1, np.uint64)[0]
            return _visit(block, data.users[rows], data, descent, step, seed, limits)

        results = visit_blocks(self.blocks, self.layout, Side.USER, point, visit, _RESULTS, self.carrier)
        moved = replace(point, users=joined(results, "users", point.users))
        if step:
            counts = np.array([np.frombuffer(row["counts"], np.int32) for row in results])
            items = combine(point.items, _versions(results, "items", point.items), share_weights(counts, step))
            implicit = combine(point.implicit, _versions(results, "implicit", point.implicit), mean_weights(counts))
            moved = replace(moved, items=items, implicit=implicit)
        return moved, np.sum([row["statistics"] for row in results], axis=0)


def _visit(
    block: Block,
    users: NDArray[np.float32],
    data: Point,
    descent: Descent,
    step: float,
    seed: np.uint64,
    limits: tuple[float, float],
) -> tuple[bytes, bytes, bytes, bytes, list[float]]:
    """Measure one block and run one epoch on it; return its users, items, implicit factors, counts, statistics."""
    values = block.ratings
    lambdas, statistics = np.array(descent.lambdas), np.zeros(len(STATISTICS))
    P, Q, Y = users.copy(), data.items, data.implicit
    measure(
        block.indptr, block.indices, values, block.held_indptr, block.held_indices, block.held_values, P, Q, Y,
        data.mean, lambdas, *limits, statistics,
    )  # fmt: skip
    if not step:
        whole_users(block.indptr, block.indices, users, Y, P)
        return P.tobytes(), b"", b"", b"", statistics.tolist()
    Q, Y = Q.copy(), Y.copy()
    epoch(block.indptr, block.indices, values, P, Q, Y, data.mean, step, lambdas, seed)
    counts = np.bincount(block.indices, minlength=len(Q)).astype(np.int32)
    return P.tobytes(), Q.tobytes(), Y.tobytes(), counts.tobytes(), statistics.tolist()


def _versions(results: list[dict[str, Any]], name: str, like: NDArray[Any]) -> Iterator[NDArray[Any]]:
    return (np.frombuffer(row[name], np.float32).reshape(like.shape) for row in results)


def combine(
    before: NDArray[np.float32], versions: Iterator[NDArray[np.float32]], weights: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Put the blocks' versions of the items together: ``before`` plus the weighted sum of their moves.

    Parameters
    ----------
    before : array (m, k)
        The items at the start of the iteration.
    versions : iterator of arrays (m, k)
        Each block's items at its end.
    weights : array (blocks, m)
        From ``share_weights`` or ``mean_weights``.

    Returns
    -------
    array (m, k)
    """
    moved = np.zeros_like(before)
    for version, weight in zip(versions, weights, strict=True):
        moved += weight.astype(np.float32)[:, None] * (version - before)
    return before + moved


def share_weights(counts: NDArray[Any], step: float) -> NDArray[np.float64]:
    """Return the weights (blocks, m) of the moves of q and b, for the numbers of ratings of each item in each block.

    SGD on c ratings of an item goes about the share s(c) = 1 - exp(-step a c) of the way to the item's optimum, where
    a is the curvature of one rating. The moves are added up and scaled by s(sum c) / sum s(c): 1 for rare items, whose
    moves add up as in one long pass, and 1 / blocks for frequent ones, each of whose moves goes the whole way.
    """
    share = 1 - np.exp(-step * CURVATURE * counts)
    whole = 1 - np.exp(-step * CURVATURE * counts.sum(axis=0))
    return np.broadcast_to(whole / np.maximum(share.sum(axis=0), 1e-30), counts.shape)


def mean_weights(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return the weights (blocks, m) of the moves of y: their mean, weighted by the numbers of ratings.

    A user moves the y of all its items in one direction, so that even rare items' moves are all parts of one common
    move that every block makes: adding them up would overshoot by the number of blocks.
    """
    return counts / np.maximum(counts.sum(axis=0), 1)
