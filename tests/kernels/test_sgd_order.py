"""Order of visit and negative sampling of SGD."""

import math

import numpy as np
import pytest

from mfspark.errors import DataError, ParameterError
from mfspark.kernels.sgd.negatives import sample_negatives
from mfspark.kernels.sgd.order import order_ratings
from mfspark.kernels.sgd.simd import aligned_zeros
from mfspark.kernels.sgd.update import sgd_block

M, N = 30, 20


def pairs():
    """Return (rows, cols) of 400 of the 600 pairs, in random order."""
    chosen = np.random.default_rng(0).permutation(M * N)[:400]
    return (chosen // N).astype(np.int32), (chosen % N).astype(np.int32)


@pytest.mark.parametrize("streams", [1, 3, 4])
@pytest.mark.parametrize("tile_bytes", [64, 640, 10**6])
def test_order_visits_every_rating_once_tile_by_tile(streams, tile_bytes):
    rows, cols = pairs()
    order = order_ratings(rows, cols, M, N, rank=16, seed=3, tile_bytes=tile_bytes, streams=streams)
    np.testing.assert_array_equal(np.sort(order.positions), np.arange(len(rows)))
    side = max(tile_bytes // 64, 1)
    assert order.tile_starts[0] == 0 and order.tile_starts[-1] == len(rows)
    for start, stop in zip(order.tile_starts[:-1], order.tile_starts[1:], strict=True):
        at = order.positions[start:stop]
        assert len(np.unique(rows[at])) <= side and len(np.unique(cols[at])) <= side


def test_order_deals_users_to_the_streams():
    rows, cols = (x.ravel().astype(np.int32) for x in np.indices((4, 3)))
    order = order_ratings(rows, cols, 4, 3, rank=16, seed=0, streams=2)
    np.testing.assert_array_equal(rows[order.positions], [0, 2, 0, 2, 0, 2, 1, 3, 1, 3, 1, 3])


def test_order_of_no_ratings():
    none = np.empty(0, dtype=np.int32)
    order = order_ratings(none, none, 3, 3, rank=16, seed=0)
    P, Q = aligned_zeros(3, 16), aligned_zeros(3, 16)
    assert len(order.positions) == 0
    assert sgd_block(none, none, np.empty(0, np.float32), P, Q, step=1.0, tile_starts=order.tile_starts) == 0.0


def test_order_refuses_ids_outside_the_block():
    with pytest.raises(DataError, match=r"1 of 2 cols lie outside 0\.\.4"):
        order_ratings(np.array([0, 1], np.int32), np.array([0, 5], np.int32), 2, 5, rank=16, seed=0)


def observed(seed=0, n_rows=12, n_items=15):
    """Return a random CSR pattern with between 0 and n_items - 1 items in a row."""
    rng = np.random.default_rng(seed)
    lists = [rng.permutation(n_items)[: rng.integers(0, n_items)].astype(np.int32) for _ in range(n_rows)]
    return np.r_[0, np.cumsum([len(x) for x in lists])], np.concatenate(lists), lists


def test_negatives_are_not_observed():
    indptr, indices, lists = observed()
    comp = sample_negatives(indptr, indices, 15, 5, seed=1, epoch=0)
    assert comp.shape == (len(indices), 5) and comp.min() >= 0 and comp.max() < 15
    for row, seen in enumerate(lists):
        assert not np.isin(comp[indptr[row] : indptr[row + 1]], seen).any()


def test_negatives_depend_on_seed_epoch_and_row_only():
    indptr, indices, _ = observed()
    ref = sample_negatives(indptr, indices, 15, 4, seed=1, epoch=2)
    part = sample_negatives(indptr[5:] - indptr[5], indices[indptr[5] :], 15, 4, seed=1, epoch=2, first_row=5)
    np.testing.assert_array_equal(part, ref[indptr[5] :])
    for seed, epoch in ((2, 2), (1, 3)):
        assert not np.array_equal(sample_negatives(indptr, indices, 15, 4, seed=seed, epoch=epoch), ref)


def test_negatives_are_uniform():
    indptr, indices = np.array([0, 1000]), np.zeros(1000, np.int32)
    counts = np.bincount(sample_negatives(indptr, indices, 11, 10, seed=3, epoch=0).ravel(), minlength=11)
    assert counts[0] == 0
    assert np.abs(counts[1:] - 1000).max() < 5 * math.sqrt(1000)
    counts = np.bincount(sample_negatives(indptr, indices, 10, 10, seed=3, epoch=0, exclude_observed=False).ravel())
    assert np.abs(counts - 1000).max() < 5 * math.sqrt(1000)


@pytest.mark.parametrize(
    ("n_items", "n_negatives", "error", "message"),
    [
        (3, 1, DataError, "row 8 .* all 3 items"),
        (2, 1, DataError, r"1 of 4 items lie outside 0\.\.1"),
        (3, 0, ParameterError, "at least 1"),
    ],
)
def test_negatives_that_cannot_be_drawn(n_items, n_negatives, error, message):
    with pytest.raises(error, match=message):
        indptr, indices = np.array([0, 1, 4]), np.array([0, 0, 1, 2], np.int32)
        sample_negatives(indptr, indices, n_items, n_negatives, seed=0, epoch=0, first_row=7)
