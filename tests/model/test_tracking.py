"""MLflow, the real package on a folder: iterations while they happen, models as pyfuncs, and no secret."""

import logging
import sys
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from test_local import fitted

from mfspark import LocalModel, tracking
from mfspark.errors import ParameterError, SetupError
from mfspark.training.history import Iteration

mlflow = pytest.importorskip("mlflow", reason="MLflow is tested with the real package: pip install mfspark[mlflow]")
LINES = [Iteration(n, 10.0 / n, 8.0 / n, 2.0 / n, None if n == 1 else 1.0 / n, 0.5) for n in (1, 2, 3)]


@pytest.fixture
def server(fresh_mlflow, tmp_path):
    """A tracking store of its own, and its client."""
    fresh_mlflow.set_tracking_uri((tmp_path / "mlflow").as_uri())
    return fresh_mlflow.MlflowClient()


class Named(NamedTuple):
    name: str


class Estimator:
    """As an estimator looks to ``log_fit``: three iterations, of which those ``told`` are told to the listeners."""

    def __init__(self, told=LINES, looks=None):
        self._listeners, self.told, self.looks = (), told, looks

    def extractParamMap(self):
        values = {"rank": 4, "workPath": "s3a://key:secret@bucket/work", "seen": "x" * 9_000}
        return {Named(name): value for name, value in values.items()}

    def copy(self):
        return Estimator(self.told, self.looks)

    def fit(self, ratings):
        for line in self.told:
            for hook in self._listeners:
                hook(line, ratings)
            if self.looks:
                self.looks(line)
        return SimpleNamespace(_history=LINES)


@pytest.mark.parametrize("told", [LINES, [], LINES[:2]], ids=["driver", "barrier stage", "resumed"])
def test_every_iteration_is_logged_once(server, told):
    with mlflow.start_run() as run:
        tracking.log_fit(Estimator(told), None)
    for name, ref in (("loss", [10.0, 5.0, 10 / 3]), ("validationRMSE", [0.5, 1 / 3])):
        found = server.get_metric_history(run.info.run_id, name)
        assert [one.value for one in sorted(found, key=lambda one: one.step)] == pytest.approx(ref)
        assert sorted(one.step for one in found) == [1, 2, 3][-len(ref) :]
    params = server.get_run(run.info.run_id).data.params
    assert (params["estimator"], params["rank"], params["workPath"]) == ("Estimator", "4", "s3a://***@bucket/work")
    assert len(params["seen"]) == tracking.LONGEST


def test_it_is_logged_while_it_trains(server):
    seen = []
    with mlflow.start_run() as run:
        look = lambda line: seen.append(len(server.get_metric_history(run.info.run_id, "loss")))  # noqa: E731, ARG005
        estimator = Estimator(looks=look)
        tracking.log_fit(estimator, None)
    assert seen == [1, 2, 3] and estimator._listeners == ()


def test_a_server_that_is_away_costs_a_warning(caplog):
    class Away:
        def log_batch(self, *_, **__):
            raise OSError("no route to host")

    with caplog.at_level(logging.WARNING, "mfspark"):
        tracking.Watch(Away(), "r1")(LINES[0])
    assert "MLflow run r1 misses something: OSError: no route to host" in caplog.text


@pytest.mark.parametrize("texts", [False, True])
def test_a_logged_model_predicts_as_it_did_and_nothing_is_pickled(server, tmp_path, texts):  # noqa: ARG001
    local = LocalModel(fitted(3, texts=texts, bias=(True, True), intercept=3.0))
    users, items = (local.ids(side).to_pylist()[:4] for side in (0, 1))
    with mlflow.start_run():
        tracking.log_model(local, register="films")
    loaded = mlflow.pyfunc.load_model("models:/films/1")
    rows = pd.DataFrame({"user": users, "item": items})
    np.testing.assert_allclose(loaded.predict(rows), local.predict(users, items))
    lists = loaded.predict(rows[["user"]], params={"k": 3})
    assert lists == [[found.id for found in local.recommend(user, 3)] for user in users]
    stranger = rows.assign(user="nobody" if texts else 10**9)
    assert np.isnan(loaded.predict(stranger)).all()
    assert loaded.predict(stranger[["user"]]) == [[]] * 4
    names = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert ".npy" in names and not names & {".pkl", ".pickle", ".cloudpickle"}
    assert [str(column.type) for column in loaded.metadata.signature.inputs][0].endswith("string" if texts else "long")


def test_a_model_goes_to_a_run_elsewhere_and_the_process_stays_where_it_is(server, tmp_path):
    elsewhere = (tmp_path / "elsewhere").as_uri()
    other = mlflow.MlflowClient(elsewhere)
    run_id = other.create_run(other.create_experiment("theirs")).info.run_id
    mlflow.set_experiment("mine")
    before = mlflow.get_tracking_uri()
    with mlflow.start_run() as run:
        tracking.log_model(LocalModel(fitted(3)), run_id=run_id, uri=elsewhere)
        assert mlflow.active_run().info.run_id == run.info.run_id
    assert mlflow.get_tracking_uri() == before
    with mlflow.start_run() as run:
        assert server.get_experiment(run.info.experiment_id).name == "mine"
    assert len(other.get_run(run_id).outputs.model_outputs) == 1


def test_what_cannot_be_logged_is_one_line(server, monkeypatch):  # noqa: ARG001
    local = LocalModel(fitted(3))
    for action in (lambda: tracking.log_fit(Estimator(), None), lambda: tracking.log_model(local)):
        with pytest.raises(ParameterError, match="no MLflow run is active: call this within"):
            action()
    with pytest.raises(ParameterError, match="the model's factors are on the workers"):
        tracking.log_model(SimpleNamespace(fitted=object()))
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(SetupError, match=r"pip install mfspark\[mlflow\]$"):
        tracking.require_mlflow()
