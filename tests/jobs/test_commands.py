"""The command line: exit codes, and one line for an error."""

import io
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import evaluate, ingest, predict, run, train
from mfspark.errors import TrainingError
from mfspark.pipeline.command import run_jobs
from mfspark.pipeline.ingesting import IngestReport
from mfspark.training import progress

ROOT = Path(__file__).resolve().parents[2]
JOBS = {"ingest": ingest, "train": train, "predict": predict, "evaluate": evaluate, "run": run}


@pytest.fixture
def conf(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text(f"store: {{location: {tmp_path / 'store'}}}\n")
    return str(path)


@pytest.mark.parametrize("name", JOBS)
def test_a_wrong_key_ends_with_code_2_before_spark_starts(name, conf, capsys, monkeypatch):
    monkeypatch.setattr("mfspark.pipeline.command.spark_session", None)  # calling it would fail
    assert JOBS[name].main(["--config", conf, "--set", "als.rnk=3"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"mfspark-{name}: als.rnk: unknown key; did you mean als.rank?")
    assert shown.err.count("\n") == 1


BAD_INPUT = {
    "no path": (ingest, [], "no path and no format"),
    "no such file": (ingest, ["source.path=/nowhere/ratings.csv"], "'/nowhere/ratings.csv' does not exist"),
    "no such table": (ingest, ["source.format=table", "source.path=a.b"], "a.*b.* cannot be found"),
    "no ratings table": (train, [], "cannot read the table .*/store/ratings"),
    "no model": (predict, [], "no model has been published in"),
    "no model to evaluate": (evaluate, ["model.version=3"], "no model has been published in"),
    "no ratings to train on": (train, ["train.path=/nowhere/ratings.csv"], "'/nowhere/ratings.csv' does not exist"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_line_and_code_2(spark, case, conf, capfd):  # noqa: ARG001
    job, overrides, message = BAD_INPUT[case]
    arguments = ["--config", conf]
    for override in overrides:
        arguments += ["--set", override]
    capfd.readouterr()
    assert job.main(arguments) == 2
    shown = capfd.readouterr()
    lines = [line for line in shown.err.splitlines() if line.startswith("mfspark-")]
    assert len(lines) == 1
    assert re.search(message, lines[0])
    assert "Traceback" not in shown.err
    assert "\tat " not in shown.err


def failing(error):
    def job(spark, config, run_id):  # noqa: ARG001
        raise error

    return job


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(
    "error", [TrainingError("the loss is NaN"), RuntimeError("a bug"), MemoryError("full")], ids=str
)
def test_what_is_no_bad_input_ends_with_code_1_and_a_traceback_on_demand(conf, capsys, monkeypatch, error, debug):
    monkeypatch.setattr("mfspark.pipeline.command.session_of", lambda config: None)  # noqa: ARG005
    arguments = ["--config", conf, *(["--debug"] if debug else [])]
    assert run_jobs("train", [failing(error)], arguments) == 1
    shown = capsys.readouterr().err
    assert shown.splitlines()[-1].startswith("mfspark-train: ")
    assert str(error) in shown.splitlines()[-1]
    assert ("Traceback" in shown) == debug
    assert debug or shown.count("\n") == 1


@pytest.mark.parametrize(("options", "ref"), [([], "told\n"), (["--quiet"], ""), (["--verbose"], "more\ntold\n")])
def test_progress_is_logged_to_stderr_by_its_level(conf, capsys, monkeypatch, options, ref):
    def job(spark, config, run_id):  # noqa: ARG001
        logging.getLogger("mfspark.training").debug("more")
        logging.getLogger("mfspark.training").info("told")
        logging.getLogger("py4j").info("noise")
        return IngestReport(run_id, "here", 0, 0, 0, 0, 0, 1, 5, 0, None)

    monkeypatch.setattr("mfspark.pipeline.command.session_of", lambda config: None)  # noqa: ARG005
    assert run_jobs("train", [job], ["--config", conf, *options]) == 0
    assert capsys.readouterr().err == ref
    assert not logging.getLogger("mfspark").handlers


def test_a_spark_failure_is_one_line_without_java(spark, conf, capsys):
    def job(session, config, run_id):  # noqa: ARG001
        spark.sql("SELECT raise_error('disk on fire')").collect()

    assert run_jobs("train", [job], ["--config", conf]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "disk on fire" in lines[0]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("options", "ref"), [([], 0.0), (["--quiet"], None), (["--verbose"], 0.0)])
def test_quiet_holds_for_the_progress_of_a_fit_on_a_terminal(conf, monkeypatch, options, ref):
    def job(spark, config, run_id):  # noqa: ARG001
        paces.append(progress.pace(None, Terminal()))
        raise TrainingError("enough")

    paces = []
    monkeypatch.setattr("mfspark.pipeline.command.session_of", lambda config: None)  # noqa: ARG005
    assert run_jobs("train", [job], ["--config", conf, *options]) == 1
    assert paces == [ref]


@pytest.mark.parametrize("arguments", [[], ["--config"], ["--config", "x", "--bogus"]])
def test_wrong_arguments_end_with_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        train.main(arguments)
    assert caught.value.code == 2
    assert "usage: mfspark-train" in capsys.readouterr().err


def test_a_script_ends_with_the_exit_code(tmp_path):
    command = [sys.executable, "-m", "jobs.train", "--config", str(tmp_path / "none.yaml")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("mfspark-train: --config")
