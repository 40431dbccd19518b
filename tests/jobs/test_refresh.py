"""The daily refresh: a fit that starts from the model before, and new users folded in without a fit."""

import numpy as np
import pytest

from mfspark import load_model
from mfspark.config import parse
from mfspark.errors import ConfigError, StoreError
from mfspark.kernels.csr import Side
from mfspark.pipeline import fold_in, ingest, predict, train
from mfspark.pipeline.command import _parser, _start
from mfspark.store import Registry, tables

ALS = {"rank": 3, "maxIter": 8, "seed": 1, "regParam": 0.1, "coldStartStrategy": "drop"}


def write(spark, path, users, items, seed):
    """Ratings of rank 1 with some noise, as Parquet."""
    random = np.random.default_rng(seed)
    rows = [
        (int(u), int(i), float(1 + (u * 7 % 5 + i * 3 % 5) / 2 + random.normal(0, 0.1)))
        for u in users
        for i in items
        if random.random() < 0.4
    ]
    spark.createDataFrame(rows, "user long, item long, rating double").write.mode("overwrite").parquet(str(path))
    return len(rows)


@pytest.fixture(scope="module")
def store(spark, tmp_path_factory):
    """A store with a model of 30 users and 20 items, and then the ratings of ten more users and five more items."""
    folder = tmp_path_factory.mktemp("refresh")
    write(spark, folder / "first", range(30), range(20), 1)
    write(spark, folder / "second", range(30, 40), range(25), 2)

    def config(**sections):
        return parse({"store": {"location": str(folder / "store")}, "als": ALS, "split": {"method": "none"}} | sections)

    source = {"format": "parquet", "timestamp": None}
    ingest(spark, config(source={"path": str(folder / "first"), **source}), "day-1")
    train(spark, config(), "day-1")
    ingest(spark, config(source={"path": str(folder / "second"), "mode": "append", **source}), "day-2")
    return config


def test_a_run_starts_from_the_newest_other_model(spark, store):
    config = store(train={"start_from": "latest"}, als=ALS | {"maxIter": 2})
    for _ in range(2):  # the second time its own model is the newest
        report = train(spark, config, "day-2")
        version = Registry(spark, config.store.location).get(run_id="day-2")
        assert version.parameters["training"]["started_from"] == 1
    cold = train(spark, store(als=ALS | {"maxIter": 2}), "cold")
    assert report.history[-1]["loss"] < cold.history[-1]["loss"]
    again = train(spark, store(train={"start_version": 1}, als=ALS | {"maxIter": 2}), "day-2-again")
    assert again.history[-1]["loss"] == pytest.approx(report.history[-1]["loss"], rel=1e-6)


def test_a_repeated_run_starts_where_it_did_the_first_time(spark, store):
    registry = Registry(spark, store().store.location)
    published = registry.list()
    assert [model.version for model in published] == list(range(1, len(published) + 1))
    assert len(published) > 1
    before = [registry.newest_other(model.run_id) for model in published]
    assert [model and model.version for model in before] == [None, *range(1, len(published))]
    assert registry.newest_other("another").version == len(published)


def test_new_users_are_folded_in(spark, store):
    config = store(model={"version": 1})
    report = fold_in(spark, config, "folded")
    ratings = tables.read(spark, f"{config.store.location}/ratings").where("user >= 30")
    assert (report.users, report.base) == (10, 1)
    assert report.ratings == ratings.where("item < 20").count()
    assert report.left_out == ratings.where("item >= 20").count() > 0
    registry = Registry(spark, config.store.location)
    before, after = load_model(registry, 1), load_model(registry, report.version)
    assert after.ids(Side.USER).to_pylist() == list(range(40))
    np.testing.assert_array_equal(after.fitted.sides[1], before.fitted.sides[1])
    np.testing.assert_array_equal(after.fitted.sides[0][:30], before.fitted.sides[0])
    rows = before.foldInUsers(ratings.where("item < 20")).orderBy("id").collect()
    np.testing.assert_allclose(after.fitted.features(Side.USER)[30:], [row["features"] for row in rows], rtol=1e-5)
    assert after.getOrDefault("coldStartStrategy") == "drop"
    assert [line.loss for line in after._history] == [line.loss for line in before._history]
    again = fold_in(spark, config, "folded")
    assert (again.version, again.users) == (report.version, 10)
    asked = predict(spark, store(model={"run_id": "folded"}, predict={"n": 3}), "folded")
    assert asked.rows == 40 * 3
    lines = fold_in(spark, store(model={"version": report.version}), "nobody-new").lines()
    assert "0 new users (0 ratings)" in lines[0]


def test_a_store_without_another_model(spark, tmp_path, caplog):
    write(spark, tmp_path / "ratings", range(10), range(8), 3)
    raw = {"store": {"location": str(tmp_path / "store")}, "als": ALS | {"maxIter": 1}, "split": {"method": "none"}}
    raw["train"] = {"path": str(tmp_path / "ratings"), "start_from": "latest"}
    raw["source"] = {"format": "parquet", "timestamp": None}
    with caplog.at_level("INFO", "mfspark"):
        train(spark, parse(raw), "first")
    assert "no other model has been published" in caplog.text
    with pytest.raises(StoreError, match="no model has been published in .*: train one first$"):
        fold_in(spark, parse(raw), "first")
    raw["train"] = {"path": str(tmp_path / "ratings"), "start_version": 9}
    with pytest.raises(StoreError, match="no model of version 9"):
        train(spark, parse(raw), "second")


def test_the_command_line_and_what_contradicts():
    parsed = [_parser("train").parse_args(["--config", "c", *more]) for more in (["--from", "latest"], ["--from", "3"])]
    assert [_start(one) for one in parsed] == [["train.start_from=latest"], ["train.start_version=3"]]
    assert _start(_parser("predict").parse_args(["--config", "c"])) == []
    both = {"start_from": "latest", "start_version": 3}
    with pytest.raises(ConfigError, match="train.start_version: contradicts train.start_from"):
        parse({"store": {"location": "x"}, "train": both})
