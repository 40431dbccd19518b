"""The Databricks bundle, checked without Databricks: every key, reference, entry point and --set in it is one there is.

The keys are those of the bundle configuration reference (top level, targets, variables, artifacts) and of the Jobs API.
`make airflow-test` holds the jobs against Databricks' own types besides.
"""

import itertools
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from mfspark.config import SECTIONS, parse
from mfspark.config.load import _apply

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "conf" / "bundle"
MAIN = yaml.safe_load((FOLDER / "databricks.yml").read_text())
FILES = {path: yaml.safe_load(path.read_text()) for path in sorted((FOLDER / "resources").glob("*.yml"))}
JOBS = {name: (path, job) for path, raw in FILES.items() for name, job in raw["resources"]["jobs"].items()}
TASKS = [(name, task) for name, (_, job) in JOBS.items() for task in job["tasks"]]

KEYS = {
    "bundle": {"name", "databricks_cli_version", "cluster_id", "compute_id", "deployment", "git", "uuid"},
    "top": {
        "artifacts", "bundle", "experimental", "include", "permissions", "presets", "python", "resources", "run_as",
        "scripts", "sync", "targets", "variables", "workspace",
    },
    "sync": {"exclude", "include", "paths"},
    "artifact": {"build", "dynamic_version", "executable", "files", "path", "type"},
    "variable": {"default", "description", "lookup", "type"},
    "target": {
        "artifacts", "bundle", "cluster_id", "compute_id", "default", "git", "mode", "permissions", "presets",
        "resources", "run_as", "sync", "variables", "workspace",
    },
    "workspace": {"artifact_path", "auth_type", "file_path", "host", "profile", "root_path", "state_path"},
    "presets": {
        "artifacts_dynamic_version", "jobs_max_concurrent_runs", "name_prefix", "pipelines_development",
        "source_linked_deployment", "tags", "trigger_pause_status",
    },
    "job": {
        "name", "description", "max_concurrent_runs", "queue", "parameters", "environments", "job_clusters", "tasks",
        "tags", "schedule", "trigger", "timeout_seconds", "permissions", "run_as", "email_notifications", "health",
        "notification_settings", "webhook_notifications", "performance_target", "budget_policy_id", "continuous",
    },
    "parameter": {"name", "default"},
    "environment": {"environment_key", "spec"},
    "spec": {"environment_version", "dependencies", "base_environment"},
    "job_cluster": {"job_cluster_key", "new_cluster"},
    "new_cluster": {
        "spark_version", "node_type_id", "driver_node_type_id", "num_workers", "autoscale", "spark_conf",
        "spark_env_vars", "data_security_mode", "custom_tags", "policy_id", "init_scripts", "runtime_engine",
    },
    "task": {
        "task_key", "depends_on", "environment_key", "job_cluster_key", "libraries", "max_retries",
        "min_retry_interval_millis", "python_wheel_task", "retry_on_timeout", "run_if", "timeout_seconds",
    },
    "depends_on": {"task_key", "outcome"},
    "library": {"whl"},
    "python_wheel_task": {"package_name", "entry_point", "parameters", "named_parameters"},
}  # fmt: skip


def mappings():
    """Yield every mapping of the bundle with the name of its kind and where it stands."""
    yield "top", "databricks.yml", MAIN
    yield "bundle", "bundle", MAIN["bundle"]
    yield "sync", "sync", MAIN["sync"]
    for kind, plural in (("artifact", "artifacts"), ("variable", "variables"), ("target", "targets")):
        for name, value in MAIN[plural].items():
            yield kind, f"{plural}.{name}", value
    for name, target in MAIN["targets"].items():
        for kind in {"workspace", "presets"} & target.keys():
            yield kind, f"targets.{name}.{kind}", target[kind]
    for name, (_, job) in JOBS.items():
        yield "job", name, job
        yield from (("parameter", name, value) for value in job["parameters"])
        for value in job.get("environments", []):
            yield from (("environment", name, value), ("spec", name, value["spec"]))
        for value in job.get("job_clusters", []):
            yield from (("job_cluster", name, value), ("new_cluster", name, value["new_cluster"]))
    for name, task in TASKS:
        where = f"{name}.{task['task_key']}"
        yield from (("task", where, task), ("python_wheel_task", where, task["python_wheel_task"]))
        yield from (("depends_on", where, value) for value in task.get("depends_on", []))
        yield from (("library", where, value) for value in task.get("libraries", []))


def texts(value):
    """Yield every text in a nested value."""
    if isinstance(value, dict):
        value = list(value.values())
    for part in value if isinstance(value, list) else []:
        yield from texts(part)
    if isinstance(value, str):
        yield value


def overrides(task):
    words = task["python_wheel_task"]["parameters"]
    assert words[::2] == ["--config", "--run-id"] + ["--set"] * (len(words) // 2 - 2)
    return words[1::2][2:]


def test_every_key_is_one_that_databricks_knows():
    unknown = [(where, key) for kind, where, value in mappings() for key in value.keys() - KEYS[kind]]
    assert unknown == []
    assert set(MAIN["targets"]) == {"dev", "prod"}
    assert {target["mode"] for target in MAIN["targets"].values()} == {"development", "production"}


def test_every_reference_to_a_file_is_to_one_there_is():
    assert [path for pattern in MAIN["include"] for path in FOLDER.glob(pattern)] == list(FILES)
    assert all((FOLDER / path).exists() for path in MAIN["sync"]["paths"])
    wheel = MAIN["artifacts"]["wheel"]
    assert (FOLDER / wheel["path"]).resolve() == ROOT
    assert (ROOT / wheel["build"].split()[-1]).exists()
    config = MAIN["variables"]["config"]["default"]
    assert (ROOT / config.removeprefix("${workspace.file_path}/")).exists()
    for name, (path, job) in JOBS.items():
        named = [text for text in texts(job) if text.endswith(".whl")]
        assert named and {(path.parent / text).resolve() for text in named} == {ROOT / "dist" / "*.whl"}, name


def test_every_variable_is_declared_used_and_set():
    named = {name for text in texts([MAIN, *FILES.values()]) for name in re.findall(r"\$\{var\.(\w+)}", text)}
    assert named == set(MAIN["variables"])
    required = {name for name, variable in MAIN["variables"].items() if "default" not in variable}
    for target in MAIN["targets"].values():
        assert required <= target["variables"].keys() <= MAIN["variables"].keys()
    dev, prod = (MAIN["targets"][name]["variables"] for name in ("dev", "prod"))
    assert (dev["catalog"], dev["schema"]) != (prod["catalog"], prod["schema"])
    known = {"workspace.file_path", "workspace.current_user.short_name"}
    others = {name for text in texts([MAIN, *FILES.values()]) for name in re.findall(r"\$\{((?!var\.)[^}]+)}", text)}
    assert others <= known


@pytest.mark.parametrize("name", JOBS)
def test_tasks_depend_on_tasks_and_run_where_the_job_says(name):
    job = JOBS[name][1]
    seen = []
    for task in job["tasks"]:
        assert all(value["task_key"] in seen for value in task.get("depends_on", [])), task["task_key"]
        seen.append(task["task_key"])
    places = {value["environment_key"] for value in job.get("environments", [])}
    clusters = {value["job_cluster_key"] for value in job.get("job_clusters", [])}
    assert bool(places) != bool(clusters)
    for task in job["tasks"]:
        assert (task["environment_key"] in places) if places else (task["job_cluster_key"] in clusters)
        assert bool(task.get("libraries")) == bool(clusters)  # serverless takes them from the environment
    parameters = {value["name"] for value in job["parameters"]}
    named = {key for text in texts(job["tasks"]) for key in re.findall(r"\{\{job\.parameters\.(\w+)}}", text)}
    assert named == parameters
    assert all(isinstance(value["default"], str) for value in job["parameters"])


def test_both_jobs_do_the_same():
    told = [
        [
            (task["task_key"], task.get("depends_on"), task["python_wheel_task"], task["max_retries"])
            for task in job["tasks"]
        ]
        for _, job in JOBS.values()
    ]
    assert len(told) == 2 and told[0] == told[1]
    assert len({str(job["parameters"]) for _, job in JOBS.values()}) == 1


@pytest.mark.parametrize(("name", "task"), TASKS, ids=[f"{name}-{task['task_key']}" for name, task in TASKS])
def test_every_task_names_an_entry_point_and_keys_that_exist(name, task):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wheel = task["python_wheel_task"]
    assert wheel["package_name"] == project["name"]
    target = project["entry-points"]["mfspark.tasks"][wheel["entry_point"]]
    module, function = target.split(":")
    assert callable(getattr(import_module(module), function))
    assert module == f"jobs.{task['task_key'].replace('-', '_')}"
    parameters = {value["name"]: value["default"] for value in JOBS[name][1]["parameters"]}
    variables = {key: value.get("default", "x") for key, value in MAIN["variables"].items()}
    for given, since in itertools.product(MAIN["targets"].values(), ("null", "2026-01-01T00:00:00+00:00")):
        raw = yaml.safe_load((ROOT / "conf" / "databricks.yaml").read_text())
        for override in overrides(task):
            key = override.split("=")[0]
            section, _, rest = key.partition(".")
            assert rest in SECTIONS[section].model_fields, key
            values = variables | given["variables"]
            text = re.sub(r"\$\{var\.(\w+)}", lambda found, values=values: str(values[found[1]]), override)
            filled = parameters | {"since": since, "start_from": "latest"}
            _apply(raw, re.sub(r"\{\{job\.parameters\.(\w+)}}", lambda found, filled=filled: filled[found[1]], text))
        config = parse(raw)
        assert config.store.location.startswith(given["variables"]["catalog"] + ".mfspark")
        assert config.source.since == (None if since == "null" or task["task_key"] != "ingest" else since)


def test_a_task_that_fails_ends_the_process(tmp_path, monkeypatch):
    from jobs import train

    monkeypatch.setattr(sys, "argv", ["mfspark-train", "--config", str(tmp_path / "nothing.yaml")])
    assert train.main() == 2
    with pytest.raises(SystemExit, match="2"):
        train.task()


def test_the_wheel_asks_for_no_spark():
    script = (FOLDER / "wheel.sh").read_text()
    [pattern] = re.findall(r"grep -vE '([^']+)'", script)
    done = subprocess.run(["grep", "-vE", pattern, ROOT / "pyproject.toml"], capture_output=True, text=True, check=True)
    own = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    comp = tomllib.loads(done.stdout)["project"]
    left_out = set(own["dependencies"]) - set(comp["dependencies"])
    assert {re.split("[<>=]", name)[0] for name in left_out} == {"pyspark", "delta-spark"}
    assert comp | {"dependencies": 0} == own | {"dependencies": 0}
