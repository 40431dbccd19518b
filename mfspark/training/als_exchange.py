"""ALS whose sides never come together: factors stay on the workers, and blocks send each other the rows they need.

A half step is one shuffle: every block of the fixed side has emitted one packed piece for each block of the solved side
that needs some of its rows (MLlib's out-blocks); a solved block meets its pieces, runs the same ``solve_block`` as
everywhere else, and emits its own pieces for the next half step. The driver sees one small row of sums a block, so that
its memory does not depend on the numbers of users and items. ``training.als.HalfSteps`` is the same loop with the
sides in the driver, and gives the same factors; ``training.bpmf_exchange`` draws the rows that are solved here.

Bytes shuffled a half step: 4 (8 in double precision) x columns in use x the number of (solved block, fixed row) pairs
in which the block has a rating of the row: at most min(number of blocks, ratings of the row) a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from mfspark.blocks.build import place
from mfspark.blocks.exchange import HashLayout
from mfspark.blocks.routes import RoutedBlock, Sides, read_routed
from mfspark.kernels.als.half_step import solve_block
from mfspark.kernels.csr import Side
from mfspark.kernels.objective import Settings, fix
from mfspark.kernels.rows import padded
from mfspark.session import collect_garbage
from mfspark.training.als import measures, seen_from
from mfspark.training.exchange_pieces import (
    KEPT,
    OUT,
    OWN,
    Failure,
    Solved,
    emitted,
    factor_rows,
    failed_row,
    gathered,
    own_factors,
    own_piece,
    own_pieces,
    pieces_of,
    summed,
    unsolvable,
    with_known_held,
)
from mfspark.training.loop import Measures
from mfspark.training.starts import Start
from mfspark.transport.arrow import kinds_of, nothing, row_batch
from mfspark.transport.persist import Kept

_PACKED = "block int, ids binary, data binary"
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

    def close(self) -> None:
        """Let go of everything."""
        for side in Side:
            self.let_go(side)


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
                    yield from emitted(block, start.rows(block.ids, side, settings), settings)

        return summed(exchange.keep(exchange.sides[side].mapInArrow(draw, OUT)), side, unsolvable)

    return State(drawn(Side.USER), drawn(Side.ITEM))


def renew(exchange: Exchange, side: Side, factors: DataFrame, change: Change, kept: DataFrame | None = None) -> Solved:
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
    kept : DataFrame, optional
        What blocks keep for themselves, as ``kept_rows`` gives it.
    """
    settings = exchange.settings

    def emit(block: RoutedBlock, given: pa.Table) -> Iterator[pa.RecordBatch]:
        own = own_factors(given, settings)
        assert own is not None
        return emitted(block, padded(change(own), settings), settings, kept=own_piece(given, KEPT))

    pieces = own_pieces(factors, OWN)
    return met(exchange, side, pieces if kept is None else pieces.unionByName(own_pieces(kept, KEPT)), emit)


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
        fixed_rows, before = gathered(pieces, block, settings), own_factors(pieces, settings)
        start = None if before is None else padded(before, settings)
        ready = fix(fixed_rows, settings, intercept, base, total)
        csr = with_known_held(block, fixed_rows)
        X, statistics, unsolved = solve_block(csr, ready, settings, start, measure, limits)
        failed = failed_row(block, csr, unsolved)
        return emitted(block, X, settings, statistics.tolist(), failed)

    pieces = pieces_of(fixed)
    if own is not None:
        pieces = pieces.unionByName(own_pieces(factor_rows(own), OWN))
    return met(exchange, side, pieces, solve)


def met(exchange: Exchange, side: Side, pieces: DataFrame, meet: Meet, failure: Failure = unsolvable) -> Solved:
    """Return what the blocks of a side make of the pieces sent to them (column ``target``): only these move."""
    layout = exchange.layout

    def run(blocks: pa.Table, given: pa.Table) -> pa.Table:
        if blocks.num_rows == 0:
            return nothing(OUT)
        return pa.Table.from_batches(list(meet(read_routed(blocks, 0, layout), given)))

    placed = place(pieces, "target", layout.blocks[side])
    pair = exchange.sides[side].groupBy("block").cogroup(placed.groupBy("target"))
    return summed(exchange.keep(pair.applyInArrow(run, OUT)), side, failure)


def packed(exchange: Exchange, side: Side, solved: Solved) -> DataFrame:
    """Return a side's ids and factors: block int, ids binary (Arrow IPC), data binary (rows x columns in use)."""
    ids = exchange.sides[side].select("block", "ids")
    placed = place(factor_rows(solved), "block", exchange.layout.blocks[side])
    return ids.join(placed.hint("merge"), "block")  # a broadcast would take a small side through the driver


def packed_of(
    exchange: Exchange, side: Side, rows: DataFrame, array_of: Callable[[pa.Table], NDArray[Any]]
) -> DataFrame:
    """Return ``packed`` of a side whose blocks have several rows each, of which a function makes the array."""

    def join(blocks: pa.Table, given: pa.Table) -> pa.Table:
        if blocks.num_rows == 0:
            return nothing(_PACKED)
        cells = [blocks.column("block")[0].as_py(), blocks.column("ids")[0].as_py(), array_of(given).tobytes()]
        return pa.Table.from_batches([row_batch(kinds_of(_PACKED), cells)])

    ids = exchange.sides[side].select("block", "ids").groupBy("block")
    placed = place(rows, "block", exchange.layout.blocks[side])
    return ids.cogroup(placed.groupBy("block")).applyInArrow(join, _PACKED)
