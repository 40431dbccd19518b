"""Old versions go: first by a mark that no promotion can miss, then row by row; what is needed for a rollback stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from pyspark.sql import SparkSession

from mfspark.errors import StoreError
from mfspark.session import default_parallelism, settings_for_a_while
from mfspark.store import tables
from mfspark.store.aliases import Aliases, now
from mfspark.store.at_once import at_once
from mfspark.store.publishing import Publisher, listed
from mfspark.store.schemas import MODEL_TABLES, ModelVersion
from mfspark.store.standing import Mark, Standing
from mfspark.store.tables import Location, literal, sql_name

SAFE_HOURS = 168.0  # a reader that began so long ago still finds its files; what the database itself keeps
_LISTING = "spark.sql.sources.parallelPartitionDiscovery.parallelism"
_CHECK = "spark.databricks.delta.retentionDurationCheck.enabled"
_ATTEMPTS = 12


@dataclass(frozen=True)
class Retirement:
    """What a retirement did, or would do.

    Attributes
    ----------
    retired : tuple of int
        The versions whose rows are deleted.
    kept : tuple of int
        All others.
    vacuumed : tuple of str
        The tables whose old files are deleted.
    dry_run : bool
        Whether nothing was done.
    """

    retired: tuple[int, ...]
    kept: tuple[int, ...]
    vacuumed: tuple[str, ...]
    dry_run: bool

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        shown = [", ".join(map(str, versions)) or "none" for versions in (self.retired, self.kept)]
        return [
            f"{'to retire' if self.dry_run else 'retired':<12} {shown[0]}",
            f"kept         {shown[1]}",
            *(f"vacuumed     {address}" for address in self.vacuumed),
        ]


def check_retention(keep: int, vacuum_hours: float | None, force: bool) -> None:
    """Raise StoreError for numbers that would delete what somebody needs."""
    if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
        raise StoreError(f"keep={keep!r}: the newest version is always kept; give a whole number >= 1")
    if vacuum_hours is not None and not force and not vacuum_hours >= SAFE_HOURS:
        raise StoreError(
            f"vacuum_hours={vacuum_hours:g} is below {SAFE_HOURS:g} (7 days): a reader or writer that began before "
            "would lose its files; give more, or force it where nobody reads or writes"
        )
    if vacuum_hours is not None and not vacuum_hours >= 0:
        raise StoreError(f"vacuum_hours={vacuum_hours:g}: give a number of hours >= 0")


def to_retire(published: Sequence[ModelVersion], standing: Standing, keep: int) -> list[ModelVersion]:
    """Return the versions that are not among the newest, under no alias, and not where a rollback would go.

    Parameters
    ----------
    published : sequence of ModelVersion
        Oldest first.
    standing : Standing
        The aliases.
    keep : int
        How many of the newest stay, >= 1.
    """
    needed = {version for alias in standing.aliases.values() for version in (alias.version, *alias.trail[-2:])}
    return [model for model in published[:-keep] if model.version not in needed]


def retire(
    spark: SparkSession, location: Location, keep: int, dry_run: bool, vacuum_hours: float | None, force: bool
) -> Retirement:
    """Retire versions (see ``Registry.retire``).

    A version is marked in the table of aliases, then its row goes, then the rows of its tables; then the mark says that
    it is done. Whoever comes after a process that was killed in between goes on where it stopped.

    Parameters
    ----------
    spark : SparkSession
        The session.
    location : Location
        The store.
    keep, dry_run, vacuum_hours, force
        As ``Registry.retire`` takes them.
    """
    check_retention(keep, vacuum_hours, force)
    aliases = Aliases(spark, location)
    for _ in range(_ATTEMPTS):
        standing, published = aliases.read(), listed(spark, location)
        going = to_retire(published, standing, keep)
        unfinished = [mark for mark in standing.marks if not mark.done]
        leaving = {(model.version, model.attempt) for model in going} | {mark[:2] for mark in unfinished}
        gone = tuple(sorted(version for version, _ in leaving))
        kept = tuple(model.version for model in published if (model.version, model.attempt) not in leaving)
        if dry_run:
            return Retirement(gone, kept, (), True)
        known = {(mark.version, mark.attempt) for mark in standing.marks}
        new = [
            Mark(model.version, model.attempt, model.run_id, now(), False)
            for model in going
            if (model.version, model.attempt) not in known
        ]
        marks = [*standing.marks, *new]
        if not new or aliases.write(standing, standing.aliases, marks):
            break
    else:
        raise StoreError("no version was retired: promotions kept coming first; try again")
    waiting = [mark for mark in marks if not mark.done]
    if waiting:
        _delete(spark, location, waiting)
        _finish(aliases, waiting)
    vacuumed = () if vacuum_hours is None else vacuum(spark, location, vacuum_hours)
    return Retirement(gone, kept, vacuumed, False)


def _delete(spark: SparkSession, location: Location, marks: Sequence[Mark]) -> None:
    """Delete the rows of marked attempts: those of the table of versions first, so that nobody finds half a model."""
    attempts = f"attempt IN ({', '.join(literal(mark.attempt) for mark in marks)})"
    runs = f"run_id IN ({', '.join(literal(mark.run_id) for mark in marks)})"
    tables.delete(spark, location.table("models"), attempts)
    Publisher(spark, location).delete_attempts(f"{runs} AND {attempts}")


def _finish(aliases: Aliases, marks: Sequence[Mark]) -> None:
    own = {(mark.version, mark.attempt) for mark in marks}
    for _ in range(_ATTEMPTS):
        standing = aliases.read()
        done = [mark._replace(done=mark.done or mark[:2] in own) for mark in standing.marks]
        if aliases.write(standing, standing.aliases, done):
            return


def vacuum(spark: SparkSession, location: Location, hours: float) -> tuple[str, ...]:
    """Delete the files that no version of the models' tables younger than some hours needs, and return their addresses.

    Parameters
    ----------
    spark : SparkSession
        The session.
    location : Location
        The store.
    hours : float
        Below 168 only where nobody reads or writes.
    """
    addresses = [location.table(spec.stored_as) for spec in MODEL_TABLES.values()]
    there = tuple(address for address in addresses if tables.exists(spark, address))
    # Every listing of folders would be 10,000 tasks: half a minute a table on a laptop.
    settings = {_LISTING: str(4 * default_parallelism(spark))} | ({_CHECK: "false"} if hours < SAFE_HOURS else {})
    # Some platforms let nobody change some settings.
    mine = {name: value for name, value in settings.items() if spark.conf.isModifiable(name) or name == _CHECK}
    with settings_for_a_while(spark, mine):
        at_once(spark, [partial(_vacuum, spark, address, hours) for address in there])
    return there


def _vacuum(spark: SparkSession, address: str, hours: float) -> None:
    spark.sql(f"VACUUM {sql_name(address)} RETAIN {hours:g} HOURS").collect()
