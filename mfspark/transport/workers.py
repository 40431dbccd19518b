"""Whether the workers of a session can run what the driver sends them, found out once and said in one line."""

from __future__ import annotations

import re
import sys
import weakref
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from mfspark.errors import SetupError
from mfspark.session import default_parallelism, is_connect

NEEDED = ("mfspark", "numpy", "pandas", "pyarrow", "numba", "scipy", "threadpoolctl")
"""What a worker imports."""
MOST_TASKS = 256
_checked: weakref.WeakSet[SparkSession] = weakref.WeakSet()


def check_workers(spark: SparkSession) -> None:
    """Run a tiny job, the first time for a session, that looks for everything a worker has to import.

    It has a task for every slot, so that nearly every executor is looked at. Called before the first job of every fit
    and of every use of a model.

    Parameters
    ----------
    spark : SparkSession
        Classic or Connect.

    Raises
    ------
    SetupError
        The workers' Python does not start, has another version than the driver's, or lacks mfspark or what it needs.
    """
    if spark in _checked:
        return
    try:
        tasks = min(default_parallelism(spark), MOST_TASKS)
        look = F.udf(_probe(NEEDED), "string", useArrow=False)  # left open, Spark warns of its type hints
        rows = spark.range(0, tasks, 1, tasks).select(look("id").alias("found")).collect()
    except Exception as error:
        reason = _reason(str(error))
        if reason is None:
            raise
        raise SetupError(_advice(reason, is_connect(spark))) from None
    found = [row["found"].split("\n") for row in rows]
    for executable, missing, host in found:
        if missing:
            where = "" if all(other[1] for other in found) else f" on {host} (not on all of them)"
            raise SetupError(_advice(f"the workers' Python {executable}{where} lacks {missing}", is_connect(spark)))
    _checked.add(spark)


def _probe(needed: tuple[str, ...]) -> Any:
    """Return the function of the job: one without a name of its own, so that it travels whole, not as an import."""

    def look(_: int) -> str:
        import importlib.util
        import socket
        import sys

        lacking = [name for name in needed if importlib.util.find_spec(name) is None]
        return "\n".join((sys.executable, ", ".join(lacking), socket.gethostname()))

    return look


def _reason(message: str) -> str | None:
    """Return what a failed job says about the workers' Python, if that is what it says."""
    versions = re.search(r"worker has different version: (.+?) than that in driver: ([\d.]*\d)", message)
    if versions:  # Spark 4.0 writes the first one as (3, 12)
        return f"the workers run Python {'.'.join(re.findall('[0-9]+', versions[1]))}, the driver {versions[2]}"
    program = re.search(r'Cannot run program "([^"]+)"', message)
    if program:
        return f"the workers' Python {program[1]} does not start"
    missing = re.search(r"No module named '([\w.]+)'", message)
    if missing:
        return f"the workers' Python lacks {missing[1]}"
    return None


def _advice(reason: str, connect: bool) -> str:
    if connect:
        return f"{reason}: install mfspark in the Python of the Connect server's workers (its spark.pyspark.python)"
    return (
        f"{reason}: start the session by mfspark.spark_session(), or set spark.pyspark.python (PYSPARK_PYTHON) to a "
        f"Python that has mfspark, here {sys.executable}; on a cluster {_shipping(reason)}"
    )


def _shipping(reason: str) -> str:
    """Return what brings to the nodes what they lack; `make dist` makes the files."""
    if reason.endswith("lacks mfspark"):
        return "install it on the nodes, or submit with --py-files dist/mfspark.zip (from make dist)"
    return (
        "install mfspark on the nodes (--py-files brings it alone), or submit with --archives "
        "dist/environment.tar.gz#environment --conf spark.pyspark.python=./environment/bin/python (from make dist)"
    )
