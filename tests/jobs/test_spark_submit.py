"""The jobs as files for spark-submit, which starts the JVM and so must be given Delta's JARs."""

import os
import subprocess
import sys
from pathlib import Path

import pyspark
import pytest

from mfspark.session import delta_coordinate, delta_jars

ROOT = Path(__file__).resolve().parents[2]
SPARK_HOME = Path(pyspark.__file__).parent


@pytest.fixture
def submit(tmp_path, spark):  # noqa: ARG001 - the session has found Java
    ratings = tmp_path / "ratings.csv"
    ratings.write_text("user,item,rating\nu1,i1,3\nu1,i2,4\nu2,i1,5\n")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SPARK_", "PYSPARK_"))}
    environment = kept | {"PYSPARK_PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}

    def run(*options):
        command = [SPARK_HOME / "bin" / "spark-submit", "--master", "local[1]", *options, ROOT / "jobs" / "ingest.py"]
        command += ["--config", ROOT / "conf" / "cluster.yaml", "--run-id", "manual__2026-01-01T00:00:00+00:00"]
        for name in ("user", "item", "rating"):
            command += ["--set", f"source.{name}={name}"]
        sets = ("source.format=csv", f"source.path={ratings}", "source.timestamp=null", "quality.duplicates=error")
        for override in (*sets, f"store.location={tmp_path / 'store'}"):
            command += ["--set", override]
        return subprocess.run(
            [str(word) for word in command], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )

    return run


def test_a_job_runs_under_spark_submit(submit):
    done = submit("--jars", ",".join(str(jar) for jar in delta_jars()))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "3 in = 3 accepted + 0 rejected" in done.stdout


def test_without_delta_one_line_says_what_to_add(submit):
    done = submit()
    assert done.returncode == 2
    told = done.stdout.splitlines()  # spark-submit sends a program's stderr there too
    assert told == [
        f"mfspark-ingest: spark-submit was started without Delta Lake: give it --packages {delta_coordinate()}"
    ]
