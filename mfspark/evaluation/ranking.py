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
    train: DataFrame | None = None,
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
    train : DataFrame, optional
        ``user``, ``item``: what the model was trained on, for ``noveltyAtK`` and ``popularityAtK``.

    Returns
    -------
    dict
        With h(j) = 1 where the j-th item of a list is relevant, and R the number of relevant items of the user:
        ``precisionAtK`` = sum h / k; ``recallAtK`` = sum h / R; ``hitRateAtK`` = 1 if sum h > 0;
        ``truncatedRecallAtK`` = sum h / min(R, k), which a perfect list brings to 1 (Liang et al., "Variational
        autoencoders for collaborative filtering", 2018, section 4.2; RecTools' ``Precision(r_precision=True)``);
        ``ndcgAtK`` = sum h(j) / log2(j + 1) over the same sum for min(R, k) hits in front;
        ``meanAveragePrecisionAtK`` = sum h(j) precision(j) / min(R, k);
        ``meanReciprocalRank`` = 1 / the first j with h(j) = 1;
        ``areaUnderROC`` = share of (relevant, other) item pairs in the right order, where the items after the k-th are
        taken to be in random order; ``users``. And of all lists, also those of users without relevant items:
        ``coverageAtK`` = share of the items that occur in any list (RecTools' ``CatalogCoverage(normalize=True)``);
        ``popularityAtK`` = the mean over the lists of the mean number of training ratings of their items (RecTools'
        ``AvgRecPopularity``); ``noveltyAtK`` = the same of log2(users / users who rated the item), an item that nobody
        rated counting as rated by one (RecTools' ``MeanInvUserFreq``).

    Raises
    ------
    DataError
        A column is missing, or there is no relevant pair.
    ParameterError
        k or n_items is below 1, or a user has more relevant items than n_items.
    """
    joined, lists = joined_lists(recommended, relevant, k, (user, item), n_items)
    columns = per_user(k, n_items)
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
    if train is not None:
        metrics |= _habits(lists, train, user, item)
    return metrics | {"users": float(row["users"])}


def joined_lists(
    recommended: DataFrame, relevant: DataFrame, k: int, names: tuple[str, str], n_items: int | None = None
) -> tuple[DataFrame, DataFrame]:
    """Return what ``per_user`` needs of every user with a relevant item, and all lists cut at k (user, list).

    Parameters
    ----------
    recommended, relevant, k
        As in ``ranking_metrics``.
    names : (str, str)
        The columns of users and items.
    n_items : int, optional
        As in ``ranking_metrics``.
    """
    user, item = names
    if k < 1 or (n_items is not None and n_items < 1):
        raise ParameterError(f"k={k}, n_items={n_items}: both must be at least 1")
    _need(recommended, "recommended", user, "recommendations")
    _need(relevant, "relevant", user, item)
    lists = recommended.select(user, F.slice(items_of(recommended, "recommendations", item), 1, k).alias("list"))
    truth = relevant.groupBy(user).agg(F.collect_set(item).alias("truth"))
    return with_hits(truth.join(lists, user, "left"), user), lists


def with_hits(joined: DataFrame, *kept: str) -> DataFrame:
    """Return R, the positions of the hits and the length of the list, from the columns truth and list (or null)."""
    return joined.select(
        *kept,
        F.size("truth").cast("double").alias("R"),
        F.coalesce(_hit_positions(), F.array().cast("array<int>")).alias("hits"),
        F.coalesce(F.size("list"), F.lit(0)).alias("length"),
    )


def _habits(lists: DataFrame, train: DataFrame, user: str, item: str) -> dict[str, float]:
    """Return how new and how popular the recommended items are, whoever finds them relevant."""
    _need(train, "train", user, item)
    rated = train.groupBy(item).agg(F.count("*").alias("ratings"), F.count_distinct(user).alias("raters"))
    everyone = train.agg(F.count_distinct(user).alias("everyone"))
    listed = lists.select(user, F.explode("list").alias(item)).join(rated, item, "left").crossJoin(everyone)
    means = listed.groupBy(user).agg(
        F.avg(F.log2(F.col("everyone") / F.coalesce("raters", F.lit(1)))).alias("noveltyAtK"),
        F.avg(F.coalesce("ratings", F.lit(0))).alias("popularityAtK"),
    )
    row = means.agg(*(F.avg(name).alias(name) for name in ("noveltyAtK", "popularityAtK"))).first()
    return {name: float(value) for name, value in (row.asDict() if row else {}).items() if value is not None}


def per_user(k: int, n_items: int | None) -> dict[str, Column]:
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
        "truncatedRecallAtK": found / best,
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


def items_of(frame: DataFrame, column: str, item: str | None = None) -> Column:
    """Return a column of lists as arrays of items: of structs their field ``item``, or the first one without a name."""
    kind = frame.schema[column].dataType
    if not isinstance(kind, ArrayType):
        raise DataError(f"column {column!r} must be an array of items, not {kind.simpleString()}")
    if not isinstance(kind.elementType, StructType):
        return F.col(column)
    names = kind.elementType.names
    if item is not None and item not in names:
        raise DataError(f"the structs in {column!r} have no field {item!r}: {names}")
    return F.col(column)[item or names[0]]


def _need(df: DataFrame, name: str, *columns: str) -> None:
    for column in columns:
        if column not in df.columns:
            raise missing_column(column, df.columns, name)
