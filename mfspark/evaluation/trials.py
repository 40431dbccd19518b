"""The table of a search: what was scored is written as it comes, and never scored twice."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from mfspark.store import tables

TRIALS = (
    "trial string, settings string, fold int, iterations int, metric string, score double, seconds double, "
    "finished_at timestamp"
)
PATIENCE = 5.0  # seconds of work that a killed search may lose


class TrialTable:
    """A Delta table of scores, looked up by what they depend on.

    Parameters
    ----------
    spark : SparkSession
        The session.
    address : str
        A path or a dotted name; the table is created where there is none.
    """

    def __init__(self, spark: SparkSession, address: str) -> None:
        self._spark, self._address = spark, address
        stored = tables.find(spark, address)
        rows = [] if stored is None else stored.select("trial", "score").toArrow().to_pylist()
        self._scores = {row["trial"]: row["score"] for row in rows}
        self._waiting: list[tuple[Any, ...]] = []
        self._written = time.monotonic()

    def find(self, key: str) -> float | None:
        """Return the score of a key, None where it has not been measured."""
        return self._scores.get(key)

    def add(
        self,
        key: str,
        settings: Mapping[str, Any],
        fold: int,
        iterations: int | None,
        metric: str,
        score: float,
        seconds: float,
    ) -> None:
        """Add a score; it is in the table a few seconds later, or after ``flush``."""
        told = json.dumps(dict(settings), sort_keys=True, default=str)
        self._waiting.append((key, told, fold, iterations, metric, score, seconds, datetime.now(UTC)))
        self._scores[key] = score
        if time.monotonic() - self._written > PATIENCE:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        if self._waiting:
            tables.append(self._spark.createDataFrame(self._waiting, TRIALS), self._address)
            self._waiting = []
        self._written = time.monotonic()


def key_of(marks: Mapping[str, Any]) -> str:
    """Return 16 letters that depend on everything in the marks."""
    return hashlib.sha256(json.dumps(marks, sort_keys=True, default=str).encode()).hexdigest()[:16]


def marks_of(estimator: Any) -> dict[str, Any]:
    """Return an estimator's class and the parameters that its numbers depend on, those of one inside it, too."""
    if hasattr(estimator, "_fingerprint"):
        return dict(estimator._fingerprint())
    inner = getattr(estimator, "estimator", None)
    values = {param.name: value for param, value in estimator.extractParamMap().items()}
    return {"estimator": type(estimator).__name__, **values} | ({} if inner is None else {"inner": marks_of(inner)})


def rows_digest(df: DataFrame) -> str:
    """Return a text that depends on every row, not on their order: one pass of Spark's own hash."""
    hashed = F.xxhash64(*(F.col(f"`{name}`") for name in df.columns))
    row = df.agg(F.count("*").alias("n"), F.sum(hashed.cast("decimal(20, 0)")).alias("total")).first()
    return "" if row is None else f"{row['n']} rows, {row['total']}"
