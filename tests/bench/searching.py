"""A grid of 8 (rank x lambda) in 3 folds of ml-1m: ours, pyspark's CrossValidator around MLlib, and an earlier commit.

``python tests/bench/searching.py [--ratings ratings_no_timestamp.dat.gz] [--before WORKTREE] [--repeats 3]`` runs the
contenders in turns, each in a process of its own, and prints medians and ratios. A contender fits once before its time
is taken: what is compared is the search, not the start of Java or the compiler.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from contenders import seconds, session

ROOT = Path(__file__).resolve().parent.parent.parent
RANKS, LAMBDAS, FOLDS, ITERATIONS = (8, 16, 32, 64), (0.05, 0.1), 3, 10


def table(spark, path):
    """Return the ratings, cached: no contender's time is that of reading text."""
    from pyspark.sql import functions as F

    parts = F.split("value", "::")
    kinds = {"user": "int", "item": "int", "rating": "float"}
    columns = [parts[place].cast(kind).alias(name) for place, (name, kind) in enumerate(kinds.items())]
    ratings = spark.read.text(path).select(*columns).repartition(4).cache()
    ratings.count()
    return ratings


def mfspark(ratings, **more):
    """Ours: a fold's blocks are made once, its score is the fit's own validation RMSE."""
    from mfspark import ALS
    from mfspark.evaluation import cross_validate, grid

    settings = grid({"rank": RANKS, "regParam": LAMBDAS})
    als = ALS(maxIter=ITERATIONS, seed=1, coldStartStrategy="drop")
    als.fit(ratings, {als.maxIter: 1, als.rank: 8})
    spent, found = seconds(lambda: cross_validate(als, ratings, settings, folds=FOLDS, seed=1, **more))
    return spent, found.best.settings, found.best.mean


def mfspark_halving(ratings):
    """Ours, where two thirds of the combinations stop after few iterations."""
    return mfspark(ratings, halving=3)


def mfspark_before(ratings):
    """The search as it was before folds shared their blocks: every score by a prediction of the fold."""
    from pyspark.ml.evaluation import RegressionEvaluator

    return mfspark(ratings, evaluator=RegressionEvaluator(labelCol="rating"))


def validator(ratings, als):
    """Return what pyspark's CrossValidator needs for the same grid."""
    from pyspark.ml.evaluation import RegressionEvaluator
    from pyspark.ml.tuning import CrossValidator, ParamGridBuilder

    als.fit(ratings, {als.maxIter: 1, als.rank: 8})
    maps = ParamGridBuilder().addGrid(als.rank, RANKS).addGrid(als.regParam, LAMBDAS).build()
    search = CrossValidator(
        estimator=als,
        estimatorParamMaps=maps,
        evaluator=RegressionEvaluator(labelCol="rating"),
        numFolds=FOLDS,
        seed=1,
        parallelism=2,
    )
    spent, found = seconds(lambda: search.fit(ratings))
    best = min(range(len(maps)), key=lambda place: found.avgMetrics[place])
    return spent, {param.name: value for param, value in maps[best].items()}, found.avgMetrics[best]


def mllib(ratings):
    """MLlib's ALS in pyspark's CrossValidator, two fits at a time."""
    from pyspark.ml.recommendation import ALS

    return validator(ratings, ALS(maxIter=ITERATIONS, seed=1, coldStartStrategy="drop"))


def mfspark_in_validator(ratings):
    """Our ALS in pyspark's CrossValidator, two fits at a time: one import changed."""
    from mfspark import ALS

    return validator(ratings, ALS(maxIter=ITERATIONS, seed=1, coldStartStrategy="drop"))


CONTENDERS = {
    made.__name__: made for made in (mfspark, mfspark_halving, mfspark_in_validator, mfspark_before, mllib)
}  # fmt: skip


def one(name, path):
    """Run one contender in this process; its figures are the last line."""
    spent, best, score = CONTENDERS[name](table(session(), path))
    print(json.dumps({"contender": name, "seconds": spent, "best": best, "RMSE": score}))  # noqa: T201


def measured(name, path, code):
    """Run one contender in a process of its own, with the code of a work tree."""
    command = [sys.executable, str(Path(__file__).resolve()), "--one", name, "--ratings", path]
    environment = os.environ | {"PYTHONPATH": str(code)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    """Print every figure, then medians and their ratio to ours."""
    parser = argparse.ArgumentParser(description=__doc__)
    shared = Path(os.environ.get("MFSPARK_SHARED_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--ratings", default=str(shared / "ml-1m" / "ratings_no_timestamp.dat.gz"))
    parser.add_argument("--before", help="a work tree of the commit to compare with")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", choices=CONTENDERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.one, arguments.ratings)
        return
    taken = {name: [] for name in CONTENDERS if name != "mfspark_before" or arguments.before}
    for _ in range(arguments.repeats):
        for name, times in taken.items():
            figures = measured(name, arguments.ratings, arguments.before if name == "mfspark_before" else ROOT)
            times.append(figures["seconds"])
            print(json.dumps(figures), flush=True)  # noqa: T201
    medians = {name: statistics.median(times) for name, times in taken.items()}
    for name, median in medians.items():
        print(f"{name:<22} {median:8.1f} s   {median / medians['mfspark']:6.2f}")  # noqa: T201


if __name__ == "__main__":
    main()
