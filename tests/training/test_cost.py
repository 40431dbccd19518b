"""The arithmetic of a plan against what is counted."""

import gzip

import numpy as np
import pytest

from mfspark.blocks.sizes import BLOCK_BYTES, usual_blocks
from mfspark.training.cost import Cluster, Counts, counted_pairs, expected_pairs, needed_by, plan

CLUSTER = Cluster(executors=4, cores=4, memory=16 << 30, driver_limit=2 << 30)


def ref_pairs(users, items, blocks, seed=0):
    """Count (user, item block) pairs one by one, the items cut at random."""
    block = np.random.default_rng(seed).integers(0, blocks, items.max() + 1)
    return len({(u, block[i]) for u, i in zip(users.tolist(), items.tolist(), strict=True)})


def histogram(ids):
    return list(zip(*(part.tolist() for part in np.unique(np.bincount(ids), return_counts=True)), strict=True))


@pytest.mark.parametrize("blocks", [1, 2, 7, 50])
def test_pairs_by_the_formula_are_those_that_are_counted(blocks):
    random = np.random.default_rng(1)
    codes = np.unique(random.integers(0, 300 * 200, 6000))
    users, items = codes // 200, codes % 200
    counted = np.mean([ref_pairs(users, items, blocks, seed) for seed in range(5)])
    assert counted_pairs(histogram(users), blocks) == pytest.approx(counted, rel=0.02)


def test_pairs_have_the_limits_that_they_must():
    assert needed_by([0, 1, 10**9], 8).tolist() == pytest.approx([0, 1, 8])
    for blocks in (1, 3, 1000):
        found = expected_pairs(10**6, 5_000, 2_000, blocks)
        assert 0 < found <= min(10**6, 5_000 * blocks)
    assert expected_pairs(10**6, 5_000, 2_000, 10**9) == pytest.approx(10**6, rel=0.25)
    assert expected_pairs(10**6, 1_000, 10**9, 10, s=0.0) == pytest.approx(10_000, rel=1e-4)


def test_the_law_is_near_a_real_data_set(shared_data):
    with gzip.open(shared_data / "ml-1m" / "ratings_no_timestamp.dat.gz", "rt") as lines:
        pairs = np.array([line.split("::")[:2] for line in lines], int)
    users, items = (np.unique(column, return_inverse=True)[1] for column in pairs.T)
    for blocks in (8, 64, 512):
        counted = counted_pairs(histogram(users), blocks) + counted_pairs(histogram(items), blocks)
        expected = expected_pairs(len(pairs), users.max() + 1, items.max() + 1, blocks)
        expected += expected_pairs(len(pairs), items.max() + 1, users.max() + 1, blocks)
        assert expected == pytest.approx(counted, rel=0.15), blocks


def test_a_plan_grows_as_the_formulas_say():
    counts = Counts(10**9, 10**8, 10**7)
    small, large = (plan(counts, rank, CLUSTER) for rank in (32, 64))
    assert large.shuffled == 2 * small.shuffled and large.carrier == "exchange"
    assert plan(counts, 32, CLUSTER, pairs=(10.0, 20.0)).shuffled == 4 * 32 * 30
    assert plan(counts, 32, CLUSTER, 20).hours - small.hours == pytest.approx(10 * small.sweep_seconds / 3600)
    assert small.driver < 2 << 30, "the driver of an exchange holds no side"


def test_the_carrier_turns_where_the_driver_is_full():
    users = CLUSTER.driver_limit // (4 * 64 + 8) - 10
    assert plan(Counts(10**9, users, 10), 64, CLUSTER).carrier == "broadcast"
    assert plan(Counts(10**9, users, 11), 64, CLUSTER).carrier == "exchange"


def test_the_measured_sweep_comes_back():
    here = Cluster(1, 2, 4 << 30, 1 << 30)
    found = plan(Counts(10**7, 47_789, 17_770), 64, here)
    assert found.sweep_seconds == pytest.approx(1.26, rel=0.02)
    assert found.blocks_seconds == pytest.approx(6.6, rel=0.02)


@pytest.mark.parametrize("ratings", [1, 10**7, 10**11])
def test_no_block_passes_its_limit(ratings):
    blocks = usual_blocks(ratings, 6)
    assert blocks % 6 == 0 and ratings * 5 / blocks <= BLOCK_BYTES
