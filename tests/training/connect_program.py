"""The library path over Spark Connect: fit, transform, recommend, fold in, save, load, overwrite, store, evaluate."""

import os
import sys
import tempfile

os.environ["PYSPARK_PYTHON"] = sys.executable

from pyspark.sql import SparkSession

from mfspark.session import DELTA_DEFAULTS, LOCAL_DEFAULTS, _jar_settings, _use_java, is_connect


def session():
    """Return a Connect session on a local server started for it."""
    _use_java()
    builder = SparkSession.builder.remote("local[2]")
    for key, value in {**LOCAL_DEFAULTS, **DELTA_DEFAULTS, **_jar_settings(), "spark.driver.memory": "2g"}.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def main():
    """Run everything; an assertion fails the program."""
    spark = session()
    assert is_connect(spark)
    from pyspark.ml.evaluation import RegressionEvaluator  # noqa: F401 - must import without a JVM in this process

    from mfspark import ALS, FactorizationModel, load_model
    from mfspark.store import Registry

    rows = [(u, f"item-{i}", 5.0 if u % 2 == i % 2 else 1.0) for u in range(20) for i in range(10) if (u + 3 * i) % 4]
    ratings = spark.createDataFrame(rows, "user int, item string, rating float")
    folder = tempfile.mkdtemp()
    for options in (dict(), dict(materializer="none"), dict(materializer="delta", workPath=f"{folder}/work")):
        model = ALS(rank=3, maxIter=4, regParam=0.05, seed=1, **options).fit(ratings)
    implicit = ALS(rank=2, maxIter=2, implicitPrefs=True, filterSeen=True).fit(ratings)
    assert implicit.recommendForAllUsers(3).count() == 20
    predicted = model.transform(ratings)
    assert predicted.columns == ["user", "item", "rating", "prediction"]
    worst = max(abs(row.rating - row.prediction) for row in predicted.collect())
    assert worst < 1.0, worst
    cold = spark.createDataFrame([(1, "item-1"), (99, "item-1")], "user int, item string")
    assert model.copy({model.coldStartStrategy: "drop"}).transform(cold).count() == 1
    assert len(model.recommendForAllUsers(4).first().recommendations) == 4
    assert model.recommendForUserSubset(ratings.where("user = 3"), 2, seen=ratings).count() == 1
    assert model.similarItems(["item-1"], 2).count() == 1
    folded = {row.id: row.features for row in model.foldInUsers(ratings.where("user = 3")).collect()}
    factors = {row.id: row.features for row in model.userFactors.collect()}
    assert max(abs(a - b) for a, b in zip(folded[3], factors[3], strict=True)) < 1e-5
    model.save(f"{folder}/model")
    model.write().overwrite().save(f"{folder}/model")
    again = FactorizationModel.load(f"{folder}/model").transform(ratings)
    assert again.exceptAll(predicted).count() == 0
    ALS(rank=5).write().overwrite().save(f"{folder}/als")
    assert ALS.load(f"{folder}/als").getRank() == 5
    registry = Registry(spark, f"{folder}/store")
    published = registry.publish("run-1", model, {"rmse": 0.1})
    assert registry.get().version == published.version
    assert registry.read(published, "user_factors").count() == 20
    assert load_model(registry).transform(ratings).exceptAll(predicted).count() == 0
    spark.conf.set("spark.mfspark.driverLimit", "0")  # nothing fits the driver: the factors stay on the workers
    large = ALS(rank=3, maxIter=4, regParam=0.05, seed=1, filterSeen=True).fit(ratings)
    assert len(large.recommendForUserSubset(ratings.where("user = 3"), 9).first().recommendations) == 2
    frames = load_model(registry)
    for one in (large, frames):
        assert "FrameFactorization" in type(one.fitted).__name__
        compared = one.transform(ratings).join(predicted.withColumnRenamed("prediction", "ref"), ["user", "item"])
        assert compared.where("abs(prediction - ref) < 1e-4").count() == ratings.count()
    registry.publish("run-2", large)
    assert registry.read(registry.get(), "item_factors").count() == 10
    assert frames.recommendForUserSubset(ratings, 4, seen=ratings).count() == 20
    assert frames.similarItems(["item-1"], 2).count() == 1
    again = {row.id: row.features for row in frames.foldInUsers(ratings.where("user = 3")).collect()}
    assert max(abs(a - b) for a, b in zip(again[3], factors[3], strict=True)) < 1e-5
    frames.unpersist()
    spark.stop()
    sys.stdout.write("CONNECT OK\n")


if __name__ == "__main__":
    main()
