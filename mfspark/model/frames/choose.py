"""Some of a side's rows: those whose ids a frame names, or all but these."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from mfspark.model.frames.blocks import BLOCK, FactorBlocks, Rows, packed, read_rows
from mfspark.model.frames.pieces import home, opened, pieces, places
from mfspark.model.ids import IdColumns
from mfspark.model.rules import Choice
from mfspark.transport.arrow import flat, nothing


def pick(blocks: FactorBlocks, named: DataFrame, rest: bool = False) -> DataFrame:
    """Return the blocks with those rows only whose ids stand in the column "id" of a frame.

    Parameters
    ----------
    blocks : FactorBlocks
        The side.
    named : DataFrame
        The ids, in the type of the side's.
    rest : bool, default False
        Whether the other rows are wanted instead.
    """
    settings, count = blocks.settings, blocks.blocks

    def key(table: pa.Table) -> NDArray[np.int32]:
        return home(flat(table, "id"), count)

    def take(own: pa.Table, given: pa.Table) -> pa.Table:
        rows = read_rows(own, settings) if own.num_rows else None
        if rows is None:
            return nothing(BLOCK)
        chosen = np.full(len(rows.ids) + 1, rest)
        for table in opened(given.column("rows")) if given.num_rows else []:
            chosen[places(flat(table.combine_chunks(), "id"), rows.ids)] = not rest
        at = np.flatnonzero(chosen[:-1])  # the last one is that of unknown ids, whose place is -1
        if at.size == 0:
            return nothing(BLOCK)
        some = Rows(rows.ids.take(pa.array(at)), rows.data[at])
        return pa.Table.from_batches([packed(own.column("block")[0].as_py(), some)])

    coming = pieces(named, key, count)
    return blocks.frame.groupBy("block").cogroup(coming.groupBy("target")).applyInArrow(take, BLOCK)


def asked_frame(blocks: FactorBlocks, ids: IdColumns, asked: pa.Array) -> DataFrame:
    """Return ids given in Python (texts or longs) as the column "id" in the model's type, null where they pass it."""
    kind = "string" if pa.types.is_string(asked.type) else "bigint"
    given = blocks.frame.sparkSession.createDataFrame(pa.table({"id": asked}), schema=f"id {kind}")
    return given.select(F.col("id").try_cast(ids.kinds[blocks.side]).alias("id"))


def candidates(blocks: FactorBlocks, ids: IdColumns, choice: Choice) -> FactorBlocks:
    """Return a side without the ids that a choice leaves out; its ``size`` is that of the whole side."""
    side, frame = blocks.side, blocks.frame
    for given, rest in ((choice.allow, False), (choice.deny, True)):
        if given is not None:
            named = ids.wanted(given, side) if isinstance(given, DataFrame) else _listed(blocks, ids, given)
            frame = pick(replace(blocks, frame=frame), named, rest)
    return replace(blocks, frame=frame)


def _listed(blocks: FactorBlocks, ids: IdColumns, given: Any) -> DataFrame:
    """Return ids given in Python, of which None is none, as a frame."""
    several = isinstance(given, Iterable) and not isinstance(given, str | bytes)
    return asked_frame(blocks, ids, ids.asked(blocks.side, [v for v in given if v is not None] if several else given))
