"""What a fit leaves behind: ids, factors, biases and what is needed to predict and to fold in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mfspark.kernels.csr import Side
from mfspark.kernels.objective import Objective, Settings
from mfspark.kernels.responses import RESPONSES

Array = NDArray[Any]


class Constants:
    """What a fitted model is apart from its factors, wherever these are."""

    settings: Settings
    intercept: float
    limits: tuple[float, float]
    mean: float

    @property
    def rank(self) -> int:
        """The number of factors."""
        return self.settings.rank

    @property
    def objective(self) -> Objective:
        """What the factors minimise, and what fold-in solves."""
        return self.settings.objective

    @property
    def loss(self) -> str:
        """The loss, whose response turns a score into a prediction."""
        return self.settings.loss


@dataclass(frozen=True)
class Factorization(Constants):
    """A fitted model's numbers, free of Spark; pairs are in the order user, item.

    Parameters
    ----------
    settings : Settings
        What it minimises and how it was solved, seen from the user side.
    ids : (pa.Array, pa.Array)
        The ids in index order, in their original type.
    sides : (array, array)
        n x padded, column ``rank`` being the bias where that side has one.
    intercept : float
        Added to every score.
    limits : (float, float)
        The range to which predictions are clipped.
    mean : float
        The weighted mean of the training ratings, which ``coldStartStrategy`` "mean" predicts; NaN where there is none.
    """

    settings: Settings
    ids: tuple[pa.Array, pa.Array]
    sides: tuple[Array, Array]
    intercept: float = 0.0
    limits: tuple[float, float] = (-np.inf, np.inf)
    mean: float = np.nan

    @property
    def sizes(self) -> tuple[int, int]:
        """The numbers of users and items."""
        return len(self.ids[0]), len(self.ids[1])

    def features(self, side: Side) -> Array:
        """Return one side's factors (n x rank), without biases."""
        return self.sides[side][:, : self.rank]

    def bias(self, side: Side) -> Array | None:
        """Return one side's biases (n,), or None where it has none."""
        return self.sides[side][:, self.rank] if self.settings.bias[side] else None

    def scoring(self) -> tuple[Array, Array]:
        """Return both sides with the biases and the intercept folded in: score = left[u] . right[i]."""
        left, right = (scoring_rows(self.sides[side], self.settings, self.intercept, side) for side in Side)
        return left, right

    def scores(self, side: Side, row: Array, places: Array | slice = slice(None)) -> Array:
        """Return the scores of one row of a side (padded,) against all or some rows of the other, none being copied.

        The formula of ``scoring``, for who asks for one row at a time.
        """
        width, other = self.settings.width, self.sides[side.other]
        query = row[:width].astype(other.dtype)
        constant = self.intercept
        if width > self.rank:
            constant += float(query[self.rank]) if self.settings.bias[side] else 0.0
            query[self.rank] = 1 if self.settings.bias[side.other] else 0
        found = other[places, :width] @ query
        return found + other.dtype.type(constant) if constant else found

    def pair_scores(self, rows: Array, columns: Array) -> Array:
        """Return the scores (n,) of pairs of places, by the formula of ``scoring``."""
        users, items = self.sides[0][rows], self.sides[1][columns]
        found = np.einsum("ij,ij->i", users[:, : self.rank], items[:, : self.rank])
        for side, own in zip(Side, (users, items), strict=True):
            found = found + own[:, self.rank] if self.settings.bias[side] else found
        return found + found.dtype.type(self.intercept)

    def respond(self, scores: Array) -> Array:
        """Return predictions on the scale of the ratings."""
        return respond(scores, self.limits, self.loss)


def scoring_rows(rows: Array, settings: Settings, intercept: float, side: Side) -> Array:
    """Return rows of a side with the biases and the intercept folded in.

    The one place of the prediction formula: intercept + bias_u + bias_i + x_u . y_i.

    Parameters
    ----------
    rows : array (n, at least the columns in use)
        Some or all of the side's rows.
    settings, intercept
        The model's.
    side : Side
        Whose rows they are.

    Returns
    -------
    array (n, rank or rank + 2)
        Whose products with the other side's are the scores.
    """
    columns = [rows[:, : settings.rank]]
    if any(settings.bias) or intercept:
        own = rows[:, settings.rank] if settings.bias[side] else np.zeros(len(rows), rows.dtype)
        own = own + np.asarray(intercept if side == Side.USER else 0.0, own.dtype)
        pair = (own, np.ones_like(own))
        columns.append(np.column_stack(pair if side == Side.USER else pair[::-1]))
    return np.ascontiguousarray(np.column_stack(columns))


def respond(scores: Array, limits: tuple[float, float], loss: str) -> Array:
    """Return predictions on the scale of the ratings: the loss's response, clipped."""
    return np.clip(RESPONSES[loss](scores), *limits)


@dataclass(frozen=True)
class SeenBlocks:
    """The training pairs as blocks that stay on the workers with the model, for recommendations without them.

    Parameters
    ----------
    frame : DataFrame
        The frame of blocks.
    bounds : pair of int64 arrays
        By side, the rows of its blocks.
    sides : tuple of Side
        The sides the frame has.
    release : callable
        Lets the frame go.
    """

    frame: Any
    bounds: tuple[Array, Array]
    sides: tuple[Side, ...]
    release: Callable[[], None]
