"""Ids become dense indices that never change, for every id type and any partitioning."""

from __future__ import annotations

import uuid

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from mfspark.data import extend_ids, to_id, to_index
from mfspark.errors import DataError

DRAW = np.random.default_rng(7)
KINDS = {
    "string": ("string", [f"user-{n}" for n in range(40)] + ["Zoë", "é", "😀", "", "10", "9"]),
    "uuid": ("string", [str(uuid.UUID(bytes=DRAW.bytes(16))) for _ in range(40)]),
    "int": ("int", [int(n) for n in DRAW.choice(2**31 - 1, 40, replace=False)] + [-5, 0]),
    "long": ("long", [int(n) for n in DRAW.integers(-(2**62), 2**62, 40)] + [2**31, 2**53 + 1, 2**53]),
}


def _ratings(spark: SparkSession, ids: list, kind: str, partitions: int = 3) -> DataFrame:
    rows = [(value,) for value in [*ids, *ids[:5]]]
    return spark.createDataFrame(rows, f"user {kind}").repartition(partitions)


def _comp(table: DataFrame) -> dict:
    rows = [(row["id"], row["index"]) for row in table.collect()]
    assert table.columns == ["id", "index"] and dict(table.dtypes)["index"] == "bigint"
    assert len(dict(rows)) == len(rows)
    return dict(rows)


def _ref(ids: list, start: int = 0) -> dict:
    """Spark compares strings by their UTF-8 bytes."""
    order = sorted(set(ids), key=lambda value: value.encode() if isinstance(value, str) else value)
    return {value: start + index for index, value in enumerate(order)}


@pytest.mark.parametrize("bucket_ids", [5, 10**6])
@pytest.mark.parametrize("name", KINDS)
def test_indices_are_dense_and_in_the_order_of_ids(name: str, bucket_ids: int, spark: SparkSession) -> None:
    kind, ids = KINDS[name]
    assert _comp(extend_ids(None, _ratings(spark, ids, kind), "user", bucket_ids)) == _ref(ids)


@pytest.mark.parametrize("bucket_ids", [4, 10**6])
def test_a_rerun_and_new_ratings_keep_old_indices(bucket_ids: int, spark: SparkSession) -> None:
    kind, ids = KINDS["string"]
    old = _comp(extend_ids(None, _ratings(spark, ids[10:30], kind), "user", bucket_ids))
    table = spark.createDataFrame(list(old.items()), "id string, index long")
    assert _comp(extend_ids(table, _ratings(spark, ids[10:30], kind, 5), "user", bucket_ids)) == old
    # The new ratings know only a part of the old users: the others keep their index, too.
    extended = _comp(extend_ids(table, _ratings(spark, ids[25:] + ids[:3], kind), "user", bucket_ids))
    assert extended == old | _ref(ids[30:] + ids[:3], start=len(old))


def test_new_ids_follow_the_largest_index_even_with_gaps(spark: SparkSession) -> None:
    table = spark.createDataFrame([(5, 0), (6, 9)], "id long, index long")
    assert _comp(extend_ids(table, _ratings(spark, [1, 6], "long"), "user")) == {5: 0, 6: 9, 1: 10}


def test_an_empty_id_table_is_a_first_run(spark: SparkSession) -> None:
    table = spark.createDataFrame([], "id long, index long")
    assert _comp(extend_ids(table, _ratings(spark, [8, 3], "long"), "user")) == {3: 0, 8: 1}


def test_materialise_gets_the_new_ids_once(spark: SparkSession) -> None:
    seen = []

    def materialise(new: DataFrame) -> DataFrame:
        seen.append(sorted(row["id"] for row in new.collect()))
        return spark.createDataFrame([(value,) for value in seen[-1]], new.schema)

    table = spark.createDataFrame([(4, 0)], "id long, index long")
    comp = _comp(extend_ids(table, _ratings(spark, [9, 4, 2], "long"), "user", materialise=materialise))
    assert comp == {4: 0, 2: 1, 9: 2} and seen == [[2, 9]]


def test_null_ids_are_refused(spark: SparkSession) -> None:
    with pytest.raises(DataError, match="null ids in column 'user'"):
        extend_ids(None, spark.createDataFrame([(None,), (3,)], "user long"), "user")


@pytest.mark.parametrize("kind", ["double", "boolean", "date"])
def test_other_types_are_no_ids(kind: str, spark: SparkSession) -> None:
    with pytest.raises(DataError, match=f"type {kind}"):
        extend_ids(None, spark.sql(f"select cast(null as {kind}) as user"), "user")


def test_there_and_back(spark: SparkSession) -> None:
    rows = [("u1", 2**40, 1.0), ("u2", 5, 2.0), ("u1", 5, 3.0)]
    ratings = spark.createDataFrame(rows, "user string, item long, rating double")
    users, items = extend_ids(None, ratings, "user"), extend_ids(None, ratings, "item")
    indexed = to_index(ratings, users, items)
    assert indexed.columns == ratings.columns
    assert sorted(map(tuple, indexed.collect())) == [(0, 0, 3.0), (0, 1, 1.0), (1, 0, 2.0)]
    back = to_id(indexed, users, items)
    assert back.schema == ratings.schema
    assert sorted(map(tuple, back.collect())) == sorted(rows)
    assert to_id(indexed, item_ids=items).select("item").distinct().count() == 2


@pytest.mark.parametrize(("unknown", "ref"), [("drop", [(0, 0)]), ("keep", [(0, 0), (None, 0)])])
def test_unknown_ids(unknown: str, ref: list, spark: SparkSession) -> None:
    users = spark.createDataFrame([("a", 0)], "id string, index long")
    items = spark.createDataFrame([("x", 0)], "id string, index long")
    ratings = spark.createDataFrame([("a", "x"), ("b", "x")], "user string, item string")
    comp = sorted(map(tuple, to_index(ratings, users, items, unknown).collect()), key=str)
    assert comp == ref
    with pytest.raises(DataError, match="user is string in the ratings but bigint"):
        to_index(ratings, spark.createDataFrame([(1, 0)], "id long, index long"), items)
