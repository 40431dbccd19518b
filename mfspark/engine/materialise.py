"""How the frame of blocks is kept between half steps: named strategies, since not every platform has every way."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import DataFrame

from mfspark.errors import ParameterError

Kept = tuple[DataFrame, Callable[[], None]]
Table = Callable[[DataFrame], DataFrame]


def _persist(frame: DataFrame, level: str | None, table: Table | None) -> Kept:  # noqa: ARG001
    """Cache on the executors, spilling to disk; computed by its first use."""
    kept = frame.persist() if level is None else frame.persist(storage_level(level))
    return kept, lambda: _quietly(kept.unpersist)


def _checkpoint(frame: DataFrame, level: str | None, table: Table | None) -> Kept:  # noqa: ARG001
    """Cut the lineage with a local checkpoint; computed at once."""
    return frame.localCheckpoint(eager=True), lambda: None


def _delta(frame: DataFrame, level: str | None, table: Table | None) -> Kept:  # noqa: ARG001
    """Write to a table and read it back: works where nothing can be cached."""
    if table is None:
        raise ParameterError("materializer 'delta' needs a folder for its table: set workPath")
    return table(frame), lambda: None


def _none(frame: DataFrame, level: str | None, table: Table | None) -> Kept:  # noqa: ARG001
    """Keep nothing: every half step builds the blocks again."""
    return frame, lambda: None


MATERIALIZERS = {"persist": _persist, "checkpoint": _checkpoint, "delta": _delta, "none": _none}
"""The strategies by name."""


def materialise(frame: DataFrame, how: str, level: str | None = None, table: Table | None = None) -> Kept:
    """Keep a frame, and return it with the function that lets it go.

    Parameters
    ----------
    frame : DataFrame
        What to keep.
    how : str
        A key of MATERIALIZERS, or "auto": persist; where the platform refuses that, a table (with ``table``), or
        nothing.
    level : str, optional
        A storage level for "persist", as MLlib's intermediateStorageLevel.
    table : callable, optional
        Writes a frame and returns it read back, for "delta".
    """
    if how != "auto":
        return MATERIALIZERS[how](frame, level, table)
    try:
        return _persist(frame, level, table)
    except Exception as refusal:
        if "PERSIST" not in str(refusal).upper() and "CACHE" not in str(refusal).upper():
            raise
        return MATERIALIZERS["none" if table is None else "delta"](frame, level, table)


def storage_level(name: str):  # type: ignore[no-untyped-def]
    """Return pyspark's storage level of that name.

    Raises
    ------
    ParameterError
        There is none of that name.
    """
    from pyspark import StorageLevel

    known = [key for key in vars(StorageLevel) if key.isupper() and key != "NONE"]
    if name not in known:
        raise ParameterError(f"a storage level must be one of {', '.join(known)}, not {name!r}")
    return getattr(StorageLevel, name)


def _quietly(action: Callable[[], object]) -> None:
    try:
        action()
    except Exception:  # noqa: BLE001 - a session that is gone has nothing left to release
        return
