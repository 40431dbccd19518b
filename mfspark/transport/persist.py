"""How the frame of blocks is kept between half steps: named strategies, since not every platform has every way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from pyspark import StorageLevel
from pyspark.sql import DataFrame

from mfspark.errors import ParameterError
from mfspark.session import drop_checkpoint

Table = Callable[[DataFrame], DataFrame]


class Kept(NamedTuple):
    """A frame that is kept, and the function that lets it go (None where nothing is kept)."""

    frame: DataFrame
    let_go: Callable[[], None] | None


def _persist(frame: DataFrame, level: str | None, table: Table | None) -> Kept:  # noqa: ARG001
    """Cache on the executors, spilling to disk; computed by its first use."""
    kept = frame.persist() if level is None else frame.persist(storage_level(level))
    return Kept(kept, lambda: _quietly(kept.unpersist))


def _checkpoint(frame: DataFrame, level: str | None, table: Table | None) -> Kept:  # noqa: ARG001
    """Cut the lineage with a local checkpoint, on a cluster in two copies, since nothing else is left of it."""
    spark = frame.sparkSession
    local = str(spark.conf.get("spark.master", "local")).startswith("local")
    kept = frame.localCheckpoint(True, storage_level("MEMORY_AND_DISK" if local else "MEMORY_AND_DISK_2"))

    return Kept(kept, lambda: _quietly(lambda: drop_checkpoint(kept)))


def lost(error: Exception) -> bool:
    """Return whether a job failed for a checkpoint that went with its executors."""
    return "CHECKPOINT_RDD_BLOCK_ID_NOT_FOUND" in str(error) or "Checkpoint block" in str(error)


def _delta(frame: DataFrame, level: str | None, table: Table | None) -> Kept:  # noqa: ARG001
    """Write to a table and read it back: works where nothing can be cached."""
    if table is None:
        raise ParameterError("materializer 'delta' needs a folder for its table: set workPath")
    return Kept(table(frame), lambda: None)


def _none(frame: DataFrame, level: str | None, table: Table | None) -> Kept:  # noqa: ARG001
    """Keep nothing: every half step builds the blocks again."""
    return Kept(frame, None)


MATERIALIZERS = {"persist": _persist, "checkpoint": _checkpoint, "delta": _delta, "none": _none}
"""The strategies by name."""


@dataclass(frozen=True)
class Materialiser:
    """How frames are kept.

    Parameters
    ----------
    how : str
        A key of MATERIALIZERS, or "auto": persist; where the platform refuses that, a table (with ``table``), or
        nothing.
    level : str, optional
        A storage level for "persist", as MLlib's intermediateStorageLevel.
    table : callable, optional
        Writes a frame and returns it read back, for "delta".
    """

    how: str = "auto"
    level: str | None = None
    table: Table | None = None

    def keep(self, frame: DataFrame) -> Kept:
        """Keep a frame, and return it with the function that lets it go (None where nothing is kept)."""
        if self.how != "auto":
            return MATERIALIZERS[self.how](frame, self.level, self.table)
        try:
            return _persist(frame, self.level, self.table)
        except Exception as refusal:
            if "PERSIST" not in str(refusal).upper() and "CACHE" not in str(refusal).upper():
                raise
            return MATERIALIZERS["none" if self.table is None else "delta"](frame, self.level, self.table)

    def cut(self, frame: DataFrame) -> Kept:
        """Compute a frame, keep it and cut its lineage, so that plans do not grow from iteration to iteration.

        Raises
        ------
        ParameterError
            The platform lets no frame be checkpointed, and there is no folder for a table.
        """
        if self.how == "delta":
            return _delta(frame, self.level, self.table)
        try:
            return _checkpoint(frame, self.level, self.table)
        except Exception as refusal:
            if lost(refusal) or "CHECKPOINT" not in str(refusal).upper() and "PERSIST" not in str(refusal).upper():
                raise
            return _delta(frame, self.level, self.table)


class Workspace:
    """The frames a fit keeps, let go at the end of the ``with`` block."""

    def __init__(self, materialiser: Materialiser) -> None:
        self.materialiser = materialiser
        self._actions: dict[int, Callable[[], object]] = {}
        self._handed_over: list[Callable[[], None]] = []

    def __enter__(self) -> Workspace:
        """Return the workspace."""
        return self

    def __exit__(self, *error: object) -> None:
        """Let everything go; after an error also what was handed over."""
        for action in [*self._actions.values(), *(self._handed_over if error[0] is not None else [])]:
            _quietly(action)

    def later(self, action: Callable[[], object]) -> None:
        """Have an action done at the end."""
        self._actions[id(action)] = action

    def keep(self, frame: DataFrame) -> DataFrame:
        """Keep a frame until the end."""
        kept, let_go = self.materialiser.keep(frame)
        if let_go is not None:
            self._actions[id(kept)] = let_go
        return kept

    def compute(self, frame: DataFrame) -> DataFrame:
        """Keep a frame until the end, and compute it now: later plans then count on how it lies."""
        kept = self.keep(frame)
        if id(kept) in self._actions:
            kept.select(kept.columns[0]).count()
        return kept

    def drop(self, frame: DataFrame) -> None:
        """Let go of a frame before the end."""
        action = self._actions.pop(id(frame), None)
        if action is not None:
            _quietly(action)

    def hand_over(self, frame: DataFrame, release: Callable[[], None]) -> tuple[DataFrame, Callable[[], None]]:
        """Keep a frame beyond the end, and return it with the function that lets it go, and then what it is made of."""
        kept, let_go = self.materialiser.keep(frame)

        def end() -> None:
            for action in (let_go, release):
                if action is not None:
                    _quietly(action)

        self._handed_over.append(end)
        return kept, end

    def replace(self, old: DataFrame, frame: DataFrame) -> DataFrame:
        """Keep a frame computed from an old one, which is let go as soon as the new one is there."""
        kept = self.compute(frame)
        if id(kept) in self._actions:
            self.drop(old)
        return kept


STORAGE_LEVELS: dict[str, tuple[bool, bool, bool, bool, int]] = {
    "NONE": (False, False, False, False, 1),
    "DISK_ONLY": (True, False, False, False, 1),
    "DISK_ONLY_2": (True, False, False, False, 2),
    "DISK_ONLY_3": (True, False, False, False, 3),
    "MEMORY_ONLY": (False, True, False, True, 1),
    "MEMORY_ONLY_2": (False, True, False, True, 2),
    "MEMORY_ONLY_SER": (False, True, False, False, 1),
    "MEMORY_ONLY_SER_2": (False, True, False, False, 2),
    "MEMORY_AND_DISK": (True, True, False, True, 1),
    "MEMORY_AND_DISK_2": (True, True, False, True, 2),
    "MEMORY_AND_DISK_SER": (True, True, False, False, 1),
    "MEMORY_AND_DISK_SER_2": (True, True, False, False, 2),
    "MEMORY_AND_DISK_DESER": (True, True, False, True, 1),  # pyspark's name of what the JVM calls MEMORY_AND_DISK
    "OFF_HEAP": (True, True, True, False, 1),
}
"""Spark's storage levels by the names that MLlib takes, the JVM's: disk, memory, off heap, as objects, copies.

pyspark's own MEMORY_ONLY and MEMORY_AND_DISK are serialised, the JVM's are not.
"""


def storage_level(name: str) -> StorageLevel:
    """Return the storage level of a name of STORAGE_LEVELS.

    Raises
    ------
    ParameterError
        There is none of that name.
    """
    if name not in STORAGE_LEVELS:
        raise ParameterError(f"a storage level must be one of {', '.join(STORAGE_LEVELS)}, not {name!r}")
    return StorageLevel(*STORAGE_LEVELS[name])


def _quietly(action: Callable[[], object]) -> None:
    try:
        action()
    except Exception:  # noqa: BLE001 - a session that is gone has nothing left to release
        return
