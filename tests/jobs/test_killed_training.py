"""kill -9 of a training process between the two factor tables."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import yaml

from mfspark.config import load
from mfspark.pipeline import ingest, train
from mfspark.store import Registry, tables

ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import os, signal, sys
from jobs import train
from mfspark.store import tables

append = tables.append

def append_then_die(df, address, *args, **kwargs):
    append(df, address, *args, **kwargs)
    if address.endswith("user_factors"):
        sys.stdout.write("dying after " + address)
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)

tables.append = append_then_die
sys.exit(train.main(sys.argv[1:]))
"""


def train_and_die(conf, run_id):
    """Run the train job in its own process, which is killed (-9) once the user factors are written."""
    settings = ["spark.master=local[1]", "spark.conf.spark.driver.memory=1g"]
    arguments = ["--config", str(conf), "--run-id", run_id, *(part for one in settings for part in ("--set", one))]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYSPARK", "SPARK"))}
    command = [sys.executable, "-c", CHILD, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False, env=environment)


def factors(registry, model):
    read = registry.load(model, ["user_factors", "item_factors"])
    return {
        name: sorted((row["id"], tuple(row["features"])) for row in table.collect()) for name, table in read.items()
    }


def test_readers_keep_the_previous_version_and_the_rerun_succeeds(spark, tmp_path):
    conf = tmp_path / "job.yaml"
    sizes = {"n_users": 60, "n_items": 40, "n_ratings": 1_000}
    source = {"format": "synthetic", "seed": 2, "options": sizes}
    als = {"rank": 2, "maxIter": 1, "seed": 1}
    conf.write_text(yaml.safe_dump({"store": {"location": str(tmp_path / "store")}, "source": source, "als": als}))
    config = load(conf)
    ingest(spark, config, "run-1")
    train(spark, config, "run-1")
    registry = Registry(spark, config.store.location)
    before = factors(registry, registry.get())

    killed = train_and_die(conf, "run-2")

    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert "dying after" in killed.stdout
    stored = tables.read(spark, f"{config.store.location}/user_factors")
    assert stored.select("run_id").distinct().count() == 2, "the killed attempt's rows are in the table"
    assert [model.run_id for model in registry.list()] == ["run-1"]
    assert factors(registry, registry.get()) == before

    assert train(spark, config, "run-2").version == 2
    assert registry.get().run_id == "run-2"
    assert factors(registry, registry.get(version=1)) == before
    attempts = tables.read(spark, f"{config.store.location}/user_factors").select("run_id", "attempt").distinct()
    assert attempts.count() == 2, "the killed attempt's rows are gone"
