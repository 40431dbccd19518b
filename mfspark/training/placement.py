"""Where a loop runs: as jobs that the driver starts one by one, or inside the tasks of one barrier stage."""

from __future__ import annotations

from typing import NamedTuple

from pyspark.sql import DataFrame, SparkSession

from mfspark.errors import ParameterError
from mfspark.session import default_parallelism, is_connect

LOOPS = ("auto", "jobs", "barrier")
OLD_LOOPS = {"gang": "barrier"}
"""Former names that are still accepted."""


class Placement(NamedTuple):
    """The number of barrier tasks that run a loop together, or 0 for jobs that the driver starts one by one."""

    tasks: int

    @property
    def barrier(self) -> bool:
        """Whether the loop runs inside tasks."""
        return self.tasks > 0


JOBS = Placement(0)


def choose(spark: SparkSession, loop: str, blocks: int, plain: bool = True) -> Placement:
    """Decide where a loop runs whose tasks hold one block of each side.

    Parameters
    ----------
    spark : SparkSession
        Its slots, its kind and its configuration count.
    loop : str
        One of LOOPS (or OLD_LOOPS); "auto" is a barrier stage on one machine with a slot for every task, else jobs.
    blocks : int
        How many tasks there would be.
    plain : bool
        Whether nothing else was asked for (a carrier, a way of keeping blocks) that only jobs do.

    Raises
    ------
    ParameterError
        "barrier" is asked for where not all tasks can run at once.
    """
    loop, slots = OLD_LOOPS.get(loop, loop), default_parallelism(spark)
    if loop == "jobs" or (loop == "auto" and not (plain and blocks <= slots and _one_machine(spark))):
        return JOBS
    if blocks > slots:
        raise ParameterError(f"loop 'barrier' runs all {blocks} blocks at once, but there are {slots} slots")
    return _checked(spark, Placement(blocks), "loop='jobs' to train without a barrier stage")


def share(spark: SparkSession, blocks: int, most: int | None = None) -> Placement:
    """Decide how many barrier tasks share d blocks: the largest divisor of d that the slots can run at once.

    Parameters
    ----------
    spark : SparkSession
        Its slots and its configuration count.
    blocks : int
        d.
    most : int, optional
        The slots there are, where that is known to be less than the session says.
    """
    tasks = task_count(blocks, most or default_parallelism(spark))
    return _checked(spark, Placement(tasks), "numUserBlocks=1 to train in a single task")


def task_count(blocks: int, slots: int) -> int:
    """Return the largest divisor of the number of blocks that is at most the number of slots."""
    return max(n for n in range(1, blocks + 1) if blocks % n == 0 and n <= max(slots, 1))


def _one_machine(spark: SparkSession) -> bool:
    if is_connect(spark) or not hasattr(DataFrame, "repartitionById"):
        return False
    return str(spark.sparkContext.master).startswith("local")


def _checked(spark: SparkSession, placement: Placement, instead: str) -> Placement:
    """Return the placement, or raise ParameterError where Spark cannot start several tasks together."""
    dynamic = str(spark.conf.get("spark.dynamicAllocation.enabled", "false")).lower() == "true"
    local = str(spark.conf.get("spark.master", "")).startswith("local")  # where Spark allocates nothing
    if placement.tasks > 1 and dynamic and not local:
        raise ParameterError(
            f"the fit starts its {placement.tasks} tasks together, which Spark refuses under dynamic allocation: set "
            f"spark.dynamicAllocation.enabled=false, or {instead}"
        )
    return placement
