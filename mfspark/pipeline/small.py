"""What a session is set to where all that its jobs will read is small, so that starting up is most of their time."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator

from mfspark.config import Config
from mfspark.store import Location

SMALL = 2 << 20
"""Bytes: about 100,000 ratings as text."""
SMALL_TABLES = {
    # What pays at scale (compiled and adaptive plans, plans written out for a UI) costs more here than it saves.
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.maxPlanStringLength": "1000",
    "spark.sql.ui.explainMode": "simple",
}
SHORT_RUN = {"spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}
"""Java for a program of seconds: its second compiler would keep a core busy and never be paid back."""


def settings_for(config: Config) -> dict[str, str]:
    """Return what suits a source, and ratings already in the store, that are small files of this machine, else none.

    Nothing is changed of a session that is not local, or that ``spark-submit`` has started.
    """
    master = config.spark.master or os.environ.get("MASTER") or "local"
    if not master.startswith("local") or {"PYSPARK_GATEWAY_PORT", "SPARK_REMOTE"} & os.environ.keys():
        return {}
    source, stored = config.source.path, Location(config.store.location).table("ratings")
    if config.source.format == "synthetic" or not _found(source) or config.train.path not in (None, source):
        return {}
    size = sum(os.path.getsize(file) for path in (source, stored) for file in _files(path))
    return SMALL_TABLES | SHORT_RUN if size <= SMALL else {}


def _found(path: str) -> list[str]:
    """Return what is there of a name or a glob."""
    path = path.removeprefix("file:")
    return [path] if os.path.exists(path) else glob.glob(path)


def _files(path: str) -> Iterator[str]:
    """Return the files at a path, also in its folders."""
    for found in _found(path):
        if not os.path.isdir(found):
            yield found
        for folder, _, names in os.walk(found):
            yield from (os.path.join(folder, name) for name in names)
