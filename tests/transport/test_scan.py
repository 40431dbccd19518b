"""Parquet files read by the workers: the rows that Spark reads, and Spark where a data set is not just files."""

import datetime
import decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from mfspark import ALS, DataError
from mfspark.blocks.columns import Columns, scan, select
from mfspark.transport.scan import Group, _parts

ROWS = 1000
WEIGHTED = Columns("who", "film", "stars", "weight", "held")


def written(folder, files=3, **changes):
    """Write ratings of everything that may stand in them, in several files of several row groups."""
    rng = np.random.default_rng(3)
    columns = {
        "other": pa.array([[1.0]] * ROWS),
        "film": pa.array([f"film {one}" if one else None for one in rng.integers(0, 40, ROWS)]),
        "who": pa.array(rng.integers(0, 50, ROWS) * 2**40, mask=rng.random(ROWS) < 0.01),
        "stars": pa.array(np.where(rng.random(ROWS) < 0.01, np.nan, rng.integers(1, 11, ROWS) / 3)),
        "weight": pa.array(rng.random(ROWS, np.float32)),
        "held": pa.array(rng.random(ROWS) < 0.2, mask=rng.random(ROWS) < 0.1),
        "day": pa.array([datetime.date(2026, 1, 1)] * ROWS),
    } | changes
    table = pa.table({name: column for name, column in columns.items() if column is not None})
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        part = table.slice(number * ROWS // files, (number + 1) * ROWS // files - number * ROWS // files)
        pq.write_table(part, folder / f"part {number}.parquet", row_group_size=70)
    return str(folder)


def rows(frame):
    return sorted(map(str, frame.collect()))


def read_by_workers(frame, columns):
    """What the workers read of a data set, None where they leave it to Spark."""
    found = scan(frame, columns)
    if found is None:
        return None
    schema = ", ".join(f"{field.name} {field.dataType.simpleString()}" for field in select(frame, columns).schema)
    return rows(found.map(frame, lambda batches: batches, schema))


INTS = pa.array(np.arange(ROWS) % 7, pa.int32())
KINDS = {
    "longs, strings, doubles": {},
    "ints, floats": {"who": INTS, "film": INTS, "stars": pa.array(np.arange(ROWS) / 3, pa.float32())},
    "whole ratings": {"stars": pa.array(np.arange(ROWS) + 2**53)},
    "infinite in single precision": {"stars": pa.array(np.full(ROWS, 1e300))},
}


@pytest.mark.parametrize("name", KINDS)
def test_the_rows_are_those_of_spark(spark, tmp_path, name):
    path = written(tmp_path / "a b%20[1]{2}", **KINDS[name])
    for columns in (WEIGHTED, Columns("film", "who", "stars")):
        frame = spark.read.parquet(path.replace("[", "\\[").replace("{", "\\{"))
        assert read_by_workers(frame, columns) == rows(select(frame, columns))
        chosen = frame.select("film", "held", "stars", "weight", "who").drop("day")
        assert read_by_workers(chosen, columns) == rows(select(frame, columns))


def cached(frame):
    frame.select("who", "film", "stars").persist()
    return frame.select("who", "film", "stars")


LEFT_TO_SPARK = {
    "filter": lambda frame: frame.where("stars > 1"),
    "filter below a choice": lambda frame: frame.where("stars > 1").select("who", "film", "stars"),
    "limit": lambda frame: frame.limit(10),
    "sample": lambda frame: frame.sample(0.5, seed=1),
    "another value": lambda frame: frame.withColumn("stars", F.col("stars") + 1),
    "another name": lambda frame: frame.selectExpr("who film", "film who", "stars"),
    "cast": lambda frame: frame.withColumn("who", F.col("who").cast("string")),
    "union": lambda frame: frame.union(frame),
    "sorted": lambda frame: frame.orderBy("who"),
    "cached": cached,
    "distinct": lambda frame: frame.select("who", "film", "stars").distinct(),
}


@pytest.mark.parametrize("name", LEFT_TO_SPARK)
def test_more_than_a_choice_of_columns_is_left_to_spark(spark, tmp_path, name):
    frame = spark.read.parquet(written(tmp_path / "ratings"))
    columns = Columns("who", "film", "stars")
    assert scan(frame, columns) is not None
    changed = LEFT_TO_SPARK[name](frame)
    assert scan(changed, columns) is None
    changed.unpersist()


def test_other_sources_are_left_to_spark(spark, tmp_path):
    columns = Columns("who", "film", "stars")
    plain = spark.read.parquet(written(tmp_path / "ratings"))
    assert scan(plain, Columns("who", "film", "")) is None  # a rating that no file has
    for kind in ("csv", "json", "delta", "orc"):
        path = str(tmp_path / kind)
        plain.select("who", "film", "stars").write.format(kind).save(path)
        read = spark.read.format(kind).schema("who long, film string, stars double") if kind != "delta" else spark.read
        assert scan(read.format(kind).load(path), columns) is None
    plain.write.partitionBy("day").parquet(str(tmp_path / "days"))
    assert scan(spark.read.parquet(str(tmp_path / "days")), columns) is None
    plain.createOrReplaceTempView("ratings_view")
    assert scan(spark.table("ratings_view"), columns) is None
    merged = written(tmp_path / "merged", files=1, who=INTS, other=None)
    pq.write_table(pa.table({"film": ["a"], "stars": [1.0]}), tmp_path / "merged" / "lacks.parquet")
    assert scan(spark.read.option("mergeSchema", True).parquet(merged), columns) is None
    for name, change in {"decimal": decimal.Decimal(1), "double": 1.5, "boolean": True}.items():
        other = written(tmp_path / name, who=pa.array([change] * ROWS))
        assert scan(spark.read.parquet(other), columns) is None
    assert scan(spark.read.schema("WHO long, film string, stars double").parquet(str(tmp_path / "ratings")),
                Columns("WHO", "film", "stars")) is None  # fmt: skip


@pytest.mark.parametrize("name", ["spark.mfspark.readParquet", "spark.sql.files.ignoreMissingFiles"])
def test_it_can_be_turned_off(spark, tmp_path, name):
    frame = spark.read.parquet(written(tmp_path / "ratings"))
    spark.conf.set(name, "false" if "mfspark" in name else "true")
    try:
        assert scan(frame, Columns("who", "film", "stars")) is None
    finally:
        spark.conf.unset(name)


def test_fits_and_refusals_are_the_same(spark, tmp_path):
    options = dict(userCol="who", itemCol="film", ratingCol="stars", weightCol="weight", validationIndicatorCol="held")
    als = ALS(rank=3, maxIter=2, **options)
    bad = spark.read.parquet(written(tmp_path / "bad"))
    good = bad.where("who is not null and film is not null and not isnan(stars)")
    good.coalesce(1).write.parquet(str(tmp_path / "good"))
    frame = spark.read.parquet(str(tmp_path / "good"))
    assert scan(frame, WEIGHTED) is not None and scan(good, WEIGHTED) is None
    comp, ref = als.fit(frame), als.fit(good)
    for one, other in zip(comp.fitted.sides, ref.fitted.sides, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert comp._history[-1].validation_rmse == pytest.approx(ref._history[-1].validation_rmse, rel=1e-5)
    refusals = []
    for data in (bad, bad.where("true or stars > 0")):
        with pytest.raises(
            DataError, match="null ids in column who; .* null ids in column film; .* in column stars"
        ) as raised:
            als.fit(data)
        refusals.append(str(raised.value))
    assert refusals[0] == refusals[1]


@pytest.mark.parametrize("slots,sizes", [(2, [5]), (2, [1, 1, 1]), (3, [10, 1, 1, 10]), (4, [0, 0, 3]), (2, [2] * 999)])
def test_parts_have_every_group_once_in_order(slots, sizes):
    groups = [Group("file", number, size, 1000 * size) for number, size in enumerate(sizes)]
    parts = _parts(groups, slots)
    assert [group for part in parts for group in part] == groups and all(parts)
    assert len(parts) <= slots
    huge = [group._replace(bytes=group.bytes << 18) for group in groups]
    assert [group for part in _parts(huge, slots) for group in part] == huge
    if len(sizes) == 999:
        assert len(parts) == slots and max(map(len, parts)) - min(map(len, parts)) <= 1
        assert len(_parts(huge, slots)) > slots
