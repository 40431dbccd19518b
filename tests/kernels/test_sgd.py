"""SGD kernel against its naive twin, and the guards against divergence."""

import math

import naive_sgd
import numpy as np
import pytest

from mfspark.errors import ParameterError
from mfspark.kernels.sgd.control import all_finite, loss_diverges
from mfspark.kernels.sgd.order import order_ratings
from mfspark.kernels.sgd.simd import aligned_zeros, padded_rank
from mfspark.kernels.sgd.update import row_regularization, sgd_block

M, N, COUNT = 30, 20, 400


def block(rank, loss="squared", seed=0):
    """Return (rows, cols, ratings, P, Q) of a small random block with ratings in the loss's domain."""
    rng = np.random.default_rng(seed)
    pairs = rng.permutation(M * N)[:COUNT]
    ratings = {"squared": rng.normal(0, 1, COUNT), "logistic": rng.integers(0, 2, COUNT)}
    y = ratings.get(loss, rng.poisson(2, COUNT))
    P, Q = aligned_zeros(M, rank), aligned_zeros(N, rank)
    P[:, :rank], Q[:, :rank] = (rng.uniform(0.1, 1, (size, rank)) / math.sqrt(rank) for size in (M, N))
    return (pairs // N).astype(np.int32), (pairs % N).astype(np.int32), y.astype(np.float32), P, Q


def comp_and_ref(rank, passes=2, *, biased=False, adagrad=False, loss="squared", reg=(0.0, 0.0), seed=0, **options):
    """Run the kernel and the naive twin for some passes; return both as (loss, arrays)."""
    rows, cols, y, P, Q = block(rank, loss, seed)
    shared = {"step": 0.05, "loss": loss, "mean": 0.1, **options}
    b = [np.zeros(M, np.float32), np.zeros(N, np.float32)] if biased else [None, None]
    G = [np.ones((M, 4), np.float32), np.ones((N, 4), np.float32)] if adagrad else [None, None]
    wide = lambda x: None if x is None else x.astype(np.float64)  # noqa: E731
    ref_P, ref_Q, ref_b, ref_G = P[:, :rank].astype(float), Q[:, :rank].astype(float), [*map(wide, b)], [*map(wide, G)]
    for _ in range(passes):
        ref_loss = naive_sgd.sgd_pass(
            rows, cols, y, ref_P, ref_Q, reg=reg, b_u=ref_b[0], b_i=ref_b[1], reg_bias=(0.02, 0.03),
            squares=ref_G if adagrad else None, **shared,
        )  # fmt: skip
        comp_loss = sgd_block(
            rows, cols, y, P, Q, reg_user=reg[0], reg_item=reg[1], user_bias=b[0], item_bias=b[1], reg_user_bias=0.02,
            reg_item_bias=0.03, user_squares=G[0], item_squares=G[1], rank=rank, **shared,
        )  # fmt: skip
    assert np.all(P[:, rank:] == 0) and np.all(Q[:, rank:] == 0)
    comp = [x for x in (P[:, :rank], Q[:, :rank], *b, *G) if x is not None]
    ref = [x for x in (ref_P, ref_Q, *ref_b, *ref_G) if x is not None]
    return (comp_loss, comp), (ref_loss, ref)


def assert_equal(comp, ref, tolerance=1e-5):
    """Compare the results of `comp_and_ref`."""
    assert comp[0] == pytest.approx(ref[0], rel=tolerance)
    for one, other in zip(comp[1], ref[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


OPTIONS = {
    "plain": {},
    "regularised": {"reg": (0.1, 0.2)},
    "reg per row": {"reg": (np.linspace(0, 0.3, M, dtype=np.float32), np.linspace(0.2, 0, N, dtype=np.float32))},
    "biased": {"biased": True, "reg": (0.1, 0.2)},
    "weighted": {"weights": np.linspace(0, 2, COUNT, dtype=np.float32)},
    "nonnegative": {"nonnegative": True, "step": 0.3},
    "negatives": {"negatives": np.arange(COUNT * 3, dtype=np.int32).reshape(COUNT, 3) % N, "biased": True},
    "adagrad": {"adagrad": True, "reg": (0.1, 0.2)},
    "adagrad slow": {"adagrad": True, "slow_only": True},
    "adagrad biased nonnegative": {
        "adagrad": True,
        "biased": True,
        "nonnegative": True,
        "reg": (0.1, 0.2),
        "step": 0.5,
    },
}


@pytest.mark.parametrize("rank", [3, 16, 40])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_equals_naive_sgd_in_the_same_order(options, rank):
    assert_equal(*comp_and_ref(rank, **options))


@pytest.mark.parametrize("loss", ["logistic", "poisson", "poisson_identity"])
@pytest.mark.parametrize("adagrad", [False, True])
def test_losses_equal_naive_sgd(loss, adagrad):
    mean = 1.0 if loss == "poisson_identity" else 0.1
    assert_equal(*comp_and_ref(10, loss=loss, adagrad=adagrad, biased=True, step=0.02, mean=mean))


@pytest.mark.parametrize("rank", [1, 64, 100, 128, 200])
def test_ranks(rank):
    assert_equal(*comp_and_ref(rank, reg=(0.1, 0.2)))


def test_unaligned_factors_give_the_same():
    rows, cols, y, P, Q = block(16)
    spare = np.empty(M * 16 + 1, dtype=np.float32)
    shifted = spare[1:].reshape(M, 16)
    shifted[:] = P
    ref_Q = Q.copy()
    assert sgd_block(rows, cols, y, shifted, Q, step=0.1) == sgd_block(rows, cols, y, P, ref_Q, step=0.1)
    np.testing.assert_array_equal(shifted, P)


def test_codes_with_levels_equal_the_ratings_they_stand_for():
    rows, cols, _, P, Q = block(8)
    levels = np.array([0.5, 1.5, 4.0], dtype=np.float32)
    codes = (np.arange(COUNT) % 3).astype(np.uint8)
    ref_P, ref_Q = P.copy(), Q.copy()
    ref = sgd_block(rows, cols, levels[codes], ref_P, ref_Q, step=0.05)
    comp = sgd_block(rows, cols, codes, P, Q, levels=levels, step=0.05)
    assert comp == ref
    np.testing.assert_array_equal(P, ref_P)
    np.testing.assert_array_equal(Q, ref_Q)


def test_tiles_are_visited_in_the_given_order():
    rows, cols, y, P, Q = block(8)
    starts, order = np.array([0, 150, 150, 400]), np.array([2, 1, 0])
    visit = np.r_[150:400, 0:150]
    ref_P, ref_Q = P.astype(float), Q.astype(float)
    ref = naive_sgd.sgd_pass(rows[visit], cols[visit], y[visit], ref_P, ref_Q, step=0.05)
    comp = sgd_block(rows, cols, y, P, Q, step=0.05, tile_starts=starts, tile_order=order)
    assert_equal((comp, [P, Q]), (ref, [ref_P, ref_Q]))


def test_same_seed_same_factors_bit_for_bit():
    results = []
    for seed in (5, 5, 6):
        rows, cols, y, P, Q = block(24)
        order = order_ratings(rows, cols, M, N, rank=24, seed=seed, tile_bytes=1024)
        at = order.positions
        sgd_block(rows[at], cols[at], y[at], P, Q, step=0.05, tile_starts=order.tile_starts)
        results.append(np.concatenate([P.ravel(), Q.ravel()]))
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


def test_recovers_a_low_rank_matrix():
    rng = np.random.default_rng(1)
    truth = rng.normal(0, 1, (M, 2)) @ rng.normal(0, 1, (2, N))
    rows, cols = (x.ravel().astype(np.int32) for x in np.indices((M, N)))
    y = truth.ravel().astype(np.float32)
    P, Q = aligned_zeros(M, 2), aligned_zeros(N, 2)
    P[:, :2], Q[:, :2] = rng.normal(0, 0.3, (M, 2)), rng.normal(0, 0.3, (N, 2))
    at = order_ratings(rows, cols, M, N, rank=2, seed=0).positions
    losses = [sgd_block(rows[at], cols[at], y[at], P, Q, step=0.05) for _ in range(100)]
    assert math.sqrt(2 * losses[-1] / len(y)) < 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"P": np.zeros((M, 8), np.float32)}, "P is float32 of shape .* multiple of 16"),
        ({"Q": np.zeros((N, 16))}, "Q is float64"),
        ({"Q": np.zeros((N, 32), np.float32)}, "P has 16 columns and Q has 32"),
        ({"ratings": np.zeros(3, np.float32)}, "lengths 400, 400, 3"),
        ({"ratings": np.zeros(COUNT, np.uint8)}, "levels"),
        ({"user_squares": np.ones((M, 4), np.float32)}, "both user_squares and item_squares"),
        ({"loss": "hinge"}, "hinge"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    rows, cols, y, P, Q = block(16)
    arguments = {"rows": rows, "cols": cols, "ratings": y, "P": P, "Q": Q, "step": 0.1, **change}
    with pytest.raises(ParameterError, match=message):
        sgd_block(**arguments)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_row_regularization_adds_up_to_reg_times_count_to_the_exponent(exponent):
    counts = np.array([0, 1, 4, 100])
    comp = np.broadcast_to(row_regularization(0.3, counts, exponent), 4) * counts
    ref = np.where(counts > 0, 0.3 * counts.astype(float) ** exponent, 0)
    np.testing.assert_allclose(comp, ref, rtol=1e-6)


def test_aligned_zeros():
    for rank, width in ((1, 16), (16, 16), (17, 32)):
        comp = aligned_zeros(5, rank)
        assert comp.shape == (5, width) and padded_rank(rank) == width
        assert comp.ctypes.data % 64 == 0 and comp.flags.c_contiguous and not comp.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_all_finite(bad):
    values = np.full((40, 16), 1e38, dtype=np.float32)
    assert all_finite(values, None, np.zeros(0, np.float32))
    values[17, 3] = bad
    assert not all_finite(np.ones(3, np.float32), values)


def test_divergence_shows_as_non_finite_factors():
    rows, cols, y, P, Q = block(16)
    losses = [sgd_block(rows, cols, y, P, Q, step=3.0) for _ in range(20)]
    assert not all_finite(P, Q)
    assert any(loss_diverges(losses[: t + 1]) for t in range(20))


@pytest.mark.parametrize(
    ("losses", "ref"),
    [
        ([], False),
        ([5.0], False),
        ([math.nan], True),
        ([5.0, math.inf], True),
        ([5.0, 4.0], False),
        ([5.0, 5.4], False),
        ([5.0, 5.6], True),
        ([-5.0, -4.6], False),
        ([-5.0, -4.0], True),
    ],
)
def test_loss_diverges(losses, ref):
    assert loss_diverges(losses) == ref
