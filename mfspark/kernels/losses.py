"""Losses of one rating given its score: squared, logistic, Poisson with log link, Poisson with identity link.

A *score* is the linear predictor mean + user bias + item bias + p.q; the *response* is the prediction on the scale of
the ratings. Every loss is a negative log likelihood of the rating without the terms that do not depend on the score,
and its derivative is taken with respect to the score.

Each formula exists once. It is written with elementwise numpy functions, so the numba dispatcher (``squared_value``)
inlines into a compiled loop on scalars and its ``py_func`` works on numpy arrays; `LOSSES` holds the latter. The
responses stand in ``responses``, which needs no compiler.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfspark.errors import ParameterError
from mfspark.kernels import responses
from mfspark.kernels.compile import inlined
from mfspark.kernels.responses import HALF, MAX_LOG_MEAN, MIN_MEAN, ONE

Array = NDArray[np.floating]

squared_response = inlined(responses.squared)
logistic_response = inlined(responses.logistic)
poisson_response = inlined(responses.poisson)
poisson_identity_response = inlined(responses.poisson_identity)


@inlined
def squared_value(score, rating):  # type: ignore[no-untyped-def]
    """Half the squared error: Gaussian likelihood of unit variance."""
    return HALF * (score - rating) * (score - rating)


@inlined
def squared_derivative(score, rating):  # type: ignore[no-untyped-def]
    """Score minus rating."""
    return score - rating


@inlined
def logistic_value(score, rating):  # type: ignore[no-untyped-def]
    """log(1 + exp(score)) - rating * score for a label in {0, 1}: Bernoulli likelihood, computed without overflow."""
    return HALF * (score + np.abs(score)) + np.log(ONE + np.exp(-np.abs(score))) - rating * score


@inlined
def logistic_derivative(score, rating):  # type: ignore[no-untyped-def]
    """Probability minus label."""
    return HALF + np.copysign(ONE / (ONE + np.exp(-np.abs(score))) - HALF, score) - rating


@inlined
def poisson_value(score, rating):  # type: ignore[no-untyped-def]
    """exp(score) - rating * score for a count; linear above `MAX_LOG_MEAN`."""
    capped = np.minimum(score, MAX_LOG_MEAN)
    return np.exp(capped) * (ONE + (score - capped)) - rating * score


@inlined
def poisson_derivative(score, rating):  # type: ignore[no-untyped-def]
    """Mean minus count."""
    return np.exp(np.minimum(score, MAX_LOG_MEAN)) - rating


@inlined
def poisson_identity_value(score, rating):  # type: ignore[no-untyped-def]
    """Score - rating * log(score) for a count; linear below `MIN_MEAN`. Meant for non-negative factors."""
    mean = np.maximum(score, MIN_MEAN)
    return mean - rating * np.log(mean) + (score - mean) * (ONE - rating / mean)


@inlined
def poisson_identity_derivative(score, rating):  # type: ignore[no-untyped-def]
    """1 - count / mean."""
    return ONE - rating / np.maximum(score, MIN_MEAN)


@dataclass(frozen=True)
class Loss:
    """One loss as numpy functions of arrays (or scalars).

    Attributes
    ----------
    name : str
        Key in `LOSSES`.
    code : int
        Number by which the compiled kernels choose the loss.
    value : callable
        ``value(score, rating)``: loss of one rating, without the terms that do not depend on the score.
    derivative : callable
        ``derivative(score, rating)``: derivative of `value` with respect to the score.
    response : callable
        ``response(score)``: prediction on the scale of the ratings.
    link : callable
        ``link(mean)``: the score whose response is `mean`; the global mean score of a set of ratings.
    accepts : callable
        ``accepts(rating)``: boolean array, False where the rating is not one this loss is defined for.
    domain : str
        What `accepts` asks for, in words, for error messages.
    """

    name: str
    code: int
    value: Callable[[Array, Array], Array]
    derivative: Callable[[Array, Array], Array]
    response: Callable[[Array], Array]
    link: Callable[[float], float]
    accepts: Callable[[Array], NDArray[np.bool_]]
    domain: str


def _logit(mean: float) -> float:
    """Log odds, with the mean kept off 0 and 1 so that a one-class data set has a finite start."""
    p = min(max(mean, 1e-6), 1 - 1e-6)
    return float(np.log(p / (1 - p)))


def _log(mean: float) -> float:
    return float(np.log(max(mean, 1e-6)))


def _non_negative(rating: Array) -> NDArray[np.bool_]:
    return np.isfinite(rating) & (rating >= 0)


SQUARED, LOGISTIC, POISSON, POISSON_IDENTITY = 0, 1, 2, 3

LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        Loss(
            "squared",
            SQUARED,
            squared_value.py_func,
            squared_derivative.py_func,
            responses.squared,
            float,
            np.isfinite,
            "a finite number",
        ),
        Loss(
            "logistic",
            LOGISTIC,
            logistic_value.py_func,
            logistic_derivative.py_func,
            responses.logistic,
            _logit,
            lambda rating: (rating == 0) | (rating == 1),
            "0 or 1",
        ),
        Loss(
            "poisson",
            POISSON,
            poisson_value.py_func,
            poisson_derivative.py_func,
            responses.poisson,
            _log,
            _non_negative,
            "a count, not negative",
        ),
        Loss(
            "poisson_identity",
            POISSON_IDENTITY,
            poisson_identity_value.py_func,
            poisson_identity_derivative.py_func,
            responses.poisson_identity,
            float,
            _non_negative,
            "a count, not negative",
        ),
    )
}


def get_loss(name: str) -> Loss:
    """Return the loss called `name`.

    Parameters
    ----------
    name : str
        One of the keys of `LOSSES`.

    Returns
    -------
    Loss
        The strategy.

    Raises
    ------
    ParameterError
        There is no such loss; the message lists those there are.
    """
    if name not in LOSSES:
        raise ParameterError(f"loss '{name}' does not exist; choose one of {', '.join(LOSSES)}")
    return LOSSES[name]
