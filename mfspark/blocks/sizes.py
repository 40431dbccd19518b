"""How many blocks there are where nobody says: pure arithmetic, for a fit and for planning one."""

from __future__ import annotations

BLOCK_BYTES = 64 << 20  # well below every limit on one Arrow or Spark cell


def rating_bytes(coded: bool = True, weighted: bool = False) -> int:
    """Return the bytes that a rating takes in a block of one side: an index, a value (or its code), a weight."""
    return 4 + (1 if coded else 4) + (4 if weighted else 0)


def usual_blocks(ratings: int, slots: int, coded: bool = True, weighted: bool = False) -> int:
    """Return the number of blocks of a side: one a slot, or the least multiple with no block above BLOCK_BYTES.

    Parameters
    ----------
    ratings : int
        How many ratings there are.
    slots : int
        How many tasks run at once.
    coded : bool
        Whether they have at most 256 distinct values.
    weighted : bool
        Whether they carry weights.
    """
    least = -(-ratings * rating_bytes(coded, weighted) // BLOCK_BYTES)
    return -(-max(slots, least) // slots) * slots
