"""MLflow: a fit's parameters, a metric an iteration while it trains, and its model as a pyfunc without a pickle.

In a notebook, within a run::

    with mlflow.start_run():
        model = tracking.log_fit(ALS(rank=64), ratings)
        tracking.log_model(model, register="recommender")
    mlflow.pyfunc.load_model("models:/recommender/1").predict(pandas.DataFrame({"user": [1], "item": [7]}))

The jobs do the same where ``tracking.mlflow`` is set (``pipeline.tracked``). A fit whose loop runs in the driver is
followed while it runs. One whose loop runs inside the tasks of a barrier stage, as those of ALS and SGD may, is told
when the stage has ended, all its iterations at once with their numbers as steps: the tasks know no tracking server. A
server that is away costs a warning, not the fit.
"""

from __future__ import annotations

import logging
import math
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pyarrow as pa

from mfspark.errors import ParameterError, SetupError, without_secret
from mfspark.kernels.csr import Side
from mfspark.model.factorization import Factorization
from mfspark.model.local import LocalModel
from mfspark.training.history import Iteration

logger = logging.getLogger(__name__)

LONGEST = 500  # characters of a parameter that every server takes
MEASURES = {  # of an iteration's line: as they are called in the table ``history``
    "loss": "loss",
    "fit": "fit",
    "regularisation": "regularisation",
    "validation_rmse": "validationRMSE",
    "seconds": "seconds",
    "repaired": "repaired",
}
INHERITED = "MLFLOW_TRACKING_URI"
TYPES = {"int32": "integer", "int64": "long", "string": "string"}


def require_mlflow() -> Any:
    """Return the package mlflow, or raise SetupError where it is missing."""
    try:
        import mlflow
        import mlflow.pyfunc
    except ImportError as error:
        raise SetupError("runs are tracked by the package mlflow: pip install mfspark[mlflow]") from error
    return mlflow


class Watch:
    """A hook of the loop (``training.loop``) that logs every iteration once, to one run.

    Parameters
    ----------
    client : mlflow.MlflowClient
        Where to.
    run_id : str
        The run of MLflow.
    """

    def __init__(self, client: Any, run_id: str) -> None:
        self.client, self.run_id = client, run_id
        self._told: set[int] = set()

    def __call__(self, line: Iteration, _state: Any = None) -> None:
        """Log an iteration's line."""
        self.rest([line])

    def rest(self, history: Sequence[Iteration]) -> None:
        """Log the lines that have not been logged yet."""
        from mlflow.entities import Metric

        new = [line for line in history if line.iteration not in self._told]
        self._told |= {line.iteration for line in new}
        metrics = [
            Metric(name, float(value), _milliseconds(), line.iteration)
            for line in new
            for field, name in MEASURES.items()
            if (value := getattr(line, field)) is not None
        ]
        self.log(metrics=metrics)

    def measure(self, metrics: Mapping[str, float]) -> None:
        """Log what was measured on the finished model; values that are no numbers are left out."""
        from mlflow.entities import Metric

        finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
        self.log([Metric(name, value, _milliseconds(), 0) for name, value in finite.items()])

    def log(self, metrics: Sequence[Any] = (), params: Mapping[str, Any] | None = None) -> None:
        """Log metrics and parameters, in batches that every server takes; where that fails, say so and go on."""
        from mlflow.entities import Param

        told = [Param(name, shown(value)) for name, value in (params or {}).items()]
        try:
            for at in range(0, max(len(metrics), 1), 500):
                self.client.log_batch(self.run_id, list(metrics[at : at + 500]), told[:100] if at == 0 else [])
            for at in range(100, len(told), 100):
                self.client.log_batch(self.run_id, params=told[at : at + 100])
        except Exception as error:  # noqa: BLE001 - whatever it is, the fit goes on
            logger.warning("MLflow run %s misses something: %s: %s", self.run_id, type(error).__name__, _first(error))


def log_fit(estimator: Any, ratings: Any) -> Any:
    """Fit, and log to the active run what the estimator was told and what every iteration measured.

    Parameters
    ----------
    estimator : Estimator
        Any of mfspark's.
    ratings : DataFrame
        What ``estimator.fit`` takes.

    Returns
    -------
    FactorizationModel
        The fitted model.

    Raises
    ------
    ParameterError
        No run is active.
    SetupError
        The package mlflow is missing.
    """
    mlflow = require_mlflow()
    watch = Watch(mlflow.MlflowClient(), _active(mlflow))
    watch.log(params=parameters_of(estimator))
    model = watched(estimator, watch).fit(ratings)
    watch.rest(model._history)
    return model


def watched(estimator: Any, watch: Watch) -> Any:
    """Return a copy of an estimator that tells a watch of its iterations."""
    copied = estimator.copy()
    copied._listeners = (*copied._listeners, watch)
    return copied


def log_model(
    model: Any, name: str = "model", register: str | None = None, run_id: str | None = None, uri: str | None = None
) -> Any:
    """Log a model as a pyfunc, with its signature: numbers in files (``LocalModel.save``), nothing that is unpickled.

    Its ``predict`` takes rows with the columns ``user`` and ``item`` and returns their predictions, NaN for ids that
    the model does not know; rows of users alone get lists of ``k`` items, a parameter, whatever was rated.

    Parameters
    ----------
    model : FactorizationModel or LocalModel
        The model.
    name : str, default "model"
        What it is called in its run.
    register : str, optional
        The name under which MLflow's registry is to have it as a new version.
    run_id : str, optional
        The run of MLflow; the active one by default.
    uri : str, optional
        The tracking server that has the run; the one that MLflow is set to by default.

    Raises
    ------
    ParameterError
        The model's factors are on the workers, too many for one process, or no run is active.
    SetupError
        The package mlflow is missing.
    """
    mlflow = require_mlflow()
    local = _local(model)
    if run_id is None:
        _active(mlflow)
    settings: dict[str, Any] = {
        "name": name,
        "loader_module": "mfspark.tracking",
        "signature": _signature(local),
        "pip_requirements": [_ourselves()],
        "registered_model_name": register,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "factors")
        local.save(path)
        with at_server(uri), _in_run(mlflow, run_id):
            return mlflow.pyfunc.log_model(data_path=path, **settings)


@contextmanager
def at_server(uri: str | None) -> Iterator[None]:
    """Let MLflow's functions without a client reach a server and all its experiments; after that all is as it was.

    Parameters
    ----------
    uri : str, optional
        The tracking server; None leaves the one that MLflow is set to.
    """
    require_mlflow()
    from mlflow.tracking import fluent
    from mlflow.tracking._tracking_service.utils import _use_tracking_uri

    # No run can be started while another experiment than its own is active, and no public call makes one inactive.
    experiment, inherited = fluent._active_experiment_id, os.environ.get(INHERITED)
    fluent._active_experiment_id = None
    try:
        with nullcontext() if uri is None else _use_tracking_uri(uri):
            yield
    finally:
        fluent._active_experiment_id = experiment
        if inherited is not None:  # what MLflow deletes where the address came from there alone
            os.environ[INHERITED] = inherited


class Predictor:
    """What MLflow calls.

    Parameters
    ----------
    local : LocalModel
        The model.
    """

    def __init__(self, local: LocalModel) -> None:
        self.local = local

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Return predictions of pairs, or lists of items for users alone.

        Parameters
        ----------
        model_input : pandas.DataFrame
            The columns ``user`` and, for predictions, ``item``.
        params : mapping, optional
            ``k``, how many items a list has (default 10).
        """
        users = model_input["user"].tolist()
        if "item" in model_input.columns:
            return self.local.predict(users, model_input["item"].tolist()).astype(float)
        k = int((params or {}).get("k", 10))
        known = self.local.knows
        return [[found.id for found in self.local.recommend(user, k)] if known(user) else [] for user in users]


def _load_pyfunc(path: str) -> Predictor:
    """Return what MLflow calls, from a folder that ``LocalModel.save`` wrote: its arrays are mapped, not read."""
    return Predictor(LocalModel.load(path))


def parameters_of(estimator: Any) -> dict[str, Any]:
    """Return an estimator's class and every parameter that has a value."""
    values = {parameter.name: value for parameter, value in estimator.extractParamMap().items()}
    return {"estimator": type(estimator).__name__} | values


def shown(value: Any) -> str:
    """Return a parameter as it is logged: no longer than every server takes, without the secrets of an address.

    Examples
    --------
    >>> shown("s3a://key:secret@bucket/ratings")
    's3a://***@bucket/ratings'
    """
    text = without_secret(str(value))
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _local(model: Any) -> LocalModel:
    if isinstance(model, LocalModel):
        return model
    if not isinstance(model.fitted, Factorization):
        raise ParameterError(
            "the model's factors are on the workers, more than one process is to hold: publish it in a registry instead"
        )
    return LocalModel(model.fitted)


def _signature(local: LocalModel) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    user, item = (_type(local.ids(side).type) for side in Side)
    inputs = Schema([ColSpec(user, "user"), ColSpec(item, "item", required=False)])
    return ModelSignature(inputs, Schema([ColSpec("double")]), ParamSchema([ParamSpec("k", "long", 10)]))


def _type(kind: pa.DataType) -> str:
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return "string" if text else TYPES.get(str(kind), "long")


def _active(mlflow: Any) -> str:
    run = mlflow.active_run()
    if run is None:
        raise ParameterError("no MLflow run is active: call this within `with mlflow.start_run():`")
    return str(run.info.run_id)


def _in_run(mlflow: Any, run_id: str | None) -> Any:
    """Return a context in which a run is active: one that is active already is left as it is."""
    run = mlflow.active_run()
    if run is not None and run_id in (None, run.info.run_id):
        return nullcontext()
    return mlflow.start_run(run_id=run_id, nested=run is not None)


def _ourselves() -> str:
    try:
        return f"mfspark=={version('mfspark')}"
    except PackageNotFoundError:  # read from a zip by --py-files
        return "mfspark"


def _milliseconds() -> int:
    return int(time.time() * 1000)


def _first(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else ""
