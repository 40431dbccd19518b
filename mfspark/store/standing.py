"""What the table ``aliases`` says: names for versions, and marks of versions that were retired. No Spark is needed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from mfspark.errors import StoreError
from mfspark.store.schemas import ModelVersion

# A row is an alias, or, without one, the mark of a version whose rows are being deleted or are gone.
ALIASES: Mapping[str, str] = {"alias": "string", "version": "bigint", "attempt": "string", "told": "string"}


@dataclass(frozen=True)
class Change:
    """One change of an alias.

    Attributes
    ----------
    version : int
        Where the alias points since then.
    attempt : str
        What was published under that number at the time.
    at : str
        When: ISO 8601, in UTC.
    by : str
        By what: "promote", "rollback", or what the caller said.
    """

    version: int
    attempt: str
    at: str
    by: str


@dataclass(frozen=True)
class Alias:
    """A name for one version of many: a row of the table ``aliases``.

    Attributes
    ----------
    name : str
        The alias.
    version : int
        Where it points.
    trail : tuple of int
        The versions that a rollback goes through, the present one last.
    history : tuple of Change
        All changes, the newest last; the oldest are forgotten beyond 1,000.
    """

    name: str
    version: int
    trail: tuple[int, ...]
    history: tuple[Change, ...]

    @classmethod
    def stored(cls, row: Mapping[str, Any]) -> Alias:
        """Return the alias of a row, in which trail and history are JSON."""
        told = json.loads(row["told"])
        history = tuple(Change(**change) for change in told["history"])
        return cls(row["alias"], row["version"], tuple(told["trail"]), history)

    def row(self) -> tuple[str, int, str, str]:
        """Return the row of the alias."""
        told = json.dumps({"trail": self.trail, "history": [asdict(change) for change in self.history]})
        return self.name, self.version, self.history[-1].attempt, told


class Mark(NamedTuple):
    """A version that was retired.

    Parameters
    ----------
    version : int
        Its number.
    attempt : str
        The attempt whose rows are deleted.
    run_id : str
        Its run.
    at : str
        When it was decided: ISO 8601, in UTC.
    done : bool
        Whether all rows are deleted.
    """

    version: int
    attempt: str
    run_id: str
    at: str
    done: bool

    def row(self) -> tuple[None, int, str, str]:
        """Return the row of the mark."""
        told = json.dumps({"run_id": self.run_id, "at": self.at, "done": self.done})
        return None, self.version, self.attempt, told


class Standing(NamedTuple):
    """The table ``aliases`` at one of its versions.

    Parameters
    ----------
    aliases : dict of str to Alias
        By name, in order.
    marks : tuple of Mark
        The retired versions, in order.
    at : int or None
        The table's version; None where there is no table.
    """

    aliases: dict[str, Alias]
    marks: tuple[Mark, ...]
    at: int | None

    @classmethod
    def stored(cls, rows: Iterable[Mapping[str, Any]], at: int | None) -> Standing:
        """Return what the rows of a version of the table say."""
        rows = list(rows)
        named = sorted((Alias.stored(row) for row in rows if row["alias"] is not None), key=lambda alias: alias.name)
        unnamed = [row for row in rows if row["alias"] is None]
        marks = sorted(Mark(row["version"], row["attempt"], **json.loads(row["told"])) for row in unnamed)
        return cls({alias.name: alias for alias in named}, tuple(marks), at)

    def retired(self, version: int | None, run_id: str | None = None) -> Mark | None:
        """Return the newest mark of a version, or of a run id; None where it was not retired."""
        found = (mark for mark in reversed(self.marks) if mark.version == version or mark.run_id == run_id)
        return next(found, None)

    def alias(self, name: str, root: str) -> Alias:
        """Return the alias of a name, or raise StoreError with those that exist in the store ``root``."""
        if name not in self.aliases:
            known = ", ".join(f"{alias.name} (version {alias.version})" for alias in self.aliases.values())
            told = f"aliases: {known}" if known else "no version has been promoted yet"
            raise StoreError(f"no alias {name!r} in {root}; {told}")
        return self.aliases[name]

    def lives(self, model: ModelVersion) -> bool:
        """Return whether a published model was not retired; an attempt before it may have been."""
        return not any(mark[:2] == (model.version, model.attempt) for mark in self.marks)


def number_of(asked: int | str) -> int | None:
    """Return the number that a version was asked for by; None for the name of an alias.

    Examples
    --------
    >>> number_of("7"), number_of(7), number_of("champion")
    (7, 7, None)
    """
    if isinstance(asked, str) and not asked.isdigit():
        return None
    return int(asked)


def find(
    published: Sequence[ModelVersion],
    version: int | str | None,
    standing: Callable[[], Standing],
    root: str,
    run_id: str | None = None,
) -> ModelVersion:
    """Return the published model that was asked for; by default, and by the name "latest", the newest.

    Parameters
    ----------
    published : sequence of ModelVersion
        What there is, oldest first.
    version : int, str or None
        A number, or an alias.
    standing : callable
        Reads the aliases, where they are needed.
    root : str
        The store, for messages.
    run_id : str, optional
        In place of a version: the run that published it.

    Raises
    ------
    StoreError
        There is no such model, or it was retired; the message lists those that exist.
    """
    if not published:
        raise StoreError(f"no model has been published in {root}: run a training job with this store")
    if run_id is None and version in (None, "latest"):
        return published[-1]
    number = None if version is None else number_of(version)
    if number is None and version is not None:
        number = standing().alias(str(version), root).version
    for model in published:
        if model.version == number or model.run_id == run_id:
            return model
    wanted = f"version {number}" if number is not None else f"run id {run_id!r}"
    raise StoreError(missing(wanted, published, standing().retired(number, run_id), root))


def missing(wanted: str, published: Sequence[ModelVersion], mark: Mark | None, root: str) -> str:
    """Return what is said where a model does not exist.

    Parameters
    ----------
    wanted : str
        In words.
    published : sequence of ModelVersion
        What there is.
    mark : Mark or None
        Where it was retired.
    root : str
        The store.
    """
    known = ", ".join(f"{model.version} (run {model.run_id})" for model in published[-10:])
    if mark is not None:
        wanted = f"version {mark.version} (run {mark.run_id}) in {root} was retired at {mark.at}"
    else:
        wanted = f"no model of {wanted} in {root}"
    return f"{wanted}; published versions: {known}"
