"""The popular items beside a model: what users get whom it does not know."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyspark.sql.functions as F
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import types as T

from mfspark.errors import ParameterError
from mfspark.kernels.csr import Side
from mfspark.model.ids import IdColumns, arrow_type
from mfspark.model.rules import Ids, Rules

LISTED = 100
SPANS = {"popular": "all", "recent": "recent"}
"""What unknown users are offered, and the span of time over which that is counted."""


def most_rated(ids: pa.Array, counts: NDArray[Any], n: int = LISTED) -> pa.Table:
    """Return the n ids with the most training ratings, ties by the smaller id: span, place, id, ratings.

    Parameters
    ----------
    ids : pa.Array
        In ascending order.
    counts : array (len(ids),)
        Their numbers of ratings.
    n : int, default 100
        How many are listed.
    """
    best = np.argsort(-np.asarray(counts), kind="stable")[:n]
    return _table("all", ids.take(pa.array(best)), np.asarray(counts)[best])


def counted(ratings: DataFrame, n: int, days: float, kind: T.DataType) -> pa.Table:
    """Return the n items with the most ratings of all times, and of the last days where ratings have a timestamp.

    Parameters
    ----------
    ratings : DataFrame
        item, and timestamp in seconds, which may be null.
    n : int
        How many items are listed for each span.
    days : float
        How many days before the newest rating are recent.
    kind : DataType
        The type of the model's items.
    """
    spans = {"all": ratings}
    if "timestamp" in ratings.columns:
        newest = ratings.agg(F.max("timestamp").alias("newest"))
        recent = F.col("timestamp") > F.col("newest") - F.lit(days * 86400)
        spans["recent"] = ratings.crossJoin(newest).where(recent)
    parts = []
    for span, rows in spans.items():
        best = rows.groupBy("item").agg(F.count("*").alias("n")).orderBy(F.desc("n"), "item").limit(n).toArrow()
        parts.append(_table(span, best.column("item").cast(arrow_type(kind)), best.column("n")))
    return pa.concat_tables(parts)


def _table(span: str, ids: Any, ratings: Any) -> pa.Table:
    places = np.arange(1, len(ids) + 1, dtype=np.int32)
    columns = [pa.array([span] * len(ids), pa.string()), places, ids, pa.array(ratings, pa.int64())]
    return pa.table(columns, names=["span", "place", "id", "ratings"])


def popular_schema(kind: str) -> str:
    """Return the columns of the list where ids are of an SQL type."""
    return f"span string, place int, id {kind}, ratings bigint"


def offered(model: Any, dataset: DataFrame, n: int, rules: Rules, unknown: str) -> DataFrame:
    """Return the popular items for those users of a data set whom a model does not know.

    Parameters
    ----------
    model : FactorizationModel
        The model with its popular items.
    dataset : DataFrame
        userCol.
    n : int
        How many items; fewer where the list ends.
    rules : Rules
        What is left out, and what alone is offered.
    unknown : str
        A key of ``SPANS``.

    Returns
    -------
    DataFrame
        As ``recommendForUserSubset``; the rating is the number of ratings.

    Raises
    ------
    ParameterError
        There is no such span, the model has no such list, or a smallest score is asked for.
    """
    if unknown not in SPANS:
        raise ParameterError(f"unknown must be one of skip, {', '.join(SPANS)}, not {unknown!r}")
    if rules.min_score is not None:
        raise ParameterError(f"minScore cannot go with unknown={unknown!r}: popular items have counts, not scores")
    ids: IdColumns = model._id_columns()
    user, item = ids.names
    users = dataset.select(ids.column(dataset, Side.USER).alias(user)).distinct().where(F.col(f"`{user}`").isNotNull())
    strangers = users.join(model.userFactors.select(F.col("id").alias(user)), user, "left_anti")
    pairs = strangers.crossJoin(F.broadcast(model._popular_frame(SPANS[unknown])))
    for given, how in ((rules.allow, "left_semi"), (rules.deny, "left_anti")):
        pairs = _bound(pairs, given, ids, how)
    seen: Any = rules.seen if isinstance(rules.seen, list | tuple) else [rules.seen]
    for frame in seen:
        pairs = _bound(pairs, frame, ids, "left_anti")
    one = F.struct("place", F.col(f"`{item}`").alias(item), F.col("ratings").cast("float").alias("rating"))
    best = F.slice(F.sort_array(F.collect_list(one)), 1, n)
    lists = F.transform(best, lambda x: F.struct(x[item].alias(item), x["rating"].alias("rating")))
    return pairs.groupBy(user).agg(lists.alias("recommendations"))


def _bound(pairs: DataFrame, given: Ids, ids: IdColumns, how: str) -> DataFrame:
    """Return the pairs that a rule leaves: items for all users, or pairs."""
    if given is None:
        return pairs
    user, item = ids.names
    if isinstance(given, DataFrame):
        if user in given.columns:
            return pairs.join(ids.pairs(given).distinct(), [user, item], how)
        return pairs.join(given.select(ids.column(given, Side.ITEM).alias(item)).distinct(), item, how)
    listed = [one.as_py() if isinstance(one, pa.Scalar) else one for one in given]
    within = F.col(f"`{item}`").isin(listed) if listed else F.lit(False)
    return pairs.where(within if how == "left_semi" else ~within)
