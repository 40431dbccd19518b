"""Names for versions, and the marks of versions that are being retired: one small table, changed by whole commits.

Aliases and marks lie in one table because a promotion and a retirement must not miss each other: each is computed from
one version of the table and written only if that is still the newest, so that of two at once one is computed again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from pyspark.sql import SparkSession

from mfspark.errors import StoreError
from mfspark.store import tables
from mfspark.store.publishing import listed
from mfspark.store.schemas import ModelVersion
from mfspark.store.standing import ALIASES, Alias, Change, Mark, Standing, missing
from mfspark.store.tables import Location

KEPT_CHANGES, KEPT_TRAIL = 1_000, 100
_NAME = re.compile(r"^[A-Za-z][\w.-]{0,63}$")
_ATTEMPTS = 12


class Aliases:
    """The aliases of one store.

    Parameters
    ----------
    spark : SparkSession
        The session, classic or Connect.
    location : Location
        The store.
    """

    def __init__(self, spark: SparkSession, location: Location) -> None:
        self._spark, self._location = spark, location
        self._address = location.table("aliases")

    def read(self) -> Standing:
        """Return the aliases and marks as they are now."""
        if not tables.exists(self._spark, self._address):
            return Standing({}, (), None)
        at = tables.current_version(self._spark, self._address)
        rows = tables.read(self._spark, self._address, at).collect()
        return Standing.stored((row.asDict() for row in rows), at)

    def write(self, standing: Standing, aliases: Mapping[str, Alias], marks: Sequence[Mark]) -> bool:
        """Put other aliases and marks in the place of those that were read, unless somebody else was first."""
        if standing.at is None:
            tables.create(self._spark, self._address, ALIASES)
        rows = [*(alias.row() for alias in aliases.values()), *(mark.row() for mark in marks)]
        schema = ", ".join(f"{name} {kind}" for name, kind in ALIASES.items())
        written = self._spark.createDataFrame(rows, schema).coalesce(1)
        return tables.write_if_unchanged(written, self._address, standing.at or 0, "overwrite")

    def promote(self, version: int, name: str, by: str) -> Alias:
        """Let an alias point at a version (see ``Registry.promote``)."""
        if not _NAME.match(name) or name == "latest":
            raise StoreError(f"alias {name!r} is not usable: take a letter, then at most 63 letters, digits, _ . or -")
        for _ in range(_ATTEMPTS):
            standing = self.read()
            model = self._published(version, standing)
            before = standing.aliases.get(name, Alias(name, 0, (), ()))
            if before.history and before.version == version and before.history[-1].attempt == model.attempt:
                return before
            trail = before.trail if before.version == version else (*before.trail, version)
            after = _changed(before, model, trail, by)
            if self.write(standing, {**standing.aliases, name: after}, standing.marks):
                return after
        raise self._busy()

    def rollback(self, name: str, by: str) -> Alias:
        """Let an alias point where it pointed before (see ``Registry.rollback``)."""
        for _ in range(_ATTEMPTS):
            standing = self.read()
            before = standing.alias(name, self._location.root)
            there = {model.version: model for model in listed(self._spark, self._location)}
            trail = [old for old in before.trail[:-1] if old in there and standing.lives(there[old])]
            if not trail:
                raise StoreError(
                    f"alias {name!r} has no version before {before.version} to go back to: promote one by its number"
                )
            after = _changed(before, there[trail[-1]], tuple(trail), by)
            if self.write(standing, {**standing.aliases, name: after}, standing.marks):
                return after
        raise self._busy()

    def _published(self, version: int, standing: Standing) -> ModelVersion:
        published = listed(self._spark, self._location)
        for model in published:
            if model.version == version and standing.lives(model):
                return model
        mark = standing.retired(version)
        raise StoreError(missing(f"version {version}", published, mark, self._location.root))

    def _busy(self) -> StoreError:
        return StoreError(f"cannot write the table {self._address}: other writers kept coming first; try again")


def _changed(before: Alias, model: ModelVersion, trail: tuple[int, ...], by: str) -> Alias:
    change = Change(model.version, model.attempt, now(), by)
    history = (*before.history, change)[-KEPT_CHANGES:]
    return replace(before, version=model.version, trail=trail[-KEPT_TRAIL:], history=history)


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
