"""Two programs publish to one store, partly to one name, and twenty readers read meanwhile: nobody sees a mixture."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import publisher
import pytest
from standalone import ROOT, wait_until

from mfspark import LocalModel, Registry, StoreError, spark_session

pytestmark = [pytest.mark.cluster, pytest.mark.java]
READERS, PUBLICATIONS = 20, 10
PAIRS = [(user, item) for user in range(30) for item in range(20)]


def read_until(store, ended):
    """Return what a reader found: the versions, and how often it was told to look again."""
    versions, told = set(), 0
    while not ended():
        try:
            local = LocalModel.load(store)
        except StoreError:  # the row was there, and a re-run of its run id has replaced it since
            told += 1
            continue
        np.testing.assert_allclose(local.predict(*zip(*PAIRS, strict=True)), 4.0, rtol=1e-5)
        versions.add(local.version)
        time.sleep(0.1)
    return versions, told


def test_readers_during_publications(tmp_path):
    store = str(tmp_path / "store")
    with ExitStack() as ending:

        def start(name):
            command = [sys.executable, publisher.__file__, store, name, str(PUBLICATIONS)]
            running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            ending.callback(running.kill)
            return running

        publishers = [start(name) for name in "ab"]

        def ended():
            return all(one.poll() is not None for one in publishers)

        wait_until(lambda: (tmp_path / "store" / "models").exists() or ended(), "a model is published", 300)
        wait_until(lambda: _readable(store) or ended(), "a model can be read", 300)
        with ThreadPoolExecutor(READERS) as pool:
            found = list(pool.map(lambda _: read_until(store, ended), range(READERS)))
        told = [one.communicate() for one in publishers]
    for one, (_, err) in zip(publishers, told, strict=True):
        assert one.returncode == 0, err[-4000:]
    assert sum(out.count("published") for out, _ in told) == 2 * PUBLICATIONS
    versions = set().union(*(versions for versions, _ in found))
    sys.stdout.write(f"| {READERS} readers during {2 * PUBLICATIONS} publications | {len(versions)} versions seen, ")
    sys.stdout.write(f"{sum(again for _, again in found)} told to look again, none mixed |\n")
    assert len(versions) > 1
    spark = spark_session("publications", "local[1]", {"spark.driver.memory": "1g"})
    registry = Registry(spark, store)
    listed = registry.list()
    assert [model.version for model in listed] == list(range(1, PUBLICATIONS + 2))  # each its own, and one shared
    for model in listed:
        predicted = registry.load_model(model).transform(spark.createDataFrame(PAIRS, "user int, item int"))
        np.testing.assert_allclose([row.prediction for row in predicted.collect()], 4.0, rtol=1e-5)
    rows = registry.read(listed[0], "user_factors").count()
    assert rows == 30
    spark.stop()


def _readable(store):
    try:
        return LocalModel.load(store)
    except StoreError:
        return None
