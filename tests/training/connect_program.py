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


def lists(recommended):
    """Return each user's recommended items."""
    return {row.user: [one.item for one in row.recommendations] for row in recommended.collect()}


def rules(model, ratings):
    """Recommend under rules, explain: a list of ids, a table of ids and a table of pairs each cross the connection."""
    names, spark = [f"item-{i}" for i in range(10)], ratings.sparkSession
    seen = [ratings.where("user = 3"), ratings]
    allowed = lists(model.recommendForAllUsers(10, allow=names[:4], deny=names[:1], seen=seen))
    assert set().union(*allowed.values()) == set(names[1:4])
    pairs = spark.createDataFrame([(3, names[0]), (3, names[2]), (4, names[5])], "user int, item string")
    own = lists(model.recommendForAllUsers(9, allow=pairs))
    assert {user: set(items) for user, items in own.items() if items} == {3: {names[0], names[2]}, 4: {names[5]}}, own
    high = model.recommendForAllUsers(10, minScore=2.0).collect()
    assert all(one.rating >= 2.0 for row in high for one in row.recommendations)
    asked = spark.createDataFrame([(3,), (99,)], "user int")
    filled = lists(model.recommendForUserSubset(asked, 2, unknown="popular"))
    assert {user: len(items) for user, items in filled.items()} == {3: 2, 99: 2}, filled
    assert model.explain(ratings.where("user = 3").select("user", "item").limit(1), ratings).count() > 0
    cold = spark.createDataFrame([(99, "item-1")], "user int, item string")
    assert model.copy({model.coldStartStrategy: "mean"}).transform(cold).first().prediction > 0


def refresh(model, ratings):
    """New users, folded in and kept; a fit that starts from a model."""
    from pyspark.sql import functions as F

    from mfspark import ALS

    new = ratings.where("user < 2").withColumn("user", F.col("user") + 100)
    assert model.recommendForNewUsers(new, 3).count() == 2
    assert model.withUsers(new).userFactors.count() == 22
    assert (
        ALS(rank=3, maxIter=1, regParam=0.05).setInitialModel(model).fit(ratings.union(new)).userFactors.count() == 22
    )


def versions(registry, model):
    """An alias, its rollback, a comparison and a retirement."""
    from mfspark import load_model

    first = registry.get().version
    second = registry.publish("run-1b", model, {"rmse": 0.2}).version
    registry.promote(first)
    registry.promote(second)
    registry.rollback()
    assert registry.get("champion").version == first and load_model(registry, "champion").rank == 3
    assert registry.compare(first, second).lines()
    registry.retire(keep=1)


def measures(model, ratings):
    """Metrics, baselines, segments and splits."""
    from mfspark.data import leave_k_out
    from mfspark.evaluation import bias_ranking, popularity_ranking, ranking_metrics, ranking_segments, rating_metrics

    marked = leave_k_out(ratings, k=1, by_time=False, seed=1, column="held_out")
    train, test = marked.where("NOT held_out").drop("held_out"), marked.where("held_out").drop("held_out")
    assert test.count() == 20
    assert rating_metrics(model.transform(ratings)).rmse < 1.0
    for found in (
        model.recommendForAllUsers(3, seen=train),
        popularity_ranking(train, train, 3),
        bias_ranking(train, train, 3),
    ):
        assert 0 <= ranking_metrics(found, test, 3, train=train)["ndcgAtK"] <= 1
    assert ranking_segments(model.recommendForAllUsers(3, seen=train), test, train, 3).count() > 0


def search(ratings, folder):
    """A search that shares its folds' blocks, stops early and is written as it goes; pyspark's own validator."""
    from pyspark.ml.tuning import ParamGridBuilder, TrainValidationSplit

    from mfspark import ALS
    from mfspark.evaluation import RankingEvaluator, TopK, cross_validate, grid

    settings, table = grid({"rank": [1, 2], "regParam": [0.1, 1.0]}), f"{folder}/trials"
    found = cross_validate(ALS(maxIter=4, seed=1), ratings, settings, folds=2, halving=2, table=table)
    assert len(found.trials) == 4 and 0 < found.best.mean < 4
    assert ratings.sparkSession.read.format("delta").load(table).count() > 0
    als = ALS(rank=2, maxIter=2, implicitPrefs=True)
    maps = ParamGridBuilder().addGrid(als.regParam, [0.01, 0.1]).build()
    validator = TrainValidationSplit(
        estimator=TopK(als, k=3, relevant=4.0), estimatorParamMaps=maps, evaluator=RankingEvaluator("ndcgAtK", k=3)
    )
    assert validator.fit(ratings).bestModel.model.rank == 2


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
    rules(model, ratings)
    refresh(model, ratings)
    versions(registry, model)
    measures(model, ratings)
    search(ratings, folder)
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
