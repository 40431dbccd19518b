"""The ingest job: a source of ratings becomes the tables ratings, quarantine and ingest_log."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from mfspark.config import Config
from mfspark.data import Checked
from mfspark.errors import without_secret
from mfspark.pipeline.ratings import Keep, check_share, keeping, noise_floor_of, read_checked
from mfspark.store import Location, tables

INGEST_LOG = (
    "run_id string, source string, rows_in bigint, accepted bigint, rejected bigint, reasons string, users bigint, "
    "items bigint, min_rating double, max_rating double, ratings_version bigint, noise_floor double, "
    "started_at timestamp, finished_at timestamp"
)


@dataclass(frozen=True)
class IngestReport:
    """What an ingest read and wrote. Users, items and the range of ratings are those of the accepted rows."""

    run_id: str
    source: str
    rows_in: int
    accepted: int
    rejected: int
    users: int
    items: int
    min_rating: float
    max_rating: float
    ratings_version: int
    noise_floor: float | None
    reasons: dict[str, int] = field(default_factory=dict)
    example: str | None = None
    tables: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        text = [
            f"rows         {self.rows_in:,} in = {self.accepted:,} accepted + {self.rejected:,} rejected",
            *(f"             {count:,} {reason}" for reason, count in self.reasons.items()),
            f"users        {self.users:,}",
            f"items        {self.items:,}",
            f"ratings      {self.min_rating:g} to {self.max_rating:g}",
        ]
        if self.example is not None:
            options = "encoding, delimiter, decimal, thousands, timestamp_format, id_type"
            text.insert(2, f"             unparsable, for example: {self.example!r} (options of source: {options})")
        return text


def ingest(spark: SparkSession, config: Config, run_id: str) -> IngestReport:
    """Read the source, check every row, and write the tables of the store; repeating a run id changes nothing.

    ``ratings`` (user, item, rating, timestamp[, weight], run_id) is replaced as a whole, or, with ``source.mode``
    append, only this run's rows in it. The log's row comes last: a run without one did not finish. Ids stay as they
    are: what numbers a model gave them is published with the model.

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
        Nothing accepted, more rejected than ``quality.max_rejected`` allows, rows that do not add up, a missing column.
    StoreError
        A column's type differs from the stored table's.
    """
    with keeping() as keep:
        return _ingest(spark, config, run_id, keep)


def _ingest(spark: SparkSession, config: Config, run_id: str, keep: Keep) -> IngestReport:
    started = datetime.now(UTC)
    location = Location(config.store.location)
    rows_in, checked = read_checked(spark, config, keep)
    # The rejected rows first: where they are too many, they are what is looked at, and no rating has been written.
    rejected = checked.rejected.withColumn("run_id", F.lit(run_id))
    tables.replace_slice(rejected, location.table("quarantine"), "run_id", run_id)
    check_share(config.quality, rows_in, checked)
    _write_ratings(checked.accepted.withColumn("run_id", F.lit(run_id)), location.table("ratings"), config, run_id)
    version = tables.current_version(spark, location.table("ratings"))
    own = tables.read(spark, location.table("ratings"), version).where(F.col("run_id") == run_id)
    report = _report(run_id, config, rows_in, checked, own, version)
    _log(spark, report, location.table("ingest_log"), started)
    return report


def _write_ratings(accepted: DataFrame, address: str, config: Config, run_id: str) -> None:
    if config.source.mode == "append":
        tables.replace_slice(accepted, address, "run_id", run_id)
    else:
        tables.overwrite(accepted, address, ("run_id",))


def _report(
    run_id: str, config: Config, rows_in: int, checked: Checked, own: DataFrame, ratings_version: int
) -> IngestReport:
    sides = [own.select(side).distinct().count() for side in ("user", "item")]
    location = Location(config.store.location)
    names = ("ratings", "quarantine", "ingest_log")
    return IngestReport(
        run_id=run_id,
        source=without_secret(config.source.path or config.source.format),
        rows_in=rows_in,
        accepted=checked.accepted_count,
        rejected=checked.rejected_count,
        users=sides[0],
        items=sides[1],
        min_rating=checked.low,
        max_rating=checked.high,
        ratings_version=ratings_version,
        noise_floor=noise_floor_of(config.source),
        reasons=checked.reason_counts,
        example=checked.example,
        tables=tuple(location.table(name) for name in names),
    )


def _log(spark: SparkSession, report: IngestReport, address: str, started: datetime) -> None:
    row: dict[str, Any] = asdict(report) | {"reasons": json.dumps(report.reasons)}
    row |= {"started_at": started, "finished_at": datetime.now(UTC)}
    names = [part.split()[0] for part in INGEST_LOG.split(", ")]
    logged = spark.createDataFrame([tuple(row[name] for name in names)], INGEST_LOG)
    tables.replace_slice(logged, address, "run_id", report.run_id)
