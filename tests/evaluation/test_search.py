"""Searches over estimators that share their blocks: the same models, the same scores, and no second measurement."""

import threading

import numpy as np
import pytest
from contract import checkerboard
from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
from pyspark.sql import functions as F

from mfspark import ALS, BPMF, SGD, ParameterError
from mfspark.estimators.base import BlockEstimator
from mfspark.evaluation import RankingEvaluator, TopK, Trials, cross_validate, grid
from mfspark.evaluation.tuning import with_folds
from mfspark.store import tables


@pytest.fixture(scope="module")
def ratings(spark):
    noisy = checkerboard(spark, 30, 14).withColumn("rating", F.col("rating") - (F.col("user") * F.col("item")) % 3 / 4)
    return noisy.withColumn("rating", F.col("rating").cast("float")).persist()


@pytest.fixture
def passes(monkeypatch):
    """How often ratings were read and cut into blocks."""
    counted = []
    made = BlockEstimator._encoded

    def spy(self, dataset, workspace):
        counted.append(type(self).__name__)
        return made(self, dataset, workspace)

    monkeypatch.setattr(BlockEstimator, "_encoded", spy)
    return counted


@pytest.mark.parametrize(
    ("estimator", "maps"),
    [
        (ALS(rank=3, maxIter=2, seed=1), [{}, {"rank": 5, "regParam": 1.0}, {"maxIter": 0}]),
        (ALS(rank=2, maxIter=2, numUserBlocks=3, loop="jobs"), [{"userBias": True, "center": True}]),
        (SGD(rank=3, maxIter=2), [{"rank": 4}, {"loss": "poisson_identity", "nonnegative": True}]),
        (BPMF(rank=2, maxIter=2, burnIn=0, numSamples=1), [{"rank": 3}]),
    ],
    ids=["als", "jobs", "sgd", "bpmf"],
)
def test_fits_on_prepared_blocks_give_the_models_of_fits_of_their_own(ratings, passes, estimator, maps):
    with estimator.prepare(ratings) as prepared:
        comp = [prepared.fit(one) for one in maps]
        assert passes == [type(estimator).__name__]
    for model, one in zip(comp, maps, strict=True):
        ref = estimator.fit(ratings, {estimator.getParam(name): value for name, value in one.items()})
        for left, right in zip(model.fitted.sides, ref.fitted.sides, strict=True):
            np.testing.assert_array_equal(left, right)
        assert model.summary.objectiveHistory == ref.summary.objectiveHistory if model.hasSummary else True


def test_what_the_blocks_do_not_hold_is_a_fit_of_its_own(ratings, passes):
    weighted = ratings.withColumn("weight", F.col("user") % 3 + 1.0)
    estimator = ALS(rank=2, maxIter=2, seed=1)
    with estimator.prepare(weighted) as prepared:
        for one in ({"weightCol": "weight", "userBias": True}, {"filterSeen": True}):
            before = len(passes)
            comp = prepared.fit(one)
            assert len(passes) == before + 1
            ref = estimator.fit(weighted, {estimator.getParam(name): value for name, value in one.items()})
            np.testing.assert_array_equal(comp.fitted.sides[0], ref.fitted.sides[0])
        with pytest.raises(ParameterError, match="^rank must be at least 1, not 0$"):
            prepared.fit({"rank": 0})
        estimator.setInitialModel(comp)
        with pytest.raises(ParameterError, match="^rank is 3, but the initial model has 2$"):
            prepared.fit({"rank": 3})
        estimator.setInitialModel(None)
    assert prepared.fit({"rank": 3}).rank == 3  # closed: blocks of its own


def test_fits_of_a_list_share_blocks_also_in_threads_and_let_them_go(spark, ratings, passes):
    estimator = ALS(maxIter=1, seed=1)
    maps = [{estimator.rank: rank} for rank in (1, 2, 3, 4)]
    kept = spark.sparkContext._jsc.getPersistentRDDs().size()
    assert [model.rank for model in estimator.fit(ratings, maps)] == [1, 2, 3, 4]
    assert len(passes) == 1
    either = ALS(rank=2, maxIter=1, nonnegative=True, userBias=True)  # right is to be what is fitted
    fitted = either.fit(ratings, [{either.userBias: False}, {either.nonnegative: False}])
    assert [model.rank for model in fitted] == [2, 2]
    with pytest.raises(ParameterError, match="^nonnegative cannot be combined with userBias"):
        either.fit(ratings, [{either.rank: 3}])
    passes.clear()
    fits, found = estimator.fitMultiple(ratings, maps), {}
    threads = [threading.Thread(target=lambda: found.update([next(fits)])) for _ in maps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {place: model.rank for place, model in found.items()} == {0: 1, 1: 2, 2: 3, 3: 4}
    assert next(fits, None) is None and len(passes) == 1
    begun = estimator.fitMultiple(ratings, maps)
    assert next(begun)[0] == 0
    del begun
    assert spark.sparkContext._jsc.getPersistentRDDs().size() == kept


def test_cross_validator_of_pyspark_makes_blocks_once_a_fold(ratings, passes):
    als = ALS(rank=2, maxIter=1, coldStartStrategy="drop", seed=1)
    maps = ParamGridBuilder().addGrid(als.regParam, [0.01, 10.0]).build()
    evaluator = RegressionEvaluator(labelCol="rating")
    found = CrossValidator(estimator=als, estimatorParamMaps=maps, evaluator=evaluator, numFolds=2, seed=1).fit(ratings)
    assert len(passes) == 2 + 1  # the last one is the best model's
    assert found.avgMetrics[0] < found.avgMetrics[1] and found.bestModel.rank == 2


def test_scores_are_those_of_models_fitted_without_the_fold(ratings, passes):
    als = ALS(maxIter=2, coldStartStrategy="drop", clip=True, seed=1)
    settings = [{"rank": 1, "regParam": 5.0}, {"rank": 3, "regParam": 0.05}]
    measured = cross_validate(als, ratings, settings, folds=2, seed=4)
    assert len(passes) == 2 and measured.metric == "validation RMSE"
    evaluator = RegressionEvaluator(labelCol="rating")
    predicted = cross_validate(als, ratings, settings, evaluator, folds=2, seed=4)
    assert [trial.settings["rank"] for search in (measured, predicted) for trial in search.trials] == [3, 1, 3, 1]
    rows = with_folds(ratings, 2, 4, "fold")
    for one, other in zip(measured.trials, predicted.trials, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-5)
    params = {als.getParam(name): value for name, value in settings[1].items()}
    model = als.fit(rows.where("fold != 1").drop("fold"), params)
    ref = evaluator.evaluate(model.transform(rows.where("fold = 1").drop("fold")))
    np.testing.assert_allclose(measured.best.scores[1], ref, rtol=1e-5)
    page = measured.plot().html
    assert "regParam" in page and "rank" in page and "http" not in page.split("<script")[0]


def test_lists_are_searched_on_shared_blocks_too(ratings, passes):
    lists = TopK(ALS(rank=2, maxIter=2, implicitPrefs=True, seed=1), k=3, relevant=4.0)
    search = cross_validate(lists, ratings, grid({"alpha": [0.1, 40.0]}), RankingEvaluator("ndcgAtK", k=3), folds=2)
    assert len(passes) == 2 and all(0 < trial.mean <= 1 for trial in search.trials)
    assert search.trials[0].mean >= search.trials[1].mean and search.metric == "ndcgAtK"


def test_bad_trials_are_stopped_early(ratings):
    settings = grid({"regParam": [0.05, 0.5, 5.0, 50.0]})
    search = cross_validate(ALS(rank=2, maxIter=4, seed=1), ratings, settings, folds=2, halving=2)
    assert [trial.iterations for trial in search.trials] == [None, 2, 1, 1]
    assert search.best.settings["regParam"] < 5 and search.trials[-1].settings["regParam"] == 50.0


def test_a_killed_search_goes_on_where_it_was(spark, ratings, tmp_path, monkeypatch):
    address, als, settings = str(tmp_path / "trials"), ALS(maxIter=2, seed=1), grid({"rank": [1, 2, 3]})
    measured, most = [], 3

    def fit(self, fold, chosen, told):  # noqa: ARG001
        if len(measured) == most:
            raise KeyboardInterrupt
        measured.append((told["rank"], fold))
        return 1.0 + told["rank"] / 10 + fold

    monkeypatch.setattr(Trials, "_measured", fit)
    with pytest.raises(KeyboardInterrupt):
        cross_validate(als, ratings, settings, folds=2, table=address)
    assert tables.read(spark, address).count() == 3
    most = 99
    found = cross_validate(als, ratings, settings, folds=2, table=address)
    assert measured == [(1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)]
    assert [trial.scores for trial in found.trials] == [(1.1, 2.1), (1.2, 2.2), (1.3, 2.3)]
    cross_validate(als, ratings.repartition(3), settings, folds=2, table=address)  # the same rows: nothing to measure
    assert len(measured) == 6 and tables.read(spark, address).count() == 6
    for estimator, rows, options in (
        (ALS(maxIter=1, seed=1), ratings, {}),  # another estimator, other ratings, other folds are measured
        (als, ratings.where("user > 0"), {}),
        (als, ratings, {"seed": 1}),
    ):
        before = len(measured)
        cross_validate(estimator, rows, settings[:1], folds=2, table=address, **options)
        assert len(measured) == before + 2


def test_a_study_of_optuna_searches_on_the_same_trials(ratings, passes):
    optuna = pytest.importorskip("optuna", reason="mfspark[tune] is not installed")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1))
    with Trials(ALS(rank=2, maxIter=1, seed=1), ratings, folds=2) as trials:
        study.optimize(
            lambda trial: trials.score({"regParam": trial.suggest_float("regParam", 1e-2, 1e2, log=True)}).mean,
            n_trials=4,
        )
        ref = trials.score(study.best_params).mean
    assert len(passes) == 2 and len(study.trials) == 4
    assert study.best_value == pytest.approx(ref, rel=1e-9) and study.best_value == min(t.value for t in study.trials)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rows: cross_validate(ALS(implicitPrefs=True), rows, [{}]), "measures no RMSE.*give an evaluator"),
        (lambda rows: cross_validate(TopK(ALS()), rows, [{}]), "^TopK as it is set measures no RMSE"),
        (lambda rows: cross_validate(ALS(), rows, [{"rnk": 1}]), "^ALS has no parameter 'rnk'"),
        (lambda rows: cross_validate(ALS(), rows, [{"maxIter": 1}], halving=2), "^halving stops trials.*leave maxIter"),
        (lambda rows: cross_validate(ALS(), rows, [{}], halving=0), "^halving must be at least 1, not 0"),
        (lambda rows: cross_validate(ALS(), rows, [{}], folds=1), "^folds=1"),
    ],
)
def test_what_cannot_be_searched_is_refused(ratings, call, message):
    with pytest.raises(ParameterError, match=message):
        call(ratings)
