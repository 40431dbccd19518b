"""Noticing that SGD diverges, before a bad state replaces a good one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

RISE_LIMIT = 1.1
"""Loss over the previous epoch's above which an epoch counts as diverging; bold driver alone handles smaller rises."""


@njit(cache=True, nogil=True)
def _finite(values):  # type: ignore[no-untyped-def]
    """Return whether no value is NaN or infinite: 0 * x is 0 for finite x only, and adds up without branches."""
    total = np.float32(0.0)
    for value in values:
        total += np.float32(0.0) * value
    return total == np.float32(0.0)


def all_finite(*arrays: NDArray[np.float32] | None) -> bool:
    """Return whether no array holds a NaN or an infinity.

    Parameters
    ----------
    *arrays : float32 arrays or None
        C-contiguous factors, biases, accumulators; None is skipped.
    """
    return all(bool(_finite(array.reshape(-1))) for array in arrays if array is not None)


def loss_diverges(losses: Sequence[float], rise_limit: float = RISE_LIMIT) -> bool:
    """Return whether the last epoch's loss is not finite, or higher than the one before by more than the limit.

    Parameters
    ----------
    losses : sequence of float
        Training loss per epoch, oldest first.
    rise_limit : float, default 1.1
        Allowed ratio of the last loss to the one before (for losses above zero; a negative loss, possible for Poisson,
        may rise by the same share of its size).
    """
    if not losses:
        return False
    last = losses[-1]
    if not math.isfinite(last):
        return True
    if len(losses) < 2:
        return False
    before = losses[-2]
    return last > before + (rise_limit - 1.0) * abs(before)
