"""Factors of new ids: one half step of ALS against the fixed side of a fitted model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from mfspark.blocks import build as block_frames
from mfspark.blocks.columns import Columns, select
from mfspark.blocks.encode import encode
from mfspark.blocks.profile import Profile, SideProfile, profile
from mfspark.errors import DataError, ParameterError
from mfspark.kernels.csr import Side
from mfspark.model.factorization import Factorization
from mfspark.session import default_parallelism
from mfspark.training.als import Factors, HalfSteps

if TYPE_CHECKING:
    from mfspark.model.model import FactorizationModel


def fold_in(model: FactorizationModel, side: Side, dataset: DataFrame, columns: Columns) -> DataFrame:
    """Return factors of one side's ids from ratings, the other side being the model's."""
    from mfspark.model.tables import factor_table

    fitted = model.fitted
    refusal = fitted.objective.refusal(side)
    if refusal is not None:
        raise ParameterError(refusal)
    ratings = encode(select(dataset, columns))
    found = profile(ratings, columns, explicit=not fitted.settings.implicit)
    other = side.other
    unknown = pc.sum(pc.invert(pc.is_in(found.sides[other].ids, value_set=fitted.ids[other]))).as_py()
    if unknown:
        name = (columns.user, columns.item)[other]
        raise DataError(f"column {name!r} has {unknown} ids that the model does not know: remove their ratings")
    sides = [found.sides[0], found.sides[1]]
    sides[other] = SideProfile(fitted.ids[other], np.ones(len(fitted.ids[other]), np.int64))
    asked = _with_sides(found, sides)
    spark = dataset.sparkSession
    layout = block_frames.plan(asked, default_parallelism(spark), (None, None), columns.weight is not None)
    frame, release = block_frames.build(ratings, asked, layout)
    arrays = [fitted.sides[0], fitted.sides[1]]
    arrays[side] = np.zeros((len(sides[side]), fitted.settings.padded), fitted.settings.dtype)
    factors = Factors(arrays, fitted.intercept)
    HalfSteps(frame, layout, _exact(fitted)).solve(factors, side)
    release()
    solved = Factorization(fitted.settings, (sides[0].ids, sides[1].ids), (factors.sides[0], factors.sides[1]))
    table = factor_table(sides[side].ids, solved.features(side), solved.bias(side))
    kind = model._kinds[side].simpleString()
    return spark.createDataFrame(table, schema=f"id {kind}, features array<float>, bias float")


def _exact(fitted: Factorization) -> Any:
    """Return the settings with a solver that needs no start: a new id has none."""
    settings = fitted.settings
    return replace(settings, solver="dual" if settings.warm else settings.solver, steps=max(settings.steps, 200))


def _with_sides(found: Profile, sides: list[SideProfile]) -> Profile:
    return replace(found, sides=(sides[0], sides[1]))
