"""The two recommenders every model has to beat, which offer everyone the same items: the popular, the well rated."""

from __future__ import annotations

import pyspark.sql.functions as F
from pyspark.sql import DataFrame

from mfspark.errors import ParameterError, missing_column
from mfspark.evaluation.ratings import item_biases


def popularity_ranking(
    train: DataFrame,
    users: DataFrame,
    k: int = 10,
    seen: DataFrame | None = None,
    user: str = "user",
    item: str = "item",
) -> DataFrame:
    """Return each user's k unseen items with the most training ratings, ties by the smaller id.

    Parameters
    ----------
    train : DataFrame
        user, item: what is counted.
    users : DataFrame
        user: who gets a list; doubles count once.
    k : int, default 10
        How many items.
    seen : DataFrame, optional
        Pairs (user, item) to leave out.
    user, item : str
        Column names.

    Returns
    -------
    DataFrame
        As ``recommendForAllUsers``: user, recommendations array<struct<item, rating>>; the rating is the count.
    """
    counts = train.groupBy(item).agg(F.count("*").alias("score"))
    return in_one_order(counts, users, k, seen, user, item)


def bias_ranking(
    train: DataFrame,
    users: DataFrame,
    k: int = 10,
    seen: DataFrame | None = None,
    names: tuple[str, str, str] = ("user", "item", "rating"),
    damping: float = 25.0,
) -> DataFrame:
    """Return each user's k unseen items with the largest mu + b_i of ``bias_baseline``; b_u does not change the order.

    Parameters
    ----------
    train : DataFrame
        user, item, rating.
    users : DataFrame
        user: who gets a list; doubles count once.
    k : int, default 10
        How many items.
    seen : DataFrame, optional
        Pairs (user, item) to leave out.
    names : (str, str, str)
        The columns of users, items and ratings.
    damping : float, default 25
        How many ratings at the mean are added to each item's own.

    Returns
    -------
    DataFrame
        As ``popularity_ranking``; the rating is mu + b_i.
    """
    mean, biases = item_biases(train, names[1], names[2], damping)
    scores = biases.select(names[1], (F.lit(mean) + F.col("b_i")).alias("score"))
    return in_one_order(scores, users, k, seen, names[0], names[1])


def in_one_order(
    scores: DataFrame,
    users: DataFrame,
    k: int,
    seen: DataFrame | None = None,
    user: str = "user",
    item: str = "item",
) -> DataFrame:
    """Return for each user the k best of the same items that this user has not seen.

    Only as many of the best items are put in order as the busiest user can use up: k and all that this user has seen.

    Parameters
    ----------
    scores : DataFrame
        item, score; ties by the smaller id.
    users : DataFrame
        user: who gets a list; doubles count once.
    k : int
        How many items.
    seen : DataFrame, optional
        Pairs (user, item) to leave out.
    user, item : str
        Column names.

    Returns
    -------
    DataFrame
        user, recommendations array<struct<item, rating float>>.
    """
    if k < 1:
        raise ParameterError(f"k={k}: it must be at least 1")
    for frame, name in ((scores, item), (users, user)):
        if name not in frame.columns:
            raise missing_column(name, frame.columns)
    most, out = 0, None
    if seen is not None:
        busiest = seen.groupBy(user).agg(F.count_distinct(item).alias("n")).agg(F.max("n").alias("most")).first()
        most = (busiest["most"] if busiest else 0) or 0
    placed = _placed(scores.orderBy(F.desc("score"), F.col(item)).limit(k + most), item)
    rows = users.select(user).distinct()
    if seen is not None:
        out = seen.join(placed, item).groupBy(user).agg(F.collect_set("place").alias("out"))
        rows = rows.join(out, user, "left")
    known = F.array().cast("array<int>") if out is None else F.coalesce("out", F.array().cast("array<int>"))
    unseen = F.slice(F.array_except(F.sequence(F.lit(1), F.size(known) + F.lit(k)), known), 1, k)
    listed = rows.select(user, F.explode(unseen).alias("place")).join(placed, "place")
    one = F.struct("place", F.col(item).alias(item), F.col("score").cast("float").alias("rating"))
    ordered = F.transform(F.sort_array(F.collect_list(one)), lambda x: F.struct(x[item], x["rating"]))
    return listed.groupBy(user).agg(ordered.alias("recommendations"))


def _placed(best: DataFrame, item: str) -> DataFrame:
    """Return item, score and place, from 1; not by a window, since one over all rows warns whenever it is planned."""
    row = F.struct((-F.col("score")).alias("negated"), F.col(item).alias("item"))
    ordered = best.agg(F.sort_array(F.collect_list(row)).alias("ordered")).select(F.posexplode("ordered"))
    score = (-F.col("col.negated")).alias("score")
    return ordered.select(F.col("col.item").alias(item), score, (F.col("pos") + 1).alias("place"))
