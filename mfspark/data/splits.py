"""Splits into training and validation rows, marked by a column: deterministic whatever the partitioning."""

from __future__ import annotations

import pyspark.sql.functions as F
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import types as T

from mfspark.errors import DataError, ParameterError, missing_column

VALIDATION = "validation"
_BUCKETS = 1 << 53


def random_split(ratings: DataFrame, fraction: float, seed: int = 0, column: str = VALIDATION) -> DataFrame:
    """Mark each row as validation with a probability, by a hash of (user, item, seed).

    Parameters
    ----------
    ratings : DataFrame
        user, item and anything else; one row a pair (equal pairs fall on the same side).
    fraction : float
        Expected share of validation rows, between 0 and 1.
    seed : int
        Another seed, another split (default 0).
    column : str
        Name of the boolean column (default ``validation``).

    Raises
    ------
    ParameterError
        `fraction` is not strictly between 0 and 1.
    """
    _check_fraction(fraction)
    return ratings.withColumn(column, _hash(ratings, seed) < int(fraction * _BUCKETS))


def k_fold(ratings: DataFrame, k: int, seed: int = 0, column: str = "fold") -> DataFrame:
    """Give each row a fold 0 .. k - 1 (int), by a hash of (user, item, seed).

    Parameters
    ----------
    ratings : DataFrame
        user, item.
    k : int
        How many folds, at least 2.
    seed : int, default 0
        Of the hash.
    column : str, default "fold"
        The new column.
    """
    if k < 2:
        raise ParameterError(f"k={k}; cross-validation needs at least 2 folds")
    return ratings.withColumn(column, F.pmod(_hash(ratings, seed), F.lit(k)).cast("int"))


def leave_one_out(
    ratings: DataFrame, seed: int = 0, by_time: bool = True, min_ratings: int = 2, column: str = VALIDATION
) -> DataFrame:
    """Mark one row of each user: the last by timestamp (ties and null timestamps by hash), or a random one.

    Parameters
    ----------
    ratings, seed, by_time
        As for `leave_k_out`, with k = 1.
    min_ratings : int
        A user with fewer rows keeps all of them for training (default 2).
    column : str
        Name of the boolean column (default ``validation``).

    Raises
    ------
    DataError
        `by_time` without a column ``timestamp``.
    """
    return leave_k_out(ratings, 1, seed, by_time, min_ratings, column)


def leave_k_out(
    ratings: DataFrame,
    k: int = 1,
    seed: int = 0,
    by_time: bool = True,
    min_ratings: int | None = None,
    column: str = VALIDATION,
) -> DataFrame:
    """Mark k rows of each user: the last by timestamp (ties and null timestamps by hash), or random ones.

    Parameters
    ----------
    ratings : DataFrame
        user, item, and timestamp if `by_time`.
    k : int
        How many rows of a user (default 1).
    seed : int
        Of the hash (default 0).
    by_time : bool
        True (default): the latest; False: drawn by hash.
    min_ratings : int, optional
        A user with fewer rows keeps all of them for training; default k + 1.
    column : str
        Name of the boolean column (default ``validation``).

    Raises
    ------
    DataError
        `by_time` without a column ``timestamp``.
    """
    least = k + 1 if min_ratings is None else min_ratings
    if k < 1 or least < 1:
        raise ParameterError(f"k={k}, min_ratings={least}; both must be at least 1")
    order = [_hash(ratings, seed), F.col("item")]
    if by_time:
        _require(ratings, "timestamp")
        order = [F.desc_nulls_last("timestamp"), *order]
    per_user = Window.partitionBy("user")
    chosen = (F.row_number().over(per_user.orderBy(*order)) <= k) & (F.count("*").over(per_user) >= least)
    return ratings.withColumn(column, chosen)


def strong_generalisation(
    ratings: DataFrame, users: float = 0.1, test: float = 0.2, seed: int = 0, column: str = "part"
) -> DataFrame:
    """Part the rows into those of training users and, of users held out whole, those to fold in and those to find.

    A model is trained on ``train`` alone, which has no row of the users held out; it folds them in from ``fold_in``,
    and is measured on ``test`` (Marlin, "Collaborative filtering: a machine learning perspective", 2004).

    Parameters
    ----------
    ratings : DataFrame
        user, item.
    users : float, default 0.1
        Expected share of the users that are held out, by a hash of (user, seed).
    test : float, default 0.2
        The share of a held-out user's rows to find: rounded down, but at least one, drawn by a hash of (user, item,
        seed). A user with a single row is not held out.
    seed : int, default 0
        Of the hashes.
    column : str, default "part"
        The new column: ``train``, ``fold_in`` or ``test``.

    Raises
    ------
    ParameterError
        A share is not strictly between 0 and 1.
    """
    _check_fraction(users)
    _check_fraction(test)
    per_user = Window.partitionBy("user")
    rows, place = F.count("*").over(per_user), F.row_number().over(per_user.orderBy(_hash(ratings, seed), "item"))
    out = (_hash(ratings, seed, ("user",)) < int(users * _BUCKETS)) & (rows > 1)
    found = place <= F.greatest(F.lit(1), F.floor(rows * F.lit(test)))
    return ratings.withColumn(column, F.when(~out, "train").when(found, "test").otherwise("fold_in"))


def time_split(
    ratings: DataFrame, cutoff: int | None = None, fraction: float | None = None, column: str = VALIDATION
) -> DataFrame:
    """Mark the rows at or after a time: `cutoff` in seconds, or such that about `fraction` of the rows is marked.

    The time for a fraction is an exact percentile, so it does not depend on the partitioning; rows of one second stay
    together, so the share is exact only up to ties.

    Parameters
    ----------
    ratings : DataFrame
        With a column timestamp in seconds.
    cutoff : int, optional
        The first second that is marked.
    fraction : float, optional
        The share of rows to mark.
    column : str, default "validation"
        The new column.

    Raises
    ------
    DataError
        No column ``timestamp``, or null timestamps (with their count).
    ParameterError
        Not exactly one of `cutoff` and `fraction`.
    """
    if (cutoff is None) == (fraction is None):
        raise ParameterError("time_split needs exactly one of cutoff and fraction")
    _require(ratings, "timestamp")
    share = F.lit(None)
    if fraction is not None:
        _check_fraction(fraction)
        share = F.percentile("timestamp", F.lit(1.0 - fraction))
    found = ratings.agg(F.count_if(F.col("timestamp").isNull()).alias("nulls"), share.alias("time")).first()
    if found is None:
        raise DataError("no rows to split by time")
    if found["nulls"]:
        raise DataError(f"{found['nulls']} rows have no timestamp: a split by time would lose them; split at random")
    return ratings.withColumn(column, F.col("timestamp") >= F.lit(found["time"] if cutoff is None else cutoff))


def mark_probe(ratings: DataFrame, probe: DataFrame, column: str = VALIDATION) -> DataFrame:
    """Mark the rows whose (user, item) is in a probe table (`mfspark.data.read_probe`); pairs not rated are ignored.

    Parameters
    ----------
    ratings : DataFrame
        user, item.
    probe : DataFrame
        user, item; nulls and duplicates do not count.
    column : str, default "validation"
        The new column.

    Raises
    ------
    DataError
        The ids of the two tables have different types.
    """
    for side in ("user", "item"):
        mine, other = ratings.schema[side].dataType, probe.schema[side].dataType
        if mine != other:
            raise DataError(
                f"{side} is {mine.simpleString()} in the ratings but {other.simpleString()} in the probe: cast it"
            )
    pairs = probe.select("user", "item").dropna().distinct().withColumn(column, F.lit(True))
    marked = ratings.drop(column).join(pairs, ["user", "item"], "left")
    return marked.withColumn(column, F.coalesce(column, F.lit(False)))


def _hash(ratings: DataFrame, seed: int, names: tuple[str, ...] = ("user", "item")) -> Column:
    # Int and long ids of the same number must fall on the same side; xxhash64 tells them apart.
    whole = (T.ByteType, T.ShortType, T.IntegerType)
    sides = [
        F.col(side).cast("long") if isinstance(ratings.schema[side].dataType, whole) else F.col(side) for side in names
    ]
    return F.pmod(F.xxhash64(F.lit(seed).cast("long"), *sides), F.lit(_BUCKETS))


def _check_fraction(fraction: float) -> None:
    if not 0.0 < fraction < 1.0:
        raise ParameterError(f"fraction={fraction} must be strictly between 0 and 1")


def _require(ratings: DataFrame, name: str) -> None:
    if name not in ratings.columns:
        raise missing_column(name, ratings.columns)
