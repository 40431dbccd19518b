"""The numbers of a report that come from bounded samples, by numpy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mfspark.report.structure import Errors, Group, Spread

Array = NDArray[np.floating]
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SPREADS = 20  # how many groups of actual ratings are shown at most


def spectrum(users: Array, items: Array) -> Array:
    """Return the singular values of U V^T, largest first, from the Gramians of U and V alone.

    They are the square roots of the eigenvalues of A^T (V^T V) A with A A^T = U^T U.

    Parameters
    ----------
    users, items : array (rank, rank)
        U^T U and V^T V.

    Returns
    -------
    array (rank,)
        Values too small for float64 to tell (below 1e-8 of the largest) are noise; NaN where a factor is no number.
    """
    if not (np.isfinite(users).all() and np.isfinite(items).all()):
        return np.full(len(users), np.nan)
    values, vectors = np.linalg.eigh(users)
    root = vectors * np.sqrt(np.maximum(values, 0))
    product = root.T @ items @ root
    return np.sqrt(np.maximum(np.linalg.eigvalsh((product + product.T) / 2), 0))[::-1]


def plane(features: Array) -> tuple[Array, Array]:
    """Return the first two principal components of rows, and the share of the variance that each explains.

    Parameters
    ----------
    features : array (n, rank)
        Centred here; what is no finite number counts as 0.

    Returns
    -------
    places : array (n, 2)
        A component that is not there (rank or n of 1) is 0. Each component's largest coordinate is positive.
    shares : array (2,)
        0 where nothing varies.
    """
    rows = np.nan_to_num(np.asarray(features, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    places, shares = np.zeros((len(rows), 2)), np.zeros(2)
    if len(rows) == 0:
        return places, shares
    left, values, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    m = min(2, len(values))
    found = left[:, :m] * values[:m]
    found *= np.sign(found[np.abs(found).argmax(axis=0), np.arange(m)])
    total = float(np.sum(values**2))
    places[:, :m] = found
    shares[:m] = values[:m] ** 2 / total if total > 0 else 0
    return places, shares


def errors(of: str, actual: Array, predicted: Array, sizes: tuple[Array, Array]) -> Errors | None:
    """Return predicted against actual ratings; None where not one is predicted.

    Parameters
    ----------
    of : str
        What the ratings are.
    actual, predicted : array (n,)
        NaN where a prediction is missing.
    sizes : pair of arrays (n,)
        How many ratings the user and the item of each have.
    """
    there = np.isfinite(predicted) & np.isfinite(actual)
    if not there.any():
        return None
    truth, guess = actual[there].astype(np.float64), predicted[there].astype(np.float64)
    wrong = guess - truth
    by_user, by_item = (groups(size[there], wrong) for size in sizes)
    unpredicted = int(len(there) - there.sum())
    return Errors(of, len(there), unpredicted, *_size(wrong), spreads(truth, guess), by_user, by_item)


def groups(sizes: Array, wrong: Array) -> tuple[Group, ...]:
    """Return the errors by how many ratings an id has: 0, 1, 2 to 3, 4 to 7, 8 to 15, ...

    Parameters
    ----------
    sizes : array (n,)
        Of each error's id.
    wrong : array (n,)
        The errors.
    """
    places = np.where(sizes >= 1, np.floor(np.log2(np.maximum(sizes, 1))), -1).astype(int)
    found = []
    for place in np.unique(places):
        own = wrong[places == place]
        low, high = bounds(int(place))
        found.append(Group(low, high, len(own), *_size(own)))
    return tuple(found)


def bounds(place: int) -> tuple[int, int]:
    """Return the smallest and largest size in a group of ``groups``: 2^place to 2^(place + 1) - 1, or 0 for -1."""
    return (0, 0) if place < 0 else (2**place, 2 ** (place + 1) - 1)


def spreads(actual: Array, predicted: Array) -> tuple[Spread, ...]:
    """Return the quantiles of the predictions for each actual rating, or for 20 groups of equal size of many."""
    values = np.unique(actual)
    if len(values) > SPREADS:
        values = np.unique(np.quantile(actual, np.linspace(0, 1, SPREADS + 1)[:-1]))
    places = np.searchsorted(values, actual, "right") - 1
    found = []
    for place in range(len(values)):
        own, guess = actual[places == place], predicted[places == place]
        if len(own):
            quantiles = tuple(float(q) for q in np.quantile(guess, QUANTILES))
            found.append(Spread(float(own.min()), float(own.max()), len(own), quantiles))
    return tuple(found)


def _size(wrong: Array) -> tuple[float, float]:
    return float(np.sqrt(np.mean(wrong**2))), float(np.mean(np.abs(wrong)))
