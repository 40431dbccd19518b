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
aliases     alias, version, attempt, told; without an alias the     one overwrite per change
            mark of a retired version
==========  ======================================================  ==========================
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from itertools import takewhile
from typing import Any, Protocol

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from mfspark.errors import StoreError
from mfspark.store import tables
from mfspark.store.aliases import Aliases
from mfspark.store.compare import Comparison, compare
from mfspark.store.publishing import Publisher, listed
from mfspark.store.retention import Retirement, retire
from mfspark.store.schemas import ATTEMPT_COLUMNS, MODEL_TABLES, ModelTable, ModelVersion
from mfspark.store.standing import Alias, find
from mfspark.store.tables import Location


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
    >>> registry.promote(published.version)
    >>> registry.get("champion")
    """

    def __init__(self, spark: SparkSession, location: str | Location):
        self.spark = spark
        self.location = location if isinstance(location, Location) else Location(location)
        self._publisher = Publisher(spark, self.location)
        self._aliases = Aliases(spark, self.location)

    def list(self) -> builtins.list[ModelVersion]:
        """Return every published model, oldest first (empty where nothing was published yet)."""
        return listed(self.spark, self.location)

    def get(self, version: int | str | None = None, run_id: str | None = None) -> ModelVersion:
        """Return one published model: the latest (also by the name "latest"), a version number, an alias, a run id's.

        Raises
        ------
        StoreError
            There is no such model, or it was retired; the message lists those that exist.
        ValueError
            Both a version and a run id were given.
        """
        if version is not None and run_id is not None:
            raise ValueError("give a version or a run id, not both")
        return find(self.list(), version, self._aliases.read, self.location.root, run_id)

    def aliases(self) -> dict[str, Alias]:
        """Return every alias by its name, in order (empty where nothing was promoted yet)."""
        return self._aliases.read().aliases

    def alias(self, name: str) -> Alias:
        """Return an alias: where it points, and where it pointed before.

        Raises
        ------
        StoreError
            There is none of that name; the message lists those that exist.
        """
        return self._aliases.read().alias(name, self.location.root)

    def promote(self, version: int | str, alias: str = "champion", by: str = "promote") -> Alias:
        """Let an alias point at a version, by one commit; an alias that does so already is left alone.

        Parameters
        ----------
        version : int or str
            A version number, "latest" or another alias.
        alias : str, default "champion"
            A letter, then at most 63 letters, digits, ``_``, ``.`` or ``-``.
        by : str, default "promote"
            What the alias' history is to say about it.

        Raises
        ------
        StoreError
            There is no such version, or it was retired, or the alias' name is not usable.
        """
        return self._aliases.promote(self.get(version).version, alias, by)

    def rollback(self, alias: str = "champion", by: str = "rollback") -> Alias:
        """Let an alias point at the version before, by one commit; called again it goes back further.

        Parameters
        ----------
        alias : str, default "champion"
            Its name.
        by : str, default "rollback"
            What the alias' history is to say about it.

        Raises
        ------
        StoreError
            There is no such alias, or no version before that still exists.
        """
        return self._aliases.rollback(alias, by)

    def compare(self, a: int | str, b: int | str) -> Comparison:
        """Return what differs between two versions: metrics, parameters, ids gained and lost, drift of the factors.

        The factors of the first are rotated onto those of the second before they are compared, since a rotation changes
        no prediction. Of ids beyond 64 MB of factors a sample is compared, chosen by a hash of the id.

        Parameters
        ----------
        a, b : int or str
            Version numbers or aliases.

        Raises
        ------
        StoreError
            There is no such version.
        """
        return compare(self.spark, self.location, self.load, self.get(a), self.get(b))

    def retire(
        self, keep: int, dry_run: bool = False, vacuum_hours: float | None = None, force: bool = False
    ) -> Retirement:
        """Delete the rows of versions that are not among the newest, under no alias, nor where a rollback would go.

        What is deleted is gone for those who look it up from now on; a reader at work keeps its files until they are
        vacuumed. A retirement that was killed goes on where it stopped, with the next one.

        Parameters
        ----------
        keep : int
            How many of the newest versions stay in any case, >= 1.
        dry_run : bool, default False
            Only tell what would be done.
        vacuum_hours : float, optional
            Delete also the files that the model tables have needed no more for so many hours: 168, seven days, or more.
            By default no files are deleted.
        force : bool, default False
            Take fewer hours, which breaks whoever reads or writes an older state at the moment.

        Raises
        ------
        StoreError
            ``keep`` or ``vacuum_hours`` is too small; the message says why.
        """
        return retire(self.spark, self.location, keep, dry_run, vacuum_hours, force)

    def newest_other(self, run_id: str) -> ModelVersion | None:
        """Return the newest model from before a run, None where there is none.

        For a run that has published already that is the version before its own: a repeated run starts where it did.
        """
        before = [*takewhile(lambda model: model.run_id != run_id, self.list())]
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
        """Publish a fitted model as the version of a run; ``mfspark.Registry.load_model`` brings it back.

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
        return self._publisher.publish(run_id, model_tables, parameters, metrics)

    def _read_attempt(self, model: ModelVersion, spec: ModelTable) -> DataFrame | None:
        address = self.location.table(spec.stored_as)
        rows = tables.find(self.spark, address) if spec.may_lack else tables.read(self.spark, address)
        if rows is None:
            return None
        own = rows.where((F.col("run_id") == model.run_id) & (F.col("attempt") == model.attempt))
        return own.drop(*ATTEMPT_COLUMNS)
