"""Predictions of pairs and the best n of a side, on the workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from mfspark.engine.carriers import Release, carry
from mfspark.engine.ratings import whole
from mfspark.engine.state import Fitted
from mfspark.kernels.losses import get_loss
from mfspark.kernels.topk import best_columns, pair_scores
from mfspark.session import is_connect

PairData = tuple[tuple[pa.Array, pa.Array], tuple[NDArray[Any], NDArray[Any]], tuple[float, float], str]


def respond(scores: NDArray[Any], limits: tuple[float, float], loss: str) -> NDArray[Any]:
    """Return predictions on the scale of the ratings: the loss's response, clipped."""
    return np.clip(get_loss(loss).response(scores), *limits)


def predict_pairs(users: pa.Array, items: pa.Array, data: PairData) -> NDArray[np.float32]:
    """Return the predictions of pairs of ids, NaN where an id is null or unknown."""
    ids, (left, right), limits, loss = data
    rows, columns = (
        pc.fill_null(pc.index_in(whole(given), value_set=known, skip_nulls=True), -1).to_numpy(zero_copy_only=False)
        for given, known in zip((users, items), ids, strict=True)
    )
    out = np.empty(len(rows), left.dtype)
    pair_scores(left, right, rows, columns, out)
    return respond(out, limits, loss).astype(np.float32, copy=False)


def pair_data(fitted: Fitted) -> PairData:
    """Return what ``predict_pairs`` needs."""
    return fitted.ids, fitted.scoring(), fitted.limits, fitted.loss


def add_predictions(dataset: DataFrame, user: Column, item: Column, name: str, data: PairData) -> DataFrame:
    """Return the data set with a float column of predictions; ``user`` and ``item`` have the types of the ids.

    In a classic session only the two ids pass through Python, by a vectorised UDF; over Connect the rows travel in
    large packets to the joined factors.
    """
    if not is_connect(dataset.sparkSession):
        return dataset.withColumn(name, _pair_udf(dataset, data)(user, item))
    kept = dataset.drop(name) if name in dataset.columns else dataset
    ids = ("__user", "__item")
    schema = T.StructType([*kept.schema.fields, T.StructField(name, T.FloatType())])

    def score(batches: Iterator[pa.RecordBatch], carried: Any) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            found = pa.array(predict_pairs(batch.column(ids[0]), batch.column(ids[1]), carried))
            columns = [*batch.columns[:-2], found]
            yield pa.RecordBatch.from_arrays(columns, names=[*batch.schema.names[:-2], name])

    rows = kept.select("*", user.alias(ids[0]), item.alias(ids[1]))
    return carry(rows, data, score, schema)[0]


def _pair_udf(dataset: DataFrame, data: PairData) -> Callable[..., Column]:
    sent = dataset.sparkSession.sparkContext.broadcast(data)
    if hasattr(F, "arrow_udf"):

        def score(users: pa.Array, items: pa.Array) -> pa.Array:
            return pa.array(predict_pairs(users, items, sent.value))

        return F.arrow_udf(score, T.FloatType())  # type: ignore[call-overload]

    def score_series(users, items):  # type: ignore[no-untyped-def]
        import pandas as pd

        given = (pa.Array.from_pandas(users), pa.Array.from_pandas(items))
        return pd.Series(predict_pairs(*given, sent.value))

    return F.pandas_udf(score_series, T.FloatType())  # type: ignore[call-overload]


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
