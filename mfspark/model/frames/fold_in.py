"""Factors of new ids by the exchange of rows: each block of them asks the other side for the rows that it needs.

The check of the ratings and of their ids is a pass of its own, done at once; the factors are computed when the result
is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from mfspark.blocks.build import place
from mfspark.blocks.columns import Columns, select
from mfspark.blocks.encode import encode
from mfspark.blocks.exchange import HashLayout, hash_layout, side_blocks
from mfspark.blocks.profile import survey
from mfspark.blocks.routes import read_routed
from mfspark.errors import ParameterError
from mfspark.kernels.als.half_step import CAUSES, blame, solve_block
from mfspark.kernels.csr import Block, Side
from mfspark.kernels.objective import Fixed, Settings, fix
from mfspark.kernels.rows import padded
from mfspark.kernels.sgd.expected import All, all_rows, solve_expected
from mfspark.model.fold_in import beyond_error, beyond_type, exact, unknown_error, widened
from mfspark.model.frames.blocks import BLOCK, FactorBlocks, FrameFactorization, Rows, packed, read_rows
from mfspark.model.frames.pieces import opened, places
from mfspark.model.ids import IdColumns, arrow_type
from mfspark.session import default_parallelism
from mfspark.training.als import UnsolvableError, seen_from
from mfspark.training.exchange_pieces import gathered
from mfspark.transport.arrow import flat, kinds_of, nothing, row_batch, to_ipc
from mfspark.transport.persist import Materialiser, Workspace

_ASKED = "target int, block int, ids binary"
_ANSWER = "target int, block int, data binary, unknown long"
_SUMS = "block int, gramian binary, pull binary"


class Newcomers(NamedTuple):
    """The blocks of the ids to fold in, and what their half step needs to know.

    Parameters
    ----------
    raw : DataFrame
        From ``side_blocks``.
    layout : HashLayout
        How their ids are spread, and the model's on the other side.
    side : Side
        Which side they belong to.
    settings : Settings
        The model, seen from that side.
    """

    raw: DataFrame
    layout: HashLayout
    side: Side
    settings: Settings


def fold_in_frames(
    fitted: FrameFactorization, ids: IdColumns, side: Side, dataset: DataFrame, columns: Columns
) -> DataFrame:
    """Return factors of one side's ids from ratings, the other side being the model's."""
    refusal = fitted.objective.refusal(side)
    if refusal is not None:
        raise ParameterError(refusal)
    encoded = encode(select(widened(dataset, ids), columns))
    with Workspace(Materialiser()) as workspace:
        kept = workspace.keep(encoded)
        blocks = [part.blocks for part in fitted.blocks]
        found = survey(kept, columns, not fitted.settings.implicit, 0)
        layout = hash_layout(found, default_parallelism(dataset.sparkSession), (None, None), columns.weight is not None)
        blocks[side] = layout.blocks[side]
        layout = replace(layout, blocks=(blocks[0], blocks[1]))
        settings = seen_from(exact(fitted.settings), side)
        there = Newcomers(workspace.keep(side_blocks(kept, layout, side)), layout, side, settings)
        _check_ids(there, fitted, ids, columns)
        total = _whole(fitted, there)
    newcomers = there._replace(raw=side_blocks(encoded, layout, side))
    solved = _solved(newcomers, _answers(newcomers, fitted), fitted, ids.kinds[side], total)
    return FactorBlocks(solved, blocks[side], -1, fitted.settings, side).table(ids.kinds[side].simpleString())


def _check_ids(there: Newcomers, fitted: FrameFactorization, ids: IdColumns, columns: Columns) -> None:
    """Raise DataError for ids that the model does not know, and for new ones beyond its type."""
    kept = arrow_type(ids.kinds[there.side])

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for table in opened(batch.column("ids")):
                yield row_batch({"beyond": pa.int64()}, [beyond_type(flat(table.combine_chunks(), "id"), kept)])

    beyond = there.raw.select("ids").mapInArrow(count, "beyond long").agg(F.sum("beyond")).first()
    if beyond is not None and beyond[0]:
        raise beyond_error(ids, there.side, beyond[0])
    unknown = _answers(there, fitted).agg(F.sum("unknown")).first()
    if unknown is not None and unknown[0]:
        raise unknown_error((columns.user, columns.item)[there.side.other], unknown[0])


def _answers(there: Newcomers, fitted: FrameFactorization) -> DataFrame:
    """Return the other side's rows that each block needs: target, block (whose rows they are), data, unknown.

    Rows of unknown ids are NaN; ``unknown`` counts the distinct ones, once for each block of the other side.
    """
    settings, other = there.settings, fitted.blocks[there.side.other]

    def ask(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for row, table in enumerate(opened(batch.column("needed"))):
                starts = np.frombuffer(batch.column("starts")[row].as_buffer(), np.int64)
                for target in np.flatnonzero(np.diff(starts)):
                    part = table.slice(starts[target], starts[target + 1] - starts[target])
                    yield row_batch(kinds_of(_ASKED), [int(target), batch.column("block")[row].as_py(), to_ipc(part)])

    def answer(own: pa.Table, asked: pa.Table) -> pa.Table:
        if asked.num_rows == 0:
            return nothing(_ANSWER)
        known = read_rows(own, settings) if own.num_rows else None
        sent, unknown = [], []
        for table in opened(asked.column("ids")):
            ids = flat(table.combine_chunks(), "id")
            found = np.full((len(ids), settings.width), np.nan, settings.dtype)
            at = np.full(len(ids), -1, np.int32) if known is None else places(ids, known.ids)
            if known is not None:
                found[at >= 0] = known.data[at[at >= 0]]
            unknown.append(ids.filter(pa.array(at < 0)))
            sent.append(found.tobytes())
        counts = pa.array([len(pc.unique(pa.concat_arrays(unknown))), *[0] * (len(sent) - 1)], pa.int64())
        cells = [asked.column("block"), asked.column("target"), pa.array(sent, pa.binary()), counts]
        return pa.table(cells, names=list(kinds_of(_ANSWER)))

    asked = there.raw.select("block", "needed", "starts").mapInArrow(ask, _ASKED)
    placed = place(asked, "target", other.blocks)
    pair = other.frame.groupBy("block").cogroup(placed.groupBy("target"))
    answers = pair.applyInArrow(answer, _ANSWER)
    return place(answers, "target", there.layout.blocks[there.side])


def _solved(
    there: Newcomers, answers: DataFrame, fitted: FrameFactorization, kind: T.DataType, total: All | None
) -> DataFrame:
    """Return the new ids' blocks of factors."""
    settings, layout, intercept, side = there.settings, there.layout, fitted.intercept, there.side
    base = None if total is None or settings.negatives else settings.w0 * total.gramian
    count, kept = fitted.sizes[side.other], arrow_type(kind)

    def solve(blocks: pa.Table, pieces: pa.Table) -> pa.Table:
        if blocks.num_rows == 0:
            return nothing(BLOCK)
        block = read_routed(blocks, 0, layout)
        fixed = fix(gathered(pieces, block, settings), settings, intercept, base, count)
        X, unsolved, cause = _half_step(block.csr, fixed, settings, total)
        if unsolved >= 0:
            raise UnsolvableError(side, unsolved, repr(block.ids[unsolved].as_py()), cause)
        return pa.Table.from_batches([packed(block.number, Rows(block.ids.cast(kept), X[:, : settings.width]))])

    empty = F.lit(b"")
    raw = there.raw.withColumns({"routes": empty, "route_starts": empty})
    return raw.groupBy("block").cogroup(answers.groupBy("target")).applyInArrow(solve, BLOCK)


def _half_step(block: Block, fixed: Fixed, settings: Settings, total: All | None) -> tuple[NDArray[Any], int, str]:
    """Return a block's solved rows, the first unsolved one or -1, and the cause."""
    if settings.negatives:
        X, unsolved = solve_expected(block, fixed, settings, total)
        return X, unsolved, CAUSES[0]
    X, _, unsolved = solve_block(block, fixed, settings)
    return X, unsolved, blame(block, unsolved)


def _whole(fitted: FrameFactorization, there: Newcomers) -> All | None:
    """Return the sums over all rows of the other side that implicit objectives need, None for explicit ones."""
    settings, intercept = there.settings, fitted.intercept
    if not settings.implicit:
        return None
    other = fitted.blocks[there.side.other]

    def add(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for row in range(batch.num_rows):
                rows = read_rows(batch.slice(row, 1), settings)
                if rows is None:
                    continue
                sums = all_rows(fix(padded(rows.data, settings), settings, intercept, np.zeros((0, 0))))
                cells = [batch.column("block")[row].as_py(), sums.gramian.tobytes(), sums.pull.tobytes()]
                yield row_batch(kinds_of(_SUMS), cells)

    rows = other.frame.mapInArrow(add, _SUMS).toArrow().to_pylist()
    rows.sort(key=lambda row: row["block"])
    k = settings.padded
    gram = np.sum([np.frombuffer(row["gramian"]).reshape(k, k) for row in rows], axis=0)
    return All(gram, np.sum([np.frombuffer(row["pull"]) for row in rows], axis=0))
