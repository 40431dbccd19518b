"""What a fit of ALS will take, by arithmetic alone: blocks, carrier, bytes shuffled, memory, hours. Free of pyspark.

The bytes that the exchange shuffles are the formula of ``training.als_exchange``: columns x 4 x the number of (solved
block, fixed row) pairs. A row of n ratings, its other side spread over B blocks by hash, is needed by
B (1 - (1 - 1/B)^n) of them. Where only the number of ratings is known, rows are taken to have as many as a power law
gives: the row at quantile t has n(t) = mean (1 - s) t^-s ratings, at most one for every row of the other side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mfspark.blocks.sizes import rating_bytes, usual_blocks
from mfspark.kernels.csr import Side

POPULARITY = 0.7
"""s: on ml-1m the pairs of both sides together are within 15 % of what is counted, for 8 to 512 blocks (a test)."""
OPERATIONS = 3.5e10
"""Fused operations of a core a second, driver and plans included: 10 M ratings, rank 64, 2 cores, 1.26 s as jobs."""
CODED = 1.3e-6
"""Core seconds to check, encode and cut a rating: 10 M on 2 cores in 6.6 s."""
NETWORK = 1.0e9
"""Bytes a second that an executor sends and receives, unless told otherwise: 10 Gbit/s."""
PROCESS = 1 << 30
"""Bytes of a driver or executor (JVM and Python) that holds nothing."""
ID = 8
"""Bytes of an id: a long; strings take their length and 4 more."""


class Counts(NamedTuple):
    """How many ratings, users and items there are."""

    ratings: int
    users: int
    items: int

    def rows(self, side: Side) -> int:
        """Return the number of a side's rows."""
        return self.users if side is Side.USER else self.items


@dataclass(frozen=True)
class Cluster:
    """What the fit runs on.

    Parameters
    ----------
    executors, cores : int
        Their number, and the cores of each.
    memory : int
        Bytes of each executor, JVM and Python together.
    driver_limit : int
        Bytes of ids and factors that the driver may hold.
    network : float
        Bytes a second of each executor.
    """

    executors: int
    cores: int
    memory: int
    driver_limit: int
    network: float = NETWORK

    @property
    def slots(self) -> int:
        """How many tasks run at once."""
        return self.executors * self.cores


class Plan(NamedTuple):
    """What a fit will take: numbers of blocks, bytes, seconds.

    Parameters
    ----------
    blocks : int
        Of either side.
    carrier : str
        "broadcast" (both sides in the driver) or "exchange" (none).
    sides : int
        Bytes of both sides' factors and ids.
    shuffled : float
        Bytes that a sweep sends over the network.
    executor, driver : float
        Bytes of memory that one holds at most; an executor spills to disk what is more than it has.
    blocks_seconds, sweep_seconds, hours : float
        To make the blocks, a sweep, the whole fit.
    """

    blocks: int
    carrier: str
    sides: int
    shuffled: float
    executor: float
    driver: float
    blocks_seconds: float
    sweep_seconds: float
    hours: float


def needed_by(ratings: ArrayLike, blocks: int) -> np.ndarray:
    """Return how many of so many blocks need a row with n ratings, on average over all hashes: B (1 - (1 - 1/B)^n)."""
    n = np.asarray(ratings, float)
    return n * 0 + 1.0 if blocks == 1 else -blocks * np.expm1(n * np.log1p(-1.0 / blocks))


def expected_pairs(ratings: int, rows: int, others: int, blocks: int, s: float = POPULARITY) -> float:
    """Return the expected number of (block, row) pairs of ``rows`` rows under the power law.

    Parameters
    ----------
    ratings, rows, others : int
        How many ratings, rows of this (fixed) side, and rows of the other (solved) one.
    blocks : int
        Blocks of the solved side.
    s : float
        The exponent of the law, 0 (all rows alike) to below 1.
    """
    edges = np.geomspace(1e-3 / max(rows, 1), 1.0, 2001)
    t, width = np.sqrt(edges[1:] * edges[:-1]), np.diff(edges)
    counts = np.minimum(ratings / rows * (1.0 - s) * t**-s, others)
    # Counts are means: where they are below 1, most rows have no rating at all (Poisson).
    found = -blocks * np.expm1(-counts / blocks) if blocks > 1 else -np.expm1(-counts)
    return float(min(rows * (found * width).sum(), float(ratings), float(rows) * blocks))


def counted_pairs(counts: Sequence[tuple[int, int]], blocks: int) -> float:
    """Return the expected number of pairs of rows whose numbers of ratings are known.

    Parameters
    ----------
    counts : sequence of (int, int)
        How many ratings, and how many rows have so many.
    blocks : int
        Blocks of the solved side.
    """
    table = np.array(counts, float).reshape(-1, 2)
    return float((needed_by(table[:, 0], blocks) * table[:, 1]).sum())


def plan(
    counts: Counts,
    rank: int,
    cluster: Cluster,
    iterations: int = 10,
    pairs: tuple[float, float] | None = None,
) -> Plan:
    """Return what a fit of ALS on explicit ratings will take.

    Parameters
    ----------
    counts : Counts
        The data.
    rank : int
        Factors; biases would be one column more.
    cluster : Cluster
        What there is.
    iterations : int, default 10
        How many sweeps.
    pairs : (float, float), optional
        Users and items with the blocks of the other side that need them, where counted; else expected.
    """
    blocks = usual_blocks(counts.ratings, cluster.slots)
    sides = (counts.users + counts.items) * (4 * rank + ID)
    carrier = "broadcast" if sides <= cluster.driver_limit else "exchange"
    if pairs is None:
        pairs = (
            expected_pairs(counts.ratings, counts.users, counts.items, blocks),
            expected_pairs(counts.ratings, counts.items, counts.users, blocks),
        )
    exchanged = 4.0 * rank * (pairs[0] + pairs[1])
    factors = 4.0 * rank * (counts.users + counts.items)
    # As jobs each executor gets the fixed side and gives back what it solved, all through the driver.
    shuffled = exchanged if carrier == "exchange" else factors * (1 + cluster.executors)
    lanes = cluster.executors if carrier == "exchange" else 1
    operations = 2.0 * counts.ratings * rank**2 + (counts.users + counts.items) * rank**3 / 3.0
    network = 0.0 if cluster.executors == 1 else shuffled / (lanes * cluster.network)
    sweep = operations / (OPERATIONS * cluster.slots) + network
    making = CODED * counts.ratings / cluster.slots
    held = _executor_bytes(counts, rank, cluster, blocks, carrier, max(pairs))
    driver = PROCESS + (3.0 * sides if carrier == "broadcast" else 4096.0 * blocks)
    hours = (making + iterations * sweep) / 3600.0
    return Plan(blocks, carrier, sides, shuffled, held, driver, making, sweep, hours)


def _executor_bytes(counts: Counts, rank: int, cluster: Cluster, blocks: int, carrier: str, pairs: float) -> float:
    """Return what an executor keeps: its blocks of both sides, factors, and what its tasks work on."""
    rows = counts.users + counts.items
    kept = (2.0 * counts.ratings * rating_bytes() + 8.0 * rows) / cluster.executors
    if carrier == "broadcast":  # every Python worker holds the fixed side
        return PROCESS + kept + cluster.cores * 4.0 * rank * max(counts.users, counts.items)
    block = counts.ratings * rating_bytes() / blocks + 4.0 * rank * (pairs / blocks + rows / blocks)
    kept += (4.0 * rank * (pairs + rows) + ID * rows + 4.0 * pairs) / cluster.executors
    return PROCESS + kept + 2.0 * cluster.cores * block
