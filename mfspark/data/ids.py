"""Any id type to dense indices and back. An id keeps its index for ever; new ids are appended in sorted order.

Dense numbers need a global order. It is made without one sorted partition for all: a sample of the ids, drawn by
hash, gives fixed bounds; every id falls into the bucket between two bounds; the ids are numbered inside their bucket,
and each bucket starts where the counts of the buckets before it end. Bounds and counts are plain values, so the numbers
depend on the set of ids alone, not on partitions, sampling or the order of rows.
"""

from __future__ import annotations

from collections.abc import Callable

import pyspark.sql.functions as F
from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import types as T

from mfspark.errors import DataError, ParameterError, missing_column

BUCKET_IDS = 500_000
SAMPLE_PER_BUCKET = 200
SUPPORTED = (T.StringType, T.ByteType, T.ShortType, T.IntegerType, T.LongType)


def extend_ids(
    existing: DataFrame | None,
    ratings: DataFrame,
    column: str,
    bucket_ids: int = BUCKET_IDS,
    materialise: Callable[[DataFrame], DataFrame] | None = None,
) -> DataFrame:
    """Return the id table (id, index long) of one side: the existing rows unchanged, new ids appended.

    Parameters
    ----------
    existing : DataFrame or None
        The id table so far (id, index), or None at the first run.
    ratings : DataFrame
        Accepted ratings; every id of `column` will be in the result.
    column : str
        ``user`` or ``item``.
    bucket_ids : int
        About how many ids one task sorts (default 500,000).
    materialise : callable, optional
        DataFrame -> the same rows, computed once (a staging table, a checkpoint): it gets the distinct new ids, which
        are otherwise made from the ratings two or three times. Worth it for many millions of ids. Default: none.

    Returns
    -------
    DataFrame
        id (the type of the column), index long. New ids get max(index) + 1, ... in the order of id (numbers by value,
        strings by their UTF-8 bytes). One to three small jobs run here, the rest is lazy.

    Raises
    ------
    DataError
        The column is missing, has null ids or a type that is no id; the existing table has another id type, or null or
        negative or repeated ids or indices.
    """
    id_type = _id_type(ratings, column)
    ids = ratings.select(F.col(column).alias("id")).distinct()
    following = 0
    if existing is not None:
        following = _checked_existing(existing, id_type)
        existing = existing.select("id", F.col("index").cast("long"))
        ids = ids.join(existing.select("id"), "id", "left_anti")
    ids = materialise(ids) if materialise else ids
    # The sample is drawn by hash: the same ids at every call, whatever the partitions are.
    sampled = F.when(F.pmod(F.xxhash64("id"), F.lit(max(1, bucket_ids // SAMPLE_PER_BUCKET))) == 0, F.col("id"))
    sample = F.sort_array(F.collect_list(sampled)).alias("sample")
    found = _row(ids.agg(F.count("*").alias("rows"), F.count("id").alias("ids"), sample))
    if found["rows"] > found["ids"]:
        raise DataError(f"null ids in column {column!r}: reject these rows first (mfspark.data.check does)")
    if found["ids"] == 0 and existing is not None:
        return existing
    new = _numbered(ids, _bounds(found["sample"], found["ids"], bucket_ids), following)
    return new if existing is None else existing.unionByName(new)


def to_index(ratings: DataFrame, user_ids: DataFrame, item_ids: DataFrame, unknown: str = "drop") -> DataFrame:
    """Replace user and item by their indices (long); the other columns stay.

    Parameters
    ----------
    ratings : DataFrame
        user, item and anything else.
    user_ids, item_ids : DataFrame
        (id, index) of each side.
    unknown : str
        Rows with an id that is in no table: ``drop`` (default) or ``keep`` (null index).
    """
    for side, ids in (("user", user_ids), ("item", item_ids)):
        ratings = _swap(ratings, side, ids, "id", "index", unknown)
    return ratings


def to_id(frame: DataFrame, user_ids: DataFrame | None = None, item_ids: DataFrame | None = None) -> DataFrame:
    """Replace the indices in user and item by the ids they stand for; give the id tables of the sides to map.

    Parameters
    ----------
    frame : DataFrame
        user and item, indices on each side whose table is given.
    user_ids, item_ids : DataFrame, optional
        The id tables: id, index. A side without one stays as it is.
    """
    for side, ids in (("user", user_ids), ("item", item_ids)):
        if ids is not None:
            frame = _swap(frame, side, ids, "index", "id", "drop")
    return frame


def _swap(frame: DataFrame, side: str, ids: DataFrame, key: str, value: str, unknown: str) -> DataFrame:
    joins = {"drop": "inner", "keep": "left"}
    if unknown not in joins:
        raise ParameterError(f"unknown is {unknown!r}; allowed: {', '.join(joins)}")
    mine, other = frame.schema[side].dataType, ids.schema[key].dataType
    if key == "id" and mine != other:
        raise _type_mismatch(side, mine, other)
    table = ids.select(F.col(key).alias(side), F.col(value).alias("_swapped"))
    joined = frame.join(table, side, joins[unknown])
    columns = [F.col("_swapped").alias(side) if name == side else F.col(name) for name in frame.columns]
    return joined.select(*columns)


def _id_type(ratings: DataFrame, column: str) -> T.DataType:
    if column not in ratings.columns:
        raise missing_column(column, ratings.columns)
    id_type = ratings.schema[column].dataType
    if not isinstance(id_type, SUPPORTED):
        raise DataError(f"column {column!r} has type {id_type.simpleString()}; an id is a string, int or long: cast it")
    return id_type


def _checked_existing(existing: DataFrame, id_type: T.DataType) -> int:
    """Return the first free index of an id table, or raise `DataError`."""
    missing = [name for name in ("id", "index") if name not in existing.columns]
    if missing:
        raise missing_column(missing[0], existing.columns, "the id table")
    if existing.schema["id"].dataType != id_type:
        raise _type_mismatch("id", id_type, existing.schema["id"].dataType)
    found = _row(
        existing.agg(
            F.count("*").alias("rows"),
            F.count_distinct("id").alias("ids"),
            F.count_distinct("index").alias("indices"),
            F.min("index").alias("first"),
            F.max("index").alias("last"),
        )
    )
    for name in ("ids", "indices"):
        if found[name] < found["rows"]:
            raise DataError(f"the id table has {found['rows'] - found[name]} repeated or null {name}; rebuild it")
    if found["rows"] and found["first"] < 0:
        raise DataError(f"the id table has a negative index ({found['first']}); rebuild it")
    return 0 if found["last"] is None else int(found["last"]) + 1


def _numbered(ids: DataFrame, bounds: list[int | str], following: int) -> DataFrame:
    bucket = _bucket(bounds)
    start: Column = F.lit(following)
    if bounds:
        sizes = {row["bucket"]: row["count"] for row in ids.groupBy(bucket.alias("bucket")).count().collect()}
        starts = [following]
        for number in range(len(bounds)):
            starts.append(starts[-1] + sizes.get(number, 0))
        start = F.get(F.array(*(F.lit(value).cast("long") for value in starts)), F.col("bucket"))
    placed = F.row_number().over(Window.partitionBy("bucket").orderBy("id")) - 1
    numbered = ids.withColumn("bucket", bucket).withColumn("place", placed)
    return numbered.select("id", (start + F.col("place")).cast("long").alias("index"))


def _bounds(sample: list[int | str], count: int, bucket_ids: int) -> list[int | str]:
    """Return sorted ids that cut the set into buckets of about `bucket_ids`; none where one bucket is enough."""
    buckets = -(-count // bucket_ids)
    if buckets < 2 or not sample:
        return []
    return list(dict.fromkeys(sample[len(sample) * number // buckets] for number in range(1, buckets)))


def _bucket(bounds: list[int | str]) -> Column:
    """Return how many bounds are not above the id: int."""
    if not bounds:
        return F.lit(0)
    limits = F.array(*(F.lit(bound) for bound in bounds))
    return F.size(F.filter(limits, lambda bound: bound <= F.col("id")))


def _type_mismatch(side: str, mine: T.DataType, other: T.DataType) -> DataError:
    return DataError(
        f"{side} is {mine.simpleString()} in the ratings but {other.simpleString()} in the id table: "
        f"cast the ratings' ids to {other.simpleString()}, or start a new id table"
    )


def _row(frame: DataFrame) -> Row:
    return frame.collect()[0]
