"""A sweep on one executor of one core, and on two: a standalone cluster of this machine, for jobs and for exchange.

``python tests/bench/executors.py [--data FOLDER] [--size 10000000] [--rank 64] [--repeats 3]`` starts a cluster for
each measurement, in turns, on the ratings that ``make bench`` has put there, and prints medians and how many times as
fast two executors are. On a machine of two cores the driver has no core of its own.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from contenders import als, ratings_path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "cluster"))
from standalone import ROOT, cluster

LOOPS = {"jobs": dict(loop="jobs", carrier="broadcast"), "exchange": dict(carrier="exchange")}
MEMORY, SWEEPS = 4000, 5  # MiB of a worker, half of them Python's


def measure(master, path, rank):
    """Fit with every loop, and print the seconds of each sweep but the first as JSON."""
    import mfspark
    from mfspark import spark_session

    settings = {"spark.executor.cores": 1, "spark.executor.memory": f"{MEMORY // 2}m", "spark.driver.memory": "3g"}
    settings |= {"spark.driver.host": "127.0.0.1", "spark.ui.enabled": False}
    spark = spark_session("executors", master, settings)
    spark.sparkContext.setLogLevel("ERROR")
    ratings = spark.read.parquet(path)
    found = {}
    for name, options in LOOPS.items():
        als(mfspark, False, rank, 1, **options).fit(ratings.limit(100_000))
        model = als(mfspark, False, rank, SWEEPS, numUserBlocks=4, numItemBlocks=4, **options).fit(ratings)
        found[name] = [row.seconds for row in model.history.orderBy("iteration").collect()][1:]
    sys.stdout.write(json.dumps(found) + "\n")
    spark.stop()


def measured(executors, path, rank):
    """Return what a program of its own finds on a cluster of so many executors."""
    with tempfile.TemporaryDirectory() as folder, cluster(folder, executors, f"{MEMORY}m") as running:
        command = [sys.executable, __file__, "--measure", running.address, path, str(rank)]
        environment = running.environment | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-4000:])
    return json.loads(done.stdout.splitlines()[-1])


def main():
    """Measure in turns, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=10_000_000)
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--data", default=str(Path(tempfile.gettempdir()) / "mfspark-bench"))
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    rounds = {number: [] for number in (1, 2)}
    for _ in range(options.repeats):
        for number, found in rounds.items():
            found.append(measured(number, ratings_path(options.size, options.data), options.rank))
            sys.stdout.write(f"{number} executors: {json.dumps(found[-1])}\n")
            sys.stdout.flush()
    for name in LOOPS:
        one, two = (statistics.median(s for found in rounds[number] for s in found[name]) for number in (1, 2))
        sys.stdout.write(f"{name}: {one:.2f} s, {two:.2f} s a sweep, {one / two:.2f} times as fast\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main()
