"""Recommendations, neighbours and fold-in of a model, by blocks of one side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from mfspark.blocks import build as block_frames
from mfspark.blocks.columns import Columns, select
from mfspark.blocks.encode import encode
from mfspark.blocks.profile import Profile, SideProfile
from mfspark.errors import DataError, ParameterError
from mfspark.kernels.csr import Side, balanced_bounds
from mfspark.kernels.topk import best_columns
from mfspark.session import default_parallelism
from mfspark.transport.carriers import Release, carry

if TYPE_CHECKING:
    from mfspark.model.model import FactorizationModel
from mfspark.model.predict import respond


def best_of(
    blocks: DataFrame,
    bounds: NDArray[np.int64],
    scoring: tuple[NDArray[Any], NDArray[Any]],
    ids: tuple[pa.Array, pa.Array],
    n: int,
    size: int,
    names: tuple[str, str],
    kinds: tuple[T.DataType, T.DataType],
    limits: tuple[float, float] = (-np.inf, np.inf),
    score_name: str = "rating",
    loss: str = "squared",
) -> tuple[DataFrame, Release]:
    """Return the n best columns of every row of ``scoring[0]``, as ids.

    Parameters
    ----------
    blocks : DataFrame
        Column ``block``, and where something must be left out also ``indptr`` and ``indices`` (binary).
    bounds : int64 array
        The rows of each block.
    scoring, ids : pairs
        The arrays whose products are the scores, and their rows' ids; first the rows, then the candidates.
    n, size : int
        How many, and the edge of a tile of scores.
    names, kinds : pairs
        The names and types of the id columns.
    limits : (float, float)
        The range to which the scores given out are clipped.
    score_name : str
        The name of the score's field.
    loss : str
        Whose response the scores given out go through; it grows with the score, so that the order stays.
    """
    inner = T.ArrayType(T.StructType([T.StructField(names[1], kinds[1]), T.StructField(score_name, T.FloatType())]))
    schema = T.StructType([T.StructField(names[0], kinds[0]), T.StructField("recommendations", inner)])

    def best(batches: Iterator[pa.RecordBatch], data: Any) -> Iterator[pa.RecordBatch]:
        (left, right), (row_ids, column_ids) = data
        for batch in batches:
            for row in range(batch.num_rows):
                number = batch.column("block")[row].as_py()
                part = slice(bounds[number], bounds[number + 1])
                seen: tuple[Any, Any] = (None, None)
                if "indptr" in batch.schema.names:
                    parts = [batch.column(name)[row].as_buffer() for name in ("indptr", "indices")]
                    seen = (np.frombuffer(parts[0], np.int64), np.frombuffer(parts[1], np.int32))
                places, scores = best_columns(left[part], right, min(n, len(right)), size, *seen)
                scores = respond(scores, limits, loss)
                yield from _recommendations(row_ids[part.start : part.stop], column_ids, places, scores, schema)

    return carry(blocks, (scoring, ids), best, schema, packed=True)


def _recommendations(
    row_ids: pa.Array, column_ids: pa.Array, places: NDArray[np.int32], scores: NDArray[Any], schema: T.StructType
) -> Iterator[pa.RecordBatch]:
    found = places >= 0
    offsets = np.zeros(len(places) + 1, np.int32)
    np.cumsum(found.sum(axis=1), out=offsets[1:])
    item, rating = schema["recommendations"].dataType.elementType.names  # type: ignore[attr-defined]
    pairs = pa.StructArray.from_arrays(
        [column_ids.take(pa.array(places[found])), pa.array(scores[found].astype(np.float32))], names=[item, rating]
    )
    lists = pa.ListArray.from_arrays(pa.array(offsets), pairs)
    for start in range(0, len(places), 10_000):
        part = slice(start, min(start + 10_000, len(places)))
        yield pa.RecordBatch.from_arrays(
            [row_ids[part.start : part.stop], lists[part.start : part.stop]], names=schema.names
        )


ID_COLUMNS = ("userCol", "itemCol")


def for_all(model: FactorizationModel, side: Side, n: int, seen: DataFrame | None) -> DataFrame:
    """Return the best n of the other side for every id of a side."""
    kept = model._seen_blocks
    if seen is None and kept is not None and side in kept.sides and model.getOrDefault("filterSeen"):
        _check_number(n)
        last = len(kept.bounds[side]) - 1
        frame = _seen_columns(kept.frame.where(F.col("block") < last), side)
        return _ranked(model, side, n, frame, kept.bounds[side], model.fitted.scoring(), model.fitted.ids[side])
    seen = model._pairs_seen(seen)
    return _best(model, side, n, seen, model.fitted.scoring(), model.fitted.ids[side], None)


def for_subset(model: FactorizationModel, side: Side, dataset: DataFrame, n: int, seen: DataFrame | None) -> DataFrame:
    """Return the best n of the other side for the distinct known ids of a data set."""
    name = model.getOrDefault(ID_COLUMNS[side])
    column = model._id_column(dataset, side)
    wanted = dataset.select(column.alias(name)).distinct().toArrow().column(name).combine_chunks()
    known = model.fitted.ids[side]
    rows = np.sort(pc.index_in(wanted.drop_null().cast(known.type), value_set=known).drop_null().to_numpy())
    return _best(model, side, n, seen, model.fitted.scoring(), known, rows)


def similar(model: FactorizationModel, side: Side, ids: Sequence[Any] | None, n: int) -> DataFrame:
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


def _best(
    model: FactorizationModel, side: Side, n: int, seen: DataFrame | None, scoring: Any, known: pa.Array, rows: Any
) -> DataFrame:
    _check_number(n)
    spark = SparkSession.active()
    pair = (scoring[side], scoring[side.other])
    bounds = _bounds(len(known), spark)
    if rows is not None:
        pair, known = (pair[0][rows], pair[1]), known.take(pa.array(rows))
        bounds = _bounds(len(known), spark)
    if seen is None:
        numbers = spark.range(0, len(bounds) - 1, 1, len(bounds) - 1)
        frame = numbers.select(F.col("id").cast("int").alias("block"))
    else:
        frame = _seen_blocks(model, side, seen, known, bounds)
    return _ranked(model, side, n, frame, bounds, (pair if side == Side.USER else pair[::-1]), known)


def _ranked(
    model: FactorizationModel, side: Side, n: int, frame: DataFrame, bounds: Any, scoring: Any, known: pa.Array
) -> DataFrame:
    pair = (scoring[side], scoring[side.other])
    names = tuple(model.getOrDefault(ID_COLUMNS[one]) for one in (side, side.other))
    kinds = (model._kinds[side], model._kinds[side.other])
    ids = (known, model.fitted.ids[side.other])
    size = model.getOrDefault("blockSize")
    limits, loss = model.fitted.limits, model.fitted.loss
    return best_of(frame, bounds, pair, ids, n, size, names, kinds, limits, loss=loss)[0]  # type: ignore[arg-type]


def _seen_blocks(model: FactorizationModel, side: Side, seen: DataFrame, known: pa.Array, bounds: Any) -> DataFrame:
    """Return the seen pairs as blocks of the rows asked for; pairs with other ids are left out."""
    names = [model.getOrDefault(name) for name in ID_COLUMNS]
    pairs = select(seen, Columns(names[0], names[1], ""))
    sides = [SideProfile(ids, np.zeros(len(ids), np.int64)) for ids in model.fitted.ids]
    sides[side] = SideProfile(known, np.zeros(len(known), np.int64))
    both = [bounds, bounds]
    both[side.other] = np.array([0, len(sides[side.other])])
    layout = block_frames.Layout((both[0], both[1]), np.ones(1, np.float32), False, False, known_only=True)
    found = Profile((sides[0], sides[1]), layout.table, 0, 0, 0.0, 0.0, 0.0, 0.0)
    frame = block_frames.build(encode(pairs), found, layout, sides=(side,))[0]
    return _seen_columns(frame, side)


def _seen_columns(frame: DataFrame, side: Side) -> DataFrame:
    name = side.stem
    return frame.select("block", F.col(f"{name}_indptr").alias("indptr"), F.col(f"{name}_indices").alias("indices"))


def _bounds(rows: int, spark: SparkSession) -> Any:
    return balanced_bounds(np.ones(rows), max(1, min(rows, 2 * default_parallelism(spark))), 0.0)


def _spread(frame: DataFrame, partitions: int) -> DataFrame:
    return block_frames.place(frame, "block", partitions)


def _check_number(n: int) -> None:
    if n < 1:
        raise ParameterError(f"the number of recommendations must be at least 1, not {n}")
