"""A user whom a model has not met, from ratings of its items: solved, and explained. numpy only; one user at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfspark.errors import DataError, ParameterError, TrainingError
from mfspark.kernels.csr import Side
from mfspark.kernels.objective import Objective, fix
from mfspark.kernels.one_row import Equations, equations, one_block
from mfspark.kernels.sgd.expected import solve_expected
from mfspark.model.factorization import Factorization
from mfspark.model.sorted_ids import SortedIds

Doubles = NDArray[np.float64]


class Scored(NamedTuple):
    """An id and its score: a prediction, a cosine, or a contribution to a prediction."""

    id: Any
    score: float


class Explanation(NamedTuple):
    """Where a score comes from.

    Parameters
    ----------
    score : float
        What the user's ratings give the item, before it is clipped to the range of the ratings.
    base : float
        The part that is everybody's: intercept and item bias.
    contributions : list of Scored
        What each rating adds, the user's bias included; the largest first. With ``base`` they sum to ``score``.
    """

    score: float
    base: float
    contributions: list[Scored]


class Ratings(NamedTuple):
    """One user's ratings, as the model takes them: places of known items, ratings and weights (None: all are 1)."""

    places: NDArray[np.int64]
    ratings: Doubles
    weights: Doubles | None


class Explained(NamedTuple):
    """Scores and bases (m,) of m items, and the shares (m x n) that n ratings have in the scores."""

    scores: Doubles
    bases: Doubles
    shares: Doubles


def require_folds(objective: Objective) -> None:
    """Raise ParameterError where users are not the minimum of an objective that can be solved."""
    refusal = objective.refusal(Side.USER)
    if refusal is not None:
        raise ParameterError(refusal)


def require_explains(objective: Objective) -> None:
    """Raise ParameterError where scores are not sums over a user's ratings."""
    refusal = objective.unexplained()
    if refusal is not None:
        raise ParameterError(refusal)


class NewUsers:
    """The equations of users against the items of a model, of which nothing else is used.

    Parameters
    ----------
    fitted : Factorization
        The model.
    ids : SortedIds
        Its items' ids.
    """

    def __init__(self, fitted: Factorization, ids: SortedIds) -> None:
        self.fitted, self.ids = fitted, ids
        self._settings = replace(fitted.settings, dtype="float64")
        self._lock = threading.Lock()

    def rated(self, ratings: Mapping[Any, float] | Iterable[Any], weights: Mapping[Any, float] | None) -> Ratings:
        """Return ratings by item (items alone are rated 1) and weights by item (1 by default), as ``given``."""
        items = list(ratings)
        each = [ratings[item] for item in items] if isinstance(ratings, Mapping) else np.ones(len(items))
        return self.given(items, each, None if weights is None else [weights.get(item, 1.0) for item in items])

    def given(self, items: Iterable[Any], ratings: Any, weights: Any) -> Ratings:
        """Return ratings of items as the model takes them.

        Parameters
        ----------
        items : sequence of ids (n,)
            The items.
        ratings : sequence (n,)
            Their ratings, kept in float32 as on Spark.
        weights : sequence (n,) or None
            Their weights.

        Raises
        ------
        DataError
            Some items are unknown, or ratings or weights cannot be used.
        """
        places = self.ids.places(items)
        unknown = int((places < 0).sum())
        if unknown:
            raise DataError(f"{unknown} items are unknown to the model: remove their ratings")
        values = np.asarray(ratings, np.float32).astype(np.float64)
        own = None if weights is None else np.asarray(weights, np.float32).astype(np.float64)
        if not np.isfinite(values).all() or (own is not None and not (np.isfinite(own) & (own >= 0)).all()):
            raise DataError("ratings must be finite, weights finite and >= 0: remove the others")
        return Ratings(places, values, own)

    def solve(self, given: Ratings) -> Doubles:
        """Return the row (padded,) of a user with these ratings.

        Raises
        ------
        TrainingError
            The equations have no finite solution.
        """
        settings, row = self._settings, np.zeros(self._settings.padded)
        if settings.negatives:
            fixed = fix(self.fitted.sides[Side.ITEM], settings, self.fitted.intercept)
            solved, failed = solve_expected(one_block(*given), fixed, settings)
            if failed >= 0:
                raise TrainingError("the user's equations have no solution: give the model a larger regParam")
            return np.asarray(solved[0], np.float64)
        row[: settings.rank + settings.bias[0]] = self._equations(given).solve(settings.nonnegative)
        return row

    def explain(self, given: Ratings, places: NDArray[np.int64]) -> Explained:
        """Return the scores of the items at some places (m,), and what share each rating has in them."""
        require_explains(self.fitted.objective)
        others = self.fitted.features(Side.ITEM)[places].astype(np.float64)
        if self._settings.bias[Side.USER]:
            others = np.column_stack([others, np.ones(len(others))])
        own = self.fitted.bias(Side.ITEM)
        bases = np.full(len(places), self.fitted.intercept) + (0.0 if own is None else own[places])
        shares = self._equations(given).shares(others)
        return Explained(bases + shares.sum(axis=1), bases, shares)

    def _equations(self, given: Ratings) -> Equations:
        side, places = self.fitted.sides[Side.ITEM], given.places
        with self._lock:
            base = self._base
        fixed = fix(side[places].astype(np.float64), self._settings, self.fitted.intercept, base, len(side))
        return equations(one_block(np.arange(len(places)), given.ratings, given.weights), fixed, self._settings)

    @cached_property
    def _base(self) -> Doubles:
        """The base form (padded x padded) of implicit feedback, a sum over all items; zeros without."""
        settings = self.fitted.settings
        if not (settings.implicit and settings.w0):
            return np.zeros((settings.padded, settings.padded))
        return fix(self.fitted.sides[Side.ITEM], settings).base
