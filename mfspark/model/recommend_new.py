"""Recommendations for users who are not in the model: folded in from their ratings, ranked on the workers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from mfspark.blocks.columns import whole
from mfspark.kernels.csr import Side
from mfspark.kernels.topk import best_columns
from mfspark.model.factorization import Factorization, respond
from mfspark.model.ids import IdColumns
from mfspark.model.recommend import Ranking, _recommendations
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
    rows = folded.join(rated.agg(F.collect_set(f"`{item}`").alias("rated")), "id").select(
        "id", "features", "bias", "rated"
    )
    nobody = np.empty((0, fitted.settings.padded), fitted.settings.dtype)
    items = replace(fitted, ids=(fitted.ids[0].slice(0, 0), fitted.ids[1]), sides=(nobody, fitted.sides[1]))
    schema = Ranking(fitted.sides, fitted.ids, ids.names, ids.kinds).schema

    def best(batches: Iterator[pa.RecordBatch], items: Any) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            left, right = replace(items, sides=(_rows(batch, items), items.sides[1])).scoring()
            indptr, indices = _places(batch.column("rated"), items.ids[Side.ITEM])
            places, scores = best_columns(left, right, min(n, len(right)), size, indptr, indices)
            given = respond(scores, items.limits, items.loss)
            yield from _recommendations(batch.column("id"), items.ids[Side.ITEM], places, given, schema)

    return carry(rows, items, best, schema).frame


def _rows(batch: pa.RecordBatch, items: Factorization) -> np.ndarray:
    """Return folded-in rows as a side of the model (n x padded)."""
    array = np.zeros((batch.num_rows, items.settings.padded), items.settings.dtype)
    array[:, : items.rank] = batch.column("features").flatten().to_numpy().reshape(-1, items.rank)
    if items.settings.bias[Side.USER]:
        array[:, items.rank] = batch.column("bias").to_numpy(zero_copy_only=False)
    return array


def _places(lists: pa.Array, known: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return lists of items as rows of places; the items are known, since they were folded in from."""
    found = pc.index_in(whole(lists.flatten()), value_set=known).to_numpy(zero_copy_only=False)
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), found.astype(np.int32)
