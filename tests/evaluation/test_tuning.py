"""Searches and restarts, with an estimator that predicts one number."""

from types import SimpleNamespace

import pytest
from pyspark.ml import Estimator, Model
from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.ml.param import Param
from pyspark.sql import functions as F

from mfspark.errors import ParameterError
from mfspark.evaluation import cross_validate, fit_restarts, grid, random_settings
from mfspark.evaluation.tuning import with_folds


class Constant(Estimator):
    """Predicts ``level`` for everything; its loss is (seed - 3)^2, so that start 3 is the best."""

    def __init__(self):
        super().__init__()
        self.level = Param(self, "level", "the prediction")
        self.seed = Param(self, "seed", "the start")
        self._setDefault(level=0.0, seed=0)

    def _fit(self, dataset):  # noqa: ARG002
        return ConstantModel(self.getOrDefault(self.level), self.getOrDefault(self.seed))


class ConstantModel(Model):
    def __init__(self, level, seed):
        super().__init__()
        self.prediction, self.seed_used = level, seed

    def _transform(self, dataset):
        return dataset.withColumn("prediction", F.lit(float(self.prediction)))


@pytest.fixture(scope="module")
def rows(spark):
    return spark.createDataFrame([(user, float(1 + user % 3)) for user in range(60)], "user int, rating double")


def test_a_grid_search_ranks_its_trials(rows):
    evaluator = RegressionEvaluator(labelCol="rating", metricName="rmse")
    search = cross_validate(Constant(), rows, grid({"level": [9.0, 2.0, 4.0]}), evaluator, folds=2, seed=1)
    assert [trial.settings["level"] for trial in search.trials] == [2.0, 4.0, 9.0]
    assert len(search.best.scores) == 2
    assert search.best.mean == pytest.approx((2 / 3) ** 0.5, abs=0.1)
    assert search.best.std >= 0


def test_the_larger_score_wins_where_larger_is_better(rows):
    evaluator = RegressionEvaluator(labelCol="rating", metricName="r2")
    search = cross_validate(Constant(), rows, grid({"level": [9.0, 2.0]}), evaluator, folds=2)
    assert search.best.settings == {"level": 2.0}


def test_folds_part_the_rows_and_do_not_depend_on_the_partitioning(rows):
    ref = {row["user"]: row["fold"] for row in with_folds(rows, 4, seed=2).collect()}
    comp = {row["user"]: row["fold"] for row in with_folds(rows.repartition(7), 4, seed=2).collect()}
    other = {row["user"]: row["fold"] for row in with_folds(rows, 4, seed=3).collect()}
    assert comp == ref
    assert set(ref.values()) == {0, 1, 2, 3}
    assert other != ref


def test_random_settings_repeat_with_their_seed():
    draws = {"rank": [4, 8, 16], "regParam": lambda generator: generator.uniform(0.01, 1.0)}
    comp = random_settings(draws, 20, seed=5)
    assert comp == random_settings(draws, 20, seed=5)
    assert comp != random_settings(draws, 20, seed=6)
    assert {chosen["rank"] for chosen in comp} == {4, 8, 16}


def test_restarts_keep_the_best_model(rows):
    model, scores = fit_restarts(Constant(), rows, [1, 3, 5], score=lambda fitted: (fitted.seed_used - 3) ** 2)
    assert model.seed_used == 3
    assert scores == {1: 4, 3: 0, 5: 4}


def test_the_default_score_is_the_last_loss(spark, rows):
    losses = {1: [9.0, 1.0], 2: [5.0, 2.0]}

    class WithHistory(Constant):
        def _fit(self, dataset):  # noqa: ARG002
            seed = self.getOrDefault(self.seed)
            history = spark.createDataFrame(list(enumerate(losses[seed], 1)), "iteration int, loss double")
            return SimpleNamespace(seed_used=seed, history=history)

    model, scores = fit_restarts(WithHistory(), rows, [2, 1])
    assert (model.seed_used, scores) == (1, {2: 2.0, 1: 1.0})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rows: cross_validate(Constant(), rows, [], RegressionEvaluator()), "settings is empty"),
        (lambda rows: cross_validate(Constant(), rows, [{"rnk": 1}], RegressionEvaluator()), "no parameter 'rnk'"),
        (lambda rows: cross_validate(Constant(), rows, [{"level": 1.0}], RegressionEvaluator(), folds=1), "folds=1"),
        (
            lambda rows: cross_validate(
                Constant(), rows, [{"level": float("nan")}], RegressionEvaluator(labelCol="rating"), folds=2
            ),
            "is NaN: set coldStartStrategy",
        ),
        (lambda rows: fit_restarts(Constant(), rows, []), "seeds is empty"),  # noqa: ARG005
        (lambda rows: grid({"rank": []}), "rank has no values"),  # noqa: ARG005
        (lambda rows: random_settings({"rank": [1]}, 0, 1), "n=0"),  # noqa: ARG005
    ],
)
def test_a_search_that_cannot_run_says_why(rows, call, message):
    with pytest.raises(ParameterError, match=message):
        call(rows)
