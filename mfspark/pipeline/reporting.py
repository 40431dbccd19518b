"""The training report of a published version, written by the train and evaluate jobs where ``report.path`` is set."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from mfspark.config import Config
from mfspark.errors import without_secret
from mfspark.pipeline.predicting import read_rows
from mfspark.pipeline.ratings import HOLDOUT, keeping, recorded_ratings, with_holdout
from mfspark.report import Data, Report, facts, require_bokeh
from mfspark.report.gather import flat
from mfspark.report.rows import title_column
from mfspark.report.structure import Before, Facts, Quality, Rejected, Table, Version, shortened
from mfspark.store import Location, ModelVersion, Registry, tables
from mfspark.store.compare import measured
from mfspark.store.tables import one_line

logger = logging.getLogger(__name__)

STAGES = "stageSeconds"  # in a version's metrics


def check_report(spark: SparkSession, config: Config) -> None:
    """Raise SetupError or DataError where a report is asked for and cannot be made: before hours of training."""
    if config.report.path is not None:
        require_bokeh()
    if config.report.titles is not None:
        title_column(read_rows(spark, config.report.titles, "report.titles"), "item")


def write_report(
    spark: SparkSession, config: Config, version: ModelVersion, model: Any, seconds: Mapping[str, float] | None = None
) -> Path | None:
    """Write the page of a version to ``report.path``, and return its file; None where no report is asked for.

    The model is published by now: where the page cannot be made, a warning says why, and the job goes on.

    Parameters
    ----------
    spark : SparkSession
        The session.
    config : Config
        Where the store and the report are.
    version : ModelVersion
        Which version.
    model : FactorizationModel
        Its model, in the jobs' columns.
    seconds : mapping, optional
        By stage; default: those that were published with the version.
    """
    if config.report.path is None:
        return None
    file = Path(config.report.path).expanduser() / f"model-{version.version}.html"
    try:
        Report(_facts(spark, config, version, model, seconds)).save(file)
    except Exception as error:  # noqa: BLE001 - whatever it is, the model itself is safe
        logger.warning("no report of version %d: %s: %s", version.version, type(error).__name__, one_line(error))
        return None
    logger.info("report       %s", file)
    return file


def _facts(
    spark: SparkSession, config: Config, version: ModelVersion, model: Any, seconds: Mapping[str, float] | None
) -> Facts:
    record = version.parameters.get("training", {})
    titles = None if config.report.titles is None else read_rows(spark, config.report.titles, "report.titles")
    with keeping() as keep:
        marked = keep(with_holdout(spark, recorded_ratings(spark, config, record, keep), record["split"]))
        held_out = None if record["split"]["method"] == "none" else marked.where(HOLDOUT)
        found = facts(model, Data(marked.where(f"NOT {HOLDOUT}"), held_out, titles))
    location = Location(config.store.location)
    logged = _ingested(spark, location, record)
    created = f"{version.created_at:%Y-%m-%d %H:%M:%S}"
    return replace(
        found,
        version=Version(version.version, version.run_id, created, location.root),
        parameters=_parameters(version),
        metrics=measured(spark, location, version),
        stages=dict(seconds if seconds is not None else version.metrics.get(STAGES, {})),
        quality=_quality(spark, location, logged, version),
        lineage=_lineage(spark, location, record, logged),
        before=_before(spark, location, version),
    )


def _parameters(version: ModelVersion) -> dict[str, Any]:
    record = version.parameters.get("training", {})
    found = flat(version.parameters.get("model", version.parameters))
    found |= {f"split.{name}": value for name, value in record.get("split", {}).items()}
    read = {name: value for name, value in record.items() if name != "split"}
    return found | {name: without_secret(value) if isinstance(value, str) else value for name, value in read.items()}


def _ingested(spark: SparkSession, location: Location, record: Mapping[str, Any]) -> dict[str, Any] | None:
    address = location.table("ingest_log")
    if "ratings_version" not in record or not tables.exists(spark, address):
        return None
    rows = tables.read(spark, address).where(F.col("ratings_version") == record["ratings_version"])
    row = rows.orderBy(F.desc("finished_at")).first()
    return None if row is None else row.asDict()


def _quality(
    spark: SparkSession, location: Location, logged: Mapping[str, Any] | None, version: ModelVersion
) -> Quality | None:
    examples = _examples(spark, location, version.run_id if logged is None else logged["run_id"])
    if logged is None:
        rejected = [Rejected(reason, rows, text) for reason, (rows, text) in examples.items()]
        return Quality(None, None, rejected) if rejected else None
    reasons = json.loads(logged["reasons"])
    rejected = [Rejected(reason, rows, examples.get(reason, (0, None))[1]) for reason, rows in reasons.items()]
    return Quality(logged["rows_in"], logged["accepted"], rejected)


def _examples(spark: SparkSession, location: Location, run_id: str) -> dict[str, tuple[int, str | None]]:
    """Return, of each reason, how many rows of a run are in quarantine, and the raw text of one."""
    address = location.table("quarantine")
    if not tables.exists(spark, address):
        return {}
    own = tables.read(spark, address).where(F.col("run_id") == run_id)
    found = own.groupBy("reason").agg(F.count("*").alias("rows"), F.min("raw").alias("raw")).orderBy("reason").collect()
    return {row["reason"]: (row["rows"], shortened(row["raw"])) for row in found}


def _lineage(
    spark: SparkSession, location: Location, record: Mapping[str, Any], logged: Mapping[str, Any] | None
) -> list[Table]:
    found = [] if logged is None else [Table(without_secret(logged["source"]), "source of the ratings", None)]
    if "path" in record:
        found.append(Table(without_secret(record["path"]), "ratings, read", None))
    else:
        found.append(Table(record["ratings"], "ratings, read", record["ratings_version"]))
    written = Registry(spark, location).addresses
    return found + [Table(name, "model, written", tables.current_version(spark, name)) for name in written]


def _before(spark: SparkSession, location: Location, version: ModelVersion) -> Before | None:
    older = [found for found in Registry(spark, location).list() if found.version < version.version]
    if not older:
        return None
    last = older[-1]
    numbers = {name: value for name, value in last.metrics.items() if isinstance(value, int | float)}
    return Before(last.version, last.run_id, numbers | measured(spark, location, last), _parameters(last))
