"""Everything in conf/ and the Makefile can be used as it stands."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from mfspark.config import load

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
TARGETS = ("setup", "run", "test", "test-fast", "check", "bench", "dist", "cluster-test", "notebooks", "clean")


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_valid(path):
    comp = load(path)
    assert comp.store.location
    assert comp.als["seed"] is not None


def test_the_constraints_pin_every_dependency():
    pinned = dict(line.split("==") for line in (CONF / "constraints.txt").read_text().split())
    names = {name.lower().replace("_", "-") for name in pinned}
    wanted = re.findall(r'^  "([A-Za-z0-9_-]+)', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert wanted
    assert {name.lower() for name in wanted} <= names


def test_every_job_is_a_console_script():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    jobs = {path.stem for path in (ROOT / "jobs").glob("*.py")} - {"__init__"}
    assert scripts == {f"mfspark-{name.replace('_', '-')}": f"jobs.{name}:main" for name in jobs}


def make(*arguments):
    """The output of make, whatever make this suite itself runs under."""
    inherited = ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "DATA", "CONF", "ARGS")
    environment = {key: value for key, value in os.environ.items() if key not in inherited}
    command = ["make", "--no-print-directory", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=environment)
    return done.stdout


def test_make_help_lists_the_targets():
    comp = make("help")
    assert [line.split()[1] for line in comp.splitlines()] == ["help", *TARGETS]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "jobs.run --config conf/local.yaml"),
        (["DATA=a/b.dat"], "jobs.run --config conf/movielens.yaml --set source.path=a/b.dat"),
        (["CONF=c.yaml", "ARGS=--set als.rank=8"], "jobs.run --config c.yaml --set als.rank=8"),
    ],
)
def test_make_run_picks_the_configuration(arguments, expected):
    comp = make("-n", "run", *arguments).replace('"', "")
    assert " ".join(comp.split()).endswith(expected)


def test_the_bundle_runs_the_jobs_under_one_run_id():
    bundle = yaml.safe_load((CONF / "bundle" / "databricks.yml").read_text())
    tasks = bundle["resources"]["jobs"]["mfspark"]["tasks"]
    assert [task["task_key"] for task in tasks] == ["ingest", "train", "evaluate", "predict"]
    for task in tasks:
        script = (CONF / "bundle" / task["spark_python_task"]["python_file"]).resolve()
        assert script == ROOT / "jobs" / f"{task['task_key']}.py"
        assert "{{job.parameters.run_id}}" in task["spark_python_task"]["parameters"]


def fake_airflow(monkeypatch):
    """Just enough of Airflow to load the DAG file, and to see the order of its tasks."""

    class Task:
        def __init__(self, **settings):
            self.settings, self.after = settings, []
            Task.made.append(self)

        def __rshift__(self, others):
            for other in others if isinstance(others, list) else [others]:
                other.after.append(self.settings["task_id"])
            return others

    class Dag:
        def __init__(self, **settings):
            self.settings = settings

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return False

    Task.made = []
    operator = "airflow.providers.apache.spark.operators.spark_submit"
    parts = operator.split(".")
    for length in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:length]), ModuleType(".".join(parts[:length])))
    sys.modules["airflow"].DAG = Dag
    sys.modules[operator].SparkSubmitOperator = Task
    return Task.made


def test_the_airflow_dag_submits_the_jobs_in_order_keyed_by_the_dag_run(monkeypatch):
    tasks = fake_airflow(monkeypatch)
    path = CONF / "airflow_dag.py"
    exec(compile(path.read_text(), str(path), "exec"), {"__name__": "dag"})
    after = {task.settings["task_id"]: task.after for task in tasks}
    assert after == {"ingest": [], "train": ["ingest"], "evaluate": ["train"], "predict": ["train"]}
    for task in tasks:
        arguments = task.settings["application_args"]
        assert arguments[arguments.index("--run-id") + 1] == "{{ run_id }}"
        assert (ROOT / "jobs" / Path(task.settings["application"]).name).exists()
