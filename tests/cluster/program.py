"""What the cluster tests submit: ``program.py MASTER FOLDER NAME...`` fits and prints a line of JSON for each name.

With MFSPARK_MARK set, a fit waits in its second iteration for the test to do its work (``sitecustomize.py``). With
MFSPARK_WORK set, every iteration is stored there.
"""

import json
import logging
import os
import sys
import time

import numpy as np


def ratings(spark, users=300, items=120):
    """Return 6000 ratings."""
    random = np.random.default_rng(0)
    pairs = random.permutation(users * items)[:6000]
    rows = [(int(p // items), f"item-{p % items}", float(random.integers(1, 6))) for p in pairs]
    return spark.createDataFrame(rows, "user int, item string, rating float")


def estimator(name, iterations=6):
    """Return an estimator of two blocks, and so of two tasks; its factors do not depend on where it runs."""
    from mfspark import ALS, SGD

    common = dict(rank=4, regParam=0.05, seed=1, numUserBlocks=2, maxIter=iterations)
    if os.environ.get("MFSPARK_WORK"):
        common |= dict(workPath=os.environ["MFSPARK_WORK"], checkpointInterval=1)
    if name == "sgd":
        return SGD(**common)
    if name == "exchange":
        return ALS(carrier="exchange", numItemBlocks=2, **common)
    return ALS(loop=name, numItemBlocks=2, **common)


def told(model):
    """Return what two fits must agree on: the last loss, and both sides' factors, summed with weights."""
    history = model.history.orderBy("iteration").collect()
    found = {"loss": history[-1].loss, "iterations": len(history)}
    for side in ("userFactors", "itemFactors"):
        rows = getattr(model, side).orderBy("id").collect()
        array = np.array([row.features for row in rows], float)
        found[side] = float((array * np.cos(np.arange(array.size)).reshape(array.shape)).sum())
    return found


def session(master, folder):
    """Return a session on the cluster; executors of one core."""
    from mfspark import spark_session

    settings = {"spark.executor.cores": 1, "spark.executor.memory": "512m", "spark.driver.memory": "1g"}
    settings |= {"spark.ui.enabled": False, "spark.sql.shuffle.partitions": 2, "spark.driver.host": "127.0.0.1"}
    settings |= {"spark.speculation": True, "spark.task.maxFailures": 8, "spark.local.dir": f"{folder}/driver"}
    return spark_session("mfspark-cluster-test", master, settings)


def main(master, folder, *names):
    """Fit each of the estimators."""
    began = time.monotonic()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("mfspark").setLevel(logging.INFO)
    spark = session(master, folder)
    spark.sparkContext.setLogLevel("ERROR")
    frame = ratings(spark).persist()
    for name in names:
        started = time.monotonic()
        found = told(estimator(name).fit(frame))
        found |= {"name": name, "fit": time.monotonic() - started, "since": time.monotonic() - began}
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()
    spark.stop()


if __name__ == "__main__":
    os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    main(*sys.argv[1:])
