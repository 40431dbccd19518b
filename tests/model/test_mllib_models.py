"""What MLlib's ALS fitted or saved, taken over: the same predictions, recommendations and, where told, fold-in."""

import numpy as np
import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.recommendation import ALS as MLlibALS
from pyspark.ml.recommendation import ALSModel as MLlibModel

from mfspark import ALS, BPMF, ALSModel, FactorizationModel, LocalModel, ParameterError, StoreError, load_model
from mfspark.store import Registry

KINDS = {
    "explicit": dict(regParam=0.05),
    "implicit": dict(regParam=0.02, implicitPrefs=True, alpha=4.0),
    "nonnegative": dict(regParam=0.05, nonnegative=True),
}


@pytest.fixture(scope="module")
def ratings(spark):
    rng = np.random.default_rng(3)
    U, V = rng.gamma(2, 0.6, size=(30, 3)), rng.gamma(2, 0.6, size=(20, 3))
    rows = [(u, 100 + i, float(U[u] @ V[i])) for u in range(30) for i in range(20) if rng.random() < 0.6]
    return spark.createDataFrame(rows, "u int, i int, rating float").repartition(1).cache()


def estimator(kind, module=MLlibALS):
    return module(
        rank=4, maxIter=4, seed=1, userCol="u", itemCol="i", numUserBlocks=1, numItemBlocks=1,
        coldStartStrategy="drop", **KINDS[kind],
    ).setPredictionCol("p")  # fmt: skip


@pytest.fixture(scope="module", params=KINDS)
def pair(request, ratings, tmp_path_factory):
    """Return a kind, MLlib's model and the folder where it is saved."""
    model = estimator(request.param).fit(ratings)
    path = str(tmp_path_factory.mktemp("mllib") / "model [1]")
    model.save(path)
    return request.param, model, path


def lists(frame, name):
    return {
        row[0]: [(one[0], one[1]) for one in row.recommendations]
        for row in frame.select(name, "recommendations").collect()
    }


def same_lists(ref, comp):
    assert ref.keys() == comp.keys()
    for key, wanted in ref.items():
        assert [one for one, _ in comp[key]] == [one for one, _ in wanted]
        np.testing.assert_allclose([r for _, r in comp[key]], [r for _, r in wanted], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("how", ["load", "folder", "object"])
def test_a_model_of_mllib_predicts_and_recommends_the_same(pair, spark, how, tmp_path):
    _, theirs, path = pair
    ours = {
        "load": ALSModel.load,
        "folder": FactorizationModel.fromMLlib,
        "object": lambda _: ALSModel.fromMLlib(theirs),
    }[how](path)
    assert (ours.uid, ours.rank, ours.getUserCol(), ours.getColdStartStrategy()) == (theirs.uid, 4, "u", "drop")
    pairs = spark.createDataFrame([(u, 100 + i) for u in range(31) for i in range(20)], "u int, i int")
    ref = {(row.u, row.i): row.p for row in theirs.transform(pairs).collect()}
    comp = {(row.u, row.i): row.p for row in ours.transform(pairs).collect()}
    assert ref.keys() == comp.keys() and len(ref) == 600
    np.testing.assert_allclose([comp[key] for key in ref], list(ref.values()), rtol=1e-5, atol=1e-5)
    if how != "load":
        return
    same_lists(lists(theirs.recommendForAllUsers(5), "u"), lists(ours.recommendForAllUsers(5), "u"))
    same_lists(lists(theirs.recommendForAllItems(5), "i"), lists(ours.recommendForAllItems(5), "i"))
    ours.save(str(tmp_path / "ours"))
    again = FactorizationModel.load(str(tmp_path / "ours"))
    assert again.transform(pairs).collect() == ours.transform(pairs).collect()
    assert ours.history.count() == 0


def test_fold_in_needs_the_estimator_and_then_gives_mllibs_own_factors(pair, ratings, tmp_path):
    kind, theirs, path = pair
    plain = FactorizationModel.load(path)
    plain.save(str(tmp_path / "plain"))
    for untold in (plain, FactorizationModel.load(str(tmp_path / "plain"))):
        with pytest.raises(ParameterError, match=r"tell it by FactorizationModel.fromMLlib\(model, estimator\)"):
            untold.foldInUsers(ratings)
    ref = {row.id: row.features for row in theirs.userFactors.collect()}
    for module in (MLlibALS, ALS):
        told = FactorizationModel.fromMLlib(path, estimator(kind, module))
        comp = {row.id: row.features for row in told.foldInUsers(ratings).collect()}
        assert comp.keys() == ref.keys()
        for user, features in ref.items():
            np.testing.assert_allclose(comp[user], features, rtol=2e-3, atol=2e-4)


def test_an_estimator_that_cannot_have_fitted_the_model_is_refused(pair):
    _, theirs, _ = pair
    with pytest.raises(ParameterError, match="^the estimator has rank 7, the model 4"):
        FactorizationModel.fromMLlib(theirs, MLlibALS(rank=7))
    with pytest.raises(ParameterError, match="^MLlib's ALS has no userBias: leave it out"):
        FactorizationModel.fromMLlib(theirs, ALS(rank=4, userBias=True))
    with pytest.raises(ParameterError, match="^estimator must be the ALS that fitted the model, not 0.1$"):
        FactorizationModel.fromMLlib(theirs, 0.1)
    with pytest.raises(ParameterError, match="^expected a pyspark.ml ALSModel or the path of a saved one, got 5$"):
        FactorizationModel.fromMLlib(5)


def test_an_estimator_of_mllib_is_loaded_with_its_parameters(ratings, tmp_path):
    path = str(tmp_path / "als")
    theirs = estimator("implicit")
    theirs.save(path)
    ours = ALS.load(path)
    assert ours.uid == theirs.uid
    given = {parameter.name: theirs.getOrDefault(parameter) for parameter in theirs.params if theirs.isSet(parameter)}
    assert {name: ours.getOrDefault(name) for name in given} == given
    assert ours.fit(ratings).transform(ratings).count() == ratings.count()
    with pytest.raises(StoreError, match="has a saved ALS of MLlib, not a FactorizationModel"):
        FactorizationModel.load(path)
    with pytest.raises(StoreError, match="has a saved ALS of MLlib, not a BPMF"):
        BPMF.load(path)
    with pytest.raises(StoreError, match="has a saved ALS, not an ALSModel of MLlib"):
        FactorizationModel.fromMLlib(path)
    with pytest.raises(StoreError, match="has nothing saved, not an ALSModel of MLlib"):
        FactorizationModel.fromMLlib(str(tmp_path / "nothing"))


def test_the_stage_of_a_saved_pipeline_is_taken_over(ratings, tmp_path):
    path = str(tmp_path / "pipeline")
    Pipeline(stages=[estimator("explicit")]).fit(ratings).save(path)
    stage = PipelineModel.load(path).stages[0]
    assert isinstance(stage, MLlibModel)
    ours = PipelineModel([FactorizationModel.fromMLlib(stage, estimator("explicit"))])
    ref = {(row.u, row.i): row.p for row in stage.transform(ratings).collect()}
    comp = {(row.u, row.i): row.p for row in ours.transform(ratings).collect()}
    np.testing.assert_allclose([comp[key] for key in ref], list(ref.values()), rtol=1e-5, atol=1e-5)


def test_a_model_in_memory_is_published_folds_in_and_is_served_without_spark(ratings, spark, tmp_path):
    theirs = estimator("explicit").fit(ratings)
    ours = FactorizationModel.fromMLlib(theirs, estimator("explicit"))
    registry = Registry(spark, str(tmp_path))
    registry.publish("from-MLlib", ours)
    ref = lists(theirs.recommendForAllUsers(5), "u")
    served = LocalModel.load(str(tmp_path))
    same_lists(ref, {user: served.recommend(user, 5) for user in ref})
    read = load_model(registry)
    one = ratings.where("u = 7")
    same_lists({7: ref[7]}, lists(read.recommendForUserSubset(one, 5), "u"))
    rated = {row.i: row.rating for row in one.collect()}
    factors = {row.id: row.features for row in theirs.userFactors.collect()}[7]
    np.testing.assert_allclose(served.fold_in(rated)[:4], factors, rtol=2e-3, atol=2e-4)
    joined = read.withUsers(one.selectExpr("u + 1000 AS u", "i", "rating"))
    pairs = one.select("u", "i").orderBy("i")
    comp = joined.transform(pairs.selectExpr("u + 1000 AS u", "i").orderBy("i")).collect()
    wanted = theirs.transform(pairs).orderBy("i").collect()
    np.testing.assert_allclose([row.p for row in comp], [row.p for row in wanted], rtol=2e-3, atol=2e-3)
    (nearest,) = read.similarItems([100], 3).collect()
    assert len(nearest.recommendations) == 3
