"""The response of each loss: a score as a prediction on the scale of the ratings. numpy only, nothing is compiled.

Each formula is written with elementwise numpy functions, so that it works on arrays as it stands and ``losses`` can
inline it into compiled loops on scalars. The constants are float32 so that float32 scores stay float32 in both.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

HALF, ONE = np.float32(0.5), np.float32(1.0)
MAX_LOG_MEAN = np.float32(20.0)
"""Score above which the Poisson loss with log link goes on along its tangent, so it cannot overflow."""
MIN_MEAN = np.float32(1e-2)
"""Score below which the Poisson loss with identity link goes on along its tangent, so it is finite at zero factors."""


def squared(score):  # type: ignore[no-untyped-def]
    """Return the score itself."""
    return score


def logistic(score):  # type: ignore[no-untyped-def]
    """Probability of the label 1: 1 / (1 + exp(-score)), computed without overflow."""
    return HALF + np.copysign(ONE / (ONE + np.exp(-np.abs(score))) - HALF, score)


def poisson(score):  # type: ignore[no-untyped-def]
    """Mean of the count: exp(score), constant above `MAX_LOG_MEAN`."""
    return np.exp(np.minimum(score, MAX_LOG_MEAN))


def poisson_identity(score):  # type: ignore[no-untyped-def]
    """Mean of the count: the score, never below `MIN_MEAN`."""
    return np.maximum(score, MIN_MEAN)


RESPONSES: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    function.__name__: function for function in (squared, logistic, poisson, poisson_identity)
}
"""The responses by the name of the loss; all grow with the score."""
