"""The DAG files in a real Airflow, through real spark-submit: ``make airflow-test``, not part of ``make test``."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pyspark
import pytest
from deltalake import DeltaTable

from mfspark.session import delta_jars, find_java

ROOT = Path(__file__).resolve().parents[2]
AIRFLOW = ROOT / ".venv-airflow" / "bin" / "python"
SPARK_HOME = Path(pyspark.__file__).parent
# Airflow's logical date of an interval that it infers is its end: the days 4, 5 and 6 of January.
FOURTH, FIFTH, SIXTH = "2026-01-05", "2026-01-06", "2026-01-07"
ID = {"4": "20260104T000000-20260105T000000", "5": "20260105T000000-20260106T000000"}
RATINGS_A_DAY = 120
DEFAULTS = {
    "spark.jars": ",".join(str(jar) for jar in delta_jars()),
    "spark.driver.memory": "1g",
    "spark.sql.shuffle.partitions": "2",
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.ui.enabled": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
}


def write_ratings(path):
    """Three days of ratings, the last with a quarter of its rows out of range."""
    draw = random.Random(1)
    lines = ["user,item,rating,timestamp"]
    for day in (4, 5, 6):
        for user in range(20):
            for item in draw.sample(range(15), RATINGS_A_DAY // 20):
                rating = 9 if day == 6 and user % 4 == 0 else draw.randint(1, 5)
                lines.append(f"u{user},i{item},{rating},2026-01-0{day}T{draw.randrange(24):02d}:00:00")
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    """A function that runs run_dag.py in a fresh Airflow, whose DAG folder holds the files of conf."""
    folder = tmp_path_factory.mktemp("airflow")
    (folder / "dags").mkdir()
    for file in (ROOT / "conf").glob("airflow*_dag.py"):
        shutil.copy(file, folder / "dags")
    write_ratings(folder / "ratings.csv")
    (folder / "config.yaml").write_text(
        f"source: {{path: {folder / 'ratings.csv'}, format: csv}}\n"
        f"store: {{location: {folder / 'store'}}}\n"
        "quality: {max_rating: 5, max_rejected: 0.1}\n"
        "split: {fraction: 0.1, seed: 1}\n"
        "als: {rank: 3, maxIter: 2, seed: 1}\n"
        "predict: {n: 3}\n"
    )
    (folder / "spark-defaults.conf").write_text("".join(f"{key} {value}\n" for key, value in DEFAULTS.items()))
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SPARK_", "PYSPARK_", "AIRFLOW"))}
    environment = kept | {
        "AIRFLOW_HOME": str(folder / "home"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": "local[2]"}),
        "MFSPARK_HOME": str(ROOT),
        "MFSPARK_CONFIG": str(folder / "config.yaml"),
        "MFSPARK_PACKAGES": "",
        "PATH": f"{SPARK_HOME / 'bin'}:{os.environ['PATH']}",
        "SPARK_HOME": str(SPARK_HOME),
        "SPARK_CONF_DIR": str(folder),
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT),
        "JAVA_HOME": find_java(),
    }

    def run(*arguments):
        command = [str(AIRFLOW), str(Path(__file__).parent / "run_dag.py"), *arguments]
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
        log = done.stdout + done.stderr
        assert done.returncode == 0, log[-5000:]
        told = [json.loads(line.removeprefix("told ")) for line in log.splitlines() if line.startswith("told ")]
        return told, log

    migrate = [str(AIRFLOW), "-m", "airflow", "db", "migrate"]
    subprocess.run(migrate, env=environment, cwd=folder, capture_output=True, check=True)
    return SimpleNamespace(run=run, store=folder / "store")


def arguments(task):
    """Return what follows each option of a task's command line."""
    words = task["application_args"]
    pairs = list(zip(words[::2], words[1::2], strict=True))
    sets = dict(value.split("=", 1) for option, value in pairs if option == "--set")
    return dict(pairs), sets


def test_both_files_parse_and_name_everything_by_the_interval(airflow):
    [told], _ = airflow.run("parse")
    assert told["errors"] == {}
    assert told["after"]["mfspark"] == {
        "ingest": ["train"],
        "train": ["evaluate"],
        "evaluate": ["predict"],
        "predict": [],
    }
    tasks = told["tasks"]["mfspark"]
    for name, task in tasks.items():
        options, sets = arguments(task)
        assert Path(task["application"]) == ROOT / "jobs" / f"{name}.py"
        assert options["--run-id"] == ID["4"]
        assert name != "evaluate" or sets["model.run_id"] == ID["4"]
    ends = ("2026-01-04T00:00:00+00:00", "2026-01-05T00:00:00+00:00")
    ingested, trained = arguments(tasks["ingest"])[1], arguments(tasks["train"])[1]
    assert ingested == {"source.mode": "append", "source.since": ends[0], "source.until": ends[1]}
    assert arguments(tasks["predict"])[1] == {"model.version": "champion"}
    assert trained == {"train.until": ends[1], "train.start_from": "null"}  # a Sunday: cold
    assert told["tasks"]["mfspark_databricks"]["mfspark"]["job_parameters"] == {
        "run_id": ID["4"], "mode": "append", "since": ends[0], "until": ends[1], "start_from": "null",
    }  # fmt: skip


def table(airflow, name):
    return DeltaTable(str(airflow.store / name)).to_pyarrow_table().to_pylist()


def published(airflow):
    return {row["version"]: row["run_id"] for row in table(airflow, "models")}


def decided(airflow):
    return {row["run_id"]: row["promoted"] for row in table(airflow, "gate")}


def factors(airflow, run_id):
    rows = [row for row in table(airflow, "user_factors") if row["run_id"] == run_id]
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: row["features"] for row in rows}


def test_one_interval_run_twice_gives_one_result_and_a_bad_one_stops_the_dag(airflow):
    told, _ = airflow.run(FOURTH, FIFTH)
    assert [run["state"] for run in told] == ["success", "success"], told
    assert published(airflow) == {1: ID["4"], 2: ID["5"]}
    names = ("ratings", "user_factors", "recommendations", "metrics", "gate", "aliases")
    before = {name: len(table(airflow, name)) for name in names}
    assert before["ratings"] == 2 * RATINGS_A_DAY
    first, promoted = factors(airflow, ID["4"]), decided(airflow)
    assert promoted.keys() == set(ID.values()) and promoted[ID["4"]]  # there was none to beat

    # The first day again, as a clear or a backfill would, when the next day is in the tables already; then a bad one.
    told, log = airflow.run(FOURTH, SIXTH)
    assert told[0]["state"] == "success", told
    assert published(airflow) == {1: ID["4"], 2: ID["5"]}
    assert {name: len(table(airflow, name)) for name in names} == before
    again = factors(airflow, ID["4"])
    assert again.keys() == first.keys()
    for user, row in first.items():
        assert again[user] == pytest.approx(row, abs=1e-5)

    assert told[1]["state"] == "failed"
    assert told[1]["states"]["ingest"] == ["failed", 1]  # not tried again
    assert {state for task, (state, _) in told[1]["states"].items() if task != "ingest"} == {"upstream_failed"}
    line = (
        f"mfspark-ingest: 30 of {RATINGS_A_DAY} rows were rejected (30 rating out of range), more than quality.max_rej"
    )
    assert line in log
