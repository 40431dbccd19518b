"""The tune job: what is varied, what it writes, and what is refused before Spark starts."""

import random

import pytest

from jobs import tune as command
from mfspark.config import parse
from mfspark.errors import ConfigError
from mfspark.evaluation import cross_validate
from mfspark.pipeline import ingest, tune
from mfspark.pipeline.ratings import HOLDOUT, with_holdout
from mfspark.pipeline.tuning import _settings
from mfspark.store import tables

SIZES = {"n_users": 80, "n_items": 40, "n_ratings": 1_500, "noise": 0.3}
ALS = {"rank": 2, "maxIter": 4, "seed": 1}


def configuration(location="/nowhere", **sections):
    source = {"format": "synthetic", "seed": 5, "options": SIZES}
    return parse({"store": {"location": str(location)}, "als": ALS, "source": source} | sections)


def test_a_search_is_on_the_training_ratings_alone_and_goes_on_where_it_was(spark, tmp_path, monkeypatch):
    used = []

    def spy(estimator, df, *rest):
        used.append(df.count())
        return cross_validate(estimator, df, *rest)

    monkeypatch.setattr("mfspark.pipeline.tuning.cross_validate", spy)
    asked = {"grid": {"regParam": ["5e-2", 20], "userBias": [False]}, "folds": 2, "halving": 2}
    config = configuration(tmp_path / "store", tune=asked, report={"path": str(tmp_path)})
    ingest(spark, config, "run-1")
    report = tune(spark, config, "run-1")
    best, worst = report.search.trials
    assert (best.settings["regParam"], worst.settings["regParam"]) == (0.05, 20.0)
    assert (best.iterations, worst.iterations) == (None, 2)
    address = f"{config.store.location}/trials"
    rows = tables.read(spark, address).collect()
    assert len(rows) == len({row.trial for row in rows}) == 2 * (2 + 1)
    told = next(line for line in report.lines() if line.startswith("best"))
    assert told.endswith("mfspark-train --set als.regParam=0.05 --set als.userBias=false")
    assert "regParam" in (tmp_path / "search-run-1.html").read_text() and report.tables == (address,)
    ratings = tables.read(spark, f"{config.store.location}/ratings").drop("run_id")
    assert used == [with_holdout(spark, ratings, config.split.model_dump()).where(f"NOT {HOLDOUT}").count()]
    assert 1_300 < used[0] < 1_400 < ratings.count()
    again = tune(spark, config, "run-2")
    assert [(one.settings, one.scores) for one in again.search.trials] == [
        (best.settings, best.scores),
        (worst.settings, worst.scores),
    ]
    assert tables.read(spark, address).count() == len(rows)  # nothing is measured twice


def test_lists_are_searched_by_their_metric(spark, tmp_path):
    asked = {"random": {"alpha": {"low": 0.5, "high": 50, "log": True}}, "trials": 2, "folds": 2, "metric": "ndcgAtK"}
    als = {"rank": 2, "maxIter": 1, "implicitPrefs": True}
    config = configuration(tmp_path / "store", als=als, tune=asked | {"k": 5, "relevant": 4})
    ingest(spark, config, "run-1")
    report = tune(spark, config, "run-1")
    assert report.search.metric == "ndcgAtK" and all(0 < trial.mean < 1 for trial in report.search.trials)
    assert report.search.trials[0].mean >= report.search.trials[1].mean
    with pytest.raises(ConfigError, match="^tune: ALS as it is set measures no RMSE"):
        tune(spark, configuration(tmp_path / "store", als=als, tune=asked | {"metric": "rmse"}), "run-1")


def test_draws_keep_to_their_ranges_and_types():
    rank, ridge = {"low": 4, "high": 64, "log": True}, {"low": "1e-3", "high": 1}
    asked = {"random": {"rank": rank, "regParam": ridge, "center": [True]}, "trials": 200, "seed": 3}
    drawn = _settings(configuration(tune=asked))
    assert drawn == _settings(configuration(tune=asked)) and len(drawn) == 200
    assert {type(one["rank"]) for one in drawn} == {int} and {one["center"] for one in drawn} == {True}
    ranks, lambdas = sorted(one["rank"] for one in drawn), [one["regParam"] for one in drawn]
    assert 4 <= ranks[0] and ranks[-1] <= 64 and ranks[100] < 25  # magnitudes: half of them below 16
    assert 0.001 <= min(lambdas) < 0.1 and 0.9 < max(lambdas) <= 1 and random.Random(3)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"grid": {"rnk": [1]}}, r"tune\.grid\.rnk: als has no such key; it has rank, "),
        ({"grid": {"rank": 8}}, r"tune\.grid\.rank: give a list of values"),
        ({"grid": {"rank": []}}, r"tune\.grid\.rank: give a list of values"),
        ({"grid": {"rank": [8]}, "random": {"rank": [8]}, "trials": 1}, r"tune\.random: contradicts tune\.grid"),
        ({"random": {"rank": [8]}}, r"tune\.trials: give how many combinations are drawn"),
        ({"random": {"regParam": {"low": 1, "high": 0.1}}, "trials": 2}, r"tune\.random\.regParam: give low < high"),
        ({"random": {"regParam": {"low": 0, "high": 1, "log": True}}, "trials": 2}, r"give low < high.*log: low > 0"),
        ({"random": {"regParam": {"lo": 0, "high": 1}}, "trials": 2}, r"tune\.random\.regParam: "),
        ({"metric": "ndcg"}, r"tune\.metric: 'ndcg' is not allowed; give one of rmse, ndcgAtK"),
        ({"k": 5}, r"tune\.k, tune\.relevant: only allowed with a tune\.metric of lists"),
        ({"folds": 1}, r"tune\.folds: 1 is not allowed; give a whole number >= 2"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_spark_starts(asked, message):
    with pytest.raises(ConfigError, match=message):
        configuration(tune=asked)


def test_a_combination_that_the_estimator_refuses_is_named():
    with pytest.raises(ConfigError, match=r"^tune: \{'rank': 0, 'center': True\}: rank must be at least 1, not 0$"):
        _settings(configuration(tune={"grid": {"rank": [8, 0], "center": [True]}}))


def test_nothing_to_vary_is_an_error():
    with pytest.raises(ConfigError, match=r"^tune\.grid: nothing is to be varied"):
        _settings(configuration())


def test_a_parameter_may_be_varied_from_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mfspark.pipeline.command.spark_session", None)  # calling it would fail
    (tmp_path / "job.yaml").write_text("store: {location: out}\n")
    assert command.main(["--config", str(tmp_path / "job.yaml"), "--set", "tune.grid.rank=[8, x]"]) == 2
    shown = capsys.readouterr().err
    assert shown == "mfspark-tune: tune.grid.rank: 'x' is not allowed; give a whole number\n"
