"""Recommendations for users who are not in the model: folded in from their ratings, ranked on the workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from mfspark.blocks.columns import whole
from mfspark.kernels.csr import Side
from mfspark.kernels.objective import Settings
from mfspark.kernels.topk import best_columns
from mfspark.model.factorization import Factorization, scoring_rows
from mfspark.model.ids import IdColumns
from mfspark.model.recommend import Lists
from mfspark.model.sorted_ids import how_many
from mfspark.transport.carriers import carry


def recommend_new(
    fitted: Factorization, ids: IdColumns, folded: DataFrame, ratings: DataFrame, n: int, size: int
) -> DataFrame:
    """Return the n best items of folded-in users without those they rated.

    Parameters
    ----------
    fitted : Factorization
        The model; of its users nothing is used.
    ids : IdColumns
        Its id columns.
    folded : DataFrame
        id, features, bias: from ``fold_in``.
    ratings : DataFrame
        What they were folded in from.
    n, size : int
        How many, and the edge of a tile of scores.
    """
    n = how_many(n, "the number of recommendations")
    user, item = ids.names
    rated = ids.pairs(ratings).groupBy(F.col(f"`{user}`").alias("id"))
    lists = rated.agg(F.collect_set(f"`{item}`").alias("rated"))
    rows = folded.join(lists, "id").select("id", "features", "bias", "rated")
    named = Lists(ids.names, ids.kinds, fitted.limits, fitted.loss)
    settings, intercept = fitted.settings, fitted.intercept
    items = scoring_rows(fitted.sides[Side.ITEM], settings, intercept, Side.ITEM)

    def best(batches: Iterator[pa.RecordBatch], data: Any) -> Iterator[pa.RecordBatch]:
        known, right = data
        for batch in batches:
            left = scoring_rows(_rows(batch, settings), settings, intercept, Side.USER)
            seen = _places(batch.column("rated"), known)
            places, scores = best_columns(left, right, min(n, len(right)), size, *seen)
            yield from named.batches(batch.column("id"), known, places, scores)

    return carry(rows, (fitted.ids[Side.ITEM], items), best, named.schema).frame


def _rows(batch: pa.RecordBatch, settings: Settings) -> np.ndarray:
    """Return folded-in rows as rows of a side (n x columns in use)."""
    array = np.zeros((batch.num_rows, settings.width), settings.dtype)
    array[:, : settings.rank] = batch.column("features").flatten().to_numpy().reshape(-1, settings.rank)
    if settings.bias[Side.USER]:
        array[:, settings.rank] = batch.column("bias").to_numpy(zero_copy_only=False)
    return array


def _places(lists: pa.Array, known: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return lists of items as rows of places; the items are known, since they were folded in from."""
    found = pc.index_in(whole(lists.flatten()), value_set=known).to_numpy(zero_copy_only=False)
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), found.astype(np.int32)
