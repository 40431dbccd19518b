"""The ratings of a configuration: read, checked, and parted into training and hold-out rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from inspect import signature
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType

from mfspark.config import Config, SourceConfig, SplitConfig
from mfspark.config.inputs import QualityConfig
from mfspark.config.values import instant
from mfspark.data import (
    Checked,
    Rules,
    Source,
    SyntheticSpec,
    check,
    leave_k_out,
    mark_probe,
    noise_floor,
    random_split,
    read_probe,
    read_ratings,
    reconcile,
    strong_generalisation,
    time_split,
)
from mfspark.data.reasons import DUPLICATE_MERGED, DUPLICATE_OLDER
from mfspark.errors import DataError
from mfspark.session import settings_for_a_while
from mfspark.store import Location, tables

Keep = Callable[[DataFrame], DataFrame]

HOLDOUT = "validation"
FOLD_IN = "fold_in"
DUPLICATES = (DUPLICATE_OLDER, DUPLICATE_MERGED)
_NETFLIX_ARGUMENTS = tuple(signature(SyntheticSpec.netflix).parameters)


def source_of(config: SourceConfig) -> Source:
    """Return the source a configuration describes."""
    settings = config.model_dump()
    options = settings.pop("options")
    for key in ("mode", "since", "until"):
        del settings[key]
    for key in ("scale", "seed"):
        value = settings.pop(key)
        if value is not None:
            options[key] = value
    return Source(**settings, options=options)


def source_at(config: SourceConfig, path: str) -> SourceConfig:
    """Return the source with another path; a synthetic one, which has none, is then read as what lies there."""
    synthetic: dict[str, Any] = {"format": "auto", "scale": None, "seed": None, "options": {}}
    return config.model_copy(update={"path": path} | (synthetic if config.format == "synthetic" else {}))


def noise_floor_of(config: SourceConfig) -> float | None:
    """Return the best reachable RMSE of a synthetic source; None for any other."""
    if config.format != "synthetic" or config.options.get("plays"):
        return None
    return noise_floor(**_synthetic_arguments(config))


def read_checked(spark: SparkSession, config: Config, keep: Keep, path: str | None = None) -> tuple[int, Checked]:
    """Read the source (or another path, in the way the source is read), check every row and reconcile the counts.

    Returns
    -------
    rows_in, checked
        The number of rows counted in the input itself, and the accepted and rejected rows.

    Raises
    ------
    DataError
        See `mfspark.data.check`; also when rows in differ from accepted + rejected.

    Notes
    -----
    With ``source.since`` and ``source.until`` the input is the rows of that time: every row is in just one of the
    intervals that follow each other, those without a time in the first, which has no ``since``.
    """
    source_config = config.source if path is None else source_at(config.source, path)
    ratings = rated_within(
        read_ratings(spark, source_of(source_config)),
        instant("source.since", source_config.since),
        instant("source.until", source_config.until),
    )
    quality = config.quality
    checked = check(ratings, Rules(quality.min_rating, quality.max_rating, quality.duplicates), keep)
    if source_config.format == "synthetic":
        rows_in = SyntheticSpec.netflix(**_synthetic_arguments(source_config)).n_ratings
    else:
        rows_in = ratings.count()
    reconcile(rows_in, checked.accepted_count, checked.rejected_count)
    return rows_in, checked


def rated_within(ratings: DataFrame, since: int | None = None, until: int | None = None) -> DataFrame:
    """Return the ratings of a time, since included and until not; a rating without a time is older than all others."""
    if since is not None:
        ratings = ratings.where(F.col("timestamp") >= since)
    if until is not None:
        ratings = ratings.where((F.col("timestamp") < until) | F.col("timestamp").isNull())
    return ratings


def check_share(quality: QualityConfig, rows_in: int, checked: Checked) -> None:
    """Raise DataError where more rows than ``quality.max_rejected`` allows were rejected, duplicates apart."""
    bad = {name: count for name, count in checked.reason_counts.items() if name not in DUPLICATES}
    rejected = sum(bad.values())
    if rejected > quality.max_rejected * rows_in:
        listed = ", ".join(f"{count:,} {reason}" for reason, count in bad.items())
        raise DataError(
            f"{rejected:,} of {rows_in:,} rows were rejected ({listed}), more than quality.max_rejected = "
            f"{quality.max_rejected:g} allows: see the table quarantine, then correct the source or the limit"
        )


@contextmanager
def keeping() -> Iterator[Keep]:
    """Give a function that keeps rows in memory or on the workers' disks until the block ends.

    Where the platform allows no such thing (serverless), the function returns the rows as they are.
    """
    kept: list[DataFrame] = []

    def keep(df: DataFrame) -> DataFrame:
        try:
            with _sized_by_their_bytes(df.sparkSession):
                kept.append(df.persist())
        except PySparkException:
            return df
        return kept[-1]

    try:
        yield keep
    finally:
        for df in kept:
            df.unpersist()


def _sized_by_their_bytes(spark: SparkSession) -> AbstractContextManager[None]:
    """Let kept rows have as many partitions as their bytes need: else 200, each of which every job reads again."""
    return settings_for_a_while(spark, {"spark.sql.optimizer.canChangeCachedPlanOutputPartitioning": "true"})


def training_record(spark: SparkSession, config: Config) -> dict[str, Any]:
    """Return what is needed to see the very same training and hold-out rows again: table version and split.

    Raises
    ------
    StoreError
        There is no ratings table yet.
    """
    split = {key: value for key, value in config.split.model_dump().items() if value is not None}
    if config.train.path is not None:
        return {"path": config.train.path, "split": split}
    address = Location(config.store.location).table("ratings")
    version = config.train.ratings_version
    tables.read(spark, address, version)
    version = tables.current_version(spark, address) if version is None else version
    until = {} if config.train.until is None else {"until": config.train.until}
    return {"ratings": address, "ratings_version": version, **until, "split": split}


def recorded_ratings(spark: SparkSession, config: Config, record: Mapping[str, Any], keep: Keep) -> DataFrame:
    """Return the accepted ratings of a training record: user, item, rating, timestamp[, weight]."""
    if "path" in record:
        return read_checked(spark, config, keep, record["path"])[1].accepted
    rows = tables.read(spark, record["ratings"], record["ratings_version"])
    rows = rated_within(rows, until=instant("train.until", record.get("until")))
    if rows.select("run_id").distinct().limit(2).count() < 2:
        return rows.drop("run_id")
    # Appended runs may rate a pair again: the policy for duplicates holds across runs as within one.
    again = rows.withColumn("raw", F.col("run_id")).withColumn("error", F.lit(None).cast("string"))
    return check(again.drop("run_id"), Rules(duplicates=config.quality.duplicates), keep).accepted


def with_holdout(spark: SparkSession, ratings: DataFrame, split: Mapping[str, Any]) -> DataFrame:
    """Return the ratings with the boolean column ``validation``: true for the rows that are held out.

    Where whole users are held out there is a column ``fold_in``, too: true for those of their rows that a model gets to
    see once it is trained.
    """
    settings = SplitConfig.model_construct(**split)
    if settings.method == "none":
        return ratings.withColumn(HOLDOUT, F.lit(False))
    if settings.method == "random":
        return random_split(ratings, settings.fraction, settings.seed, HOLDOUT)
    if settings.method == "time":
        return time_split(ratings, fraction=settings.fraction, column=HOLDOUT)
    if settings.method == "probe":
        probe = read_probe(spark, Source(path=settings.probe or "", format="netflix_probe"))
        return mark_probe(ratings, probe, HOLDOUT)
    if settings.method == "file":
        return _with_file(spark, ratings, settings.held_out or "")
    if settings.method == "strong":
        parted = strong_generalisation(ratings, settings.fraction, seed=settings.seed)
        marks = (F.col("part") != "train").alias(HOLDOUT), (F.col("part") == "fold_in").alias(FOLD_IN)
        return parted.select(*ratings.columns, *marks)
    timed = ratings.where("timestamp IS NOT NULL").limit(1).count() > 0
    return leave_k_out(ratings, settings.k, settings.seed, by_time=timed, column=HOLDOUT)


def _with_file(spark: SparkSession, ratings: DataFrame, path: str) -> DataFrame:
    """Return the ratings and those of a file, which are held out; a pair of both is trained on no more."""
    kinds = {name: ratings.schema[name].dataType for name in ("user", "item", "rating", "timestamp")}
    textual = any(isinstance(kinds[side], StringType) for side in ("user", "item"))
    read = read_ratings(spark, Source(path=path, id_type="string" if textual else None))
    bad = read.where("error IS NOT NULL OR user IS NULL OR item IS NULL OR rating IS NULL").limit(1).count()
    if bad:
        raise DataError(f"split.held_out: {path} has rows without a user, an item or a rating; correct or remove them")
    held = read.select(*(F.col(name).cast(kind) for name, kind in kinds.items())).dropDuplicates(["user", "item"])
    rest = ratings.join(held.select("user", "item"), ["user", "item"], "left_anti").withColumn(HOLDOUT, F.lit(False))
    return rest.unionByName(held.withColumn(HOLDOUT, F.lit(True)), allowMissingColumns=True)


def rating_range(config: Config, clip: bool) -> tuple[float, float] | None:
    """Return the range predictions are clipped to; None where there is none, or no clipping is wanted."""
    low, high = config.quality.min_rating, config.quality.max_rating
    return (low, high) if clip and low is not None and high is not None else None


def _synthetic_arguments(config: SourceConfig) -> dict[str, Any]:
    options = source_of(config).options
    return {key: options[key] for key in _NETFLIX_ARGUMENTS if key in options}
