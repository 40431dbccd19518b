"""How good recommended lists are: ranking metrics on DataFrames, computed by Spark's own functions.

Names and conventions are those of `pyspark.ml.evaluation.RankingEvaluator` where it has the metric. Means are over
the users who have at least one relevant item; such a user without a list counts as zero.
"""

from __future__ import annotations

from collections.abc import Callable

import pyspark.sql.functions as F
from pyspark.sql import Column, DataFrame
from pyspark.sql.types import ArrayType, StructType

from mfspark.errors import DataError, ParameterError, missing_column


def ranking_metrics(
    recommended: DataFrame,
    relevant: DataFrame,
    k: int = 10,
    n_items: int | None = None,
    user: str = "user",
    item: str = "item",
) -> dict[str, float]:
    """Measure recommended lists against the relevant items of each user.

    Parameters
    ----------
    recommended : DataFrame
        ``user`` and ``recommendations``, best first: an array of items, or of structs with a field named ``item`` (what
        ``recommendForAllUsers`` returns).
    relevant : DataFrame
        ``user``, ``item``: one row for each relevant pair; doubles count once.
    k : int
        Only the first k of each list count (default 10).
    n_items : int, optional
        How many items there are to choose from, for ``areaUnderROC`` and ``coverageAtK``; without it they are left out.
    user, item : str
        Column names.

    Returns
    -------
    dict
        With h(j) = 1 where the j-th item of a list is relevant, and R the number of relevant items of the user:
        ``precisionAtK`` = sum h / k; ``recallAtK`` = sum h / R; ``hitRateAtK`` = 1 if sum h > 0;
        ``ndcgAtK`` = sum h(j) / log2(j + 1) over the same sum for min(R, k) hits in front;
        ``meanAveragePrecisionAtK`` = sum h(j) precision(j) / min(R, k);
        ``meanReciprocalRank`` = 1 / the first j with h(j) = 1;
        ``areaUnderROC`` = share of (relevant, other) item pairs in the right order, where the items after the k-th are
        taken to be in random order; ``coverageAtK`` = share of the items that occur in any list; ``users``.

    Raises
    ------
    DataError
        A column is missing, or there is no relevant pair.
    ParameterError
        k or n_items is below 1, or a user has more relevant items than n_items.
    """
    if k < 1 or (n_items is not None and n_items < 1):
        raise ParameterError(f"k={k}, n_items={n_items}: both must be at least 1")
    _need(recommended, "recommended", user, "recommendations")
    _need(relevant, "relevant", user, item)
    lists = recommended.select(user, F.slice(_items(recommended, item), 1, k).alias("list"))
    truth = relevant.groupBy(user).agg(F.collect_set(item).alias("truth"))
    joined = truth.join(lists, user, "left").select(
        F.size("truth").cast("double").alias("R"),
        F.coalesce(_hit_positions(), F.array().cast("array<int>")).alias("hits"),
        F.coalesce(F.size("list"), F.lit(0)).alias("length"),
    )
    columns = _per_user(k, n_items)
    averages = [F.avg(column).alias(name) for name, column in columns.items()]
    row = joined.agg(F.count("*").alias("users"), F.max("R").alias("most"), *averages).first()
    if row is None or row["users"] == 0:
        raise DataError("nothing to evaluate: there is no relevant (user, item) pair")
    if n_items is not None and row["most"] > n_items:
        raise ParameterError(f"n_items={n_items}, but one user alone has {int(row['most'])} relevant items")
    metrics = {name: float(row[name]) for name in columns if row[name] is not None}
    if n_items is not None:
        distinct = lists.select(F.explode("list").alias(item)).agg(F.count_distinct(item).alias("n")).first()
        metrics["coverageAtK"] = (distinct["n"] if distinct else 0) / n_items
    return metrics | {"users": float(row["users"])}


def _per_user(k: int, n_items: int | None) -> dict[str, Column]:
    """Return each metric of one user from R, the 1-based positions of the hits, and the length of the list."""
    hits, relevant = F.col("hits"), F.col("R")
    found = F.size(hits).cast("double")
    best = F.least(relevant, F.lit(float(k)))

    def gain(position: Column) -> Column:
        return F.lit(1.0) / F.log2(position + F.lit(1.0))

    ideal = _sum(F.sequence(F.lit(1), best.cast("int")), gain)
    # The j-th hit at position p has precision j / p there.
    precisions = F.transform(hits, lambda position, index: (index + F.lit(1.0)) / position)
    metrics = {
        "precisionAtK": found / F.lit(float(k)),
        "recallAtK": found / relevant,
        "hitRateAtK": F.when(found > 0, 1.0).otherwise(0.0),
        "ndcgAtK": _sum(hits, gain) / ideal,
        "meanAveragePrecisionAtK": _sum(precisions, lambda value: value) / best,
        "meanReciprocalRank": F.when(found > 0, F.lit(1.0) / F.element_at(hits, 1)).otherwise(0.0),
    }
    if n_items is not None:
        metrics["areaUnderROC"] = _area(hits, found, relevant, F.lit(float(n_items)))
    return metrics


def _area(hits: Column, found: Column, relevant: Column, n_items: Column) -> Column:
    """Return the area under the ROC curve; null for a user to whom every item is relevant."""
    others = n_items - relevant
    misses = F.col("length") - found
    # A hit at position p, the j-th, stands before all misses of the list but the p - j above it.
    in_list = _sum(F.transform(hits, lambda p, index: misses - (p - index - F.lit(1.0))), lambda value: value)
    after_list = (others - misses) * (found + (relevant - found) / 2)
    return F.when(others > 0, (in_list + after_list) / (others * relevant))


def _hit_positions() -> Column:
    positions = F.transform("list", lambda x, index: F.when(F.array_contains("truth", x), index + 1))
    return F.filter(positions, lambda position: position.isNotNull())


def _sum(values: Column, of: Callable[[Column], Column]) -> Column:
    return F.aggregate(values, F.lit(0.0), lambda total, value: total + of(value))


def _items(recommended: DataFrame, item: str) -> Column:
    kind = recommended.schema["recommendations"].dataType
    if not isinstance(kind, ArrayType):
        raise DataError(f"column 'recommendations' must be an array of items, not {kind.simpleString()}")
    if not isinstance(kind.elementType, StructType):
        return F.col("recommendations")
    if item not in kind.elementType.names:
        raise DataError(f"the structs in 'recommendations' have no field {item!r}: {kind.elementType.names}")
    return F.col("recommendations")[item]


def _need(df: DataFrame, name: str, *columns: str) -> None:
    for column in columns:
        if column not in df.columns:
            raise missing_column(column, df.columns, name)
