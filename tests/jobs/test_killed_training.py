"""kill -9 of a training process: in mid-fit, and, run again, between the two factor tables."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml

from mfspark.config import load
from mfspark.pipeline import ingest, train
from mfspark.store import Registry, tables

ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import os, signal, sys
from jobs import train
from mfspark.store import tables
from mfspark.training.als import HalfSteps

append, sweep, deadly = tables.append, HalfSteps.__call__, sys.argv.pop(1)

def die(what):
    sys.stdout.write("dying " + what)
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)

def sweep_or_die(self, factors, iteration):
    sys.stdout.write(f"sweep {iteration + 1}, ")
    if deadly == f"sweep {iteration + 1}":
        die("in it")
    return sweep(self, factors, iteration)

def append_then_die(df, address, *args, **kwargs):
    append(df, address, *args, **kwargs)
    if address.endswith(deadly):
        die("after " + address)

tables.append, HalfSteps.__call__ = append_then_die, sweep_or_die
sys.exit(train.main(sys.argv[1:]))
"""


def train_and_die(conf, run_id, where):
    """Run the train job in its own process, which is killed (-9) in a sweep, or once a table is written."""
    settings = ["spark.master=local[1]", "spark.conf.spark.driver.memory=1g"]
    arguments = ["--config", str(conf), "--run-id", run_id, *(part for one in settings for part in ("--set", one))]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYSPARK", "SPARK"))}
    command = [sys.executable, "-c", CHILD, where, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    return done


def factors(registry, model):
    read = registry.load(model, ["user_factors", "item_factors"])
    return {
        name: sorted((row["id"], tuple(row["features"])) for row in table.collect()) for name, table in read.items()
    }


def test_readers_keep_the_previous_version_and_the_rerun_goes_on_where_the_killed_one_was(spark, tmp_path, caplog):
    conf = tmp_path / "job.yaml"
    sizes = {"n_users": 60, "n_items": 40, "n_ratings": 1_000}
    source = {"format": "synthetic", "seed": 2, "options": sizes}
    als = {"rank": 2, "maxIter": 6, "checkpointInterval": 2, "seed": 1, "loop": "jobs"}
    conf.write_text(yaml.safe_dump({"store": {"location": str(tmp_path / "store")}, "source": source, "als": als}))
    config = load(conf)
    ingest(spark, config, "run-1")
    train(spark, config, "run-1")
    registry = Registry(spark, config.store.location)
    before = factors(registry, registry.get())

    def checkpoints():
        return [path.name for path in (tmp_path / "store").iterdir() if path.name.startswith("checkpoint")]

    assert checkpoints() == []

    assert train_and_die(conf, "run-2", "sweep 4").stdout == "sweep 1, sweep 2, sweep 3, sweep 4, dying in it"
    left, *_ = sorted(checkpoints())
    killed = train_and_die(conf, "run-2", "user_factors")

    assert f"ALS  resumed after iteration 2, from {config.store.location}/{left}" in killed.stderr
    assert killed.stdout.startswith("sweep 3, sweep 4, sweep 5, sweep 6, dying after")
    stored = tables.read(spark, f"{config.store.location}/user_factors")
    assert stored.select("run_id").distinct().count() == 2, "the killed attempt's rows are in the table"
    assert [model.run_id for model in registry.list()] == ["run-1"]
    assert factors(registry, registry.get()) == before

    with caplog.at_level("INFO", "mfspark"):
        report = train(spark, config, "run-2")
    assert "ALS  resumed after iteration 4" in caplog.text
    assert report.version == 2 and [row["iteration"] for row in report.history] == [1, 2, 3, 4, 5, 6]
    again = factors(registry, registry.get(run_id="run-2"))
    for name, rows in before.items():
        np.testing.assert_allclose([row[1] for row in again[name]], [row[1] for row in rows], rtol=1e-5, atol=1e-6)
    assert checkpoints() == []
    assert registry.get().run_id == "run-2"
    assert factors(registry, registry.get(version=1)) == before
    attempts = tables.read(spark, f"{config.store.location}/user_factors").select("run_id", "attempt").distinct()
    assert attempts.count() == 2, "the killed attempt's rows are gone"
