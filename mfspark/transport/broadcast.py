"""Broadcast variables that leave no files behind (classic sessions only).

pyspark writes what it broadcasts to a file in the driver's temporary folder, from which local workers read it, and
deletes that file when the session ends or the variable is destroyed: unpersisting keeps it. A variable with a known end
is destroyed there (``destroy``). One that belongs to a frame handed to a user has no such end in Python, since frames
derived from it do not name it; but Spark lets go of it when the JVM has collected the last plan with it, and this is
when its file goes, too: at the next ``send``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from mfspark.session import collected_by_jvm

_lock = threading.Lock()
_files: list[tuple[str, Callable[[], bool]]] = []  # a file, and whether the JVM has collected its variable


def send(spark: SparkSession, data: Any) -> Any:
    """Return a broadcast variable with the data, which must pickle."""
    sent: Any = spark.sparkContext.broadcast(data)
    collected = collected_by_jvm(spark, sent._jbroadcast)
    with _lock:
        _files[:] = [file for file in _files if not _gone(*file)]
        _files.append((sent._path, collected))
    return sent


def destroy(sent: Any) -> None:
    """Destroy a variable of ``send``, which no job uses any more: its blocks everywhere, and its file."""
    try:
        sent.destroy()
    except Exception:  # noqa: BLE001 - a session that is gone has nothing left to destroy, and must not hide why
        Path(sent._path).unlink(missing_ok=True)


def _gone(path: str, collected: Callable[[], bool]) -> bool:
    """Delete the file of a variable that the JVM has collected; return whether nothing is left of it."""
    if os.path.exists(path) and not collected():
        return False
    Path(path).unlink(missing_ok=True)
    return True
