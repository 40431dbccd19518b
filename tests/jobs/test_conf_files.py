"""Everything in conf/ and the Makefile can be used as it stands."""

import os
import re
import subprocess
import sys
import tomllib
from itertools import accumulate, pairwise
from pathlib import Path
from types import ModuleType

import pytest

from mfspark.config import SECTIONS, load

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
TARGETS = (
    "setup run test test-programs test-fast test-matrix check bench dist cluster-test airflow-test notebooks clean"
).split()


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


def fake_airflow(monkeypatch):
    """Just enough of Airflow to load the DAG files and to see the order of tasks; make airflow-test has a real one."""

    class Task:
        def __init__(self, **settings):
            self.settings, self.after, self.task_id = settings, [], settings["task_id"]
            Task.made.append(self)

        def __rshift__(self, others):
            for other in others if isinstance(others, list) else [others]:
                other.after.append(self.settings["task_id"])
            return others

        def execute(self, context):
            raise context

    class Dag:
        def __init__(self, **settings):
            self.settings = settings

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return False

    Task.made = []
    found = {
        "airflow": {"DAG": Dag},
        "airflow.exceptions": {"AirflowException": OSError, "AirflowFailException": KeyError},
        "airflow.timetables.interval": {"CronDataIntervalTimetable": lambda *_, **__: "daily"},
        "airflow.providers.apache.spark.operators.spark_submit": {"SparkSubmitOperator": Task},
        "airflow.providers.databricks.operators.databricks": {"DatabricksRunNowOperator": Task},
    }
    for name in found:
        for parent in accumulate(name.split("."), "{}.{}".format):
            monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
    for name, members in found.items():
        vars(sys.modules[name]).update(members)
    return Task.made


def loaded(name):
    scope = {"__name__": "dag"}
    exec(compile((CONF / name).read_text(), name, "exec"), scope)
    return scope


def test_the_airflow_dag_submits_the_jobs_in_order_keyed_by_the_interval(monkeypatch):
    tasks = fake_airflow(monkeypatch)
    loaded("airflow_dag.py")
    after = {task.settings["task_id"]: task.after for task in tasks}
    assert after == {"ingest": [], "train": ["ingest"], "evaluate": ["train"], "predict": ["evaluate"]}
    for task in tasks:
        arguments = task.settings["application_args"]
        run_id = arguments[arguments.index("--run-id") + 1]
        # Of the try, or of a run that was started by hand, there is nothing in it.
        assert set(re.findall(r"{{ (\w+)", run_id)) == {"data_interval_start", "data_interval_end"}
        assert (ROOT / "jobs" / Path(task.settings["application"]).name).exists()
        keys = [word.split("=")[0] for option, word in pairwise(arguments) if option == "--set"]
        assert set(keys) <= {f"{name}.{key}" for name, section in SECTIONS.items() for key in section.model_fields}


def test_what_is_wrong_with_the_input_is_not_retried(monkeypatch):
    fake_airflow(monkeypatch)
    task = loaded("airflow_dag.py")["ingest"]
    with pytest.raises(KeyError, match="ingest: the input or the configuration is wrong"):
        task.execute(OSError("Cannot execute: spark-submit. Error code is: 2."))
    for code in (1, 22):
        with pytest.raises(OSError, match=f"Error code is: {code}"):
            task.execute(OSError(f"Cannot execute: spark-submit. Error code is: {code}."))
