"""Published models, ready to use again in the class they were published in."""

from __future__ import annotations

from typing import Any, Protocol

from pyspark.sql import DataFrame

from mfspark.model.bpmf import BPMFModel
from mfspark.model.model import FactorizationModel

__all__ = ["BPMFModel", "FactorizationModel", "load_model"]  # whoever loads a model must have all classes at hand


class Version(Protocol):
    """One published model, as a registry names it."""

    @property
    def parameters(self) -> dict[str, Any]:
        """What it was published with."""


class Versions(Protocol):
    """What is asked of ``mfspark.store.Registry``."""

    def get(self, version: int | str | None = None) -> Any:
        """Return a version by its number or an alias, the latest by default."""

    def load(self, model: Any) -> dict[str, DataFrame]:
        """Return a version's tables by name."""


def load_model(
    registry: Versions, version: int | str | Version | None = None, limit: int | None = None
) -> FactorizationModel:
    """Return a published model: predictions, recommendations and fold-in as of the model that was published.

    Parameters
    ----------
    registry : mfspark.store.Registry
        Where it was published.
    version : int, str or ModelVersion, optional
        Its number, an alias such as "champion", or what ``registry.get`` or ``registry.publish`` returned; the latest
        by default.
    limit : int, optional
        How many bytes both sides may take up in the driver: a larger model stays on the workers. By default
        ``spark.mfspark.driverLimit``, or a quarter of the driver's memory.

    Returns
    -------
    FactorizationModel
        Of the class that was published, with the parameters that were set on it.

    Raises
    ------
    StoreError
        There is no such version, or it has been replaced by a re-run meanwhile.

    Examples
    --------
    >>> from mfspark import Registry, load_model
    >>> registry = Registry(spark, "catalog.schema")
    >>> published = registry.publish("run-7", model)
    >>> load_model(registry).recommendForAllUsers(10)
    >>> registry.promote(published.version)
    >>> load_model(registry, "champion").recommendForAllUsers(10)
    """
    published = registry.get(version) if version is None or isinstance(version, int | str) else version
    stored = published.parameters
    # Before there was ``Registry.publish`` of a model, some put its parameters there without a name.
    return FactorizationModel.fromTables(registry.load(published), stored.get("model", stored), limit)
