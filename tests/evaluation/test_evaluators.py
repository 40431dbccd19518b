"""Evaluators choose by themselves and by CrossValidator: NDCG of lists, errors of ratings."""

import pytest
from contract import checkerboard
from pyspark.ml import Pipeline
from pyspark.ml.feature import SQLTransformer
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder, TrainValidationSplit

from mfspark import ALS, SGD
from mfspark.errors import DataError, ParameterError
from mfspark.evaluation import RankingEvaluator, RatingEvaluator, TopK, ranking_metrics, rating_metrics
from mfspark.evaluation.evaluators import RANKING_METRICS, RATING_METRICS


@pytest.fixture(scope="module")
def liked(spark):
    """Who likes what on a checkerboard, as pairs without ratings."""
    return checkerboard(spark, 40, 20).where("rating > 3").select("user", "item").cache()


def als(**changes):
    return ALS(**{"maxIter": 2, "seed": 1, "implicitPrefs": True, "alpha": 20.0, "ratingCol": ""} | changes)


@pytest.fixture(scope="module")
def lists(spark):
    rows = [(1, [3, 1, 2], [1, 9]), (2, [4, 5, 6], [6]), (3, None, [2]), (4, [1], [])]
    return spark.createDataFrame(rows, "user int, recommendations array<int>, relevant array<int>")


@pytest.mark.parametrize("name", RANKING_METRICS)
def test_a_ranking_evaluator_is_the_metric_of_that_name(lists, name):
    recommended = lists.where("recommendations IS NOT NULL").select("user", "recommendations")
    relevant = lists.selectExpr("user", "explode(relevant) AS item")
    evaluator = RankingEvaluator(name, 2, numItems=12)
    assert evaluator.evaluate(lists) == pytest.approx(ranking_metrics(recommended, relevant, 2, 12)[name])
    assert evaluator.isLargerBetter()
    other = evaluator.evaluate(lists, {evaluator.k: 3})
    assert other == pytest.approx(ranking_metrics(recommended, relevant, 3, 12)[name])


@pytest.mark.parametrize("name", RATING_METRICS)
def test_a_rating_evaluator_is_the_metric_of_that_name(spark, name):
    rows = [(5.0, 4.0), (1.0, 1.5), (3.0, float("nan")), (2.0, None)]
    frame = spark.createDataFrame(rows, "stars double, guess double")
    ref = rating_metrics(frame, "stars", "guess").as_dict()
    ref["mse"] = ref["rmse"] ** 2
    evaluator = RatingEvaluator(name, "stars", "guess")
    assert evaluator.evaluate(frame) == pytest.approx(ref[name])
    assert evaluator.isLargerBetter() == (name == "r2")


@pytest.mark.parametrize("staged", [False, True])
def test_searches_choose_by_ndcg_also_in_a_pipeline(liked, staged):
    estimator = als(rank=2)
    # So large a lambda leaves nothing of the factors: the lists are of the smallest ids.
    grid = ParamGridBuilder().addGrid(estimator.regParam, [1e9, 0.1]).build()
    ranked = TopK(estimator, 5)
    if staged:
        ranked = Pipeline(stages=[SQLTransformer(statement="SELECT user, item FROM __THIS__"), ranked])
    given = {"estimator": ranked, "estimatorParamMaps": grid, "evaluator": RankingEvaluator(k=5), "seed": 3}
    search = (CrossValidator(numFolds=2, **given) if staged else TrainValidationSplit(trainRatio=0.6, **given)).fit(
        liked
    )
    worse, better = search.avgMetrics if staged else search.validationMetrics
    assert better > 1.5 * worse
    best = search.bestModel.stages[-1] if staged else search.bestModel
    assert best.model.fitted.settings.reg_param[0] == pytest.approx(0.1)


def test_lists_leave_out_what_was_trained_on_and_only_that(liked):
    marked = liked.selectExpr("user", "item", "item = 100 + user % 4 AS later")
    rated = marked.selectExpr("user", "item", "CASE WHEN item < 110 THEN 4.0 ELSE 2.0 END AS rating", "later")
    fitted = TopK(SGD(rank=2, maxIter=2, seed=1, validationIndicatorCol="later"), 20, relevant=3.0).fit(rated)
    answered = fitted.transform(rated).collect()
    trained, held_out = {}, {}
    for row in rated.collect():
        (held_out if row["later"] else trained).setdefault(row["user"], set()).add(row["item"])
    assert len(answered) == 40
    for row in answered:
        found = {one["item"] for one in row["recommendations"]}
        assert not found & trained[row["user"]]
        assert found >= held_out.get(row["user"], set()) & {one for own in trained.values() for one in own}
        assert set(row["relevant"]) == {i for i in trained[row["user"]] | held_out.get(row["user"], set()) if i < 110}


def test_evaluators_are_saved_and_loaded(tmp_path):
    for number, evaluator in enumerate((RankingEvaluator("recallAtK", 7), RatingEvaluator("mae", "stars"))):
        evaluator.save(str(tmp_path / str(number)))
        again = type(evaluator).load(str(tmp_path / str(number)))
        values = [{p.name: value for p, value in one.extractParamMap().items()} for one in (again, evaluator)]
        assert values[0] == values[1]


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda lists: RankingEvaluator("ndcg").evaluate(lists), ParameterError, "metricName must be one of ndcgAtK"),
        (lambda lists: RankingEvaluator(k=0).evaluate(lists), ParameterError, "k=0"),
        (lambda lists: RankingEvaluator("areaUnderROC").evaluate(lists), ParameterError, "needs numItems"),
        (lambda lists: RankingEvaluator().evaluate(lists.drop("recommendations")), DataError, "goes into TopK"),
        (lambda lists: RankingEvaluator().evaluate(lists.drop("relevant")), DataError, "no column 'relevant'"),
        (lambda lists: RankingEvaluator().evaluate(lists.where("user = 4")), DataError, "no user has a relevant"),
        (lambda lists: RatingEvaluator("rsme").evaluate(lists), ParameterError, "must be one of rmse, mse"),
    ],
)  # fmt: skip
def test_what_cannot_be_evaluated_is_an_error(lists, ask, error, message):
    with pytest.raises(error, match=message):
        ask(lists)


def test_relevant_needs_ratings(liked):
    fitted = TopK(als(), 3, relevant=4.0).fit(liked)
    with pytest.raises(ParameterError, match="needs a ratingCol"):
        fitted.transform(liked)
