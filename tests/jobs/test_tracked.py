"""The jobs in MLflow: one run for a run id, made anew by a repeated training, added to by its evaluation."""

import logging
import os

import pytest

from mfspark import ALS, GradientDescent
from mfspark.config import parse
from mfspark.errors import ConfigError, TrainingError
from mfspark.pipeline import evaluate, ingest, train
from mfspark.store import Registry
from mfspark.tracking import at_server

RATINGS = {"format": "synthetic", "seed": 5, "options": {"n_users": 60, "n_items": 40, "n_ratings": 1500, "noise": 0.3}}
DESCENT = {"gradient_descent": {"rank": 2, "maxIter": 3, "seed": 1}}


@pytest.fixture(scope="module")
def ratings(spark, tmp_path_factory):
    """Return what makes a configuration of a store with ratings, tracked by a server of any address."""
    location = str(tmp_path_factory.mktemp("store"))

    def configured(uri, experiment="films", **sections):
        told = {"mlflow": True, "uri": uri, "experiment": experiment, "register_as": "films"}
        return parse({"store": {"location": location}, "source": RATINGS, "tracking": told} | (sections or DESCENT))

    ingest(spark, parse({"store": {"location": location}, "source": RATINGS}), "day-0")
    return configured


def runs(mlflow, uri, experiment="films"):
    client = mlflow.MlflowClient(uri)
    return client.search_runs([client.get_experiment_by_name(experiment).experiment_id])


def test_a_run_of_the_jobs_is_a_run_of_mlflow(spark, ratings, fresh_mlflow, tmp_path):
    uri = (tmp_path / "mlflow").as_uri()
    for _ in range(2):
        report = train(spark, ratings(uri), "day-1")
    found = evaluate(spark, ratings(uri, model={"run_id": "day-1"}), "day-1")
    client, own = fresh_mlflow.MlflowClient(uri), runs(fresh_mlflow, uri)
    assert [run.info.status for run in own] == ["FINISHED"]
    data = own[0].data
    told = (data.params["rank"], data.params["estimator"], data.params["version"])
    assert told == ("2", "GradientDescent", str(report.version))
    assert data.metrics["rmse"] == pytest.approx(found.ratings[""].rmse)
    assert data.metrics["loss"] == pytest.approx(report.history[-1]["loss"])
    assert len(client.get_metric_history(own[0].info.run_id, "loss")) == 3
    with at_server(uri):  # a registry in files asks the process's own store
        assert [int(one.version) for one in client.search_model_versions("name='films'")] == [2, 1]


@pytest.mark.parametrize("already", [True, False], ids=["set", "as in a new process"])
def test_the_process_keeps_its_server_and_its_experiment(spark, ratings, fresh_mlflow, tmp_path, already, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where MLflow stores what is told no server
    if already:
        fresh_mlflow.set_tracking_uri((tmp_path / "mine").as_uri())
        fresh_mlflow.set_experiment("mine")

    def state():
        made = [name for name in ("mlflow.db", "mlruns") if (tmp_path / name).exists()]
        return fresh_mlflow.is_tracking_uri_set(), fresh_mlflow.get_tracking_uri(), {**os.environ}, made

    before, uri, gate = state(), (tmp_path / "theirs").as_uri(), {"metric": "rmse", "alias": "kept"}
    train(spark, ratings(uri), "kept")
    assert state() == before
    assert evaluate(spark, ratings(uri, model={"run_id": "kept"}, gate=gate), "kept").gate.promoted
    assert state() == before
    with at_server(uri):
        assert int(fresh_mlflow.MlflowClient().get_model_version_by_alias("films", "kept").version) == 1
    assert state() == before
    assert len(runs(fresh_mlflow, uri)) == 1
    with fresh_mlflow.start_run() as run:
        pass
    named = fresh_mlflow.MlflowClient().get_experiment(run.info.experiment_id).name
    assert named == ("mine" if already else "Default")


def test_without_an_experiment_it_is_the_one_mlflow_is_set_to(spark, ratings, fresh_mlflow, tmp_path):
    uri = (tmp_path / "mlflow").as_uri()
    fresh_mlflow.set_tracking_uri(uri)
    fresh_mlflow.set_experiment("mine")
    train(spark, ratings(uri, experiment=None), "unnamed")
    assert [run.info.status for run in runs(fresh_mlflow, uri, "mine")] == ["FINISHED"]


@pytest.mark.parametrize(
    ("place", "error", "status"),
    [
        ((GradientDescent, "_fit"), TrainingError("diverged"), "FAILED"),
        ((GradientDescent, "_fit"), KeyboardInterrupt(), "KILLED"),
        ((Registry, "publish"), RuntimeError("no space left"), "FAILED"),
    ],
    ids=["fit", "interrupted", "publish"],
)
def test_a_job_that_ends_early_ends_its_run(spark, ratings, fresh_mlflow, tmp_path, monkeypatch, place, error, status):
    def fails(*_, **__):
        raise error

    uri = (tmp_path / "mlflow").as_uri()
    with monkeypatch.context() as patch:
        patch.setattr(*place, fails)
        with pytest.raises(type(error)):
            train(spark, ratings(uri), "early")
    assert [run.info.status for run in runs(fresh_mlflow, uri)] == [status]


def test_the_run_of_a_notebook_is_left_to_it(spark, ratings, fresh_mlflow, tmp_path, monkeypatch):
    uri = (tmp_path / "mlflow").as_uri()
    fresh_mlflow.set_tracking_uri(uri)
    with fresh_mlflow.start_run() as run:
        monkeypatch.setattr(GradientDescent, "_fit", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(spark, ratings(uri), "inside")
        assert fresh_mlflow.MlflowClient().get_run(run.info.run_id).info.status == "RUNNING"
        assert fresh_mlflow.active_run().info.run_id == run.info.run_id


FAIR = {"rank": 2, "maxIter": 1, "seed": 1, "regParam": 1.0}
GOOD = {"rank": 2, "maxIter": 2, "seed": 1, "center": True, "userBias": True, "itemBias": True}
POOR = {"rank": 2, "maxIter": 1, "seed": 1, "regParam": 9.0}


def test_the_alias_in_mlflow_follows_the_gate(spark, ratings, fresh_mlflow, tmp_path, monkeypatch, caplog):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.chdir(tmp_path)  # artifacts of a database without a server go to the folder mlruns
    client, versions = fresh_mlflow.MlflowClient(uri), {}

    def gated(run, als):
        if als is not None:
            versions[run] = train(spark, ratings(uri, als=als), run).version
        gate = {"metric": "rmse", "alias": "best"}
        return evaluate(spark, ratings(uri, als=als or GOOD, gate=gate, model={"run_id": run}), run).gate

    def at():
        return int(client.get_model_version_by_alias("films", "best").version)

    assert gated("first", FAIR).promoted and at() == 1
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "mfspark"):
        patch.setattr(fresh_mlflow.MlflowClient, "set_registered_model_alias", lambda *_: 1 / 0)
        assert gated("second", GOOD).promoted and "MLflow misses something: ZeroDivisionError" in caplog.text
    assert not gated("third", POOR).promoted and at() == 1
    assert gated("second", None).settled and at() == 2  # a repeated evaluation mends what a server has missed
    again = gated("second", POOR)  # trained anew, a worse model: the alias goes back in both registries
    assert again.withdrawn and at() == 1
    assert Registry(spark, ratings(uri).store.location).alias("best").version == versions["first"]
    assert int(client.search_model_versions("name='films'")[0].version) == 4
    assert ALS.__name__ in {run.data.params["estimator"] for run in runs(fresh_mlflow, uri)}


def test_an_alias_without_a_version_costs_a_warning(spark, ratings, fresh_mlflow, tmp_path, caplog):
    uri, quiet = (tmp_path / "mlflow").as_uri(), {"gate": {"metric": "rmse", "alias": "other"}}
    plain = parse({"store": {"location": ratings(uri).store.location}, "source": RATINGS} | DESCENT)
    train(spark, plain, "untracked")
    with caplog.at_level(logging.WARNING, "mfspark"):
        assert evaluate(spark, ratings(uri, model={"run_id": "untracked"}, **quiet), "untracked").gate.promoted
    assert "not in MLflow: run untracked has no version of 'films' there, the alias 'other' stays" in caplog.text
    assert [run.info.status for run in runs(fresh_mlflow, uri)] == ["FINISHED"]


def test_keys_without_a_switch_are_refused():
    with pytest.raises(ConfigError, match="tracking.uri, experiment, register_as: only allowed with tracking.mlflow"):
        parse({"store": {"location": "x"}, "tracking": {"uri": "http://host"}})
