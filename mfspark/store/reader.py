"""The published models of a store, read without Spark: by the package ``deltalake``, into Arrow tables."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from mfspark.errors import SetupError, StoreError
from mfspark.store.schemas import MODEL_TABLES, ModelVersion
from mfspark.store.standing import Standing, find


class Reader:
    """A store that is only read, as ``Registry`` reads it, without a JVM.

    Parameters
    ----------
    location : str
        The store's folder, or its address (``s3://...``, ``abfss://...``, ``gs://...``).
    storage_options : mapping of str to str, optional
        What ``deltalake`` is told of the file system: credentials, region, endpoint.
    """

    def __init__(self, location: str, storage_options: Mapping[str, str] | None = None) -> None:
        self.location = location.rstrip("/")
        self._options = dict(storage_options or {})

    def exists(self) -> bool:
        """Return whether a model may have been published here."""
        return self._exists("models")

    def list(self) -> builtins.list[ModelVersion]:
        """Return every published model, oldest first (empty where nothing was published yet)."""
        if not self.exists():
            return []
        rows = self._open("models").to_pyarrow_table().to_pylist()
        return sorted(map(ModelVersion.stored, rows))

    def get(self, version: int | str | None = None) -> ModelVersion:
        """Return a published model by its number or an alias, the newest by default.

        Raises
        ------
        StoreError
            There is no such model; the message lists those that exist.
        """
        return find(self.list(), version, self._standing, self.location)

    def read(self, model: ModelVersion, names: Iterable[str]) -> dict[str, pa.Table]:
        """Return some tables of a model (keys of ``schemas.MODEL_TABLES``), all of its one attempt.

        A table that models may lack is left out where the store or the model has none.

        Raises
        ------
        StoreError
            The model has been replaced by a re-run since it was looked up.
        """
        own = [("run_id", "=", model.run_id), ("attempt", "=", model.attempt)]
        found = {}
        for name in names:
            spec = MODEL_TABLES[name]
            if spec.may_lack and not self._exists(spec.stored_as):
                continue
            table = self._open(spec.stored_as)
            columns = [field.name for field in table.schema().fields if field.name in spec.columns]
            rows = table.to_pyarrow_table(partitions=own, columns=columns)
            if rows.num_rows or not spec.may_lack:
                found[name] = rows
        # The tables above are snapshots: if the attempt is still the published one now, its rows are all in them.
        if self.get(model.version).attempt != model.attempt:
            raise StoreError(f"version {model.version} was replaced by a re-run: look the version up again")
        return found

    def _standing(self) -> Standing:
        if not self._exists("aliases"):
            return Standing({}, (), None)
        return Standing.stored(self._open("aliases").to_pyarrow_table().to_pylist(), None)

    def _exists(self, name: str) -> bool:
        return bool(_deltalake().DeltaTable.is_deltatable(self._address(name), self._options))

    def _address(self, name: str) -> str:
        return f"{self.location}/{name}"

    def _open(self, name: str) -> Any:
        try:
            return _deltalake().DeltaTable(self._address(name), storage_options=self._options or None)
        except _deltalake().exceptions.TableNotFoundError as error:
            raise StoreError(f"{self.location} has no table {name}: publish the model again") from error


def _deltalake() -> Any:
    try:
        import deltalake
        import deltalake.exceptions
    except ImportError as error:
        raise SetupError(
            "a store is read without Spark by the package deltalake: pip install mfspark[serve]"
        ) from error
    return deltalake
