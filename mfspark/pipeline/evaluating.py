"""The evaluate job: a published model against its hold-out, beside the baselines and the noise floor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from typing import Any, NamedTuple

from numpy import isfinite
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from mfspark.config import Config
from mfspark.errors import DataError
from mfspark.evaluation import (
    RatingMetrics,
    all_rating_metrics,
    bias_baseline,
    bias_ranking,
    mean_baseline,
    popularity_ranking,
    ranking_metrics,
    ranking_segments,
    rating_segments,
)
from mfspark.pipeline.gating import ERRORS, Decision, pass_gate, points_at
from mfspark.pipeline.predicting import served_model
from mfspark.pipeline.ratings import FOLD_IN, HOLDOUT, Keep, keeping, rating_range, recorded_ratings, with_holdout
from mfspark.pipeline.reporting import check_report, write_report
from mfspark.pipeline.tracked import Tracked
from mfspark.store import Location, ModelVersion, Registry, tables
from mfspark.tracking import require_mlflow

BASELINES = {"popular": "popularity baseline", "bias_only": "bias-only baseline", "mean_only": "mean-only baseline"}
SHOWN = ("ndcgAtK", "hitRateAtK", "recallAtK", "coverageAtK", "noveltyAtK", "popularityAtK")


@dataclass(frozen=True)
class EvaluateReport:
    """How a model does on the hold-out, and the baselines beside it; the model itself has the empty name.

    ``ratings`` is empty for implicit feedback and for users who are folded in, ``rankings`` without ``evaluate.k``;
    ``noise_floor`` is the least RMSE there can be (synthetic sources only).
    """

    run_id: str
    version: int
    ratings: Mapping[str, RatingMetrics]
    noise_floor: float | None
    rankings: Mapping[str, dict[str, float]] = field(default_factory=dict)
    tables: tuple[str, ...] = ()
    gate: Decision | None = None

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        text = []
        if self.ratings:
            own = self.ratings[""]
            text.append(f"hold-out     {own.predicted:,} ratings predicted, {own.unpredicted:,} not (cold start)")
            text.append("                         RMSE      MAE")
        text += [f"{_called(name)} {found.rmse:8.4f} {found.mae:8.4f}" for name, found in self.ratings.items()]
        if self.noise_floor is not None:
            text.append(f"{'noise floor':<20} {self.noise_floor:8.4f}")
        if self.rankings:
            text.append(f"ranking      {self.rankings['']['users']:,.0f} users with something to find")
            text.append(f"{'':20} " + " ".join(f"{name:>13}" for name in SHOWN))
        for name, found in self.rankings.items():
            text.append(f"{_called(name)} " + " ".join(f"{found.get(metric, 0.0):13.4f}" for metric in SHOWN))
        rest = {name: value for name, value in self.rankings.get("", {}).items() if name not in (*SHOWN, "users")}
        text += [f"{name:<24} {value:.4f}" for name, value in rest.items()]
        return text if self.gate is None else [*text, self.gate.line()]

    def metrics(self) -> dict[str, float]:
        """Return every metric by name, as in the table ``metrics``; a baseline's name stands before its metrics."""
        named = self.ratings[""].as_dict() if self.ratings else {}
        for name, found in self.ratings.items():
            named |= {f"{name}_rmse": found.rmse, f"{name}_mae": found.mae} if name else {}
        for name, ranking in self.rankings.items():
            named |= {f"{name}_{metric}" if name else metric: value for metric, value in ranking.items()}
        return named if self.noise_floor is None else named | {"noise_floor": self.noise_floor}


def _called(name: str) -> str:
    return f"{BASELINES.get(name, 'model'):<20}"


class HeldOut(NamedTuple):
    """A model and the rows it is measured by.

    Parameters
    ----------
    model : FactorizationModel
        The model, reading the jobs' columns.
    train : DataFrame
        What it was trained on.
    rows : DataFrame
        user, item, rating: what it is to predict or to find.
    folded : DataFrame, optional
        What it gets to see of users who were held out whole.
    """

    model: Any
    train: DataFrame
    rows: DataFrame
    folded: DataFrame | None


def evaluate(spark: SparkSession, config: Config, run_id: str) -> EvaluateReport:
    """Measure a model on the rows its training held out, and write the metrics under this run id.

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
    StoreError
        No such model, or the ratings table's version it was trained on is gone.
    DataError
        The model was trained without a hold-out, or only its ranking can be measured and ``evaluate.k`` is not set.
    """
    check_report(spark, config)
    if config.tracking.mlflow:
        require_mlflow()
    with keeping() as keep:
        return _evaluate(spark, config, run_id, keep)


def _evaluate(spark: SparkSession, config: Config, run_id: str, keep: Keep) -> EvaluateReport:
    registry = Registry(spark, config.store.location)
    version = registry.get(config.model.version, config.model.run_id)
    record = version.parameters["training"]
    if record["split"]["method"] == "none":
        raise DataError(
            f"model version {version.version} was trained without a hold-out: train with split.method random"
        )
    marked = with_holdout(spark, recorded_ratings(spark, config, record, keep), record["split"])
    columns = ["user", "item", "rating"]
    given = [name for name in (*columns, "weight") if name in marked.columns]
    folded = marked.where(FOLD_IN).select(*given) if FOLD_IN in marked.columns else None
    rows = marked.where(HOLDOUT if folded is None else f"{HOLDOUT} AND NOT {FOLD_IN}").select(*columns)
    held = HeldOut(served_model(spark, config, version), marked.where(f"NOT {HOLDOUT}"), rows, folded)
    no_ratings = folded is not None or held.model.fitted.settings.implicit
    if no_ratings and config.evaluate.k is None:
        what = "users held out whole" if folded is not None else "a model of implicit feedback"
        raise DataError(f"evaluate.k is missing: {what} can only be evaluated by ranking; set it to 10, say")
    if no_ratings and config.gate.metric in ERRORS:
        raise DataError(f"gate.metric: {config.gate.metric} cannot be measured here; take one of a ranking")
    found, segments = ({}, []) if no_ratings else _rating_metrics(held, config, keep)
    rankings, parts = _rankings(held, config, keep)
    store = Location(config.store.location)
    report = EvaluateReport(
        run_id=run_id,
        version=version.version,
        ratings=found,
        noise_floor=None if no_ratings else _noise_floor(spark, config, record),
        rankings=rankings,
        tables=tuple(map(store.table, ["metrics", "segments"] if config.evaluate.segments else ["metrics"])),
    )
    _write(spark, report, store.table("metrics"))
    if config.evaluate.segments:
        marks = F.lit(run_id).alias("run_id"), F.lit(version.version).cast("bigint").alias("model_version")
        rows = reduce(DataFrame.unionAll, segments + parts).select(*marks, "*")
        tables.replace_slice(rows, store.table("segments"), "run_id", run_id)
    gate = pass_gate(spark, config, run_id, version, partial(_against, spark, config, keep, held, rankings))
    page = write_report(spark, config, version, held.model)
    with Tracked(config, version.run_id, anew=False) as tracked:
        tracked.evaluated(report.metrics(), page)
        if gate is not None and (at := points_at(registry, gate, version)) is not None:
            tracked.aliased(gate.alias, at)
    return report if gate is None else replace(report, gate=gate, tables=(*report.tables, store.table("gate")))


def _against(
    spark: SparkSession,
    config: Config,
    keep: Keep,
    held: HeldOut,
    rankings: Mapping[str, dict[str, float]],
    champion: ModelVersion,
) -> tuple[float, float]:
    """Return the gate's metric of a model and of the champion: errors on the rows that both can predict."""
    metric, other = str(config.gate.metric), served_model(spark, config, champion)
    if metric not in ERRORS:
        lists = keep(_own_lists(held._replace(model=other), config))
        n_items = held.model.itemFactors.count()
        found = ranking_metrics(lists, _relevant(held, config), config.evaluate.k or 1, n_items)
        return rankings[""][metric], found[metric]
    own = held.model.transform(held.rows).select("user", "item", "rating", F.col("prediction").alias("own"))
    both = other.transform(own).where("NOT isnan(own) AND NOT isnan(prediction)")
    both = keep(both.where("own IS NOT NULL AND prediction IS NOT NULL"))
    clip = _clip(held, config)
    measured = all_rating_metrics(both, "rating", ("own", "prediction"), clip)
    return getattr(measured["own"], metric), getattr(measured["prediction"], metric)


def _rating_metrics(held: HeldOut, config: Config, keep: Keep) -> tuple[dict[str, RatingMetrics], list[DataFrame]]:
    """Return the errors of the model and of both baselines on the same rows, and these by segments."""
    predicted = keep(_all_predictions(held.model, held.train, held.rows, config))
    clip = _clip(held, config)
    columns = {"": "prediction", "bias_only": "bias_only", "mean_only": "mean_only"}
    measured = all_rating_metrics(predicted, "rating", [*columns.values()], clip)
    found = {name: measured[column] for name, column in columns.items()}
    return found, [rating_segments(predicted, held.train, tuple(columns.values()))] if config.evaluate.segments else []


def _clip(held: HeldOut, config: Config) -> tuple[float, float] | None:
    clip = rating_range(config, config.evaluate.clip)
    if clip is None and config.evaluate.clip and isfinite(held.model.fitted.limits).all():
        return held.model.fitted.limits  # its predictions are clipped: others are, too
    return clip


def _all_predictions(model: Any, train: DataFrame, holdout: DataFrame, config: Config) -> DataFrame:
    """Return the hold-out with the predictions of the model and both baselines, of the same rows."""
    predicted = model.transform(holdout).select("user", "item", "rating", "prediction")
    means = mean_baseline(train, predicted, prediction="mean_only")
    both = bias_baseline(
        train,
        means,
        damping_user=config.evaluate.damping_user,
        damping_item=config.evaluate.damping_item,
        prediction="bias_only",
    )
    known = F.col("prediction").isNotNull() & ~F.isnan("prediction")
    masked = [F.when(known, F.col(name)).alias(name) for name in ("mean_only", "bias_only")]
    return both.select("user", "item", "rating", "prediction", *masked)


def _rankings(held: HeldOut, config: Config, keep: Keep) -> tuple[dict[str, dict[str, float]], list[DataFrame]]:
    """Return the ranking metrics of the model and of both baselines, and the model's by segments."""
    settings, k = config.evaluate, config.evaluate.k
    if k is None:
        return {}, []
    pairs, rated = held.train.select("user", "item"), _rated(held)
    seen = pairs if rated is None else rated.select("user", "item")
    users = pairs if held.folded is None else held.folded
    lists = {
        "": keep(_own_lists(held, config)),
        "popular": popularity_ranking(held.train, users, k, seen),
        "bias_only": bias_ranking(held.train, users, k, seen, damping=settings.damping_item),
    }
    relevant, n_items = keep(_relevant(held, config)), held.model.itemFactors.count()
    found = {name: ranking_metrics(of, relevant, k, n_items, train=pairs) for name, of in lists.items()}
    return found, [ranking_segments(lists[""], relevant, pairs, k)] if settings.segments else []


def _rated(held: HeldOut) -> DataFrame | None:
    """Return what users who are folded in have rated of the items that the model knows."""
    if held.folded is None:
        return None
    return held.folded.join(held.model.itemFactors.select(F.col("id").alias("item")), "item", "left_semi")


def _own_lists(held: HeldOut, config: Config) -> DataFrame:
    """Return the best items of every user, without those that are seen."""
    k, rated = config.evaluate.k, _rated(held)
    if rated is None:
        return held.model.recommendForAllUsers(k, seen=held.train.select("user", "item"))
    return held.model.recommendForNewUsers(rated, k, weightCol="weight" if "weight" in rated.columns else "")


def _relevant(held: HeldOut, config: Config) -> DataFrame:
    return held.rows.where(F.col("rating") >= config.evaluate.relevant).select("user", "item")


def _noise_floor(spark: SparkSession, config: Config, record: dict[str, Any]) -> float | None:
    log = Location(config.store.location).table("ingest_log")
    if "ratings_version" not in record or not tables.exists(spark, log):
        return None
    logged = tables.read(spark, log).where(F.col("ratings_version") == record["ratings_version"]).first()
    return None if logged is None else logged["noise_floor"]


def _write(spark: SparkSession, report: EvaluateReport, address: str) -> None:
    rows = [(report.run_id, report.version, name, float(value)) for name, value in report.metrics().items()]
    columns = "run_id string, model_version bigint, metric string, value double"
    written = spark.createDataFrame(rows, columns).withColumn("evaluated_at", F.current_timestamp())
    tables.replace_slice(written, address, "run_id", report.run_id)
