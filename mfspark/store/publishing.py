"""How a model is published: its tables are appended under an attempt nobody knows, then one row makes it a version."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from mfspark.errors import StoreError
from mfspark.store import tables
from mfspark.store.at_once import at_once
from mfspark.store.schemas import ATTEMPT_COLUMNS, MODEL_TABLES, MODELS, ModelTable, ModelVersion
from mfspark.store.tables import Location, literal

FIRST_WRITTEN = "user_ids"  # and last deleted: where an attempt has no row in it, it has none anywhere
_RUN_ID = re.compile(r"^[\w.:+@=-]{1,200}$")


def listed(spark: SparkSession, location: Location) -> list[ModelVersion]:
    """Return every published model, oldest first (empty where nothing was published yet)."""
    rows = tables.find(spark, location.table("models"))
    return [] if rows is None else sorted(ModelVersion.stored(row.asDict()) for row in rows.collect())


class Publisher:
    """Writes and deletes the rows of attempts (see ``Registry.publish_tables``).

    Parameters
    ----------
    spark : SparkSession
        The session, classic or Connect.
    location : Location
        The store.
    """

    def __init__(self, spark: SparkSession, location: Location) -> None:
        self._spark, self._location = spark, location
        self._models = location.table("models")

    def publish(
        self,
        run_id: str,
        model_tables: Mapping[str, DataFrame],
        parameters: Mapping[str, Any],
        metrics: Mapping[str, Any] | None,
    ) -> ModelVersion:
        """Do what ``Registry.publish_tables`` says."""
        check_run_id(run_id)
        attempt = _new_attempt()
        told = _json(parameters), _json(metrics or {})
        rows, there = self._prepare(run_id, attempt, model_tables, parameters)
        self._append(FIRST_WRITTEN, rows.pop(FIRST_WRITTEN))
        appends = [partial(self._append, name, frame) for name, frame in rows.items()]
        older = f"run_id = {literal(run_id)} AND attempt < {literal(attempt)}"
        had_rows = partial(self._has_rows, older) if FIRST_WRITTEN in there else lambda: False
        asked: tuple[Callable[[], Any], ...] = partial(self._free_version, run_id), had_rows
        *_, version, stale = at_once(self._spark, [*appends, *asked])
        published = self._publish_row(version, run_id, attempt, *told)
        if stale:
            self.delete_attempts(older)
        return published

    def _prepare(
        self, run_id: str, attempt: str, model_tables: Mapping[str, DataFrame], parameters: Mapping[str, Any]
    ) -> tuple[dict[str, DataFrame], set[str]]:
        """Return the rows of every table, after a check of all of them, and which tables exist: nothing is written."""
        pairs = [(str(name), json.dumps(value)) for name, value in parameters.items()]
        given = {**model_tables, "parameters": self._spark.createDataFrame(pairs, "name string, value string")}
        prepared = {}
        for name, spec in MODEL_TABLES.items():
            if name not in given and spec.may_lack:
                continue
            if name not in given:
                raise StoreError(f"the model to publish lacks the table {name!r}; it needs {', '.join(MODEL_TABLES)}")
            rows = _fit_columns(given[name], name, spec)
            prepared[name] = rows.select(F.lit(run_id).alias("run_id"), F.lit(attempt).alias("attempt"), "*")
        checks = [partial(tables.check_types, rows, self._address(name)) for name, rows in prepared.items()]
        found = zip(prepared, at_once(self._spark, checks), strict=True)
        return prepared, {name for name, exists in found if exists}

    def _append(self, name: str, rows: DataFrame) -> None:
        more = MODEL_TABLES[name].open_ended
        tables.append(rows, self._address(name), ATTEMPT_COLUMNS, new_columns=more, checked=True)

    def _free_version(self, run_id: str) -> int:
        """Return the number of a run in the table of models, which is created where there is none."""
        new = tables.create(self._spark, self._models, MODELS, properties={"delta.isolationLevel": "Serializable"})
        return 1 if new else _version_for(run_id, listed(self._spark, self._location))

    def _publish_row(self, version: int, run_id: str, attempt: str, parameters: str, metrics: str) -> ModelVersion:
        while True:
            own = ModelVersion(version, run_id, attempt, datetime.now(), json.loads(parameters), json.loads(metrics))
            if tables.retry_on_conflict(lambda row=own: self._merge(row, parameters, metrics)):  # type: ignore[misc]
                return own
            published = listed(self._spark, self._location)
            there = next((model for model in published if model.run_id == run_id), None)
            if there is not None and there.attempt == attempt:
                return there
            if there is not None and there.attempt > attempt:
                raise StoreError(
                    f"run {run_id} was published by a later attempt as version {there.version}; this one is void"
                )
            # Another run took the version number between the look-up and the MERGE: take the next one.
            version = _version_for(run_id, published)

    def _merge(self, row: ModelVersion, parameters: str, metrics: str) -> bool:
        """Write the row of a version, unless its number is taken or a later attempt of its run stands there.

        Returns whether it is there as a new row. Where one of its run was replaced, that one's number counts.
        """
        # A version number already taken matches and is left alone, so no number is ever given twice.
        at = round(row.created_at.timestamp() * 1e6)
        source = (
            f"SELECT {row.version:d}L AS version, {literal(row.run_id)} AS run_id, {literal(row.attempt)} AS attempt, "
            f"timestamp_micros({at:d}L) AS created_at, {literal(parameters)} AS parameters, "
            f"{literal(metrics)} AS metrics"
        )
        counts = self._spark.sql(
            f"MERGE INTO {tables.sql_name(self._models)} AS t USING ({source}) AS s "
            "ON t.run_id = s.run_id OR t.version = s.version "
            "WHEN MATCHED AND t.run_id = s.run_id AND t.attempt < s.attempt THEN UPDATE SET attempt = s.attempt, "
            "created_at = s.created_at, parameters = s.parameters, metrics = s.metrics "
            "WHEN NOT MATCHED THEN INSERT *"
        ).first()
        return counts is not None and counts.asDict().get("num_inserted_rows") == 1

    def _has_rows(self, attempts: str) -> bool:
        first = tables.read(self._spark, self._address(FIRST_WRITTEN))
        return first.where(attempts).select("attempt").first() is not None

    def delete_attempts(self, attempts: str) -> None:
        """Delete the rows of attempts that meet a SQL condition from all tables of models; may be repeated."""
        lacking = [name for name, spec in MODEL_TABLES.items() if spec.may_lack and not self._has_table(name)]
        others = [self._address(name) for name in MODEL_TABLES if name not in (FIRST_WRITTEN, *lacking)]
        at_once(self._spark, [partial(tables.delete, self._spark, address, attempts) for address in others])
        tables.delete(self._spark, self._address(FIRST_WRITTEN), attempts)

    def _has_table(self, name: str) -> bool:
        return tables.exists(self._spark, self._address(name))

    def _address(self, name: str) -> str:
        return self._location.table(MODEL_TABLES[name].stored_as)


def check_run_id(run_id: str) -> str:
    """Return a run id, or raise StoreError when it has characters that cannot stand in a path or a key."""
    if not _RUN_ID.match(run_id):
        raise StoreError(f"run id {run_id!r} is not usable: take 1 to 200 letters, digits or any of _ . : + @ = -")
    return run_id


def _version_for(run_id: str, published: list[ModelVersion]) -> int:
    own = [model.version for model in published if model.run_id == run_id]
    return own[0] if own else 1 + max((model.version for model in published), default=0)


def _fit_columns(df: DataFrame, name: str, spec: ModelTable) -> DataFrame:
    missing = [column for column in spec.columns if column not in (*df.columns, *spec.optional)]
    if missing:
        raise StoreError(f"table {name} of the model to publish lacks the column {missing[0]!r}; it has {df.columns}")
    given = {column: kind for column, kind in spec.columns.items() if column in df.columns}
    casts = [F.col(c).cast(kind).alias(c) if kind else F.col(c) for c, kind in given.items()]
    extra = [F.col(column) for column in df.columns if column not in spec.columns] if spec.open_ended else []
    return df.select(*casts, *extra)


def _new_attempt() -> str:
    # Sorts by its start: an older attempt of the same run neither replaces nor deletes a newer one.
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex}"


def _json(values: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(values), sort_keys=True)
    except TypeError as error:
        raise StoreError(f"the parameters or metrics of a model must be JSON values: {error}") from error
