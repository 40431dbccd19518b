"""Recommendations, neighbours and fold-in of a model, by blocks of one side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from mfspark.engine import blocks as block_frames
from mfspark.engine.fitting import Factors, half_step
from mfspark.engine.ratings import SIDES, Columns, Profile, Side, encode, profile, select
from mfspark.engine.scoring import best_of
from mfspark.engine.state import Fitted
from mfspark.errors import DataError, ParameterError
from mfspark.kernels.csr import balanced_bounds
from mfspark.session import default_parallelism

if TYPE_CHECKING:
    from mfspark.model import FactorizationModel

ID_COLUMNS = ("userCol", "itemCol")


def for_all(model: FactorizationModel, side: int, n: int, seen: DataFrame | None) -> DataFrame:
    """Return the best n of the other side for every id of a side."""
    kept = model._seen_blocks
    if seen is None and kept is not None and side in kept.sides and model.getOrDefault("filterSeen"):
        _check_number(n)
        last = len(kept.bounds[side]) - 1
        frame = _seen_columns(kept.frame.where(F.col("block") < last), side)
        return _ranked(model, side, n, frame, kept.bounds[side], model.fitted.scoring(), model.fitted.ids[side])
    seen = model._pairs_seen(seen)
    return _best(model, side, n, seen, model.fitted.scoring(), model.fitted.ids[side], None)


def for_subset(model: FactorizationModel, side: int, dataset: DataFrame, n: int, seen: DataFrame | None) -> DataFrame:
    """Return the best n of the other side for the distinct known ids of a data set."""
    name = model.getOrDefault(ID_COLUMNS[side])
    column = model._id_column(dataset, side)
    wanted = dataset.select(column.alias(name)).distinct().toArrow().column(name).combine_chunks()
    known = model.fitted.ids[side]
    rows = np.sort(pc.index_in(wanted.drop_null().cast(known.type), value_set=known).drop_null().to_numpy())
    return _best(model, side, n, seen, model.fitted.scoring(), known, rows)


def similar(model: FactorizationModel, side: int, ids: Sequence[Any] | None, n: int) -> DataFrame:
    """Return the n ids of the same side with the largest cosine, for some or all ids."""
    array, known = model.similarity_arrays(side), model.fitted.ids[side]
    rows = None
    if ids is not None:
        rows = pc.index_in(pa.array(list(ids), known.type), value_set=known)
        if rows.null_count:
            missing = [one for one, row in zip(ids, rows.to_pylist(), strict=True) if row is None]
            raise DataError(f"{len(missing)} ids are unknown to the model, such as {missing[0]!r}")
        rows = np.sort(rows.to_numpy())
    _check_number(n)
    chosen = np.arange(len(known)) if rows is None else rows
    spark = SparkSession.active()
    bounds = _bounds(len(chosen), spark)
    own = pa.table(
        {
            "block": pa.array(range(len(bounds) - 1), pa.int32()),
            "indptr": [np.arange(stop - start + 1).tobytes() for start, stop in zip(bounds, bounds[1:], strict=False)],
            "indices": [
                chosen[start:stop].astype(np.int32).tobytes() for start, stop in zip(bounds, bounds[1:], strict=False)
            ],
        }
    )
    frame = spark.createDataFrame(own, schema="block int, indptr binary, indices binary")
    name, kind = model.getOrDefault(ID_COLUMNS[side]), model._kinds[side]
    pair = (known.take(pa.array(chosen)), known)
    return best_of(
        _spread(frame, len(bounds) - 1), bounds, (array[chosen], array), pair, n, model.getOrDefault("blockSize"),
        (name, name), (kind, kind), score_name="similarity",
    )[0]  # fmt: skip


def fold_in(model: FactorizationModel, side: int, dataset: DataFrame, columns: Columns) -> DataFrame:
    """Return factors of one side's ids from ratings, the other side being the model's."""
    from mfspark.engine.tabular import factor_table

    fitted = model.fitted
    if fitted.loss != "squared":
        raise ParameterError(f"fold-in solves the equations of the squared loss, not of {fitted.loss!r}")
    if not fitted.folds:
        raise ParameterError("this model's factors do not solve ALS's equations, so that nothing can be folded in")
    ratings = encode(select(dataset, columns))
    found = profile(ratings, columns, explicit=not fitted.settings.implicit)
    other = 1 - side
    unknown = pc.sum(pc.invert(pc.is_in(found.sides[other].ids, value_set=fitted.ids[other]))).as_py()
    if unknown:
        name = (columns.user, columns.item)[other]
        raise DataError(f"column {name!r} has {unknown} ids that the model does not know: remove their ratings")
    sides = [found.sides[0], found.sides[1]]
    sides[other] = Side(fitted.ids[other], np.ones(len(fitted.ids[other]), np.int64))
    asked = _with_sides(found, sides)
    spark = dataset.sparkSession
    layout = block_frames.plan(asked, default_parallelism(spark), (None, None), columns.weight is not None)
    frame, release = block_frames.build(ratings, asked, layout)
    arrays = [fitted.sides[0], fitted.sides[1]]
    arrays[side] = np.zeros((len(sides[side]), fitted.settings.padded), fitted.settings.dtype)
    factors = Factors(arrays, fitted.intercept)
    half_step(frame, layout, factors, side, _exact(fitted), False, fitted.limits)
    release()
    solved = Fitted(fitted.settings, (sides[0].ids, sides[1].ids), (factors.sides[0], factors.sides[1]))
    table = factor_table(sides[side].ids, solved.features(side), solved.bias(side))
    kind = model._kinds[side].simpleString()
    return spark.createDataFrame(table, schema=f"id {kind}, features array<float>, bias float")


def _exact(fitted: Fitted) -> Any:
    """Return the settings with a solver that needs no start: a new id has none."""
    settings = fitted.settings
    if settings.method not in ("cg", "subspace", "coordinate"):
        return settings
    return replace(settings, solver="dual", steps=max(settings.steps, 200))


def _with_sides(found: Profile, sides: list[Side]) -> Profile:
    return replace(found, sides=(sides[0], sides[1]))


def _best(
    model: FactorizationModel, side: int, n: int, seen: DataFrame | None, scoring: Any, known: pa.Array, rows: Any
) -> DataFrame:
    _check_number(n)
    spark = SparkSession.active()
    pair = (scoring[side], scoring[1 - side])
    bounds = _bounds(len(known), spark)
    if rows is not None:
        pair, known = (pair[0][rows], pair[1]), known.take(pa.array(rows))
        bounds = _bounds(len(known), spark)
    if seen is None:
        numbers = spark.range(0, len(bounds) - 1, 1, len(bounds) - 1)
        frame = numbers.select(F.col("id").cast("int").alias("block"))
    else:
        frame = _seen_blocks(model, side, seen, known, bounds)
    return _ranked(model, side, n, frame, bounds, (pair if side == 0 else pair[::-1]), known)


def _ranked(
    model: FactorizationModel, side: int, n: int, frame: DataFrame, bounds: Any, scoring: Any, known: pa.Array
) -> DataFrame:
    pair = (scoring[side], scoring[1 - side])
    names = tuple(model.getOrDefault(ID_COLUMNS[one]) for one in (side, 1 - side))
    kinds = (model._kinds[side], model._kinds[1 - side])
    ids = (known, model.fitted.ids[1 - side])
    size = model.getOrDefault("blockSize")
    limits, loss = model.fitted.limits, model.fitted.loss
    return best_of(frame, bounds, pair, ids, n, size, names, kinds, limits, loss=loss)[0]  # type: ignore[arg-type]


def _seen_blocks(model: FactorizationModel, side: int, seen: DataFrame, known: pa.Array, bounds: Any) -> DataFrame:
    """Return the seen pairs as blocks of the rows asked for; pairs with other ids are left out."""
    names = [model.getOrDefault(name) for name in ID_COLUMNS]
    pairs = select(seen, Columns(names[0], names[1], ""))
    sides = [Side(ids, np.zeros(len(ids), np.int64)) for ids in model.fitted.ids]
    sides[side] = Side(known, np.zeros(len(known), np.int64))
    both = [bounds, bounds]
    both[1 - side] = np.array([0, len(sides[1 - side])])
    layout = block_frames.Layout((both[0], both[1]), np.ones(1, np.float32), False, False, known_only=True)
    found = Profile((sides[0], sides[1]), layout.table, 0, 0, 0.0, 0.0, 0.0, 0.0)
    frame = block_frames.build(encode(pairs), found, layout, sides=(side,))[0]
    return _seen_columns(frame, side)


def _seen_columns(frame: DataFrame, side: int) -> DataFrame:
    name = SIDES[side]
    return frame.select("block", F.col(f"{name}_indptr").alias("indptr"), F.col(f"{name}_indices").alias("indices"))


def _bounds(rows: int, spark: SparkSession) -> Any:
    return balanced_bounds(np.ones(rows), max(1, min(rows, 2 * default_parallelism(spark))), 0.0)


def _spread(frame: DataFrame, partitions: int) -> DataFrame:
    return block_frames.place(frame, "block", partitions)


def _check_number(n: int) -> None:
    if n < 1:
        raise ParameterError(f"the number of recommendations must be at least 1, not {n}")
