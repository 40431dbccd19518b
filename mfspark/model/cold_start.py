"""What ``coldStartStrategy`` "mean" predicts where the user, the item or both are unknown to a model; numpy only."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfspark.errors import ParameterError
from mfspark.kernels.csr import Side
from mfspark.kernels.responses import RESPONSES

Array = NDArray[Any]
Biases = tuple[Array | None, Array | None]


class ColdStart(NamedTuple):
    """An unknown id adds nothing to a prediction.

    Where the model has an intercept and biases, it is intercept + the known side's bias; in other models, and where
    both are unknown, the mean of the training ratings.

    Parameters
    ----------
    mean : float
        Of the training ratings.
    intercept : float
        Added to the known side's bias.
    additive : bool
        Whether there are an intercept and biases.
    limits : (float, float)
        The range to which predictions are clipped.
    loss : str
        Whose response turns a score into a prediction.
    """

    mean: float
    intercept: float
    additive: bool
    limits: tuple[float, float]
    loss: str

    @classmethod
    def of(cls, fitted: Any) -> ColdStart:
        """Return that of a fitted model's constants; ParameterError where it has no mean rating."""
        if not np.isfinite(fitted.mean):
            raise ParameterError(
                "coldStartStrategy 'mean' needs a mean rating, which models of implicit feedback, of MLlib and of "
                "older versions do not have: use 'nan' or 'drop', and for unknown users the popular items"
            )
        additive = bool(any(fitted.settings.bias) and fitted.intercept)
        return cls(float(fitted.mean), float(fitted.intercept), additive, fitted.limits, fitted.loss)

    def fill(self, found: Array, rows: Array, columns: Array, biases: Biases) -> Array:
        """Return predictions with those of unknown ids filled in.

        Parameters
        ----------
        found : array (n,)
            Predictions of pairs.
        rows, columns : int arrays (n,)
            The places of users and items; below 0 where they are unknown.
        biases : (array or None, array or None)
            By side, None where it has none.
        """
        cold = (rows < 0) | (columns < 0)
        values = np.full(np.count_nonzero(cold), self.mean)
        if self.additive:
            scores = np.full(len(values), self.intercept)
            for own, place in zip(biases, (rows[cold], columns[cold]), strict=True):
                if own is not None:
                    scores[place >= 0] += own[place[place >= 0]]
            one = (rows[cold] >= 0) | (columns[cold] >= 0)
            values[one] = RESPONSES[self.loss](scores[one])
        out = found.copy()
        out[cold] = np.clip(values, *self.limits)
        return out


def filled(fitted: Any, found: Array, rows: Array, columns: Array, strategy: str) -> Array:
    """Return predictions (n,) of a model's pairs with those of unknown ids as a strategy has them, "nan" or "mean".

    Parameters
    ----------
    fitted : Factorization
        The model.
    found, rows, columns
        As ``ColdStart.fill`` takes them, NaN where an id is unknown.
    strategy : str
        Which.

    Raises
    ------
    ParameterError
        There is no such strategy, or the model has no mean rating.
    """
    if strategy not in ("nan", "mean"):
        raise ParameterError(f"cold_start must be nan or mean, not {strategy!r}")
    if strategy == "nan":
        return found
    return ColdStart.of(fitted).fill(found, rows, columns, (fitted.bias(Side.USER), fitted.bias(Side.ITEM)))
