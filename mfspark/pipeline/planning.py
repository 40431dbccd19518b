"""The command ``mfspark-plan``: what a fit of ALS will take, for a table of ratings or for bare counts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from mfspark.data import Source, read_ratings
from mfspark.errors import MFSparkError, ParameterError
from mfspark.session import memory_bytes, spark_session, usual_driver_limit
from mfspark.training.cost import Cluster, Counts, Plan, counted_pairs, plan

SERIES = (
    (Counts(10**6, 6_040, 3_706), 1, 2, "4g"),
    (Counts(10**7, 47_789, 17_770), 1, 2, "4g"),
    (Counts(10**8, 480_189, 17_770), 2, 4, "16g"),
    (Counts(10**9, 5_000_000, 200_000), 4, 8, "64g"),
    (Counts(10**10, 100_000_000, 5_000_000), 32, 16, "128g"),
    (Counts(10**11, 1_000_000_000, 100_000_000), 400, 16, "128g"),
)
"""The table of jobs/README.md: counts, executors, cores of each, memory of each."""
_HEADER = (
    "ratings", "users", "items", "executors x cores", "carrier", "blocks", "shuffled a sweep", "executor", "driver",
    "hours (10 it.)",
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Print the plan; return 0, or 2 where the arguments or the table are wrong."""
    arguments = _parser().parse_args(argv)
    try:
        lines = list(_series(arguments)) if arguments.series else _one(arguments)
        sys.stdout.write("\n".join(lines) + "\n")
    except (MFSparkError, ValueError) as error:
        sys.stderr.write(f"mfspark-plan: {error}\n")
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("mfspark-plan", description=__doc__)
    whole = {"type": lambda text: int(float(text))}
    parser.add_argument("--table", help="ratings: a path or a table name, counted by Spark")
    parser.add_argument("--format", default="auto", help="of the table, as source.format of the jobs")
    for name in ("user", "item", "rating"):
        parser.add_argument(f"--{name}", default=name, help="column of the table")
    for name in ("ratings", "users", "items"):
        parser.add_argument(f"--{name}", help="bare count (1e9 is a number)", **whole)  # type: ignore[arg-type]
    parser.add_argument("--rank", default=64, help="factors (default 64)", **whole)  # type: ignore[arg-type]
    parser.add_argument("--iterations", default=10, help="sweeps (default 10)", **whole)  # type: ignore[arg-type]
    parser.add_argument("--executors", default=2, help="default 2", **whole)  # type: ignore[arg-type]
    parser.add_argument("--cores", default=4, help="of an executor (default 4)", **whole)  # type: ignore[arg-type]
    parser.add_argument("--memory", default="16g", help="of an executor (default 16g)")
    parser.add_argument("--driver-memory", default="8g", help="default 8g")
    parser.add_argument("--network", default=1.0, type=float, help="GB/s of an executor (default 1)")
    parser.add_argument("--series", action="store_true", help="the table for 1 M to 100 billion ratings")
    return parser


def _cluster(arguments: argparse.Namespace, executors: int, cores: int, memory: str) -> Cluster:
    for name, value in (("executors", executors), ("cores", cores), ("network", arguments.network)):
        if value <= 0:
            raise ParameterError(f"--{name} must be above 0, not {value:g}")
    try:
        limit, bytes_each = usual_driver_limit(memory_bytes(arguments.driver_memory)), memory_bytes(memory)
    except AttributeError:
        raise ParameterError("--memory and --driver-memory are amounts such as 512m or 16g") from None
    return Cluster(executors, cores, bytes_each, limit, arguments.network * 1e9)


def _one(arguments: argparse.Namespace) -> list[str]:
    cluster = _cluster(arguments, arguments.executors, arguments.cores, arguments.memory)
    if arguments.table is None:
        counts = Counts(arguments.ratings or 0, arguments.users or 0, arguments.items or 0)
        if min(counts) < 1 or arguments.rank < 1:
            raise ParameterError("give --table, or --ratings, --users and --items, all above 0; --rank too")
        return _lines(counts, arguments, cluster, plan(counts, arguments.rank, cluster, arguments.iterations))
    return _of_table(arguments, cluster)


def _of_table(arguments: argparse.Namespace, cluster: Cluster) -> list[str]:
    spark = spark_session("mfspark-plan")
    source = Source(arguments.table, arguments.format, arguments.user, arguments.item, arguments.rating, None)
    ratings = read_ratings(spark, source).select("user", "item").na.drop()
    histograms = [_histogram(ratings, side) for side in ("user", "item")]
    numbers = [sum(rows for _, rows in histogram) for histogram in histograms]
    counts = Counts(sum(n * rows for n, rows in histograms[0]), *numbers)
    if min(counts) < 1:
        raise ParameterError(f"{arguments.table} has no ratings: check the path and the columns")
    first = plan(counts, arguments.rank, cluster, arguments.iterations)
    expected = [counted_pairs(histogram, first.blocks) for histogram in histograms]
    measured = [_pairs(ratings, fixed, other, first.blocks) for fixed, other in (("user", "item"), ("item", "user"))]
    found = plan(counts, arguments.rank, cluster, arguments.iterations, (measured[0], measured[1]))
    unit = 4.0 * arguments.rank
    note = f"exchange     {_size(unit * sum(expected))} a sweep by the formula, {_size(unit * sum(measured))} counted"
    return [*_lines(counts, arguments, cluster, found), note]


def _histogram(ratings: DataFrame, side: str) -> list[tuple[int, int]]:
    """Return how many ratings a row of a side has, and how many rows have so many."""
    found = ratings.groupBy(side).count().groupBy("count").agg(F.count("*").alias("rows")).collect()
    return [(row["count"], row["rows"]) for row in found]


def _pairs(ratings: DataFrame, fixed: str, other: str, blocks: int) -> int:
    """Count the (block, row) pairs of the fixed side, the other one cut by a hash."""
    return ratings.select(fixed, F.pmod(F.xxhash64(other), F.lit(blocks))).distinct().count()


def _lines(counts: Counts, arguments: argparse.Namespace, cluster: Cluster, found: Plan) -> list[str]:
    spills = f", of which {_size(cluster.memory)} in memory and the rest on disk"
    return [
        f"data         {_count(counts.ratings)} ratings, {_count(counts.users)} users, {_count(counts.items)} items, "
        f"rank {arguments.rank}",
        f"cluster      {cluster.executors} executors of {cluster.cores} cores and {_size(cluster.memory)}, "
        f"driver {arguments.driver_memory}",
        f"blocks       {found.blocks:,} a side",
        f"carrier      {found.carrier} (ids and factors are {_size(found.sides)}, the driver may hold "
        f"{_size(cluster.driver_limit)})",
        f"shuffled     {_size(found.shuffled)} a sweep",
        f"executor     {_size(found.executor)}{spills if found.executor > cluster.memory else ''}",
        f"driver       {_size(found.driver)}",
        f"time         blocks {_time(found.blocks_seconds)}, a sweep {_time(found.sweep_seconds)}, "
        f"{arguments.iterations} iterations {_time(3600 * found.hours)}",
    ]


def _series(arguments: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of the table in jobs/README.md, in Markdown."""
    yield "| " + " | ".join(_HEADER) + " |"
    yield "|" + "---|" * len(_HEADER)
    for counts, executors, cores, memory in SERIES:
        found = plan(counts, arguments.rank, _cluster(arguments, executors, cores, memory), 10)
        cells = [_count(number) for number in counts] + [f"{executors} x {cores}", found.carrier, f"{found.blocks:,}"]
        cells += [_size(found.shuffled), _size(found.executor), _size(found.driver), f"{found.hours:.2g}"]
        yield "| " + " | ".join(cells) + " |"


def _count(number: int) -> str:
    for unit, name in ((10**9, " B"), (10**6, " M"), (10**3, " k")):
        if number >= unit:
            return f"{number / unit:.3g}{name}"
    return str(number)


def _size(number: float) -> str:
    for power, name in ((4, "TB"), (3, "GB"), (2, "MB")):
        if number >= 0.9995 * 1000**power:
            return f"{number / 1000**power:.3g} {name}"
    return f"{number / 1000:.3g} kB"


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.2g} min" if seconds < 6000 else f"{seconds / 3600:.2g} h"
