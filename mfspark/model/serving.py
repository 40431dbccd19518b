"""A model for a service that runs for weeks: looked for now and then, changed between two requests."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Self

from mfspark.model.local import LocalModel

log = logging.getLogger(__name__)


class Serving:
    """The newest model of a store, or the one under an alias.

    ``model`` is whole at every moment: who takes it once a request answers from one version, and keeps it while another
    one takes its place.

    Parameters
    ----------
    location : str
        A store in which models are published.
    every : float, optional
        Seconds between two looks at the store, in a thread of its own; without it only ``refresh`` looks.
    storage_options : mapping of str to str, optional
        What ``deltalake`` is told of the file system.
    version : str, optional
        An alias, such as "champion", that is followed forth and back; by default the newest version is.

    Raises
    ------
    StoreError
        No model has been published, or there is no such alias.
    """

    def __init__(
        self,
        location: str,
        every: float | None = None,
        storage_options: Mapping[str, str] | None = None,
        version: str | None = None,
    ) -> None:
        self.model = LocalModel.load(location, version, storage_options)
        self._one_at_a_time, self._stopped = threading.Lock(), threading.Event()
        if every is not None:
            threading.Thread(target=self._watch, args=(every,), daemon=True, name="mfspark-serving").start()

    def refresh(self) -> bool:
        """Take the model that is served now, and return whether that is another one than before.

        Raises
        ------
        StoreError
            The store cannot be read; the model stays.
        """
        with self._one_at_a_time:
            newest = self.model.refreshed()
            changed, self.model = newest is not self.model, newest
            return changed

    def _watch(self, every: float) -> None:
        while not self._stopped.wait(every):
            try:
                if self.refresh():
                    log.info("serving %r", self.model)
            except Exception as error:  # a store that is away for an hour must not end the service
                log.warning("the newest model cannot be read, serving %r: %s", self.model, error)

    def close(self) -> None:
        """Look at the store no more."""
        self._stopped.set()

    def __enter__(self) -> Self:
        """Return the serving."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close it."""
        self.close()
