"""Where a fit starts: factors drawn from a seed, and the power steps that turn them towards the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfspark.blocks.profile import Profile
from mfspark.kernels.objective import Settings
from mfspark.training.als import Factors


def unit_rows(X: NDArray[Any]) -> NDArray[Any]:
    """Return the rows scaled to length 1; rows of zeros stay."""
    norms = np.linalg.norm(X, axis=1, keepdims=True)
    return X / np.where(norms == 0, 1, norms)


STARTS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "normal": lambda drawn: drawn / np.sqrt(drawn.shape[1]),
    "positive": lambda drawn: np.abs(drawn) / np.sqrt(drawn.shape[1]),
    "mllib": unit_rows,
}
"""What a start makes of rows of standard normal numbers (n x rank), by name."""


def initial_factors(profile: Profile, settings: Settings, seed: int, std: float, mode: str) -> Factors:
    """Draw the start: ``std`` times what STARTS[mode] makes of standard normal numbers; the padding is 0."""
    generator = np.random.default_rng(seed)
    sides = []
    for side in profile.sides:
        array = np.zeros((len(side), settings.padded), settings.dtype)
        drawn = generator.standard_normal((len(side), settings.rank), np.float32)
        array[:, : settings.rank] = STARTS[mode](drawn) * std
        sides.append(array)
    return Factors(sides, ids=tuple(side.ids for side in profile.sides))


POWER_STEPS = 2
_STRONG = 100.0  # how many times a row's ridge exceeds its Gramian in a power step
_LEFT_TO_RIDGE = 4e-4  # the share of a start's variance below which a direction is left to the ridge


def power_settings(settings: Settings, std: float, largest: float) -> Settings:
    """Return settings whose sweeps are steps of the power iteration on the means of the ratings.

    With a ridge that outweighs the Gramian, a half step solves y_i = mean over i's ratings of r x_u, but for a factor:
    the unbiased estimate, from the observed pairs, of the whole matrix times X.

    Parameters
    ----------
    settings : Settings
        Those of the fit.
    std : float
        The length of the start's rows.
    largest : float
        The largest magnitude of a rating, which bounds the solved rows and so the other side's Gramian.
    """
    items = _STRONG * std**2
    users = max(largest**2 / items, float(np.finfo(np.float32).tiny))
    return replace(settings, reg_param=(users, items), l1=(0.0, 0.0), exponent=1.0, solver="auto", nonnegative=False)


def after_power_steps(factors: Factors, settings: Settings, profile: Profile, std: float) -> None:
    """Make what the power steps left the start: rows of one length, biases 0.

    The length is ``std``, or less where the ridge is small: so short that the fit's first half step leaves those
    directions to the ridge that have less than 0.0004 of the start's variance, and are mostly noise.
    """
    count = profile.rows / max(len(profile.sides[1]), 1)
    share = settings.reg_param[1] * count ** (settings.exponent - 1) / _LEFT_TO_RIDGE
    length = std * min(1.0, np.sqrt(share) / std if share > 0 else 1.0)
    for side in factors.sides:
        side[:, settings.rank :] = 0
        side[:, : settings.rank] = unit_rows(side[:, : settings.rank]) * length
