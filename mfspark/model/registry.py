"""The registry as a user has it: models go in, and come back in the class they were published in."""

from __future__ import annotations

from mfspark import store
from mfspark.model.load import load_model
from mfspark.model.model import FactorizationModel
from mfspark.store.schemas import ModelVersion


class Registry(store.Registry):
    """The published models of one store: ``publish`` a fitted model, ``load_model`` by number or alias.

    It is made of a session and a place, as ``mfspark.store.Registry`` is, which does all but loading.

    Examples
    --------
    >>> from mfspark import Registry
    >>> registry = Registry(spark, "/data/store")
    >>> published = registry.publish("run-7", model)
    >>> alias = registry.promote(published.version)
    >>> registry.load_model("champion").recommendForAllUsers(10)
    """

    def load_model(
        self, version: int | str | ModelVersion | None = None, limit: int | None = None
    ) -> FactorizationModel:
        """Return a published model: ``mfspark.load_model`` of this registry.

        Parameters
        ----------
        version : int, str or ModelVersion, optional
            Its number, an alias such as "champion", or what ``get`` or ``publish`` returned; the latest by default.
        limit : int, optional
            How many bytes both sides may take up in the driver: a larger model stays on the workers.

        Raises
        ------
        StoreError
            There is no such version, or it has been replaced by a re-run meanwhile.
        """
        return load_model(self, version, limit)
