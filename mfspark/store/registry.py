"""Model versions: many rows in shared tables, made visible together by one atomic row.

A model's tables are appended first, marked with the run and with an *attempt* nobody knows yet: the users' ids before
all others, and then the others at once. The model exists from the moment its row stands in the ``models`` table. A
process killed before that leaves rows no reader looks at, which the next attempt of the same run removes.

==========  ======================================================  ==========================
table       rows                                                    written
==========  ======================================================  ==========================
user_factors, item_factors, model_user_ids, model_item_ids,         appended, one partition per
history, parameters                                                 ``run_id`` and ``attempt``
models      version, run_id, attempt, created_at, parameters,       one MERGE per publication
            metrics
==========  ======================================================  ==========================
"""

from __future__ import annotations

import builtins
import json
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from mfspark.errors import StoreError
from mfspark.store import tables
from mfspark.store.at_once import at_once
from mfspark.store.schemas import ATTEMPT_COLUMNS, MODEL_TABLES, MODELS, ModelTable, ModelVersion
from mfspark.store.tables import Location, literal

FIRST_WRITTEN = "user_ids"  # and last deleted: where an attempt has no row in it, it has none anywhere
_RUN_ID = re.compile(r"^[\w.:+@=-]{1,200}$")


class Publishable(Protocol):
    """A model as the store sees it: tables (MODEL_TABLES, but for ``parameters``) and numbers that JSON can hold."""

    def tables(self) -> dict[str, DataFrame]:
        """Return the tables by name."""

    def parameters(self) -> dict[str, Any]:
        """Return everything else."""


class Registry:
    """The published models of one store.

    Parameters
    ----------
    spark : SparkSession
        The session, classic or Connect.
    location : str or Location
        The store: a directory or ``catalog.schema``.

    Examples
    --------
    >>> registry = Registry(spark, "/data/store")
    >>> published = registry.publish("run-7", model)
    >>> registry.read(published, "user_factors")
    """

    def __init__(self, spark: SparkSession, location: str | Location):
        self._spark = spark
        self.location = location if isinstance(location, Location) else Location(location)
        self._models = self.location.table("models")

    def list(self) -> builtins.list[ModelVersion]:
        """Return every published model, oldest first (empty where nothing was published yet)."""
        rows = tables.find(self._spark, self._models)
        return [] if rows is None else sorted(ModelVersion.stored(row.asDict()) for row in rows.collect())

    def get(self, version: int | None = None, run_id: str | None = None) -> ModelVersion:
        """Return one published model: the latest, a version number, or a run id's.

        Raises
        ------
        StoreError
            There is no such model; the message lists those that exist.
        ValueError
            Both a version and a run id were given.
        """
        if version is not None and run_id is not None:
            raise ValueError("give a version or a run id, not both")
        published = self.list()
        if not published:
            raise StoreError(f"no model has been published in {self.location.root}: run a training job with this store")
        if version is None and run_id is None:
            return published[-1]
        for model in published:
            if model.version == version or model.run_id == run_id:
                return model
        wanted = f"version {version}" if version is not None else f"run id {run_id!r}"
        known = ", ".join(f"{model.version} (run {model.run_id})" for model in published[-10:])
        raise StoreError(f"no model of {wanted} in {self.location.root}; published versions: {known}")

    def newest_other(self, run_id: str) -> ModelVersion | None:
        """Return the newest model from before a run, None where there is none.

        For a run that has published already that is the version before its own: a repeated run starts where it did.
        """
        before: builtins.list[ModelVersion] = []
        for model in self.list():
            if model.run_id == run_id:
                break
            before.append(model)
        return before[-1] if before else None

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses of the tables that published models lie in."""
        stored = (*(spec.stored_as for spec in MODEL_TABLES.values()), "models")
        return tuple(self.location.table(name) for name in stored)

    def read(self, model: ModelVersion, table: str) -> DataFrame:
        """Return one table of a published model, without the columns that mark the attempt.

        Parameters
        ----------
        model : ModelVersion
            As returned by `get`, `list` or `publish`.
        table : str
            ``user_factors``, ``item_factors``, ``user_ids``, ``item_ids``, ``history`` or ``parameters``.

        Raises
        ------
        StoreError
            No such table, or the model has been replaced by a re-run since it was looked up.
        """
        found = self.load(model, [table])
        if table not in found:
            raise StoreError(f"version {model.version} (run {model.run_id}) was published without a table {table!r}")
        return found[table]

    def load(self, model: ModelVersion, names: builtins.list[str] | None = None) -> dict[str, DataFrame]:
        """Return several tables of one published model (default: all it has), all of the same attempt."""
        names = names or builtins.list(MODEL_TABLES)
        unknown = [name for name in names if name not in MODEL_TABLES]
        if unknown:
            raise StoreError(f"a model has no table {unknown[0]!r}; it has {', '.join(MODEL_TABLES)}")
        read = {name: self._read_attempt(model, MODEL_TABLES[name]) for name in names}
        found = {name: frame for name, frame in read.items() if frame is not None}
        # The tables above are snapshots: if the attempt is still the published one now, its rows are all in them.
        current = self.get(run_id=model.run_id)
        if current.attempt != model.attempt:
            raise StoreError(
                f"version {model.version} (run {model.run_id}) was replaced by a re-run at {current.created_at}: "
                "look the version up again"
            )
        return found

    def publish(
        self,
        run_id: str,
        model: Publishable,
        metrics: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
    ) -> ModelVersion:
        """Publish a fitted model as the version of a run; ``mfspark.load_model`` brings it back.

        Parameters
        ----------
        run_id : str
            Letters, digits and ``_ . : + @ = -``, at most 200. A run id that was published before keeps its version.
        model : Publishable
            The model.
        metrics : mapping, optional
            What was measured on it: anything JSON can hold.
        training : mapping, optional
            What it was trained on: anything JSON can hold.

        Returns
        -------
        ModelVersion
            Its ``parameters`` are ``{"model": model.parameters()}``, and ``"training"`` where it was given.

        Raises
        ------
        StoreError
            As ``publish_tables``.
        """
        parameters = {"model": model.parameters()} | ({} if training is None else {"training": dict(training)})
        return self.publish_tables(run_id, model.tables(), parameters, metrics)

    def publish_tables(
        self,
        run_id: str,
        model_tables: Mapping[str, DataFrame],
        parameters: Mapping[str, Any],
        metrics: Mapping[str, Any] | None = None,
    ) -> ModelVersion:
        """Write a model's tables, then make them the model of this run with one atomic row.

        A run id that was published before keeps its version number and gets the new attempt's rows; the rows of its
        earlier attempts, published or killed half-way, are deleted afterwards.

        Parameters
        ----------
        run_id : str
            Letters, digits and ``_ . : + @ = -``, at most 200.
        model_tables : mapping of str to DataFrame
            ``user_factors``, ``item_factors`` (id, features, bias), ``user_ids``, ``item_ids`` (id, index) and
            ``history``.
        parameters, metrics : mapping
            Anything JSON can hold.

        Raises
        ------
        StoreError
            A table or column is missing, the type of the ids is not the store's, or a later attempt of the same run
            has been published meanwhile.
        """
        check_run_id(run_id)
        attempt = _new_attempt()
        told = _json(parameters), _json(metrics or {})
        rows = self._prepare(run_id, attempt, model_tables, parameters)
        self._append(FIRST_WRITTEN, rows.pop(FIRST_WRITTEN))
        appends = [partial(self._append, name, frame) for name, frame in rows.items()]
        older = f"run_id = {literal(run_id)} AND attempt < {literal(attempt)}"
        asked: tuple[Callable[[], Any], ...] = partial(self._free_version, run_id), partial(self._has_rows, older)
        *_, version, stale = at_once(self._spark, [*appends, *asked])
        published = self._publish_row(version, run_id, attempt, *told)
        if stale:
            self._delete_attempts(older)
        return published

    def _prepare(
        self, run_id: str, attempt: str, model_tables: Mapping[str, DataFrame], parameters: Mapping[str, Any]
    ) -> dict[str, DataFrame]:
        """Return the rows of every table, after a check of all of them: nothing is written yet."""
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
        at_once(self._spark, checks)
        return prepared

    def _append(self, name: str, rows: DataFrame) -> None:
        more = MODEL_TABLES[name].open_ended
        tables.append(rows, self._address(name), ATTEMPT_COLUMNS, new_columns=more, checked=True)

    def _free_version(self, run_id: str) -> int:
        """Return the number of a run in the table of models, which is created where there is none."""
        tables.create(self._spark, self._models, MODELS, properties={"delta.isolationLevel": "Serializable"})
        return _version_for(run_id, self.list())

    def _publish_row(self, version: int, run_id: str, attempt: str, parameters: str, metrics: str) -> ModelVersion:
        while True:
            tables.retry_on_conflict(lambda v=version: self._merge(v, run_id, attempt, parameters, metrics))  # type: ignore[misc]
            published = self.list()
            own = next((model for model in published if model.run_id == run_id), None)
            if own is not None and own.attempt == attempt:
                return own
            if own is not None and own.attempt > attempt:
                raise StoreError(
                    f"run {run_id} was published by a later attempt as version {own.version}; this one is void"
                )
            # Another run took the version number between the look-up and the MERGE: take the next one.
            version = _version_for(run_id, published)

    def _merge(self, version: int, run_id: str, attempt: str, parameters: str, metrics: str) -> None:
        # A version number already taken matches and is left alone, so no number is ever given twice.
        source = (
            f"SELECT {version}L AS version, {literal(run_id)} AS run_id, {literal(attempt)} AS attempt, "
            f"current_timestamp() AS created_at, {literal(parameters)} AS parameters, {literal(metrics)} AS metrics"
        )
        self._spark.sql(
            f"MERGE INTO {tables.sql_name(self._models)} AS t USING ({source}) AS s "
            "ON t.run_id = s.run_id OR t.version = s.version "
            "WHEN MATCHED AND t.run_id = s.run_id AND t.attempt < s.attempt THEN UPDATE SET attempt = s.attempt, "
            "created_at = s.created_at, parameters = s.parameters, metrics = s.metrics "
            "WHEN NOT MATCHED THEN INSERT *"
        ).collect()

    def _has_rows(self, attempts: str) -> bool:
        first = tables.read(self._spark, self._address(FIRST_WRITTEN))
        return first.where(attempts).select("attempt").first() is not None

    def _delete_attempts(self, attempts: str) -> None:
        lacking = [name for name, spec in MODEL_TABLES.items() if spec.may_lack and not self._has_table(name)]
        others = [self._address(name) for name in MODEL_TABLES if name not in (FIRST_WRITTEN, *lacking)]
        at_once(self._spark, [partial(tables.delete, self._spark, address, attempts) for address in others])
        tables.delete(self._spark, self._address(FIRST_WRITTEN), attempts)

    def _has_table(self, name: str) -> bool:
        return tables.exists(self._spark, self._address(name))

    def _read_attempt(self, model: ModelVersion, spec: ModelTable) -> DataFrame | None:
        address = self.location.table(spec.stored_as)
        rows = tables.find(self._spark, address) if spec.may_lack else tables.read(self._spark, address)
        if rows is None:
            return None
        own = rows.where((F.col("run_id") == model.run_id) & (F.col("attempt") == model.attempt))
        return own.drop(*ATTEMPT_COLUMNS)

    def _address(self, name: str) -> str:
        return self.location.table(MODEL_TABLES[name].stored_as)


def check_run_id(run_id: str) -> str:
    """Return a run id, or raise StoreError when it has characters that cannot stand in a path or a key."""
    if not _RUN_ID.match(run_id):
        raise StoreError(f"run id {run_id!r} is not usable: take 1 to 200 letters, digits or any of _ . : + @ = -")
    return run_id


def _version_for(run_id: str, published: builtins.list[ModelVersion]) -> int:
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
