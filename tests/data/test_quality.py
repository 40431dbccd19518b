"""Policies for duplicates, counts per reason, and that judging does not depend on the order of rows."""

from __future__ import annotations

import pytest
from chispa import assert_df_equality
from pyspark.sql import DataFrame, SparkSession

from mfspark.data import Rules, check, reasons
from mfspark.errors import DataError

SCHEMA = "user string, item string, rating double, timestamp long, raw string, error string"
# Three times (a, x), twice (a, y) in one second, (b, x) twice without times, one row alone.
ROWS = [
    ("a", "x", 1.0, 10, "r1", None),
    ("a", "x", 5.0, 30, "r2", None),
    ("a", "x", 3.0, 20, "r3", None),
    ("a", "y", 2.0, 10, "r4", None),
    ("a", "y", 4.0, 10, "r5", None),
    ("b", "x", 2.0, None, "r6", None),
    ("b", "x", 2.0, None, "r7", None),
    ("b", "y", 2.5, None, "r8", None),
]
POLICIES = {
    "last": (
        [("a", "x", 5.0, 30), ("a", "y", 4.0, 10), ("b", "x", 2.0, None), ("b", "y", 2.5, None)],
        {"r1", "r3", "r4", "r6"},
        reasons.DUPLICATE_OLDER,
    ),
    "mean": (
        [("a", "x", 3.0, 30), ("a", "y", 3.0, 10), ("b", "x", 2.0, None), ("b", "y", 2.5, None)],
        {"r1", "r3", "r4", "r6"},
        reasons.DUPLICATE_MERGED,
    ),
    "sum": (
        [("a", "x", 9.0, 30), ("a", "y", 6.0, 10), ("b", "x", 4.0, None), ("b", "y", 2.5, None)],
        {"r1", "r3", "r4", "r6"},
        reasons.DUPLICATE_MERGED,
    ),
}


def _frame(spark: SparkSession, rows: list[tuple], partitions: int = 1) -> DataFrame:
    return spark.createDataFrame(rows, SCHEMA).repartition(partitions)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("policy", POLICIES)
def test_duplicates(policy: str, order: int, spark: SparkSession) -> None:
    accepted, rejected, reason = POLICIES[policy]
    comp = check(_frame(spark, ROWS[::order], partitions=3), Rules(duplicates=policy))
    ref = spark.createDataFrame(accepted, "user string, item string, rating float, timestamp long")
    assert_df_equality(comp.accepted, ref, ignore_row_order=True, ignore_nullable=True)
    assert {row["raw"] for row in comp.rejected.collect()} == rejected
    assert comp.reason_counts == {reason: 4}
    assert comp.accepted_count + comp.rejected_count == len(ROWS)


def test_duplicates_as_an_error_name_count_and_example(spark: SparkSession) -> None:
    with pytest.raises(DataError, match=r"4 row\(s\) repeat .* user 'a', item 'x'"):
        check(_frame(spark, ROWS), Rules(duplicates="error"))
    assert check(_frame(spark, [ROWS[0], ROWS[3]]), Rules(duplicates="error")).accepted_count == 2


def test_bad_rows_take_no_part_in_duplicates(spark: SparkSession) -> None:
    rows = [
        ("a", "x", 3.0, 10, "good", None),
        ("a", "x", None, 99, "later but null", None),
        ("a", "x", 9.0, 99, "later but out of range", None),
        (None, "x", 3.0, 1, "same", None),
        (None, "x", 3.0, 1, "same", None),
        ("a", "x", 3.0, 99, "later but unparsable", reasons.UNPARSABLE),
    ]
    comp = check(_frame(spark, rows), Rules(max_rating=5.0, duplicates="sum"))
    assert [tuple(row) for row in comp.accepted.collect()] == [("a", "x", 3.0, 10)]
    assert comp.reason_counts == {
        reasons.NULL_USER: 2,
        reasons.NULL_RATING: 1,
        reasons.OUT_OF_RANGE: 1,
        reasons.UNPARSABLE: 1,
    }


def test_a_sum_that_overflows_is_rejected_whole(spark: SparkSession) -> None:
    rows = [("a", "x", 3e38, 1, "r1", None), ("a", "x", 3e38, 2, "r2", None), ("b", "x", 1.0, 1, "r3", None)]
    comp = check(_frame(spark, rows), Rules(duplicates="sum"))
    assert comp.reason_counts == {reasons.INFINITE_RATING: 2}
    assert comp.accepted_count == 1


def test_weights_stay_beside_the_ratings(spark: SparkSession) -> None:
    frame = spark.createDataFrame(
        [(1, 2, 3.0, 5, 2.0, "r1", None), (1, 2, 4.0, 6, 0.5, "r2", None)],
        "user int, item int, rating double, timestamp long, weight double, raw string, error string",
    )
    last = check(frame).accepted
    summed = check(frame, Rules(duplicates="sum")).accepted
    assert last.columns == ["user", "item", "rating", "timestamp", "weight"]
    assert [tuple(row) for row in last.collect()] == [(1, 2, 4.0, 6, 0.5)]
    assert [tuple(row) for row in summed.collect()] == [(1, 2, 7.0, 6, 2.5)]


def test_materialise_gets_every_row_once(spark: SparkSession) -> None:
    seen = []

    def materialise(judged: DataFrame) -> DataFrame:
        seen.append(judged.count())
        return spark.createDataFrame(judged.collect(), judged.schema)

    comp = check(_frame(spark, ROWS), Rules(), materialise)
    assert seen == [len(ROWS)]
    assert comp.accepted.count() + comp.rejected.count() == len(ROWS)


def test_rejected_rows_have_one_schema_whatever_the_ids(spark: SparkSession) -> None:
    rejected = check(_frame(spark, ROWS)).rejected
    assert rejected.dtypes == [
        ("user", "string"),
        ("item", "string"),
        ("rating", "double"),
        ("raw", "string"),
        ("reason", "string"),
    ]
