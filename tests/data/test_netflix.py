"""The movie line must reach every rating below it, however Spark cuts the files."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from mfspark.data import Source, mark_probe, read_probe, read_ratings, reasons
from mfspark.data.netflix import tag_lines


def _ref_ratings(seed: int) -> dict[int, list[tuple[int, int, int, str]]]:
    """Movies of very different sizes, so that splits begin inside movies, and movies fill several splits."""
    draw = np.random.default_rng(seed)
    ratings = {}
    for movie in range(1, 31):
        customers = draw.choice(2_649_429, size=int(draw.choice([1, 2, 5, 60])), replace=False) + 1
        ratings[movie] = [
            (int(c), movie, int(draw.integers(1, 6)), f"2005-01-{draw.integers(10, 29)}") for c in customers
        ]
    return ratings


def _lines(movie: int, rows: list[tuple[int, int, int, str]]) -> str:
    return f"{movie}:\n" + "".join(f"{user},{rating},{date}\n" for user, _, rating, date in rows)


def _ref_rows(ratings: dict[int, list]) -> list[tuple]:
    rows = [row for movie in ratings.values() for row in movie]
    return sorted(
        (user, item, float(rating), (int(date[-2:]) - 1) * 86400 + 1104537600) for user, item, rating, date in rows
    )


def _comp_rows(spark: SparkSession, path: Path) -> list[tuple]:
    rows = read_ratings(spark, Source(str(path))).collect()
    assert {row["error"] for row in rows} == {None}
    return sorted((row["user"], row["item"], row["rating"], row["timestamp"]) for row in rows)


@pytest.fixture
def split_bytes(spark: SparkSession):
    """Set the bytes of a file split, and put the setting back."""
    key = "spark.sql.files.maxPartitionBytes"
    before = spark.conf.get(key)
    yield lambda size: spark.conf.set(key, str(size))
    spark.conf.set(key, before)


@pytest.mark.parametrize("size", [7, 64, 1000, 10**8])
def test_combined_data_whatever_the_splits(size: int, spark: SparkSession, tmp_path: Path, split_bytes) -> None:
    ratings = _ref_ratings(seed=size)
    if size == 7:
        ratings = {movie: ratings[movie][:4] for movie in (1, 2, 3, 4, 5)}
    movies = list(ratings)
    half = len(movies) // 2
    for number, part in ((1, movies[:half]), (2, movies[half:])):
        text = "".join(_lines(movie, ratings[movie]) for movie in part)
        (tmp_path / f"combined_data_{number}.txt").write_text(text)
    split_bytes(size)
    assert _comp_rows(spark, tmp_path) == _ref_rows(ratings)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_one_file_per_movie(packed: bool, spark: SparkSession, tmp_path: Path) -> None:
    ratings = _ref_ratings(seed=1)
    (tmp_path / "README").write_text("not a rating file\n")
    for movie, rows in ratings.items():
        data = _lines(movie, rows).encode()
        name = f"mv_{movie:07d}.txt"
        (tmp_path / (name + ".gz" if packed else name)).write_bytes(gzip.compress(data) if packed else data)
    assert _comp_rows(spark, tmp_path) == _ref_rows(ratings)


def test_both_layouts_in_one_folder_are_refused(spark: SparkSession, tmp_path: Path) -> None:
    for name in ("mv_0000001.txt", "combined_data_1.txt"):
        (tmp_path / name).write_text("1:\n5,3,2005-01-01\n")
    with pytest.raises(ValueError, match="read twice"):
        read_ratings(spark, Source(str(tmp_path)))


def test_probe_marks_the_validation_rows(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "combined_data_1.txt").write_text("1:\n10,5,2005-01-01\n11,4,2005-01-01\n2:\n10,3,2005-01-01\n")
    (tmp_path / "probe.txt").write_text("1:\n11\n2:\n10\n99\n")
    ratings = read_ratings(spark, Source(str(tmp_path), format="netflix"))
    assert ratings.count() == 3
    marked = mark_probe(ratings, read_probe(spark, Source(str(tmp_path / "probe.txt"))))
    comp = {(row["user"], row["item"]): row["validation"] for row in marked.collect()}
    assert comp == {(10, 1): False, (11, 1): True, (10, 2): True}


def test_tag_lines_carries_the_open_movie_from_batch_to_batch() -> None:
    first, opened = tag_lines(pa.array(["8,1,d", "3:", "9,2,d"]), None)
    second, still_open = tag_lines(pa.array(["7,1,d"]), opened)
    third, closed = tag_lines(pa.array(["x:", "6,1,d"]), still_open)
    assert first.to_pydict() == {
        "value": ["8,1,d", "9,2,d"],
        "movie": [None, "3"],
        "error": [reasons.NO_MOVIE, None],
    }
    assert second.to_pydict() == {"value": ["7,1,d"], "movie": ["3"], "error": [None]}
    assert third.to_pydict() == {
        "value": ["x:", "6,1,d"],
        "movie": [None, None],
        "error": [reasons.UNPARSABLE, reasons.NO_MOVIE],
    }
    assert closed is None
