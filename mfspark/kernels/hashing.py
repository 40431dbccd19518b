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
def _normals(hashes, seed, side, rank, std, signed, out):  # type: ignore[no-untyped-def]
    unit = 2.0**-53
    for row in range(hashes.size):
        key = mix(mix(mix(np.uint64(seed), np.uint64(side)), hashes[row]), np.uint64(0))
        for j in range(0, rank, 2):
            first = (np.float64(mix(key, np.uint64(j)) >> np.uint64(11)) + 0.5) * unit
            angle = 2.0 * np.pi * ((np.float64(mix(key, np.uint64(j + 1)) >> np.uint64(11)) + 0.5) * unit)
            radius = std * np.sqrt(-2.0 * np.log(first))
            one, two = radius * np.cos(angle), radius * np.sin(angle)
            out[row, j] = one if signed else abs(one)
            if j + 1 < rank:
                out[row, j + 1] = two if signed else abs(two)


def start_rows(
    hashes: NDArray[np.uint64], seed: int, side: int, rank: int, std: float, signed: bool, out: NDArray[Any]
) -> None:
    """Fill out[:, :rank] with N(0, std^2) by Box and Muller (1958), or its absolute value unless ``signed``.

    A row depends on the seed, the side and its id's hash only: any number of blocks starts from the same factors.
    """
    _normals(hashes, np.uint64(seed % 2**64), np.uint64(side), rank, std, signed, out)
