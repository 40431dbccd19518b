"""Splits are the same whatever the partitioning, and cut where they say."""

from __future__ import annotations

import pytest
from pyspark.sql import DataFrame, SparkSession

from mfspark.data import (
    k_fold,
    leave_k_out,
    leave_one_out,
    mark_probe,
    random_split,
    strong_generalisation,
    time_split,
)
from mfspark.errors import DataError, ParameterError

N = 4000


@pytest.fixture(scope="module")
def ratings(spark: SparkSession) -> DataFrame:
    """80 users x 50 items; times repeat in threes, so there are ties."""
    return spark.range(N).selectExpr("id div 50 as user", "id % 50 as item", "1.0 as rating", "id div 3 as timestamp")


def _comp(frame: DataFrame, column: str = "validation") -> dict:
    return {(row["user"], row["item"]): row[column] for row in frame.collect()}


SPLITS = {
    "random": lambda frame: random_split(frame, 0.1, seed=5),
    "fold": lambda frame: k_fold(frame, 5, seed=5, column="validation"),
    "leave one out": lambda frame: leave_one_out(frame, seed=5),
    "leave one out by hash": lambda frame: leave_one_out(frame, seed=5, by_time=False),
    "time": lambda frame: time_split(frame, fraction=0.2),
    "leave 3 out": lambda frame: leave_k_out(frame, 3, seed=5),
    "strong": lambda frame: strong_generalisation(frame, 0.3, seed=5, column="validation"),
}


@pytest.mark.parametrize("name", SPLITS)
def test_same_split_whatever_the_partitioning_and_the_width_of_ids(name: str, ratings: DataFrame) -> None:
    split = SPLITS[name]
    other = ratings.repartition(7).selectExpr("cast(user as int) user", "cast(item as int) item", "timestamp")
    assert _comp(split(ratings)) == _comp(split(other))


@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_random_split_has_about_its_share(fraction: float, ratings: DataFrame) -> None:
    ref = fraction * N
    comp = sum(_comp(random_split(ratings, fraction, seed=1)).values())
    assert abs(comp - ref) < 5 * (ref * (1 - fraction)) ** 0.5
    assert _comp(random_split(ratings, fraction, seed=2)) != _comp(random_split(ratings, fraction, seed=1))


def test_folds_share_the_rows_evenly(ratings: DataFrame) -> None:
    folds = list(_comp(k_fold(ratings, 4, seed=3), "fold").values())
    assert set(folds) == {0, 1, 2, 3}
    assert all(abs(folds.count(fold) - N / 4) < 5 * (N * 3 / 16) ** 0.5 for fold in range(4))


def test_leave_one_out_takes_the_last_of_each_user(spark: SparkSession) -> None:
    rows = [("a", "x", 1), ("a", "y", 3), ("a", "z", 2), ("b", "x", None), ("b", "y", 1), ("c", "x", 9)]
    marked = _comp(leave_one_out(spark.createDataFrame(rows, "user string, item string, timestamp long")))
    assert {pair for pair, held in marked.items() if held} == {("a", "y"), ("b", "y")}


def test_leave_one_out_takes_one_row_of_each_user(ratings: DataFrame) -> None:
    for by_time in (True, False):
        held = [user for (user, _), mark in _comp(leave_one_out(ratings, 1, by_time)).items() if mark]
        assert sorted(held) == list(range(80))


def test_leave_k_out_takes_the_last_k_of_each_user_who_has_more(spark: SparkSession, ratings: DataFrame) -> None:
    rows = [("a", f"i{t}", t) for t in range(5)] + [("b", "x", 1), ("b", "y", 2)]
    marked = _comp(leave_k_out(spark.createDataFrame(rows, "user string, item string, timestamp long"), 2))
    assert {pair for pair, held in marked.items() if held} == {("a", "i3"), ("a", "i4")}
    drawn = [_comp(leave_k_out(ratings, 4, seed, by_time=False)) for seed in (1, 2)]
    assert drawn[0] != drawn[1]
    for marks in drawn:
        held = [user for (user, _), mark in marks.items() if mark]
        assert sorted(held) == sorted(list(range(80)) * 4)


def test_strong_generalisation_holds_users_out_whole(spark: SparkSession, ratings: DataFrame) -> None:
    single = spark.createDataFrame([(900 + n, 1) for n in range(30)], "user long, item long")
    parts = _comp(strong_generalisation(ratings.select("user", "item").unionAll(single), 0.3, 0.25, seed=1), "part")
    by_user: dict = {}
    for (user, _), part in parts.items():
        by_user.setdefault(user, []).append(part)
    out = {user: found for user, found in by_user.items() if "train" not in found}
    assert 12 <= len(out) <= 36 and max(out) < 900  # of 80 users; those with one row all stay
    assert all(set(found) == {"train"} for user, found in by_user.items() if user not in out)
    assert all((found.count("test"), found.count("fold_in")) == (12, 38) for found in out.values())
    assert _comp(strong_generalisation(ratings, 0.3, 0.25, seed=2), "part") != parts


def test_time_split(ratings: DataFrame) -> None:
    held = [pair for pair, mark in _comp(time_split(ratings, cutoff=1000)).items() if mark]
    assert len(held) == N - 3000
    share = sum(_comp(time_split(ratings, fraction=0.25)).values()) / N
    assert share == pytest.approx(0.25, abs=0.002)


def test_time_split_refuses_null_times(spark: SparkSession) -> None:
    frame = spark.createDataFrame([(1, 1, None), (1, 2, 3)], "user long, item long, timestamp long")
    with pytest.raises(DataError, match="1 rows have no timestamp"):
        time_split(frame, cutoff=2)


def test_mark_probe_keeps_every_row_once(spark: SparkSession, ratings: DataFrame) -> None:
    probe = spark.createDataFrame([(1, 2), (1, 2), (3, 4), (999, 1), (None, 1)], "user long, item long")
    marked = mark_probe(ratings, probe)
    assert marked.count() == N
    assert {pair for pair, held in _comp(marked).items() if held} == {(1, 2), (3, 4)}
    with pytest.raises(DataError, match="user is bigint in the ratings but string"):
        mark_probe(ratings, spark.createDataFrame([("1", 2)], "user string, item long"))


BAD_PARAMETERS = {
    "fraction 0": lambda frame: random_split(frame, 0.0),
    "fraction 1": lambda frame: random_split(frame, 1.0),
    "one fold": lambda frame: k_fold(frame, 1),
    "neither cutoff nor fraction": time_split,
    "both": lambda frame: time_split(frame, cutoff=1, fraction=0.5),
    "leave none out": lambda frame: leave_k_out(frame, 0),
    "all users held out": lambda frame: strong_generalisation(frame, 1.0),
    "nothing to find": lambda frame: strong_generalisation(frame, 0.5, test=0.0),
    "no rating left": lambda frame: leave_one_out(frame, min_ratings=0),
}


@pytest.mark.parametrize("name", BAD_PARAMETERS)
def test_bad_parameters(name: str, ratings: DataFrame) -> None:
    with pytest.raises(ParameterError):
        BAD_PARAMETERS[name](ratings)
