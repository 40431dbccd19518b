"""The best n of one row of scores, in numpy alone: the same order as ``topk``, for one row and without a compiler."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

STRETCH = 256  # scores whose largest is looked at before the scores themselves


class Best(NamedTuple):
    """Places and their scores, the best first, ties by the smaller place."""

    places: NDArray[np.int64]
    scores: NDArray[Any]


def best_of(scores: NDArray[Any], n: int) -> Best:
    """Return the n best of a row of scores; those of -inf and NaN are no candidates, so that there may be fewer.

    Parameters
    ----------
    scores : float array (m,)
    n : int
        How many, >= 1.

    Examples
    --------
    >>> best_of(np.array([1.0, 3.0, 3.0, -np.inf, 2.0]), 2).places.tolist()
    [1, 2]
    """
    if scores.size and np.isnan(scores.max()):
        scores = np.where(np.isnan(scores), -np.inf, scores)
    bound = _bound(scores, n)
    chosen = np.flatnonzero(scores >= bound)
    values = scores[chosen]
    if chosen.size > n:
        last = np.partition(values, values.size - n)[values.size - n]
        above = np.flatnonzero(values > last)
        kept = np.concatenate([above, np.flatnonzero(values == last)[: n - above.size]])
        chosen, values = chosen[kept], values[kept]
    order = np.lexsort((chosen, -values))
    order = order[: np.count_nonzero(values > -np.inf)]
    return Best(chosen[order], values[order])


def _bound(scores: NDArray[Any], n: int) -> Any:
    """Return a score that at least n of the scores reach, and few others; -inf where there are no more than n."""
    whole = scores.size // STRETCH
    if scores.size <= n:
        return -np.inf
    if whole < 4 * n:
        return np.partition(scores, scores.size - n)[scores.size - n]
    largest = scores[: whole * STRETCH].reshape(whole, STRETCH).max(axis=1)
    return np.partition(largest, whole - n)[whole - n]
