"""The loop of a counting sort."""

from __future__ import annotations

from mfspark.kernels.compile import jit


@jit
def deal(keys, starts, order):  # type: ignore[no-untyped-def]
    """Write each key's place t to order, from starts[key] on; ``starts`` ends where the next key's places begin."""
    for t in range(keys.size):
        place = starts[keys[t]]
        order[place] = t
        starts[keys[t]] = place + 1
