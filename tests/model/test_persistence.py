"""Saving never writes into what is there unasked, and asked replaces all of it."""

from pathlib import Path

import pytest
from contract import checkerboard
from pyspark.ml.recommendation import ALS as MLlibALS

from mfspark import ALS, FactorizationModel, StoreError


@pytest.fixture(scope="module")
def model(spark):
    return ALS(rank=2, maxIter=1).fit(checkerboard(spark))


def foreign_table(spark, path):
    spark.range(3).write.parquet(path)


def file_of_text(_spark, path):
    Path(path).write_text("not ours", encoding="utf-8")


def empty_folder(_spark, path):
    Path(path).mkdir()


def foreign_model(spark, path):
    MLlibALS(rank=2, maxIter=1).fit(checkerboard(spark)).save(path)


def killed_save(spark, path):
    spark.range(3).write.parquet(f"{path}/data-a/user_factors")


KINDS = [foreign_table, file_of_text, empty_folder, foreign_model, killed_save]


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_save_refuses_whatever_is_there_and_overwrite_replaces_it(model, spark, tmp_path, make):
    path = str(tmp_path / "there")
    make(spark, path)
    for instance in (model, ALS()):
        with pytest.raises(StoreError, match=rf"^path {path} already exists.*: use write\(\).overwrite\(\)"):
            instance.save(path)
    model.write().overwrite().save(path)
    loaded = FactorizationModel.load(path)
    assert loaded.rank == 2 and loaded.userFactors.count() == 24
    kept = {child.name for child in (tmp_path / "there").iterdir() if not child.name.startswith((".", "_", "part-"))}
    assert kept == {"metadata", "data-a"}


def test_a_saved_instance_is_named_when_it_stands_in_the_way(model, tmp_path):
    path = str(tmp_path / "model")
    model.save(path)
    with pytest.raises(StoreError, match=r"already exists \(a saved FactorizationModel\)"):
        model.save(path)
    ALS().save(str(tmp_path / "als"))
    with pytest.raises(StoreError, match=r"already exists \(a saved ALS\)"):
        model.save(str(tmp_path / "als"))
    with pytest.raises(StoreError, match="has a saved ALS, not a FactorizationModel"):
        FactorizationModel.load(str(tmp_path / "als"))
    with pytest.raises(StoreError, match="has no saved FactorizationModel"):
        FactorizationModel.load(str(tmp_path / "nothing"))


def test_a_model_may_be_saved_over_where_it_was_loaded_from(model, tmp_path):
    path = str(tmp_path / "model")
    model.save(path)
    again = FactorizationModel.load(path)
    again.write().overwrite().save(path)
    again.write().overwrite().save(path)
    assert FactorizationModel.load(path).userFactors.collect() == model.userFactors.collect()


def test_paths_with_signs_that_mean_something_to_spark(model, tmp_path):
    for name in ("a b", "a[1]", "{x,y}", "st*r", "what?"):
        path = str(tmp_path / name)
        model.save(path)
        assert FactorizationModel.load(path).itemFactors.count() == 12
        with pytest.raises(StoreError, match="already exists"):
            ALS().save(path)
