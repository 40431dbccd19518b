"""The jobs in MLflow: one run for a run id, made anew by a repeated training, added to by its evaluation."""

import pytest

from mfspark.config import parse
from mfspark.errors import ConfigError
from mfspark.pipeline import evaluate, ingest, train

mlflow = pytest.importorskip("mlflow", reason="MLflow is tested with the real package: pip install mfspark[mlflow]")
RATINGS = {"format": "synthetic", "seed": 5, "options": {"n_users": 40, "n_items": 30, "n_ratings": 900, "noise": 0.3}}


def test_a_run_of_the_jobs_is_a_run_of_mlflow(spark, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    before = mlflow.get_tracking_uri()
    where = {"mlflow": True, "uri": (tmp_path / "mlflow").as_uri(), "experiment": "films", "register_as": "films"}
    config = parse(
        {
            "store": {"location": str(tmp_path / "store")},
            "source": RATINGS,
            "gradient_descent": {"rank": 2, "maxIter": 3, "seed": 1},
            "tracking": where,
        }
    )
    ingest(spark, config, "day-1")
    for _ in range(2):
        report = train(spark, config, "day-1")
    found = evaluate(spark, config, "day-1")
    client = mlflow.MlflowClient()
    runs = client.search_runs([client.get_experiment_by_name("films").experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"]
    data = runs[0].data
    assert (data.params["rank"], data.params["estimator"], data.params["version"]) == ("2", "GradientDescent", "1")
    assert data.metrics["rmse"] == pytest.approx(found.ratings[""].rmse)
    assert data.metrics["loss"] == pytest.approx(report.history[-1]["loss"])
    assert len(client.get_metric_history(runs[0].info.run_id, "loss")) == 3
    versions = [str(one.version) for one in client.search_model_versions("name='films'")]
    mlflow.set_tracking_uri(before)  # only now: the search asks the store that is set
    assert versions[:1] == ["2"]


def test_keys_without_a_switch_are_refused():
    with pytest.raises(ConfigError, match="tracking.uri, experiment, register_as: only allowed with tracking.mlflow"):
        parse({"store": {"location": "x"}, "tracking": {"uri": "http://host"}})
