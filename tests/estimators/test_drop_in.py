"""The same script with MLlib's import and with ours; and the same answers on real data."""

import importlib

import numpy as np
import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.ml.feature import StringIndexer
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder, TrainValidationSplit


@pytest.fixture(scope="module")
def ratings(spark):
    rng = np.random.default_rng(0)
    U, V = rng.normal(size=(40, 2)), rng.normal(size=(25, 2))
    rows = [(u, i, float(np.clip(3 + U[u] @ V[i], 1, 5))) for u in range(40) for i in range(25) if rng.random() < 0.6]
    return spark.createDataFrame(rows, "userId int, movieId int, rating float").cache()


@pytest.mark.parametrize("package", ["pyspark.ml.recommendation", "mfspark"])
def test_the_same_script(package, ratings, tmp_path):
    module = importlib.import_module(package)
    ALS, ALSModel = module.ALS, module.ALSModel

    training, test = ratings.randomSplit([0.8, 0.2], seed=1)
    als = ALS(
        rank=4, maxIter=5, regParam=0.05, userCol="userId", itemCol="movieId", ratingCol="rating",
        coldStartStrategy="drop", seed=1, numUserBlocks=3, numItemBlocks=2,
    )  # fmt: skip
    als = als.setImplicitPrefs(False).setAlpha(1.0).setBlockSize(1024)
    assert als.getRank() == 4 and als.getUserCol() == "userId" and als.getImplicitPrefs() is False
    model = als.fit(training.cache())
    predictions = model.transform(test)
    evaluator = RegressionEvaluator(metricName="rmse", labelCol="rating", predictionCol="prediction")
    assert evaluator.evaluate(predictions) < 0.6
    assert model.rank == 4
    assert model.userFactors.columns == ["id", "features"] and model.userFactors.count() == 40
    assert model.itemFactors.schema["id"].dataType.simpleString() == "int"

    users = ratings.select(als.getUserCol()).distinct().limit(3)
    recommended = model.recommendForUserSubset(users, 5)
    assert recommended.schema.simpleString() == (
        "struct<userId:int,recommendations:array<struct<movieId:int,rating:float>>>"
    )
    assert recommended.count() == 3 and len(recommended.first().recommendations) == 5
    assert model.recommendForAllUsers(2).count() == 40
    assert model.recommendForAllItems(2).select("movieId", "recommendations.userId").count() == 25
    assert model.recommendForItemSubset(ratings.select("movieId").limit(1), 2).count() == 1

    model.write().overwrite().save(str(tmp_path / "model"))
    model.write().overwrite().save(str(tmp_path / "model"))
    loaded = ALSModel.load(str(tmp_path / "model"))
    assert loaded.transform(test).count() == predictions.count()
    als.save(str(tmp_path / "als"))
    assert ALS.load(str(tmp_path / "als")).getRegParam() == 0.05

    grid = ParamGridBuilder().addGrid(als.regParam, [0.05, 5.0]).build()
    best = CrossValidator(estimator=als, estimatorParamMaps=grid, evaluator=evaluator, numFolds=2, seed=1).fit(ratings)
    assert best.avgMetrics[0] < best.avgMetrics[1]
    split = TrainValidationSplit(estimator=als, estimatorParamMaps=grid, evaluator=evaluator, seed=1).fit(ratings)
    assert split.bestModel.transform(test).count() > 0

    indexers = [StringIndexer(inputCol=name, outputCol=f"{name}Index") for name in ("userId", "movieId")]
    stage = ALS(rank=2, maxIter=2, userCol="userIdIndex", itemCol="movieIdIndex", ratingCol="rating", seed=1)
    pipeline = Pipeline(stages=[*indexers, stage]).fit(ratings)
    pipeline.write().overwrite().save(str(tmp_path / "pipeline"))
    again = PipelineModel.load(str(tmp_path / "pipeline")).transform(test)
    assert again.where("prediction is not null").count() == test.count()


def objective(frame, model, reg):
    users = {row.id: np.array(row.features) for row in model.userFactors.collect()}
    items = {row.id: np.array(row.features) for row in model.itemFactors.collect()}
    rows = frame.collect()
    fit = sum((row.rating - users[row.user] @ items[row.item]) ** 2 for row in rows)
    penalty = sum(reg * (users[row.user] @ users[row.user] + items[row.item] @ items[row.item]) for row in rows)
    return fit + penalty


def test_objective_and_rmse_of_mllib_on_ml_100k(spark, shared_data):
    from pyspark.ml.recommendation import ALS as MLlibALS

    from mfspark import ALS

    paths = [str(shared_data / "ml-100k" / f"u1.{part}.gz") for part in ("base", "test")]
    schema = "user int, item int, rating float, t long"
    frames = [spark.read.csv(path, sep="\t", schema=schema) for path in paths]
    base, test = (frame.drop("t").repartition(2).cache() for frame in frames)
    options = dict(rank=10, maxIter=15, regParam=0.1, seed=7, coldStartStrategy="drop")
    evaluator = RegressionEvaluator(labelCol="rating")
    ref, comp = MLlibALS(**options).fit(base), ALS(initMode="mllib", **options).fit(base)
    ref_loss, comp_loss = objective(base, ref, 0.1), objective(base, comp, 0.1)
    assert comp_loss == pytest.approx(ref_loss, rel=0.005)
    assert comp.history.orderBy("iteration").collect()[-1].loss == pytest.approx(comp_loss, rel=1e-4)
    ref_rmse, comp_rmse = (evaluator.evaluate(model.transform(test)) for model in (ref, comp))
    assert abs(ref_rmse - comp_rmse) < 0.01
