"""The jobs in MLflow: one run for a run id, which train makes anew and evaluate adds to."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mfspark.config import Config
from mfspark.errors import MFSparkError, ParameterError
from mfspark.store import ModelVersion
from mfspark.store.compare import flat
from mfspark.store.tables import one_line
from mfspark.tracking import Watch, log_model, parameters_of, require_mlflow, watched

logger = logging.getLogger(__name__)

TAG = "mfspark.run_id"


class Tracked:
    """What the jobs tell MLflow; where it is not configured, nothing. A server that is away costs a warning.

    Parameters
    ----------
    config : Config
        The section ``tracking``.
    run_id : str
        Of the run that trained the model.
    anew : bool
        Whether to replace what an earlier attempt of the run has logged.

    Raises
    ------
    SetupError
        MLflow is configured, but the package is missing.
    """

    def __init__(self, config: Config, run_id: str, anew: bool) -> None:
        self._config, self._watch = config.tracking, None
        if config.tracking.mlflow:
            mlflow = require_mlflow()
            self._watch = self._quietly(lambda: Watch(*self._run(mlflow, run_id, anew)))

    def _run(self, mlflow: Any, run_id: str, anew: bool) -> tuple[Any, str]:
        """Return a client, and the run: the active one, the run id's, or a new one."""
        if self._config.uri is not None:
            mlflow.set_tracking_uri(self._config.uri)
        client, active = mlflow.MlflowClient(), mlflow.active_run()
        if active is not None:
            return client, active.info.run_id
        experiment = mlflow.set_experiment(self._config.experiment or "Default").experiment_id
        found = client.search_runs([experiment], f"tags.`{TAG}` = '{run_id}'", order_by=["attributes.start_time DESC"])
        if found and not anew:
            return client, found[0].info.run_id
        for old in found:
            client.delete_run(old.info.run_id)
        return client, client.create_run(experiment, run_name=run_id, tags={TAG: run_id}).info.run_id

    def estimator(self, estimator: Any) -> Any:
        """Return the estimator as it is to be fitted: one that tells of its iterations."""
        if self._watch is None:
            return estimator
        self._watch.log(params=parameters_of(estimator))
        return watched(estimator, self._watch)

    def published(self, model: Any, version: ModelVersion, page: Path | None) -> None:
        """Log what the hook has not seen, where the model is, the model itself, its report; and end the run."""
        watch = self._watch
        if watch is None:
            return
        watch.rest(model._history)
        record = {f"training.{name}": value for name, value in flat(version.parameters.get("training", {})).items()}
        watch.log(params=record | {"version": version.version})
        self._quietly(lambda: log_model(model, register=self._config.register_as, run_id=watch.run_id))
        self._page(watch, page)

    def evaluated(self, metrics: Mapping[str, float], page: Path | None) -> None:
        """Log metrics and the report; and end the run."""
        watch = self._watch
        if watch is not None:
            watch.measure(metrics)
            self._page(watch, page)

    def _page(self, watch: Watch, page: Path | None) -> None:
        if page is not None:
            self._quietly(lambda: watch.client.log_artifact(watch.run_id, str(page)))
        if require_mlflow().active_run() is None:
            self._quietly(lambda: watch.client.set_terminated(watch.run_id))

    def _quietly(self, action: Any) -> Any:
        """Do something with a server that may be away."""
        try:
            return action()
        except ParameterError as error:
            logger.warning("not in MLflow: %s", error)
        except MFSparkError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the job goes on
            logger.warning("MLflow misses something: %s: %s", type(error).__name__, one_line(error))
        return None
