"""A cluster that loses things in the middle of a fit: no hang, and the factors of an undisturbed fit."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import program
import pytest
from standalone import ROOT, cluster, kill, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.java]
HERE = str(Path(__file__).parent)
LONGEST = 400.0
"""Seconds until a fit counts as hung."""
SAME = ("loss", "userFactors", "itemFactors")


def python_killed(running):
    kill(running.pythons()[:1])


def executor_killed(running):
    kill(running.executors()[:1])


def worker_gone(running):
    running.lose_worker(max(running.workers))


def executor_stopped(running):
    stopped = running.executors()[:1]
    kill(stopped, signal.SIGSTOP)
    time.sleep(30)
    kill(stopped, signal.SIGCONT)


def shuffle_files_deleted(running):
    for file in running.folder.glob("*/local/**/shuffle_*"):
        file.unlink(missing_ok=True)


FAULTS = {
    "Python worker killed": python_killed,
    "executor killed -9": executor_killed,
    "executor stopped for 30 s": executor_stopped,
    "shuffle files deleted": shuffle_files_deleted,
    "whole worker gone for ever": worker_gone,
}


@contextmanager
def fitting(running, *names, mark=None):
    """Start a driver, and end it whatever happens."""
    environment = running.environment | {"PYTHONPATH": f"{ROOT}:{HERE}"}
    environment |= {"MFSPARK_MARK": str(mark)} if mark else {}
    command = [sys.executable, program.__file__, running.address, str(running.folder), *names]
    driver = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield driver
    finally:
        if driver.poll() is None:
            driver.kill()


def results(driver):
    """Return what a driver tells, waiting for its end."""
    out, err = driver.communicate(timeout=LONGEST)
    assert driver.returncode == 0, err[-4000:]
    return {line["name"]: line for line in map(json.loads, filter(lambda text: text.startswith("{"), out.splitlines()))}


@pytest.fixture(scope="module")
def undisturbed():
    """The same fits in a local session."""
    from mfspark import spark_session

    spark = spark_session("mfspark-cluster-reference", "local[2]", {"spark.driver.memory": "1g"})
    frame = program.ratings(spark)
    names = ("jobs", "barrier", "sgd")
    found = {name: program.told(program.estimator(name).fit(frame)) for name in names}
    spark.stop()
    return found


CASES = [(name, fault) for name in ("jobs", "barrier", "sgd") for fault in FAULTS]
SHORT = [("jobs", "executor killed -9"), ("barrier", "whole worker gone for ever")]
WANTED = SHORT if os.environ.get("MFSPARK_FAULTS") == "short" else CASES


@pytest.mark.parametrize(("name", "fault"), WANTED)
def test_a_disturbed_fit_is_the_undisturbed_one(name, fault, tmp_path, undisturbed):
    mark = tmp_path / "mark"
    marked = {"MFSPARK_MARK": str(mark)}
    with cluster(tmp_path, path=f"{ROOT}:{HERE}", more=marked) as running, fitting(running, name, mark=mark) as driver:
        wait_until(lambda: mark.exists() or driver.poll() is not None, f"{name} is under way", LONGEST)
        began = time.monotonic()
        if driver.poll() is None:
            FAULTS[fault](running)
        mark.unlink(missing_ok=True)
        found = results(driver)[name]
        seconds = time.monotonic() - began
    sys.stdout.write(f"| {name} | {fault} | same factors | {seconds:.0f} |\n")
    for key in SAME:
        assert found[key] == pytest.approx(undisturbed[name][key], rel=1e-6), key
