"""Factors of new ids: the minimum of the model's own objective, the other side being that of the model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from mfspark.blocks import build as block_frames
from mfspark.blocks.columns import Columns, select, wide
from mfspark.blocks.encode import encode
from mfspark.blocks.map_blocks import joined, visit_blocks
from mfspark.blocks.profile import Profile, SideProfile, profile
from mfspark.errors import DataError, ParameterError
from mfspark.kernels.csr import Block, Side
from mfspark.kernels.objective import Settings, fix
from mfspark.kernels.sgd.expected import solve_expected
from mfspark.model.factor_table import FactorTable
from mfspark.model.factorization import Factorization
from mfspark.model.ids import IdColumns
from mfspark.session import default_parallelism
from mfspark.training.als import Factors, HalfSteps, UnsolvableError


def fold_in(fitted: Factorization, ids: IdColumns, side: Side, dataset: DataFrame, columns: Columns) -> DataFrame:
    """Return factors of one side's ids from ratings, the other side being the model's."""
    refusal = fitted.objective.refusal(side)
    if refusal is not None:
        raise ParameterError(refusal)
    ratings = encode(select(widened(dataset, ids), columns))
    found = profile(ratings, columns, explicit=not fitted.settings.implicit)
    other = side.other
    known = wide(fitted.ids[other])
    new = _narrow(found.sides[side].ids, fitted.ids[side].type, ids, side)
    unknown = pc.sum(pc.invert(pc.is_in(found.sides[other].ids, value_set=known))).as_py()
    if unknown:
        raise unknown_error((columns.user, columns.item)[other], unknown)
    sides = [found.sides[0], found.sides[1]]
    sides[other] = SideProfile(known, np.ones(len(known), np.int64))
    asked = _with_sides(found, sides)
    spark = dataset.sparkSession
    layout = block_frames.plan(asked, default_parallelism(spark), (None, None), columns.weight is not None)
    frame, release = block_frames.build(ratings, asked, layout)
    arrays = [fitted.sides[0], fitted.sides[1]]
    arrays[side] = np.zeros((len(sides[side]), fitted.settings.padded), fitted.settings.dtype)
    factors = Factors(arrays, fitted.intercept, (sides[0].ids, sides[1].ids))
    try:
        if fitted.settings.negatives:
            _solve_expected(frame, layout, factors, fitted.settings)
        else:
            HalfSteps(frame, layout, exact(fitted.settings)).solve(factors, side)
    finally:
        release()
    solved = FactorTable(new, factors.sides[side], fitted.rank, fitted.settings.bias[side])
    return solved.frame(spark, ids.kinds[side].simpleString())


def extended(fitted: Factorization, side: Side, folded: DataFrame) -> Factorization:
    """Return the numbers with the rows of a frame (id, features, bias) among them, in the place of those of their ids.

    Both are read into the driver.
    """
    new = FactorTable.read(folded, "folded-in factors", fitted.settings, side)
    before = fitted.ids[side]
    kept = pc.invert(pc.is_in(before, value_set=new.ids.cast(before.type)))
    ids = pa.concat_arrays([before.filter(kept), new.ids.cast(before.type)])
    order = pc.array_sort_indices(ids)
    array = np.concatenate([fitted.sides[side][kept.to_numpy(zero_copy_only=False)], new.array])[order.to_numpy()]
    own, other = (ids.take(order), array), (fitted.ids[side.other], fitted.sides[side.other])
    users, items = (own, other) if side is Side.USER else (other, own)
    return replace(fitted, ids=(users[0], items[0]), sides=(users[1], items[1]))


def widened(dataset: DataFrame, ids: IdColumns) -> DataFrame:
    """Return a data set whose whole ids are longs, so that those beyond the model's type are seen as such."""
    given = [ids.check(dataset, side) for side in Side]
    wide = {
        name: F.col(f"`{name}`").cast("bigint")
        for name, kind in zip(ids.names, given, strict=True)
        if isinstance(kind, T.IntegralType)
    }
    return dataset.withColumns(wide) if wide else dataset


def unknown_error(column: str, count: int) -> DataError:
    """Return the error for ratings of ids that the model does not know."""
    return DataError(f"column {column!r} has {count} ids that the model does not know: remove their ratings")


def beyond_type(new: pa.Array, kept: pa.DataType) -> int:
    """Return how many ids do not fit in the model's type."""
    return pc.sum(pc.not_equal(wide(new.cast(kept, safe=False)), wide(new))).as_py() or 0


def _narrow(new: pa.Array, kept: pa.DataType, ids: IdColumns, side: Side) -> pa.Array:
    """Return new ids in the model's type."""
    beyond = beyond_type(new, kept)
    if beyond:
        raise beyond_error(ids, side, beyond)
    return new.cast(kept, safe=False)


def beyond_error(ids: IdColumns, side: Side, count: int) -> DataError:
    """Return the error for ids that do not fit in the model's type."""
    kind = ids.kinds[side].simpleString()
    return DataError(f"column {ids.names[side]!r} has {count} ids beyond the model's type {kind}: fit with longs")


def _solve_expected(frame: DataFrame, layout: block_frames.Layout, factors: Factors, settings: Settings) -> None:
    """Solve the users of a model of drawn negatives, whose objective is another one than a half step's."""
    fixed = fix(factors.sides[Side.ITEM], settings, factors.intercept)

    def solve(block: Block, _number: int, _rows: slice, fixed: Any) -> tuple[bytes, int]:
        X, unsolved = solve_expected(block, fixed, settings)
        return X.tobytes(), unsolved

    solved = visit_blocks(frame, layout, Side.USER, fixed, solve, {"solved": "binary", "unsolved": "long"})
    for row in solved:
        if row["unsolved"] >= 0:
            place = int(layout.bounds[Side.USER][row["block"]] + row["unsolved"])
            raise UnsolvableError(Side.USER, place).named(factors)
    factors.sides[Side.USER] = joined(solved, "solved", factors.sides[Side.USER])


MOST_SWEEPS = 5000  # over the coordinates of a row under constraints, which stops when none moves any more


def exact(settings: Settings) -> Settings:
    """Return the settings with a solver that ends at the minimum without a start: a new id has none."""
    return replace(settings, solver="dual" if settings.warm else settings.solver, steps=MOST_SWEEPS)


def _with_sides(found: Profile, sides: list[SideProfile]) -> Profile:
    return replace(found, sides=(sides[0], sides[1]))
