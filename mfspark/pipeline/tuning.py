"""The tune job: the training ratings in, every combination's score in the table ``trials``, the best one told."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from mfspark.config import ESTIMATORS, SECTIONS, Config
from mfspark.config.searching import RATINGS, numbers_of
from mfspark.errors import ConfigError, ParameterError
from mfspark.evaluation import RankingEvaluator, Search, TopK, cross_validate, grid, random_settings
from mfspark.pipeline.ratings import HOLDOUT, keeping, recorded_ratings, training_record, with_holdout
from mfspark.pipeline.reporting import check_report
from mfspark.pipeline.training import estimator_of
from mfspark.store import Location

SHOWN = 20  # combinations in the job's report; all are in the table


@dataclass(frozen=True)
class TuneReport:
    """What a search found, the best first."""

    run_id: str
    section: str
    search: Search
    tables: tuple[str, ...] = ()
    page: Path | None = None

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        trials = self.search.trials
        text = [f"trials       {len(trials)}, {self.search.metric}"]
        for trial in trials[:SHOWN]:
            stopped = f"   stopped after {trial.iterations}" if trial.iterations else ""
            told = " ".join(f"{name}={json.dumps(value)}" for name, value in trial.settings.items())
            text.append(f"{trial.mean:12.5f} +- {trial.std:.5f}   {told}{stopped}")
        best = " ".join(
            f"--set {self.section}.{name}={json.dumps(value)}" for name, value in self.search.best.settings.items()
        )
        page = [] if self.page is None else [f"page         {self.page}"]
        return [*text, f"best         mfspark-train {best}", *page]


def tune(spark: SparkSession, config: Config, run_id: str) -> TuneReport:
    """Score combinations of the estimator's parameters by cross-validation on the training ratings.

    The hold-out takes no part, so that what evaluate measures later was not chosen by it. Scores go to the table
    ``trials`` as they come; what is in it already, from a search that was killed or an earlier one on the same ratings,
    is not measured again.

    Parameters
    ----------
    spark : SparkSession
        The session.
    config : Config
        Where the store is, the estimator, and the section ``tune``.
    run_id : str
        Names the page of the search (report.path).

    Raises
    ------
    ConfigError
        Nothing is to be varied, or the metric does not suit the estimator.
    StoreError
        There is no ratings table (run ingest first).
    """
    asked, (section, parameters) = config.tune, config.estimator
    check_report(spark, config)
    settings, record = _settings(config), training_record(spark, config)
    address = Location(config.store.location).table("trials")
    with keeping() as keep:
        marked = with_holdout(spark, recorded_ratings(spark, config, record, keep), record["split"])
        names = [name for name in ("user", "item", "rating", "weight") if name in marked.columns]
        training = keep(marked.where(f"NOT {HOLDOUT}").select(*names))
        estimator = estimator_of(config, weighted="weight" in names, marked=False)
        if "coldStartStrategy" not in parameters:
            estimator.setParams(coldStartStrategy="drop")
        evaluator = None
        if asked.metric != RATINGS:
            estimator = TopK(estimator, asked.k, asked.relevant)
            evaluator = RankingEvaluator(asked.metric, k=asked.k)
        try:
            search = cross_validate(
                estimator, training, settings, evaluator, asked.folds, asked.seed, asked.halving, address
            )
        except ParameterError as error:
            raise ConfigError(f"tune: {error}") from error
    page = None
    if config.report.path is not None:
        page = search.plot().save(Path(config.report.path) / f"search-{run_id}.html")
    return TuneReport(run_id, section, search, (address,), page)


def _settings(config: Config) -> list[dict[str, Any]]:
    """Return the combinations that a configuration asks for."""
    asked, (name, parameters) = config.tune, config.estimator
    section = SECTIONS[name]
    if asked.grid:
        settings = grid({key: numbers_of(section, key, values) for key, values in asked.grid.items()})
    elif asked.random:
        draws = {key: _draw(section, key, values) for key, values in asked.random.items()}
        settings = random_settings(draws, asked.trials or 1, asked.seed)
    else:
        raise ConfigError("tune.grid: nothing is to be varied; give the values of each parameter, or tune.random")
    for chosen in settings:
        try:
            ESTIMATORS[name](**{**parameters, **chosen})._check()
        except ParameterError as error:
            raise ConfigError(f"tune: {chosen}: {error}") from error
    return settings


def _draw(section: Any, key: str, values: Any) -> list[Any] | Callable[[random.Random], Any]:
    if not isinstance(values, Mapping):
        return numbers_of(section, key, values)
    low, high = numbers_of(section, key, [values["low"], values["high"]])
    whole, log = isinstance(low, int), bool(values.get("log"))

    def draw(generator: random.Random) -> Any:
        if not log:
            return generator.randint(low, high) if whole else generator.uniform(low, high)
        drawn = math.exp(generator.uniform(math.log(low), math.log(high)))
        return round(drawn) if whole else drawn

    return draw
