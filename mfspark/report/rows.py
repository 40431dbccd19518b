"""What is asked of tables of any size: aggregates, and samples of a bounded number of rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyspark.sql.functions as F
from pyspark.sql import Column, DataFrame

from mfspark.errors import missing_column
from mfspark.report.numbers import bounds
from mfspark.report.structure import Bin, shortened

DISTINCT, BINS = 40, 40  # so many different ratings are counted one by one; more are counted in so many bins
PAIRS = 50_000
GRAMIANS = 32  # tasks that each send one matrix to the driver


def sizes(ratings: DataFrame, column: str) -> DataFrame:
    """Return how many ratings each id of a column has: id, ratings (long)."""
    ids = ratings.select(F.col(f"`{column}`").alias("id")).where("id is not null")
    return ids.groupBy("id").agg(F.count("*").alias("ratings"))


def size_bins(counted: DataFrame) -> tuple[Bin, ...]:
    """Return how many ids have 1, 2 to 3, 4 to 7, ... ratings."""
    place = F.floor(F.log2("ratings") + F.lit(1e-12)).cast("int").alias("place")
    found = counted.groupBy(place).agg(F.count("*").alias("ids")).orderBy("place").collect()
    return tuple(Bin(*bounds(row["place"]), row["ids"]) for row in found)


def most_rated(counted: DataFrame, n: int) -> list[tuple[Any, int]]:
    """Return the n ids with the most ratings and their numbers, ties by the id."""
    found = counted.orderBy(F.desc("ratings"), "id").limit(n).collect()
    return [(row["id"], row["ratings"]) for row in found]


def value_bins(ratings: DataFrame, column: str) -> tuple[int, int, tuple[Bin, ...]]:
    """Return the number of ratings, how many are no finite numbers, and the distribution of the others.

    Up to 40 different values are counted one by one; more in 40 bins of equal width, or of equal ratio where all are
    positive and the largest is more than a thousand times the smallest.
    """
    value = F.col(f"`{column}`").cast("double")
    finite = value.isNotNull() & ~F.isnan(value) & (F.abs(value) < F.lit(math.inf))
    shown = ratings.select(F.when(finite, value).alias("value"))
    numbers = (F.count("*").alias("total"), F.count("value").alias("n"), F.min("value").alias("low"))
    row = shown.agg(*numbers, F.max("value").alias("high"), F.approx_count_distinct("value").alias("distinct")).first()
    if row is None or not row["n"]:
        total = 0 if row is None else row["total"]
        return total, total, ()
    good = shown.where("value is not null")
    if row["distinct"] <= DISTINCT:
        found = good.groupBy("value").agg(F.count("*").alias("n")).orderBy("value").limit(2 * DISTINCT).collect()
        bins = tuple(Bin(part["value"], part["value"], part["n"]) for part in found)
    else:
        bins = _binned(good, row["low"], row["high"])
    return row["total"], row["total"] - row["n"], bins


def _binned(good: DataFrame, low: float, high: float) -> tuple[Bin, ...]:
    ratio = low > 0 and high / low > 1000
    left, right = (math.log(low), math.log(high)) if ratio else (low, high)
    half = F.log("value") / 2 if ratio else F.col("value") / 2  # halves: the range itself may be beyond a double
    place = F.floor((half - F.lit(left / 2)) / F.lit(right / 2 - left / 2) * BINS)
    counts = good.groupBy(F.greatest(F.lit(0), F.least(F.lit(BINS - 1), place)).alias("place")).count().collect()
    edges = np.array([left * (1 - t / BINS) + right * (t / BINS) for t in range(BINS + 1)])
    edges = np.exp(edges) if ratio else edges
    found = {int(part["place"]): part["count"] for part in counts}
    return tuple(Bin(float(edges[n]), float(edges[n + 1]), found.get(n, 0)) for n in range(BINS))


def sampled(ratings: DataFrame, total: int, keys: Sequence[str], limit: int = PAIRS) -> DataFrame:
    """Return about ``limit`` rows, never more, the same ones for the same data; all where there are no more.

    Parameters
    ----------
    ratings : DataFrame
        The rows.
    total : int
        Their number.
    keys : sequence of str
        The columns that tell one row from another: by their hash a row is in or not.
    limit : int
        How many.
    """
    if total <= limit:
        return ratings
    hashed = F.pmod(F.xxhash64(*(F.col(f"`{key}`") for key in keys)), F.lit(1 << 30))
    return ratings.where(hashed < F.lit(int((1 << 30) * limit / total))).limit(limit)


def with_sizes(pairs: DataFrame, column: str, counted: DataFrame, name: str) -> DataFrame:
    """Return pairs with a further column: how many ratings the id of one column has, 0 for none."""
    found = counted.select(F.col("id").alias(f"__{name}"), F.col("ratings").alias(name))
    joined = pairs.join(found, pairs[f"`{column}`"] == found[f"`__{name}`"], "left").drop(f"__{name}")
    return joined.withColumn(name, F.coalesce(name, F.lit(0)))


def gramian(factors: DataFrame, rank: int) -> tuple[int, np.ndarray]:
    """Return the number of rows of a table of factors, and F^T F (rank x rank)."""

    def add(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        total, n = np.zeros((rank, rank)), 0
        for batch in batches:
            rows = batch.column(0).flatten().to_numpy(zero_copy_only=False).reshape(-1, rank).astype(np.float64)
            total, n = total + rows.T @ rows, n + len(rows)
        yield pa.RecordBatch.from_arrays([pa.array([n]), pa.array([total.tobytes()])], names=["n", "matrix"])

    parts = factors.select("features").coalesce(GRAMIANS).mapInArrow(add, "n bigint, matrix binary").collect()
    matrices = [np.frombuffer(part["matrix"]).reshape(rank, rank) for part in parts]
    return sum(part["n"] for part in parts), np.sum(matrices, axis=0) if parts else np.zeros((rank, rank))


def title_column(titles: DataFrame, item: str) -> str:
    """Return the column that holds the items of a frame of titles: the model's own, else ``item`` or ``id``.

    Raises
    ------
    DataError
        There is none, or no column ``title``.
    """
    names = [name for name in (item, "item", "id") if name in titles.columns]
    if not names or "title" not in titles.columns:
        raise missing_column("title" if names else item, titles.columns, "the frame of titles")
    return names[0]


def titles_of(titles: DataFrame, item: str, wanted: Sequence[str]) -> dict[str, str]:
    """Return the titles of some items, both as text; of several titles of an item the first in the alphabet.

    Parameters
    ----------
    titles : DataFrame
        The items in a column ``item`` or in the model's own, and ``title``.
    item : str
        The model's column of items.
    wanted : sequence of str
        Which, as text.
    """
    keys: Column = F.col(f"`{title_column(titles, item)}`").cast("string")
    asked = titles.sparkSession.createDataFrame(pa.table({"__item": pa.array(wanted, pa.string())}))
    rows = titles.select(keys.alias("__item"), F.col("title").cast("string").alias("title"))
    found = rows.join(F.broadcast(asked), "__item").groupBy("__item").agg(F.min("title").alias("title")).collect()
    return {row["__item"]: shortened(row["title"]) or "" for row in found if row["title"] is not None}
