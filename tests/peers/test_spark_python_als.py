"""Spark's own Python test of ALS (pyspark/ml/tests/test_als.py, 4.x): the same calls, only the import is ours."""

import pytest
from pyspark.sql import functions as sf

from mfspark import ALS, ALSModel


@pytest.fixture(params=[False, True])
def fail_ambiguous(spark, request):
    key = "spark.sql.analyzer.failAmbiguousSelfJoin"
    before = spark.conf.get(key)
    spark.conf.set(key, request.param)
    yield
    spark.conf.set(key, before)


@pytest.fixture(scope="module")
def path(spark, tmp_path_factory):
    data = spark.createDataFrame([[1, 15, 1], [1, 2, 2], [2, 3, 4], [2, 2, 5]], ["user", "item", "rating"])
    columns = {"userCol": "user", "itemCol": "item", "ratingCol": "rating"}
    als = ALS(**columns, numUserBlocks=10, numItemBlocks=10, maxIter=1, seed=42)
    folder = str(tmp_path_factory.mktemp("als"))  # it exists already, as in Spark's test
    als.fit(data).write().overwrite().save(folder)
    return folder


@pytest.mark.usefixtures("fail_ambiguous")
def test_a_loaded_models_factors_can_be_crossed_and_predicted(path):
    loaded = ALSModel().load(path)
    users = loaded.userFactors.select(sf.col("id").alias("user"))
    items = loaded.itemFactors.select(sf.col("id").alias("item"))
    assert loaded.transform(users.crossJoin(items)).count() == 6
