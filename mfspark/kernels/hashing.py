"""Hashes of ids: where an id lives and what it starts from depend on the id alone, not on which others there are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfspark.kernels.compile import jit
from mfspark.kernels.rng import mix

_SEED = np.uint64(0x6D66737061726B)
_OFFSET, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)


@jit
def _longs(values, out):  # type: ignore[no-untyped-def]
    for i in range(values.size):
        out[i] = mix(_SEED, np.uint64(values[i]))


@jit
def _texts(offsets, data, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        state = _OFFSET
        for at in range(offsets[i], offsets[i + 1]):
            state = (state ^ np.uint64(data[at])) * _PRIME
        out[i] = mix(_SEED, state)


def hash_longs(values: NDArray[Any]) -> NDArray[np.uint64]:
    """Return 64 well mixed bits for each whole number (n,): equal numbers of any integer type give equal hashes."""
    out = np.empty(values.size, np.uint64)
    _longs(values.astype(np.int64, copy=False), out)
    return out


def hash_texts(offsets: NDArray[np.int64], data: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return 64 well mixed bits for each text; text i is data[offsets[i] : offsets[i + 1]] (FNV-1a, then mixed)."""
    out = np.empty(offsets.size - 1, np.uint64)
    _texts(offsets, data, out)
    return out


@jit
def _normals(hashes, seed, side, out):  # type: ignore[no-untyped-def]
    unit = 2.0**-53
    for row in range(hashes.size):
        key = mix(mix(mix(np.uint64(seed), np.uint64(side)), hashes[row]), np.uint64(0))
        for j in range(0, out.shape[1], 2):
            first = (np.float64(mix(key, np.uint64(j)) >> np.uint64(11)) + 0.5) * unit
            angle = 2.0 * np.pi * ((np.float64(mix(key, np.uint64(j + 1)) >> np.uint64(11)) + 0.5) * unit)
            radius = np.sqrt(-2.0 * np.log(first))
            out[row, j] = radius * np.cos(angle)
            if j + 1 < out.shape[1]:
                out[row, j + 1] = radius * np.sin(angle)


def normal_rows(hashes: NDArray[np.uint64], seed: int, side: int, columns: int) -> NDArray[np.float32]:
    """Return standard normal numbers (n x columns), by Box and Muller (1958).

    A row depends on the seed, the side and its id's hash only: however the ids are cut, they start from the same rows.
    """
    out = np.empty((hashes.size, columns), np.float32)
    _normals(hashes, np.uint64(seed % 2**64), np.uint64(side), out)
    return out


@jit
def _ratings(users, items, ratings, weights, held):  # type: ignore[no-untyped-def]
    total = np.uint64(0)
    for i in range(users.size):
        key = mix(mix(users[i], items[i]), np.uint64(ratings[i]))
        if weights.size:
            key = mix(key, np.uint64(weights[i]))
        total += mix(key, np.uint64(held[i] != 0) if held.size else np.uint64(0))
    return total


def hash_ratings(
    users: NDArray[np.uint64],
    items: NDArray[np.uint64],
    ratings: NDArray[np.float32],
    weights: NDArray[np.float32],
    held: NDArray[np.uint8],
) -> int:
    """Return the sum modulo 2^64 of the hashes of ratings, whatever their order: equal for equal ratings.

    Parameters
    ----------
    users, items : uint64 arrays (n,)
        Hashes of the ids.
    ratings : float32 array (n,)
        The ratings.
    weights : float32 array (n,) or (0,)
        Their weights, if they have any.
    held : uint8 array (n,) or (0,)
        Which of them are held out.
    """
    return int(_ratings(users, items, ratings.view(np.uint32), weights.view(np.uint32), held))
