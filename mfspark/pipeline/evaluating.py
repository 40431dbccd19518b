"""The evaluate job: a published model against its hold-out, beside two baselines and the noise floor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy import isfinite
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from mfspark.config import Config
from mfspark.errors import DataError
from mfspark.evaluation import RatingMetrics, bias_baseline, mean_baseline, ranking_metrics, rating_metrics
from mfspark.pipeline.predicting import served_model
from mfspark.pipeline.ratings import HOLDOUT, Keep, keeping, rating_range, recorded_ratings, with_holdout
from mfspark.store import Location, Registry, tables


@dataclass(frozen=True)
class EvaluateReport:
    """Errors on the hold-out: the model's, the baselines', and the least there can be (synthetic sources only)."""

    run_id: str
    version: int
    model: RatingMetrics
    mean_only: RatingMetrics
    bias_only: RatingMetrics
    noise_floor: float | None
    ranking: dict[str, float] = field(default_factory=dict)
    tables: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        rows = [("model", self.model), ("bias-only baseline", self.bias_only), ("mean-only baseline", self.mean_only)]
        text = [f"hold-out     {self.model.predicted:,} ratings predicted, {self.model.unpredicted:,} not (cold start)"]
        text.append("                         RMSE      MAE")
        text += [f"{name:<20} {metrics.rmse:8.4f} {metrics.mae:8.4f}" for name, metrics in rows]
        if self.noise_floor is not None:
            text.append(f"{'noise floor':<20} {self.noise_floor:8.4f}")
        text += [f"{name:<24} {value:.4f}" for name, value in self.ranking.items()]
        return text

    def metrics(self) -> dict[str, float]:
        """Return every metric by name, as in the table ``metrics``."""
        named = self.model.as_dict() | self.ranking
        for name, baseline in (("mean_only", self.mean_only), ("bias_only", self.bias_only)):
            named |= {f"{name}_rmse": baseline.rmse, f"{name}_mae": baseline.mae}
        return named if self.noise_floor is None else named | {"noise_floor": self.noise_floor}


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
        The model was trained without a hold-out.
    """
    with keeping() as keep:
        return _evaluate(spark, config, run_id, keep)


def _evaluate(spark: SparkSession, config: Config, run_id: str, keep: Keep) -> EvaluateReport:
    version = Registry(spark, config.store.location).get(config.model.version, config.model.run_id)
    record = version.parameters["training"]
    if record["split"]["method"] == "none":
        raise DataError(
            f"model version {version.version} was trained without a hold-out: train with split.method random"
        )
    ratings = with_holdout(spark, recorded_ratings(spark, config, record, keep), record["split"])
    train, holdout = ratings.where(f"NOT {HOLDOUT}"), ratings.where(HOLDOUT).select("user", "item", "rating")
    model = served_model(spark, config, version)
    predicted = keep(_all_predictions(model, train, holdout, config))
    clip = rating_range(config, config.evaluate.clip)
    if clip is None and config.evaluate.clip and isfinite(model.fitted.limits).all():
        clip = model.fitted.limits  # its predictions are clipped: the baselines' are, too
    found = {name: rating_metrics(predicted, "rating", name, clip) for name in ("prediction", "mean_only", "bias_only")}
    address = Location(config.store.location).table("metrics")
    floor = _noise_floor(spark, config, record)
    report = EvaluateReport(
        run_id=run_id,
        version=version.version,
        model=found["prediction"],
        mean_only=found["mean_only"],
        bias_only=found["bias_only"],
        noise_floor=floor,
        ranking=_ranking(model, train, holdout, config),
        tables=(address,),
    )
    _write(spark, report, address)
    return report


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
    return both.select("rating", "prediction", *masked)


def _ranking(model: Any, train: DataFrame, holdout: DataFrame, config: Config) -> dict[str, float]:
    settings = config.evaluate
    if settings.k is None:
        return {}
    relevant = holdout.where(F.col("rating") >= settings.relevant).select("user", "item")
    recommended = model.recommendForAllUsers(settings.k, seen=train.select("user", "item"))
    return ranking_metrics(recommended, relevant, settings.k, model.itemFactors.count())


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
