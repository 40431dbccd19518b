"""Fits on a standalone cluster of two executors, one of which is lost in the middle: prints their losses as JSON.

The test runs the same fits (``ratings``, ``fits``) in its local session and compares.
"""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np


def ratings(spark):
    """Return 2000 ratings of 120 users and 60 items."""
    random = np.random.default_rng(0)
    pairs = random.permutation(120 * 60)[:2000]
    rows = [(int(p // 60), f"item-{p % 60}", float(random.integers(1, 6))) for p in pairs]
    return spark.createDataFrame(rows, "user int, item string, rating float")


def fits():
    """Return the estimators by name; every one has two blocks, and so two tasks."""
    from mfspark import ALS, SGD

    common = dict(rank=4, regParam=0.05, seed=1, numUserBlocks=2)
    return {
        "jobs": ALS(maxIter=6, loop="jobs", numItemBlocks=2, **common),
        "barrier": ALS(maxIter=6, loop="barrier", numItemBlocks=2, filterSeen=True, **common),
        "sgd": SGD(maxIter=6, **common),
    }


def loss(model):
    """Return the last loss of a model's history."""
    return model.history.orderBy("iteration").collect()[-1].loss


def executors(spark):
    """Return the pids of this application's executors."""
    wanted = ("CoarseGrainedExecutorBackend", spark.sparkContext.applicationId)
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = file.read_bytes().decode()
        except OSError:  # it has ended
            continue
        if all(word in command for word in wanted):
            found.append(int(file.parent.name))
    return found


def lose_an_executor_after(iteration, spark, monkeypatched):
    """Have the driver kill one executor as it reports an iteration; return the pids it killed."""
    killed = []

    def report(line, state):  # noqa: ARG001
        if line.iteration == iteration:
            killed.append(executors(spark)[0])
            os.kill(killed[0], signal.SIGKILL)

    monkeypatched.reporter = lambda *options: report  # noqa: ARG005
    return killed


def main(master):
    """Run everything; an assertion fails the program."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    from mfspark import spark_session
    from mfspark.estimators import base

    settings = {"spark.executor.cores": 1, "spark.executor.memory": "512m", "spark.driver.memory": "1g"}
    settings |= {"spark.ui.enabled": False, "spark.sql.shuffle.partitions": 2, "spark.driver.host": "127.0.0.1"}
    spark = spark_session("mfspark-cluster-test", master, settings)
    frame, found = ratings(spark), {}
    for name, estimator in fits().items():
        model = estimator.fit(frame)
        found[name] = loss(model)
        assert model.transform(frame).where("prediction is not null").count() == 2000
    assert model.recommendForAllUsers(3, seen=frame).count() == 120
    assert len(executors(spark)) == 2, executors(spark)
    original = base.reporter
    killed = lose_an_executor_after(3, spark, base)
    found["lost"] = loss(fits()["jobs"].fit(frame))
    base.reporter = original
    assert len(killed) == 1
    spark.stop()
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
