"""For whom and for what a model is good: metrics by deciles of the users' activity and of the items' popularity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyspark.sql.functions as F
from pyspark.sql import Column, DataFrame

from mfspark.errors import missing_column
from mfspark.evaluation.ranking import joined_lists, per_user


def deciles(train: DataFrame, column: str) -> DataFrame:
    """Return the ids of a column with their number of training ratings and their decile by it, 1 to 10.

    The decile is one more than the number of the nine deciles of the counts that lie below: ids with equal counts are
    in one decile, and where many are equal some deciles are empty. An id without training ratings is in none; where
    the ids are joined to others, these get the decile 0.

    Parameters
    ----------
    train : DataFrame
        One row a rating.
    column : str
        ``user`` or ``item``.

    Returns
    -------
    DataFrame
        The column, ratings (long), decile (int).
    """
    if column not in train.columns:
        raise missing_column(column, train.columns)
    counts = train.groupBy(column).agg(F.count("*").alias("ratings"))
    cuts = counts.agg(F.percentile("ratings", [tenth / 10 for tenth in range(1, 10)]).alias("cuts"))
    below = F.size(F.filter("cuts", lambda cut: cut < F.col("ratings")))
    return counts.crossJoin(cuts).select(column, "ratings", (below + F.lit(1)).cast("int").alias("decile"))


def ranking_segments(
    recommended: DataFrame,
    relevant: DataFrame,
    train: DataFrame,
    k: int = 10,
    user: str = "user",
    item: str = "item",
) -> DataFrame:
    """Return the ranking metrics of each decile of users, and what became of each decile of items.

    Parameters
    ----------
    recommended, relevant
        As in ``ranking_metrics``.
    train : DataFrame
        user, item: by whose counts users and items are parted; decile 0 has no training rating.
    k, user, item
        As in ``ranking_metrics``.

    Returns
    -------
    DataFrame
        segment (``user`` or ``item``), decile, metric, value. Of users: ``users`` and the means of the metrics of
        ``ranking_metrics`` that each user has. Of items: ``relevant`` pairs, ``recallAtK`` = the share of them that
        was recommended, and ``exposureAtK`` = the share of all recommendations that went to the decile.
    """
    joined, lists = joined_lists(recommended, relevant, k, (user, item))
    by_user = _with_decile(joined, train, user).groupBy("decile")
    metrics = {name: F.avg(column) for name, column in per_user(k, None).items()}
    listed = lists.select(user, F.explode("list").alias(item)).withColumn("listed", F.lit(1))
    wanted = relevant.select(user, item).distinct().withColumn("wanted", F.lit(1))
    pairs = _with_decile(wanted.join(listed, [user, item], "full"), train, item)
    both = F.count(F.when(F.col("wanted").isNotNull(), F.col("listed")))
    total = lists.agg(F.sum(F.size("list")).alias("total"))
    by_item = pairs.crossJoin(total).groupBy("decile")
    of_items = {
        "relevant": F.count("wanted"),
        "recallAtK": F.when(F.count("wanted") > 0, both / F.count("wanted")),
        "exposureAtK": F.count("listed") / F.first("total"),
    }
    return _long("user", by_user, {"users": F.count("*")} | metrics).unionAll(_long("item", by_item, of_items))


def rating_segments(
    predictions: DataFrame,
    train: DataFrame,
    names: Sequence[str] = ("prediction",),
    user: str = "user",
    item: str = "item",
    rating: str = "rating",
) -> DataFrame:
    """Return the errors of predicted ratings of each decile of users, and of items.

    Parameters
    ----------
    predictions : DataFrame
        user, item, rating and columns of predictions, of which null and NaN do not count.
    train : DataFrame
        user, item: by whose counts they are parted; decile 0 has no training rating.
    names : sequence of str
        The columns of predictions.
    user, item, rating : str
        Column names.

    Returns
    -------
    DataFrame
        segment (``user`` or ``item``), decile, metric, value: ``ratings``, and of each prediction ``rmse`` and ``mae``,
        those of other columns than ``prediction`` under their name: ``bias_only_rmse``.
    """
    found: dict[str, Column] = {"ratings": F.count("*")}
    for name in names:
        error = F.when(~F.isnan(name), F.col(rating).cast("double") - F.col(name).cast("double"))
        prefix = "" if name == "prediction" else f"{name}_"
        found |= {f"{prefix}rmse": F.sqrt(F.avg(error * error)), f"{prefix}mae": F.avg(F.abs(error))}
    parted = [_long(kind, _with_decile(predictions, train, column).groupBy("decile"), found)
              for kind, column in (("user", user), ("item", item))]  # fmt: skip
    return parted[0].unionAll(parted[1])


def _with_decile(frame: DataFrame, train: DataFrame, column: str) -> DataFrame:
    found = deciles(train, column).select(column, "decile")
    return frame.join(found, column, "left").withColumn("decile", F.coalesce("decile", F.lit(0)))


def _long(segment: str, groups: object, metrics: Mapping[str, Column]) -> DataFrame:
    """Return aggregates of groups of deciles with one row a metric; those that are null have none."""
    wide = groups.agg(*(column.cast("double").alias(name) for name, column in metrics.items()))  # type: ignore[attr-defined]
    pairs = [part for name in metrics for part in (F.lit(name), F.col(name))]
    named = F.explode(F.create_map(*pairs)).alias("metric", "value")
    return wide.select(F.lit(segment).alias("segment"), "decile", named).where("value IS NOT NULL")
