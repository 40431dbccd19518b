"""The predict job: the best items of every user, or predictions for given pairs, from a published model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

import mfspark
from mfspark.config import Config
from mfspark.config.sections import PredictConfig
from mfspark.data import Source
from mfspark.data.source import located
from mfspark.errors import DataError, StoreError, missing_column
from mfspark.pipeline.ratings import HOLDOUT, Keep, keeping, rating_range, recorded_ratings, with_holdout
from mfspark.store import Location, ModelVersion, Registry, tables
from mfspark.store.tables import one_line


@dataclass(frozen=True)
class PredictReport:
    """What a predict job wrote."""

    run_id: str
    version: int
    rows: int
    tables: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        return [f"predictions  {self.rows:,} rows from model version {self.version}"]


def predict(spark: SparkSession, config: Config, run_id: str) -> PredictReport:
    """Write the table ``recommendations`` (top_n) or ``predictions`` (pairs); repeating a run id replaces its rows.

    ``recommendations``: user, rank (1 = best), item, prediction (of the popular items of ``predict.unknown_users`` the
    number of their ratings). ``predictions``: user, item, prediction (null where
    the model does not know the user or the item). Both with run_id and model_version.

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
        No such model.
    DataError
        The pairs cannot be read, lack a column, or have ids that are not of the model's type.
    """
    with keeping() as keep:
        return _predict(spark, config, run_id, keep)


def _predict(spark: SparkSession, config: Config, run_id: str, keep: Keep) -> PredictReport:
    version = Registry(spark, config.store.location).get(config.model.version, config.model.run_id)
    model = served_model(spark, config, version)
    if config.predict.mode == "top_n":
        name, rows = "recommendations", _top_n(spark, config.predict, model, _seen(spark, config, version, keep))
    else:
        name, rows = "predictions", _for_pairs(spark, config, model)
    address = Location(config.store.location).table(name)
    marked = rows.withColumn("model_version", F.lit(version.version).cast("bigint")).withColumn("run_id", F.lit(run_id))
    tables.replace_slice(marked, address, "run_id", run_id)
    count = tables.read(spark, address).where(F.col("run_id") == run_id).count()
    return PredictReport(run_id, version.version, count, (address,))


# The columns of the jobs' own tables, and what the jobs do themselves: unknown ids are counted, seen pairs are given.
_AS_SERVED = {
    "userCol": "user",
    "itemCol": "item",
    "ratingCol": "rating",
    "weightCol": None,
    "predictionCol": "prediction",
    "coldStartStrategy": "nan",
    "filterSeen": False,
}


def served_model(spark: SparkSession, config: Config, version: ModelVersion) -> Any:
    """Return a published model that reads and writes the jobs' columns, whatever its own are called."""
    return mfspark.load_model(Registry(spark, config.store.location), version).setParams(**_AS_SERVED)


def _seen(spark: SparkSession, config: Config, version: ModelVersion, keep: Keep) -> DataFrame | None:
    """Return the pairs a model was trained on; None where they need not be left out."""
    if not config.predict.filter_seen:
        return None
    record = version.parameters["training"]
    ratings = with_holdout(spark, recorded_ratings(spark, config, record, keep), record["split"])
    return ratings.where(f"NOT {HOLDOUT}").select("user", "item")


def _top_n(spark: SparkSession, asked: PredictConfig, model: Any, seen: DataFrame | None) -> DataFrame:
    """Return the best items of every user under the rules of the configuration, one row each."""
    rules: dict[str, Any] = {
        name: _rule(spark, name, getattr(asked, name), model) for name in ("seen", "allow", "deny")
    }
    out = [pairs for pairs in (seen, rules.pop("seen")) if pairs is not None]
    rules |= {"seen": out, "minScore": asked.min_score}
    if asked.users is None:
        lists = model.recommendForAllUsers(asked.n, **rules)
    else:
        users = _users(spark, asked.users, model)
        lists = model.recommendForUserSubset(users, asked.n, unknown=asked.unknown_users, **rules)
    listed = lists.select("user", F.posexplode("recommendations").alias("position", "found"))
    columns = (F.col("found.item").alias("item"), F.col("found.rating").alias("prediction"))
    return listed.select("user", (F.col("position") + 1).alias("rank"), *columns)


def _rule(spark: SparkSession, name: str, path: str | None, model: Any) -> DataFrame | None:
    """Return the items or pairs at a path in the types of the model's ids; unknown ones have no effect."""
    if path is None:
        return None
    given = read_rows(spark, path, f"predict.{name}")
    kinds = _id_types(model)
    missing = [side for side in kinds if side not in given.columns]
    if missing and (missing != ["user"] or name == "seen"):
        raise missing_column(missing[-1], given.columns, path)
    return given.select(
        *(F.col(side).try_cast(kind).alias(side) for side, kind in kinds.items() if side not in missing)
    )


def _users(spark: SparkSession, path: str, model: Any) -> DataFrame:
    """Return the users at a path in the type of the model's; what is no such id is left out."""
    given = read_rows(spark, path, "predict.users")
    if "user" not in given.columns:
        raise missing_column("user", given.columns, path)
    return given.select(F.col("user").try_cast(_id_types(model)["user"]).alias("user")).dropna()


def _id_types(model: Any) -> dict[str, str]:
    return {
        "user": model.userFactors.schema["id"].dataType.simpleString(),
        "item": model.itemFactors.schema["id"].dataType.simpleString(),
    }


def _for_pairs(spark: SparkSession, config: Config, model: Any) -> DataFrame:
    pairs = read_rows(spark, config.predict.pairs or "", "predict.pairs")
    typed = _id_types(model)
    for side in typed:
        if side not in pairs.columns:
            raise missing_column(side, pairs.columns, str(config.predict.pairs))
    cast = pairs.select(*(F.col(side).try_cast(kind).alias(side) for side, kind in typed.items()))
    row = cast.agg(*(F.count_if(F.col(side).isNull()).alias(side) for side in typed)).first()
    for side, kind in typed.items():
        if row is not None and row[side]:
            raise DataError(
                f"{config.predict.pairs}: column {side!r} has {row[side]} values that are null or no {kind}"
            )
    guess = F.col("prediction")
    known = F.when(guess.isNotNull() & ~F.isnan(guess), guess)
    clip = rating_range(config, config.predict.clip)
    if clip is not None:
        known = F.greatest(F.lit(float(clip[0])), F.least(F.lit(float(clip[1])), known))
        known = F.when(guess.isNotNull() & ~F.isnan(guess), known)
    return model.transform(cast).select("user", "item", known.cast("float").alias("prediction"))


def read_rows(spark: SparkSession, path: str, key: str) -> DataFrame:
    """Return what lies at a path that a key of the configuration names: a table, Parquet folder or csv file."""
    try:
        return tables.read(spark, path)
    except StoreError:
        path = located(spark, Source(path)).path  # no table: a csv file or Parquet
    try:
        if path.endswith((".csv", ".csv.gz")):
            return spark.read.csv(path, header=True)
        pairs = spark.read.parquet(path)
        _ = pairs.schema
        return pairs
    except Exception as error:
        raise DataError(f"{key}: {path} is no table, Parquet folder or csv file: {one_line(error)}") from error
