"""Where a fit starts: factors drawn from a seed, and the power steps that turn them towards the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mfspark.blocks.columns import wide
from mfspark.blocks.index import hash_ids
from mfspark.blocks.profile import Profile, Totals
from mfspark.kernels.csr import Side
from mfspark.kernels.hashing import normal_rows
from mfspark.kernels.objective import Settings
from mfspark.kernels.rows import unit_rows
from mfspark.training.als import Factors

STARTS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "normal": lambda drawn: drawn / np.sqrt(drawn.shape[1]),
    "positive": lambda drawn: np.abs(drawn) / np.sqrt(drawn.shape[1]),
    "mllib": unit_rows,
}
"""What a start makes of rows of standard normal numbers (n x rank), by name."""


FAINT = 1e-3
"""How short the drawn rows are beside known ones: as good as absent, yet not at the saddle 0."""


class Known(NamedTuple):
    """The rows (n x padded) that an earlier model has for ids."""

    ids: pa.Array
    rows: NDArray[Any]


class Start(NamedTuple):
    """How factors are drawn: the seed, ``std`` times what STARTS[mode] makes of standard normal numbers.

    With the rows that an earlier model ``known`` by Side has, only those of other ids are drawn, and faint: what is
    known solves them.
    """

    seed: int
    std: float
    mode: str
    known: tuple[Known, Known] | None = None

    def rows(self, ids: pa.Array, side: Side, settings: Settings) -> NDArray[Any]:
        """Return the first factors of ids (n x padded); each depends on the seed, the side and its id alone."""
        array = np.zeros((len(ids), settings.padded), settings.dtype)
        array[:, : settings.rank] = (
            STARTS[self.mode](normal_rows(hash_ids(ids), self.seed, side, settings.rank)) * self.std
        )
        if self.known is not None:
            known = self.known[side]
            asked = wide(ids)
            places = pc.index_in(asked, value_set=known.ids.cast(asked.type)).fill_null(-1).to_numpy()
            array = np.where(places[:, None] >= 0, known.rows[places], array * array.dtype.type(FAINT))
        return array


def initial_factors(profile: Profile, settings: Settings, start: Start) -> Factors:
    """Return both sides' first factors."""
    ids = tuple(side.ids for side in profile.sides)
    return Factors([start.rows(ids[side], side, settings) for side in Side], ids=ids)


POWER_STEPS = 2
_STRONG = 100.0  # how many times a row's ridge exceeds its Gramian in a power step
_LEFT_TO_RIDGE = 4e-4  # the share of a start's variance below which a direction is left to the ridge


def power_settings(settings: Settings, std: float, found: Totals, intercept: float) -> Settings:
    """Return settings whose sweeps are steps of the power iteration on the means of the ratings.

    With a ridge that outweighs the Gramian, a half step solves y_i = mean over i's ratings of r x_u, but for a factor:
    the unbiased estimate, from the observed pairs, of the whole matrix times X.

    Parameters
    ----------
    settings : Settings
        Those of the fit.
    std : float
        The length of the start's rows.
    found : Totals
        The range of the ratings, which bounds the solved rows and so the other side's Gramian.
    intercept : float
        Subtracted from every rating.
    """
    items, largest = _STRONG * std**2, max(abs(found.low - intercept), abs(found.high - intercept))
    users = max(largest**2 / items, float(np.finfo(np.float32).tiny))
    return replace(settings, reg_param=(users, items), l1=(0.0, 0.0), exponent=1.0, solver="auto", nonnegative=False)


def power_length(settings: Settings, ratings: int, items: int, std: float) -> float:
    """Return the length of a start's rows after its power steps.

    It is ``std``, or less where the ridge is small: so short that the fit's first half step leaves those directions to
    the ridge that have less than 0.0004 of the start's variance, and are mostly noise.
    """
    share = settings.reg_param[1] * (ratings / max(items, 1)) ** (settings.exponent - 1) / _LEFT_TO_RIDGE
    return std * min(1.0, np.sqrt(share) / std if share > 0 else 1.0)


def of_length(X: NDArray[Any], rank: int, length: float) -> NDArray[Any]:
    """Return rows of one length in the directions of their factors; biases and padding are 0."""
    rows = np.zeros_like(X)
    rows[:, :rank] = unit_rows(X[:, :rank]) * length
    return rows
