"""Counter-based random numbers for compiled code: a draw is a function of its keys, no state passes between blocks."""

from __future__ import annotations

import numpy as np

from mfspark.kernels.compile import inlined

_GOLDEN, _FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S32 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(32)


@inlined
def mix(seed, counter):  # type: ignore[no-untyped-def]
    """Return 64 random bits for (seed, counter), both uint64.

    The output function of SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators").
    """
    z = seed + (counter + np.uint64(1)) * _GOLDEN
    z = (z ^ (z >> _S30)) * _FIRST
    z = (z ^ (z >> _S27)) * _SECOND
    return z ^ (z >> _S31)


@inlined
def uniform_below(bits, n):  # type: ignore[no-untyped-def]
    """Return an integer in [0, n) from 64 random bits, for n below 2^31 (bias below n / 2^32; Lemire 2019)."""
    return np.int64(((bits >> _S32) * np.uint64(n)) >> _S32)
