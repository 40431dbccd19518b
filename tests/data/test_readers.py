"""Every format on small files, and the real MovieLens files where they are present."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from chispa import assert_df_equality
from pyspark.sql import DataFrame, SparkSession

from mfspark.data import FORMATS, Source, read_probe, read_ratings, reasons
from mfspark.data.readers import detect_format

TIMED = [(1, 10, 5.0, 978300760), (1, 20, 3.5, 978302109), (2, 10, 4.0, None)]
UNTIMED = [(user, item, rating, None) for user, item, rating, _ in TIMED]
LONG_SCHEMA = "user long, item long, rating double, timestamp long"


def _comp(ratings: DataFrame, rows: list[tuple], schema: str = LONG_SCHEMA) -> None:
    assert ratings.columns[:4] == ["user", "item", "rating", "timestamp"]
    assert ratings.columns[-2:] == ["raw", "error"]
    assert ratings.where("error is not null").count() == 0
    expected = ratings.sparkSession.createDataFrame(rows, schema)
    comp = ratings.select("user", "item", "rating", "timestamp")
    assert_df_equality(comp, expected, ignore_row_order=True, ignore_nullable=True)


MOVIELENS = {
    "ratings.dat": ("1::10::5::978300760\n1::20::3.5::978302109\n2::10::4::\n", TIMED),
    "no_timestamp.dat": ("1::10::5\n1::20::3.5\n\n2::10::4", UNTIMED),
    "u.data": ("1\t10\t5\t978300760\n1\t20\t3.5\t978302109\n2\t10\t4\t\n", TIMED),
    "windows.dat": ("1::10::5\r\n1::20::3.5\r\n2::10::4\r\n", UNTIMED),
    "ratings.csv": ("userId,movieId,rating,timestamp\n1,10,5.0,978300760\n1,20,3.5,978302109\n2,10,4.0,\n", TIMED),
    "marked.csv": ("\ufeffuserId,movieId,rating\n1,10,5.0\n1,20,3.5\n2,10,4.0\n", UNTIMED),
    "plain.csv": ("1,10,5.0\n1,20,3.5\n2,10,4.0\n", UNTIMED),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("name", MOVIELENS)
def test_movielens_layouts_are_found_by_themselves(
    name: str, packed: bool, spark: SparkSession, tmp_path: Path
) -> None:
    content, ref = MOVIELENS[name]
    path = tmp_path / (name + ".gz" if packed else name)
    path.write_bytes(gzip.compress(content.encode()) if packed else content.encode())
    source = Source(str(path))
    assert detect_format(spark, source) == "movielens"
    _comp(read_ratings(spark, source), ref)


def test_raw_is_the_line_as_it_stood(spark: SparkSession, tmp_path: Path) -> None:
    lines = ["1::10::5", "broken", "2::20::x"]
    (tmp_path / "r.dat").write_text("\n".join(lines))
    comp = [(row["raw"], row["error"]) for row in read_ratings(spark, Source(str(tmp_path / "r.dat"))).collect()]
    assert comp == [(lines[0], None), (lines[1], reasons.UNPARSABLE), (lines[2], reasons.UNPARSABLE)]


CSV = """who;what;stars;when;n
u1;"a;b";4.5;2005-01-02;2
u,2;c;3;2005-01-02 00:00:10;1
u3;d;1;2005-01-02T02:00:00+02:00;0
"""


def test_csv_with_named_columns_quotes_dates_and_weights(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text(CSV)
    source = Source(str(tmp_path / "r.csv"), user="who", item="what", rating="stars", timestamp="when", weight="n")
    ratings = read_ratings(spark, source)
    day = 1104624000
    ref = [("u1", "a;b", 4.5, day), ("u,2", "c", 3.0, day + 10), ("u3", "d", 1.0, day)]
    _comp(ratings, ref, "user string, item string, rating double, timestamp long")
    assert sorted(row[0] for row in ratings.select("weight").collect()) == [0.0, 1.0, 2.0]


def test_csv_ids_are_strings_unless_long_is_asked_for(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("user,item,rating\n007,1,3\n")
    texts = read_ratings(spark, Source(str(tmp_path / "r.csv"), format="csv")).first()
    numbers = read_ratings(spark, Source(str(tmp_path / "r.csv"), format="csv", id_type="long")).first()
    assert (texts["user"], texts["item"]) == ("007", "1")
    assert (numbers["user"], numbers["item"]) == (7, 1)


def test_csv_without_header_has_the_fields_in_order(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("a|x|3|10\nb|y|4|11\n")
    ratings = read_ratings(spark, Source(str(tmp_path / "r.csv"), format="csv", header=False))
    _comp(
        ratings, [("a", "x", 3.0, 10), ("b", "y", 4.0, 11)], "user string, item string, rating double, timestamp long"
    )


def test_a_folder_of_csv_parts_drops_each_header(spark: SparkSession, tmp_path: Path) -> None:
    for part, line in (("a", "u1,i1,3"), ("b", "u2,i2,4")):
        (tmp_path / f"{part}.csv").write_text(f"user,item,rating\n{line}\n")
    ratings = read_ratings(spark, Source(str(tmp_path)))
    assert sorted(row["user"] for row in ratings.collect()) == ["u1", "u2"]


TYPES = {
    "int": ([(1, 2)], "int"),
    "long beyond int32": ([(2**40, -(2**62))], "long"),
    "string": ([("user-1", "Ünïcode")], "string"),
    "uuid": ([("0b3c2f9e-8d1a-4c57-9a55-3f2f6c0f7a10", "f" * 36)], "string"),
}


@pytest.mark.parametrize("name", TYPES)
def test_typed_ids_keep_their_type(name: str, spark: SparkSession, tmp_path: Path) -> None:
    [(user, item)], kind = TYPES[name]
    path = str(tmp_path / "r.parquet")
    spark.createDataFrame([(user, item, 4)], f"user {kind}, item {kind}, rating int").write.parquet(path)
    schema = f"user {kind}, item {kind}, rating double, timestamp long"
    _comp(read_ratings(spark, Source(path)), [(user, item, 4.0, None)], schema)


@pytest.mark.parametrize("kind", ["date", "timestamp_ntz", "timestamp", "int"])
def test_typed_times_become_seconds(kind: str, spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "r.parquet")
    values = {"timestamp": "timestamp'1970-01-02 00:00:00Z'", "int": "86400"}
    value = values.get(kind, f"cast('1970-01-02' as {kind})")
    spark.sql(f"select 1 as u, 2 as i, 3.5 as r, {value} as t").write.parquet(path)
    ratings = read_ratings(spark, Source(path, user="u", item="i", rating="r", timestamp="t"))
    assert ratings.select("rating", "timestamp").collect() == [(3.5, 86400)]


def test_times_do_not_depend_on_the_sessions_time_zone(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("user,item,rating,timestamp\nu,i,3,2005-07-01 12:00:05\nu,j,3,2005-07-01\n")
    key = "spark.sql.session.timeZone"
    before = spark.conf.get(key)
    try:
        spark.conf.set(key, "America/New_York")
        rows = read_ratings(spark, Source(str(tmp_path / "r.csv"))).collect()
    finally:
        spark.conf.set(key, before)
    assert [row["timestamp"] for row in rows] == [1120219205, 1120176000]


def test_versioned_tables_by_path_and_by_name(spark: SparkSession, tmp_path: Path) -> None:
    path, kind = str(tmp_path / "table"), "delta"
    for version, rating in enumerate((1.0, 2.0)):
        frame = spark.createDataFrame([("u", "i", rating)], "user string, item string, rating double")
        frame.write.format(kind).mode("overwrite").save(path)
        ratings = read_ratings(spark, Source(path, version_as_of=version))
        assert [row["rating"] for row in ratings.collect()] == [rating]
    assert detect_format(spark, Source(path)) == kind
    assert [row["rating"] for row in read_ratings(spark, Source(path)).collect()] == [2.0]
    with pytest.raises(ValueError, match="removed rows"):
        read_ratings(spark, Source(path, format="parquet"))
    spark.sql("create database if not exists readers_test")
    spark.sql(f"create table if not exists readers_test.ratings using {kind} location '{path}'")
    for name in ("readers_test.ratings", "spark_catalog.readers_test.ratings"):
        ratings = read_ratings(spark, Source(name, version_as_of=0))
        assert [row["rating"] for row in ratings.collect()] == [1.0]
    with pytest.raises(ValueError, match="version 7"):
        read_ratings(spark, Source(path, version_as_of=7))
    spark.sql("drop database readers_test cascade")


def test_synthetic_is_a_source_like_any_other(spark: SparkSession) -> None:
    options = {"n_users": 20, "n_items": 15, "n_ratings": 100, "seed": 3}
    ratings = read_ratings(spark, Source(format="synthetic", options=options))
    assert ratings.count() == 100
    assert ratings.where("error is null and raw like '{%' and rating between 1 and 5 and timestamp > 0").count() == 100


def test_formats_are_functions_in_one_dict() -> None:
    assert set(FORMATS) == {"movielens", "netflix", "netflix_probe", "csv", "parquet", "table", "synthetic"}
    assert all(callable(read) for read in FORMATS.values())


REAL = {
    "ml-100k/u.data.gz": (100_000, 943, 1_682),
    "ml-1m/ratings_no_timestamp.dat.gz": (1_000_209, 6_040, 3_706),
    "ml-1m/bpmf_probe.csv.gz": (100_209, None, None),
}


@pytest.mark.parametrize("name", REAL)
def test_real_movielens_files(name: str, spark: SparkSession, shared_data: Path) -> None:
    ratings = read_ratings(spark, Source(str(shared_data / name), format="movielens"))
    counts = ratings.selectExpr("count(*)", "count(distinct user)", "count(distinct item)")
    rows, users, items = counts.collect()[0]
    ref_rows, ref_users, ref_items = REAL[name]
    assert rows == ref_rows
    assert (users, items) == (ref_users or users, ref_items or items)
    assert ratings.where("error is not null or rating not between 1 and 5").count() == 0


def test_real_movielens_rating_counts(spark: SparkSession, shared_data: Path) -> None:
    ratings = read_ratings(spark, Source(str(shared_data / "ml-1m" / "ratings_no_timestamp.dat.gz")))
    comp = {row["rating"]: row["count"] for row in ratings.groupBy("rating").count().collect()}
    assert comp == {1.0: 56_174, 2.0: 107_557, 3.0: 261_197, 4.0: 348_971, 5.0: 226_310}


def test_probe_reader_gives_the_pairs(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "probe.txt").write_text("1:\n30\n10\n22:\n30\nnobody\n")
    comp = [tuple(row) for row in read_probe(spark, Source(str(tmp_path / "probe.txt"))).collect()]
    assert comp == [
        (30, 1, "30", None),
        (10, 1, "10", None),
        (30, 22, "30", None),
        (None, 22, "nobody", reasons.UNPARSABLE),
    ]
