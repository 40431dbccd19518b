"""The jobs in MLflow: one run for a run id, which train makes anew and evaluate adds to; its registry follows the gate.

The process's own tracking server and active experiment stay as they are: a notebook may call the jobs and go on.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from mfspark.config import Config
from mfspark.errors import MFSparkError, ParameterError
from mfspark.store import ModelVersion
from mfspark.store.compare import flat
from mfspark.store.tables import one_line
from mfspark.tracking import Watch, at_server, log_model, parameters_of, require_mlflow, watched

logger = logging.getLogger(__name__)

TAG = "mfspark.run_id"


class Tracked:
    """What the jobs tell MLflow; where it is not configured, nothing. A server that is away costs a warning.

    As a context it ends the run that it has made: as FINISHED, after an error as FAILED, where the job was interrupted
    as KILLED. A run that was there before keeps its status.

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
        self._config, self._run_id, self._experiment, self._made = config.tracking, run_id, "", False
        self._watch: Watch | None = None
        if config.tracking.mlflow:
            mlflow = require_mlflow()
            self._quietly(lambda: self._start(mlflow, anew))

    def __enter__(self) -> Self:
        """Return what the jobs tell."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the run, if it was made here."""
        watch = self._watch
        if watch is not None and self._made:
            status = "FINISHED" if kind is None else "FAILED" if issubclass(kind, Exception) else "KILLED"
            self._quietly(lambda: watch.client.set_terminated(watch.run_id, status))

    def _start(self, mlflow: Any, anew: bool) -> None:
        """Find the run, the active one or that of the run id, or make one."""
        uri = self._config.uri
        client, active = mlflow.MlflowClient(uri), mlflow.active_run()
        here = uri in (None, mlflow.get_tracking_uri())
        if active is not None and here:
            self._experiment, self._watch = active.info.experiment_id, Watch(client, active.info.run_id)
            return
        self._experiment = _experiment(client, self._config.experiment, here)
        found = self._runs(client, self._run_id)
        if found and not anew:
            self._watch = Watch(client, found[0])
            return
        for old in found:
            client.delete_run(old)
        made = client.create_run(self._experiment, run_name=self._run_id, tags={TAG: self._run_id})
        self._watch, self._made = Watch(client, made.info.run_id), True

    def _runs(self, client: Any, run_id: str) -> list[str]:
        """Return MLflow's runs of a run id, the newest first."""
        asked = f"tags.`{TAG}` = '{run_id}'"
        found = client.search_runs([self._experiment], asked, order_by=["attributes.start_time DESC"])
        return [run.info.run_id for run in found]

    def estimator(self, estimator: Any) -> Any:
        """Return the estimator as it is to be fitted: one that tells of its iterations."""
        if self._watch is None:
            return estimator
        self._watch.log(params=parameters_of(estimator))
        return watched(estimator, self._watch)

    def published(self, model: Any, version: ModelVersion, page: Path | None) -> None:
        """Log what the hook has not seen, where the model is, the model itself, its report."""
        watch, told = self._watch, self._config
        if watch is None:
            return
        watch.rest(model._history)
        record = {f"training.{name}": value for name, value in flat(version.parameters.get("training", {})).items()}
        watch.log(params=record | {"version": version.version})
        self._quietly(lambda: log_model(model, register=told.register_as, run_id=watch.run_id, uri=told.uri))
        self._page(watch, page)

    def evaluated(self, metrics: Mapping[str, float], page: Path | None) -> None:
        """Log metrics and the report."""
        if self._watch is not None:
            self._watch.measure(metrics)
            self._page(self._watch, page)

    def aliased(self, alias: str, version: ModelVersion) -> None:
        """Let an alias of MLflow's registry point at the model that a version's run has logged there, if it has."""
        watch, name = self._watch, self._config.register_as
        if watch is not None and name is not None:
            self._quietly(lambda: self._alias(watch, name, alias, version.run_id))

    def _alias(self, watch: Watch, name: str, alias: str, run_id: str) -> None:
        runs = [watch.run_id] if run_id == self._run_id else self._runs(watch.client, run_id)
        with at_server(self._config.uri):  # a registry in files asks the process's own store for its models
            found = [one for run in runs for one in watch.client.search_model_versions(f"run_id = '{run}'")]
            numbers = [int(one.version) for one in found if one.name == name]
            if not numbers:
                raise ParameterError(f"run {run_id} has no version of {name!r} there, the alias {alias!r} stays")
            watch.client.set_registered_model_alias(name, alias, str(max(numbers)))

    def _page(self, watch: Watch, page: Path | None) -> None:
        if page is not None:
            self._quietly(lambda: watch.client.log_artifact(watch.run_id, str(page)))

    def _quietly(self, action: Callable[[], object]) -> None:
        """Do something with a server that may be away."""
        try:
            action()
        except ParameterError as error:
            logger.warning("not in MLflow: %s", error)
        except MFSparkError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the job goes on
            logger.warning("MLflow misses something: %s: %s", type(error).__name__, one_line(error))


def _experiment(client: Any, name: str | None, here: bool) -> str:
    """Return the id of an experiment, made where there is none; without a name the one that MLflow is set to."""
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import fluent

    if name is None and here and (active := fluent._get_experiment_id()):
        return str(active)
    name = name or os.environ.get("MLFLOW_EXPERIMENT_NAME", "Default")
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:  # another job was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)
