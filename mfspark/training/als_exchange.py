"""ALS whose sides never come together: factors stay on the workers, and blocks send each other the rows they need.

A half step is one shuffle: every block of the fixed side has emitted one packed piece for each block of the solved side
that needs some of its rows (MLlib's out-blocks); a solved block meets its pieces, runs the same ``solve_block`` as
everywhere else, and emits its own pieces for the next half step. The driver sees one small row of sums a block, so that
its memory does not depend on the numbers of users and items. ``training.als.HalfSteps`` is the same loop with the
sides in the driver, and gives the same factors.

Bytes shuffled a half step: 4 (8 in double precision) x columns in use x the number of (solved block, fixed row) pairs
in which the block has a rating of the row: at most min(number of blocks, ratings of the row) a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from mfspark.blocks.build import place
from mfspark.blocks.exchange import HashLayout
from mfspark.blocks.routes import RoutedBlock, Sides, read_routed
from mfspark.kernels.als.half_step import STATISTICS, blame, solve_block
from mfspark.kernels.csr import Block, Side
from mfspark.kernels.objective import Settings, fix, gramian
from mfspark.session import collect_garbage
from mfspark.training.als import UnsolvableError, measures, seen_from
from mfspark.training.loop import Measures
from mfspark.training.starts import Start
from mfspark.transport.arrow import kinds_of, nothing, row_batch
from mfspark.transport.persist import Kept

_OUT = "target int, block int, data binary, statistics array<double>, gram binary, unsolved string, cause string"
_KINDS = kinds_of(_OUT)
_OWN = -1  # the "source" of a piece that carries a block's own previous factors
Keep = Callable[[DataFrame], Kept]
Change = Callable[[NDArray[Any]], NDArray[Any]]
Meet = Callable[[RoutedBlock, pa.Table], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class Exchange:
    """What stays the same through a fit; the object itself is ALS's sweep.

    Parameters
    ----------
    sides : Sides
        The frames of routed blocks.
    layout : HashLayout
        How ids are spread.
    sizes : (int, int)
        The numbers of users and items.
    settings : Settings
        The model, seen from the user side.
    intercept : float
        Subtracted from every target.
    limits : (float, float)
        The range to which held-out predictions are clipped.
    keep : callable
        Computes a frame, keeps it, and cuts its lineage.
    """

    sides: Sides
    layout: HashLayout
    sizes: tuple[int, int]
    settings: Settings
    intercept: float
    limits: tuple[float, float]
    keep: Keep

    def __call__(self, state: State, iteration: int) -> Measures:  # noqa: ARG002
        """Run a sweep, items first, and let go of the sides it replaces; the loss is exact, as that of ``HalfSteps``.

        Raises
        ------
        TrainingError
            Some row's equations have no finite solution.
        """
        warm = self.settings.warm
        first = half_step(self, Side.ITEM, state.user, state.item if warm else None, False)
        state.replace(Side.ITEM, first)
        second = half_step(self, Side.USER, first, state.user if warm else None, True)
        state.replace(Side.USER, second)
        collect_garbage(second.frame.sparkSession)  # else shuffled pieces stay on disk until the JVM runs short of heap
        return measures(first.statistics, second.statistics)


class Solved(NamedTuple):
    """A solved side: its frame (factors and the pieces for the other side), the summed statistics, its Gramian."""

    frame: DataFrame
    statistics: NDArray[np.float64]
    gram: NDArray[np.float64]
    let_go: Callable[[], None] | None


@dataclass
class State:
    """Both sides, on the workers."""

    user: Solved
    item: Solved

    def side(self, side: Side) -> Solved:
        """Return one side."""
        return self.user if side is Side.USER else self.item

    def replace(self, side: Side, solved: Solved) -> None:
        """Put a newly solved side in the place of the old one, which is let go."""
        self.let_go(side)
        setattr(self, side.stem, solved)

    def let_go(self, side: Side) -> None:
        """Let go of what is kept of one side."""
        let_go = self.side(side).let_go
        if let_go is not None:
            let_go()


@dataclass(frozen=True)
class Stored:
    """A fit's state as checkpoints take it: the factors that the next sweep needs, as frames."""

    exchange: Exchange
    state: State

    def parts(self) -> dict[str, Any]:
        """Return what a checkpoint stores."""
        needed = Side if self.exchange.settings.warm else (Side.USER,)
        return {f"{side.stem}_factors": factor_rows(self.state.side(side)) for side in needed}

    def restore(self, parts: Mapping[str, Any]) -> None:
        """Put what a checkpoint stored in the place of the state's sides."""
        for side in Side:
            rows = parts.get(f"{side.stem}_factors")
            if rows is not None:
                self.state.replace(side, renew(self.exchange, side, rows, lambda X: X))


def begin(exchange: Exchange, start: Start) -> State:
    """Return both sides as they are drawn, with their pieces for each other."""

    def drawn(side: Side) -> Solved:
        settings, layout = exchange.settings, exchange.layout

        def draw(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                for row in range(batch.num_rows):
                    block = read_routed(batch, row, layout)
                    yield from _emitted(block, start.rows(block.ids, side, settings), settings)

        return _summed(exchange.keep(exchange.sides[side].mapInArrow(draw, _OUT)), side)

    return State(drawn(Side.USER), drawn(Side.ITEM))


def renew(exchange: Exchange, side: Side, factors: DataFrame, change: Change) -> Solved:
    """Return a side made of given factors, with its pieces for the other side.

    Parameters
    ----------
    exchange : Exchange
        The blocks and the model.
    side : Side
        Whose.
    factors : DataFrame
        block int, data binary, as ``factor_rows`` gives it.
    change : callable
        Makes the new rows (n x columns in use) of a block's rows.
    """
    settings = exchange.settings

    def emit(block: RoutedBlock, given: pa.Table) -> Iterator[pa.RecordBatch]:
        used = np.frombuffer(given.column("data")[0].as_buffer(), settings.dtype).reshape(-1, settings.width)
        X = np.zeros((len(used), settings.padded), settings.dtype)
        X[:, : settings.width] = change(used)
        return _emitted(block, X, settings)

    return _met(exchange, side, factors.select(F.col("block").alias("target"), "data"), emit)


def half_step(exchange: Exchange, side: Side, fixed: Solved, own: Solved | None, measure: bool) -> Solved:
    """Solve a side against the fixed one.

    Parameters
    ----------
    exchange : Exchange
        The blocks and the model.
    side : Side
        The side to solve.
    fixed : Solved
        The other side.
    own : Solved or None
        This side's previous factors, for solvers that improve on them.
    measure : bool
        Whether the fit and the held-out errors are wanted too.
    """
    settings = seen_from(exchange.settings, side)
    limits, intercept = exchange.limits, exchange.intercept
    base = settings.w0 * fixed.gram if settings.implicit else None
    total = exchange.sizes[side.other]

    def solve(block: RoutedBlock, pieces: pa.Table) -> Iterator[pa.RecordBatch]:
        gathered, start = _gathered(pieces, block, settings)
        ready = fix(gathered, settings, intercept, base, total)
        csr = _with_known_held(block, gathered)
        X, statistics, unsolved = solve_block(csr, ready, settings, start, measure, limits)
        failed = (repr(block.ids[unsolved].as_py()), blame(csr, unsolved)) if unsolved >= 0 else (None, None)
        return _emitted(block, X, settings, statistics.tolist(), *failed)

    pieces = fixed.frame.where("target is not null").select("target", "block", "data")
    if own is not None:
        previous = factor_rows(own).select(F.col("block").alias("target"), F.lit(_OWN).alias("block"), "data")
        pieces = pieces.unionByName(previous)
    return _met(exchange, side, pieces, solve)


def _met(exchange: Exchange, side: Side, pieces: DataFrame, meet: Meet) -> Solved:
    """Return what the blocks of a side make of the pieces sent to them (column ``target``): only these move."""
    layout = exchange.layout

    def run(blocks: pa.Table, given: pa.Table) -> pa.Table:
        if blocks.num_rows == 0:
            return nothing(_OUT)
        return pa.Table.from_batches(list(meet(read_routed(blocks, 0, layout), given)))

    placed = place(pieces, "target", layout.blocks[side])
    pair = exchange.sides[side].groupBy("block").cogroup(placed.groupBy("target"))
    return _summed(exchange.keep(pair.applyInArrow(run, _OUT)), side)


def factor_rows(solved: Solved) -> DataFrame:
    """Return a side's factors: block int, data binary (rows x columns in use)."""
    return solved.frame.where("target is null and data is not null").select("block", "data")


def packed(exchange: Exchange, side: Side, solved: Solved) -> DataFrame:
    """Return a side's ids and factors: block int, ids binary (Arrow IPC), data binary (rows x columns in use)."""
    ids = exchange.sides[side].select("block", "ids")
    placed = place(factor_rows(solved), "block", exchange.layout.blocks[side])
    return ids.join(placed.hint("merge"), "block")  # a broadcast would take a small side through the driver


def _gathered(pieces: pa.Table, block: RoutedBlock, settings: Settings) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return the src rows that a block needs, in its order, and its own previous factors if they came."""
    gathered, start = np.zeros((int(block.starts[-1]), settings.padded), settings.dtype), None
    for row in range(pieces.num_rows):
        source, data = pieces.column("block")[row].as_py(), pieces.column("data")[row].as_buffer()
        rows = np.frombuffer(data, settings.dtype).reshape(-1, settings.width)
        if source == _OWN:
            start = np.zeros((len(rows), settings.padded), settings.dtype)
            start[:, : settings.width] = rows
        else:
            gathered[block.starts[source] : block.starts[source + 1], : settings.width] = rows
    return gathered, start


def _with_known_held(block: RoutedBlock, gathered: NDArray[Any]) -> Block:
    """Return the block's ratings without the held-out ones of ids that were never trained on (rows of NaN)."""
    csr = block.csr
    if csr.held_indices.size == 0:
        return csr
    known = ~np.isnan(gathered[csr.held_indices, 0])
    np.nan_to_num(gathered, copy=False)
    rows = np.repeat(np.arange(csr.rows), np.diff(csr.held_indptr))[known]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=csr.rows))]).astype(np.int64)
    return replace(csr, held_indptr=indptr, held_indices=csr.held_indices[known], held_values=csr.held_values[known])


def _emitted(
    block: RoutedBlock,
    X: NDArray[Any],
    settings: Settings,
    statistics: list[float] | None = None,
    unsolved: str | None = None,
    cause: str | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yield a block's row of sums, its factors, and its pieces for the blocks of the other side."""
    used = np.ascontiguousarray(X[:, : settings.width])
    gram = gramian(X).tobytes() if settings.implicit else b""
    yield row_batch(_KINDS, [None, block.number, None, statistics or [], gram, unsolved, cause])
    yield row_batch(_KINDS, [None, block.number, used.tobytes(), *[None] * 4])
    for target in np.flatnonzero(np.diff(block.route_starts)):
        places = block.routes[block.route_starts[target] : block.route_starts[target + 1]]
        rows = used[places]
        rows[places < 0] = np.nan
        yield row_batch(_KINDS, [int(target), block.number, rows.tobytes(), *[None] * 4])


def _summed(kept: Kept, side: Side) -> Solved:
    """Add up the blocks' rows of sums, in the order of the blocks, since floating sums depend on it."""
    sums = kept.frame.where("data is null").select("block", "statistics", "gram", "unsolved", "cause")
    total, gram = np.zeros(len(STATISTICS)), np.zeros((0, 0))
    for row in sorted(sums.toArrow().to_pylist(), key=lambda row: row["block"]):
        if row["unsolved"] is not None:
            raise UnsolvableError(side, -1, row["unsolved"], row["cause"])
        if row["statistics"]:
            total += np.array(row["statistics"])
        part = np.frombuffer(row["gram"])
        if part.size:
            k = int(np.sqrt(part.size))
            gram = part.reshape(k, k) if gram.size == 0 else gram + part.reshape(k, k)
    return Solved(kept.frame, total, gram, kept.let_go)
