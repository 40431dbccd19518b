"""Where ALS starts: drawn as named, and by default not left to luck."""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mfspark import ALS, ParameterError
from mfspark.blocks.profile import Profile, SideProfile
from mfspark.kernels.als.half_step import solve_block
from mfspark.kernels.csr import Block, Side
from mfspark.kernels.objective import Settings, fix
from mfspark.training.checkpoint import NEVER
from mfspark.training.starts import STARTS, Start, initial_factors

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "peers"))
from java_random import explicit  # noqa: E402


def matrix(rows):
    """Return ratings (with NaN where there is none) by users and items in order of their ids."""
    users, items = (sorted({row[place] for row in rows}) for place in range(2))
    R = np.full((len(users), len(items)), np.nan)
    for user, item, rating in rows:
        R[users.index(user), items.index(item)] = rating
    return R, users, items


def profile_of(R):
    seen = ~np.isnan(R)
    sides = tuple(SideProfile(pa.array(range(n)), seen.sum(axis)) for n, axis in zip(R.shape, (1, 0), strict=True))
    return Profile(None, seen.sum(), 0, np.nansum(R), seen.sum(), np.nanmin(R), np.nanmax(R), sides=sides)


def block_of(R):
    seen = ~np.isnan(R)
    indptr = np.concatenate([[0], np.cumsum(seen.sum(1))])
    return Block(indptr, np.nonzero(seen)[1].astype(np.int32), R[seen].astype(np.float32))


def fitted(als, R):
    """Return what the estimator's training makes of a small matrix, its sweeps run here and not by Spark."""

    def sweeps(_blocks, job, factors, *_told):
        settings = job.settings
        for _ in range(job.stopping.max_iter):
            for side in (Side.ITEM, Side.USER):
                seen = settings if side is Side.USER else settings.swapped()
                block = block_of(R if side is Side.USER else R.T)
                factors.sides[side] = solve_block(
                    block, fix(factors.sides[side.other], seen), seen, factors.sides[side]
                )[0]
        return []

    als._alternate = sweeps
    found = profile_of(R)
    return als._train(None, None, found, als._settings(found), NEVER)[0]


@pytest.mark.parametrize("rank", [1, 2])
def test_exact_rank_1_matrix_of_mllibs_suite_from_50_seeds(rank):
    training, test = explicit(20, 40, 1)
    R, users, items = matrix(training)
    for seed in range(50):
        model = fitted(ALS(rank=rank, regParam=1e-5, seed=seed), R)
        X, Y = (model.features(side).astype(np.float64) for side in Side)
        errors = [r - X[users.index(u)] @ Y[items.index(i)] for u, i, r in test if u in users and i in items]
        assert np.sqrt(np.mean(np.square(errors))) < 0.001, f"seed {seed}"


@pytest.mark.parametrize("magnitude", [1e-6, 1.0, 1e3])
def test_power_steps_are_those_of_the_mean_ratings_at_any_magnitude(magnitude):
    R, _, _ = matrix(explicit(20, 40, 2)[0])
    als, found = ALS(rank=2, maxIter=0, initMode="power"), profile_of(R * magnitude)
    ref = initial_factors(found, als._settings(found), Start(0, 1.0, "normal")).sides[0][:, :2].astype(np.float64)
    seen, filled = ~np.isnan(R), np.nan_to_num(R)
    for _ in range(2):
        means = filled.T @ ref / np.maximum(seen.sum(0), 1)[:, None]
        ref = filled @ means / seen.sum(1)[:, None]
    ref /= np.linalg.norm(ref, axis=1, keepdims=True)
    comp = fitted(als, R * magnitude).features(Side.USER)
    np.testing.assert_allclose(np.linalg.norm(comp, axis=1), 1.0, rtol=1e-5)
    assert ((comp * ref).sum(1) > 0.999).mean() > 0.9  # rows that are nearly 0 may turn


@pytest.mark.parametrize("mode", STARTS)
def test_starts_by_name(mode):
    R = np.full((2000, 3), 1.0)
    settings = Settings(rank=4)
    factors = initial_factors(profile_of(R), settings, Start(1, 0.5, mode))
    X = factors.sides[0]
    assert X.shape == (2000, settings.padded) and not X[:, 4:].any()
    lengths = (X**2).sum(1)
    if mode == "mllib":
        np.testing.assert_allclose(lengths, 0.25, rtol=1e-5)
    else:
        assert lengths.mean() == pytest.approx(0.25, rel=0.05)
    assert (X.min() >= 0) == (mode == "positive")
    again = initial_factors(profile_of(R), settings, Start(1, 0.5, mode)).sides[0]
    np.testing.assert_array_equal(X, again)


@pytest.mark.parametrize(
    "low,options,mode",
    [
        (0.0, {}, "positive"),
        (1.0, {"userBias": True}, "positive"),
        (1.0, {"center": True}, "normal"),
        (-1.0, {}, "power"),
        (-1.0, {"center": True}, "normal"),
        (-1.0, {"nonnegative": True}, "positive"),
        (1.0, {"implicitPrefs": True}, "normal"),
        (1.0, {"initMode": "mllib"}, "mllib"),
    ],
)
def test_auto_chooses_by_the_ratings(low, options, mode):
    found = profile_of(np.array([[low, 5.0]]))
    assert ALS(**options)._start_mode(found) == mode


def test_a_start_of_no_length_is_refused():
    with pytest.raises(ParameterError, match="initStd must be a finite number > 0, not 0.0"):
        ALS(initStd=0.0)._check()
