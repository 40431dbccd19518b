"""The train job: the ratings table in, a published model version out."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from mfspark.config import ESTIMATORS, Config
from mfspark.errors import ConfigError, ParameterError, StoreError
from mfspark.model.load import load_model
from mfspark.model.popular import counted
from mfspark.pipeline.ratings import (
    FOLD_IN,
    HOLDOUT,
    Keep,
    check_share,
    keeping,
    read_checked,
    recorded_ratings,
    training_record,
    with_holdout,
)
from mfspark.pipeline.reporting import STAGES, check_report, write_report
from mfspark.pipeline.tracked import Tracked
from mfspark.store import Location, ModelVersion, Registry, checkpoints, tables
from mfspark.training.progress import LOGGER


@dataclass(frozen=True)
class TrainReport:
    """A published model and how its loss went down."""

    run_id: str
    version: int
    history: list[dict[str, Any]] = field(default_factory=list)
    tables: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        text = [
            f"model        version {self.version} (run {self.run_id})",
            "iteration              loss   hold-out RMSE   s",
        ]
        for row in self.history:
            rmse = row.get("validationRMSE")
            shown = "-" if rmse is None else f"{rmse:.4f}"
            text.append(f"{row['iteration']:9d}  {row['loss']:16,.1f}   {shown:>13}   {row['seconds']:.2f}")
        spent = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in self.seconds.items())
        return [*text, f"seconds      {spent}"]


def train(spark: SparkSession, config: Config, run_id: str) -> TrainReport:
    """Fit the estimator on the ratings without the hold-out and publish the model as one version.

    The model's parameters keep a record of the ratings table's version and of the split, so that evaluate sees the
    same rows. A run id published before is replaced under the same version number. Every checkpointInterval iterations
    the loop's state goes to the store, where the same run id finds it and goes on; once published it is removed.

    Parameters
    ----------
    spark : SparkSession
        The session.
    config : Config
        Where the store is, and the settings of this job.
    run_id : str
        Under which the rows are written; a run id may be repeated.

    Raises
    ------
    DataError
        With ``train.path``: more rows rejected than ``quality.max_rejected`` allows.
    StoreError
        No ratings table (run ingest first), or the store's ids have another type.
    ParameterError, ConfigError
        Settings in the estimator's section that it refuses.
    TrainingError
        Training diverged.
    """
    estimator_of(config)._check()
    check_report(spark, config)
    with Tracked(config, run_id, anew=True) as tracked:
        return _train(spark, config, run_id, tracked)


def _train(spark: SparkSession, config: Config, run_id: str, tracked: Tracked) -> TrainReport:
    registry = Registry(spark, config.store.location)
    initial = start_of(registry, config, run_id)
    record, marks = training_record(spark, config), [time.perf_counter()]
    with keeping() as keep:
        direct = "path" in record
        read = _quarantined(spark, config, run_id, keep) if direct else recorded_ratings(spark, config, record, keep)
        marked = with_holdout(spark, read, record["split"])
        if FOLD_IN in marked.columns:  # users who are held out whole have no prediction while the model trains
            marked = marked.where(f"NOT {HOLDOUT}").drop(FOLD_IN)
        marks.append(time.perf_counter())
        estimator = estimator_of(config, weighted="weight" in marked.columns)
        estimator._checkpoints_at = checkpoints_of(config, run_id)
        if initial is not None:
            estimator.setInitialModel(load_model(registry, initial))
            record["started_from"] = initial.version
        model = tracked.estimator(estimator).fit(marked)
        marks.append(time.perf_counter())
        trained = marked.where(f"NOT {HOLDOUT}")
        model._popular = counted(trained, config.train.popular, config.train.recent_days, model._kinds[1])
    history = [row.asDict() for row in model.history.orderBy("iteration").collect()]
    sweeps = sum(row["seconds"] for row in history)
    check, fit = marks[1] - marks[0], marks[2] - marks[1]
    seconds = {"check": check, "blocks": fit - sweeps, "iterations": sweeps}
    metrics = (history[-1] if history else {}) | {STAGES: seconds}
    published = registry.publish(run_id, model, metrics, record)
    checkpoints.remove(spark, checkpoints_of(config, run_id))
    seconds = seconds | {"publish": time.perf_counter() - marks[2]}
    tracked.published(model, published, write_report(spark, config, published, model, seconds))
    return TrainReport(run_id, published.version, history, registry.addresses, seconds)


def start_of(registry: Registry, config: Config, run_id: str) -> ModelVersion | None:
    """Return the published model that a fit is to start from, None for drawn factors; never that of the run itself.

    Raises
    ------
    StoreError
        There is no such version.
    """
    asked = config.train
    if asked.start_version not in (None, "latest"):
        return _asked_start(registry, asked.start_version, run_id)
    if asked.start_from is None and asked.start_version is None:
        return None
    newest = registry.newest_other(run_id)
    if newest is None:
        LOGGER.info("no other model has been published: the fit starts from drawn factors")
    return newest


def _asked_start(registry: Registry, asked: int | str, run_id: str) -> ModelVersion:
    """Return a version by number or alias: of an alias that the run itself has taken, the version before."""
    found = registry.get(asked)
    if found.run_id != run_id or not isinstance(asked, str):
        return found
    there = {model.version: model for model in registry.list() if model.run_id != run_id}
    before = [number for number in registry.alias(asked).trail if number in there]
    if not before:
        raise StoreError(
            f"alias {asked!r} is at version {found.version}, of this run itself, and was at no other before"
        )
    return there[before[-1]]


def checkpoints_of(config: Config, run_id: str) -> str:
    """Return the address of a run's checkpoints in the store."""
    return Location(config.store.location).table(f"checkpoint_{hashlib.sha256(run_id.encode()).hexdigest()[:16]}")


def estimator_of(config: Config, weighted: bool = False, marked: bool = True) -> Any:
    """Return the configured estimator on the columns of the ratings table, by default with the split's marks."""
    section, parameters = config.estimator
    settings = dict(parameters) | {"userCol": "user", "itemCol": "item", "ratingCol": "rating"}
    if marked and config.split.method != "none":
        settings["validationIndicatorCol"] = HOLDOUT
    if weighted:
        settings["weightCol"] = "weight"
    try:
        return ESTIMATORS[section](**settings)
    except (TypeError, ParameterError) as error:
        raise ConfigError(f"{section}: {error}") from error


def _quarantined(spark: SparkSession, config: Config, run_id: str, keep: Keep) -> DataFrame:
    rows_in, checked = read_checked(spark, config, keep, config.train.path)
    if checked.rejected_count:
        rejected = checked.rejected.withColumn("run_id", F.lit(run_id))
        tables.replace_slice(rejected, Location(config.store.location).table("quarantine"), "run_id", run_id)
    check_share(config.quality, rows_in, checked)
    return checked.accepted
