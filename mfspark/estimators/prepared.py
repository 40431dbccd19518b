"""Several fits on the same ratings: the blocks are made once, and every fit starts from them."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

from pyspark.sql import DataFrame

from mfspark.blocks import build as block_frames
from mfspark.blocks.build import Layout
from mfspark.blocks.profile import Profile
from mfspark.model.model import FactorizationModel
from mfspark.transport.persist import Workspace
from mfspark.transport.slots import SlotsLostError

CUT = (
    "userCol", "itemCol", "ratingCol", "weightCol", "validationIndicatorCol", "implicitPrefs", "numUserBlocks",
    "numItemBlocks", "loop", "carrier", "materializer", "intermediateStorageLevel", "filterSeen",
)  # fmt: skip
"""The parameters that decide what is read, checked and cut: where one of them changes, a fit makes its own blocks."""


class Blocks(NamedTuple):
    """The frame of blocks, how it is cut, and what is known of the ratings in it."""

    frame: DataFrame
    layout: Layout
    found: Profile


class Prepared:
    """Ratings as blocks that are kept, from ``estimator.prepare(ratings)``.

    A fit that needs something else (another column or number of blocks, checkpoints, ``filterSeen``, sides that pass
    the driver's limit) is a fit of its own, with the same result.

    Parameters
    ----------
    estimator : BlockEstimator
        Whose parameters hold where a fit changes nothing.
    dataset : DataFrame
        The ratings.

    Examples
    --------
    >>> from mfspark import ALS
    >>> with ALS(rank=2, maxIter=2).prepare(ratings) as prepared:
    ...     models = [prepared.fit({"regParam": value}) for value in (0.01, 0.1)]
    """

    def __init__(self, estimator: Any, dataset: DataFrame) -> None:
        estimator._check_fit(dataset)
        self._estimator, self._dataset = estimator, dataset
        self._workspace = Workspace(estimator._materialiser())
        try:
            self._blocks = self._made() if _shares(estimator) else None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Return the prepared ratings."""
        return self

    def __exit__(self, *error: object) -> None:
        """Let the blocks go."""
        self.close()

    def close(self) -> None:
        """Let the blocks go; later fits make their own."""
        self._blocks = None
        self._workspace.__exit__(None, None, None)

    def fit(self, params: Mapping[Any, Any] | None = None) -> FactorizationModel:
        """Return the model of the estimator with some parameters changed.

        Parameters
        ----------
        params : mapping, optional
            Parameters, or their names, and values.

        Raises
        ------
        ParameterError, DataError, TrainingError
            As ``estimator.fit``.
        """
        maps = {self._estimator.getParam(getattr(key, "name", key)): value for key, value in (params or {}).items()}
        return self.fit_as(self._estimator.copy(maps))

    def fit_as(self, chosen: Any) -> FactorizationModel:
        """Return the model of an estimator of the same class.

        Parameters
        ----------
        chosen : BlockEstimator
            What fits, on the kept blocks where it would make the same ones.

        Raises
        ------
        ParameterError, DataError, TrainingError
            As ``chosen.fit``.
        """
        chosen._check_fit(self._dataset)
        if self._blocks is None or not self._fits(chosen):
            return chosen.fit(self._dataset)
        try:
            return chosen._fit_blocks(self._blocks, self._dataset)
        except SlotsLostError as lost:
            if lost.slots == 0:
                raise
            return chosen._with_slots(lost, self._blocks.layout).fit(self._dataset)

    def _made(self) -> Blocks | None:
        estimator, workspace = self._estimator, self._workspace
        ratings = estimator._encoded(self._dataset, workspace)
        found = ratings.found
        if not isinstance(found, Profile) or estimator._exchanges(ratings.frame, found):
            workspace.drop(ratings.frame)
            return None
        layout, _ = estimator._layout(self._dataset.sparkSession, found, ratings.weighted)
        carrier = estimator.getOrDefault("carrier")
        frame, release = block_frames.build(ratings.frame, found, layout, carrier, estimator._sides)
        workspace.later(release)
        return Blocks(workspace.replace(ratings.frame, frame), layout, found)

    def _fits(self, chosen: Any) -> bool:
        """Return whether the blocks are those that a fit of this estimator would make."""
        same = all(chosen._optional(name) == self._estimator._optional(name) for name in CUT if chosen.hasParam(name))
        assert self._blocks is not None
        return same and _shares(chosen) and not chosen._exchanges(self._dataset, self._blocks.found)


def _shares(estimator: Any) -> bool:
    """Return whether a fit reads nothing but blocks, and leaves them as they are."""
    stored = estimator._optional("workPath") and estimator._checkpoints_due()
    return not (estimator.getOrDefault("filterSeen") or stored or estimator._checkpoints_at)


class Fits:
    """The models of several parameter maps, as ``Estimator.fitMultiple`` gives them out.

    Parameters
    ----------
    estimator : BlockEstimator
        What fits.
    dataset : DataFrame
        The ratings, which are prepared when the first model is asked for and let go with the last.
    maps : sequence of dict
        Parameters and their values.
    """

    def __init__(self, estimator: Any, dataset: DataFrame, maps: Sequence[Mapping[Any, Any]]) -> None:
        self._estimator, self._dataset, self._maps = estimator, dataset, maps
        self._next, self._left, self._lock = 0, len(maps), threading.Lock()
        self._prepared: Prepared | None = None

    def __iter__(self) -> Fits:
        """Return the iterator."""
        return self

    def __next__(self) -> tuple[int, FactorizationModel]:
        """Fit the next map; a thread that asks meanwhile fits the one after it."""
        with self._lock:
            place = self._next
            if place >= len(self._maps):
                raise StopIteration
            self._next += 1
        try:
            chosen = self._estimator.copy(self._maps[place])
            return place, self._shared(chosen).fit_as(chosen)
        finally:
            with self._lock:
                self._left -= 1
                if self._left == 0:
                    self._close()

    def _shared(self, chosen: Any) -> Prepared:
        """Return the blocks, made for the first that asks: the estimator itself need not be one that can fit."""
        with self._lock:
            if self._prepared is None:
                self._prepared = chosen.prepare(self._dataset)
            return self._prepared

    def _close(self) -> None:
        if self._prepared is not None:
            self._prepared.close()

    def __del__(self) -> None:
        """Let the blocks go where not all models were asked for."""
        self._close()
