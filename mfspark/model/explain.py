"""Where scores come from: what each of a user's ratings contributes, for a data set of pairs on the workers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from mfspark.blocks.columns import Columns, select
from mfspark.kernels.csr import Side
from mfspark.model.factorization import Factorization
from mfspark.model.ids import IdColumns
from mfspark.model.new_user import NewUsers, require_explains
from mfspark.model.sorted_ids import SortedIds
from mfspark.transport.carriers import carry


def explain(fitted: Factorization, ids: IdColumns, pairs: DataFrame, ratings: DataFrame, columns: Columns) -> DataFrame:
    """Return for every pair its score, the score's base, and the contributions of the user's ratings.

    Parameters
    ----------
    fitted : Factorization
        The model; of its users nothing is used.
    ids : IdColumns
        Its id columns.
    pairs, ratings : DataFrame
        What is explained, and by what.
    columns : Columns
        The columns of the ratings.

    Raises
    ------
    ParameterError
        The model's scores are not sums over ratings.
    DataError
        A column is missing or has another type.
    """
    require_explains(fitted.objective)
    user, item = ids.names
    typed = ratings.withColumns({name: ids.column(ratings, side) for side, name in zip(Side, ids.names, strict=True)})
    rated = select(typed, columns).withColumnRenamed("user", user)
    # In structs, because collect_list passes over nulls.
    own = rated.groupBy(user).agg(F.collect_list(F.struct(*rated.columns[1:])).alias("__rated"))
    asked = ids.pairs(pairs).groupBy(user).agg(F.collect_list(F.struct(item)).alias("__asked"))
    schema = _schema(ids)

    def explained(batches: Iterator[pa.RecordBatch], data: Factorization) -> Iterator[pa.RecordBatch]:
        new = NewUsers(data, SortedIds(data.ids[Side.ITEM], Side.ITEM.stem))
        for batch in batches:
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield _explanations(_Asked(*row), new, schema.names, batch.schema.field(0).type)

    return carry(asked.join(own, user, "left"), _without_users(fitted), explained, schema).frame


def _schema(ids: IdColumns) -> T.StructType:
    parts = [T.StructField(ids.names[1], ids.kinds[1]), T.StructField("contribution", T.FloatType())]
    return T.StructType(
        [
            *(T.StructField(name, kind) for name, kind in zip(ids.names, ids.kinds, strict=True)),
            T.StructField("score", T.FloatType()),
            T.StructField("base", T.FloatType()),
            T.StructField("contributions", T.ArrayType(T.StructType(parts))),
        ]
    )


def _without_users(fitted: Factorization) -> Factorization:
    users, items = fitted.sides
    return replace(fitted, ids=(fitted.ids[0][:0], fitted.ids[1]), sides=(users[:0], items))


class _Asked(NamedTuple):
    """A user's row: the items asked for, and what was rated; structs as dictionaries."""

    user: Any
    asked: list[dict[str, Any]]
    rated: list[dict[str, Any]] | None


def _explanations(row: _Asked, new: NewUsers, names: list[str], user: pa.DataType) -> pa.RecordBatch:
    """Return a user's explanations, the contributions of each the largest first, ties by the smaller item."""
    asked = [next(iter(one.values())) for one in row.asked]
    rated = row.rated or []
    items = [one["item"] for one in rated]
    weights = [one["weight"] for one in rated] if rated and "weight" in rated[0] else None
    given = new.given(items, [one["rating"] for one in rated], weights)
    places, kind = new.ids.places(asked), new.ids.ids.type
    known = places >= 0
    found = new.explain(given, places[known])
    order = np.lexsort((np.broadcast_to(given.places, found.shares.shape), -found.shares), axis=1)
    ordered = np.take_along_axis(found.shares, order, 1).astype(np.float32)
    parts = pa.StructArray.from_arrays(
        [pa.array(items, kind).take(pa.array(order.ravel())), pa.array(ordered.ravel())],
        names=[names[1], "contribution"],
    )
    lengths = np.where(known, len(items), 0)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32), mask=np.append(~known, False))
    return pa.RecordBatch.from_arrays(
        [
            pa.array([row.user] * len(asked), user),
            pa.array(asked, kind),
            _spread(found.scores, known),
            _spread(found.bases, known),
            pa.ListArray.from_arrays(offsets, parts),
        ],
        names=names,
    )


def _spread(values: NDArray[np.float64], known: NDArray[np.bool_]) -> pa.Array:
    """Return one value for each asked item, null where it is unknown."""
    spread = np.zeros(len(known), np.float32)
    spread[known] = values
    return pa.array(spread, mask=~known)
