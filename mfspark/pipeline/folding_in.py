"""The fold-in job: users who came after a model was trained get factors, in a new version; no item changes."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from mfspark.config import Config
from mfspark.errors import StoreError
from mfspark.model.model import FactorizationModel
from mfspark.pipeline.predicting import served_model
from mfspark.pipeline.ratings import HOLDOUT, keeping, recorded_ratings, training_record, with_holdout
from mfspark.store import ModelVersion, Registry


@dataclass(frozen=True)
class FoldInReport:
    """What a fold-in added to which model; ``left_out`` counts the new users' ratings of items it does not know."""

    run_id: str
    base: int
    version: int
    users: int
    ratings: int
    left_out: int
    tables: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        return [
            f"model        version {self.version} = version {self.base} and {self.users:,} new users "
            f"({self.ratings:,} ratings)",
            f"left out     {self.left_out:,} of their ratings, of items that version {self.base} does not know",
        ]


def fold_in(spark: SparkSession, config: Config, run_id: str) -> FoldInReport:
    """Publish a model that has the users of the ratings table whom an earlier one does not know, folded in.

    The base is the model of the section ``model``, by default the newest of another run; what is held out by the
    section ``split`` is not folded in. A run id may be repeated: it replaces what it published.

    Parameters
    ----------
    spark : SparkSession
        The session.
    config : Config
        Where the store is, and the settings of this job.
    run_id : str
        Under which the model is published.

    Raises
    ------
    StoreError
        There is no such model, or no ratings table.
    DataError
        The ids of the ratings are of another type than the model's.
    ParameterError
        The model is of an estimator that folds nothing in.
    """
    registry = Registry(spark, config.store.location)
    version = _base(registry, config, run_id)
    model = served_model(spark, config, version)
    record = training_record(spark, config)
    with keeping() as keep:
        ratings = with_holdout(spark, recorded_ratings(spark, config, record, keep), record["split"])
        of_new = keep(_of_new_users(ratings.where(f"NOT {HOLDOUT}"), model))
        known = of_new.where("known").drop("known")
        users, rows, left_out = _counts(of_new)
        if rows:
            model = model.withUsers(known, weightCol="weight" if "weight" in known.columns else "")
        stored = version.parameters.get("model", version.parameters)
        model.setParams(**stored.get("params", {}))  # and no longer the jobs' own
        metrics = {**version.metrics, "foldedUsers": users}
        published = registry.publish(run_id, model, metrics, record | {"folded_into": version.version})
    return FoldInReport(run_id, version.version, published.version, users, rows, left_out, registry.addresses)


def _base(registry: Registry, config: Config, run_id: str) -> ModelVersion:
    """Return the model to add to; never what a killed or repeated run has published itself."""
    asked = config.model
    if asked.version is not None or asked.run_id is not None:
        return registry.get(asked.version, asked.run_id)
    newest = registry.newest_other(run_id)
    if newest is None:
        raise StoreError(f"no model has been published in {registry.location.root}: train one first")
    return newest


def _of_new_users(ratings: DataFrame, model: FactorizationModel) -> DataFrame:
    """Return the ratings of users whom a model lacks, and whether it has their items in the column ``known``."""
    users = model.userFactors.select(F.col("id").alias("user"))
    items = model.itemFactors.select(F.col("id").alias("item"), F.lit(True).alias("known"))
    of_new = ratings.join(users, "user", "left_anti").join(items, "item", "left")
    return of_new.withColumn("known", F.coalesce("known", F.lit(False)))


def _counts(of_new: DataFrame) -> tuple[int, int, int]:
    """Return how many users have ratings of known items, how many these are, and how many there are of others."""
    counts = [
        F.count_distinct(F.when(F.col("known"), F.col("user"))),
        F.count_if(F.col("known")),
        F.count_if(~F.col("known")),
    ]
    users, rows, left_out = of_new.agg(*counts).collect()[0]
    return users, rows, left_out
