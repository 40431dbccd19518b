"""The bundle's jobs against the types of Databricks' own package, and the wheel that the bundle builds."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
AIRFLOW = ROOT / ".venv-airflow" / "bin" / "python"
PROGRAM = """
import json, sys
from databricks.bundles.jobs import Job
for name, job in json.load(sys.stdin).items():
    read = Job.from_dict(job)
    print(name, len(read.tasks), read.tasks[0].python_wheel_task.entry_point)
"""


def typed(jobs):
    command = [str(AIRFLOW), "-c", PROGRAM]
    return subprocess.run(command, input=json.dumps(jobs), capture_output=True, text=True, check=False)


@pytest.fixture
def jobs():
    files = sorted((ROOT / "conf" / "bundle" / "resources").glob("*.yml"))
    return {name: job for file in files for name, job in yaml.safe_load(file.read_text())["resources"]["jobs"].items()}


def test_every_key_and_type_is_one_of_databricks(jobs):
    done = typed(jobs)
    assert done.returncode == 0, done.stderr
    told = [line.split() for line in done.stdout.splitlines()]
    assert [words[0] for words in told] == ["mfspark", "mfspark_classic"]
    assert {words[2] for words in told} == {"ingest"}
    jobs["mfspark"]["tasks"][0]["python_wheel_task"]["script"] = "x"
    assert "Unexpected field 'script' for class PythonWheelTask" in typed(jobs).stderr


def test_the_wheel_of_the_bundle_has_its_entry_points_and_no_spark():
    command = ["bash", str(ROOT / "conf" / "bundle" / "wheel.sh")]
    environment = {"PYTHON": sys.executable, "PATH": "/usr/bin:/bin"}
    subprocess.run(command, check=True, env=environment)
    [wheel] = (ROOT / "dist").glob("mfspark-*.whl")
    with zipfile.ZipFile(wheel) as opened:
        [info] = {name.split("/")[0] for name in opened.namelist() if ".dist-info/" in name}
        required = opened.read(f"{info}/METADATA").decode()
        points = opened.read(f"{info}/entry_points.txt").decode()
    needed = [line for line in required.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]
    assert needed and not any("pyspark" in line or "delta-spark" in line for line in needed)
    assert "[mfspark.tasks]" in points and "train = jobs.train:task" in points
