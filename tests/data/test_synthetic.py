"""The synthetic source: exact sizes, one table per seed, heavy tails, and a noise floor that the truth attains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pyspark.sql import SparkSession

from mfspark.config import parse
from mfspark.data import SyntheticSpec, implicit_counts, netflix_like, noise_floor, true_mean
from mfspark.data.synthetic import item_rows, item_side, ratings_of, times_of, user_counts, user_rows
from mfspark.data.synthetic_truth import rating_moments
from mfspark.errors import ParameterError
from mfspark.kernels import synthetic as kernel
from mfspark.pipeline.ratings import noise_floor_of

SIZES = {
    "wide": (50, 400, 2_000),
    "tall": (400, 50, 2_000),
    "every pair": (12, 9, 108),
    "one rating each": (30, 30, 30),
    "one user": (1, 40, 40),
    "dense": (60, 80, 4_000),
}


def _table(spec: SyntheticSpec) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The whole table of a spec, made without Spark: users and items from 1, ratings."""
    users, counts = np.arange(spec.n_users), user_counts(spec).astype(np.int64)
    items, ratings = ratings_of(spec, users, counts, item_side(spec))
    return np.repeat(users + 1, counts), items + 1, ratings


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_exact_and_pairs_are_distinct(name: str) -> None:
    spec = SyntheticSpec(*SIZES[name], seed=11)
    users, items, ratings = _table(spec)
    assert len(ratings) == spec.n_ratings == len(set(zip(users.tolist(), items.tolist(), strict=True)))
    assert set(users) == set(range(1, spec.n_users + 1))
    assert set(items) == set(range(1, spec.n_items + 1))
    assert set(ratings) <= {1.0, 2.0, 3.0, 4.0, 5.0}


@pytest.mark.parametrize("partitions", [1, 3, 50])
def test_spark_gives_the_same_table_whatever_the_partitioning(partitions: int, spark: SparkSession) -> None:
    sizes = {"n_users": 120, "n_items": 90, "n_ratings": 3_000}
    spec = SyntheticSpec(**sizes, seed=4)
    comp = netflix_like(spark, seed=4, partitions=partitions, timestamps=True, **sizes)
    assert comp.dtypes == [("user", "bigint"), ("item", "bigint"), ("rating", "float"), ("timestamp", "bigint")]
    rows = comp.collect()
    ref = sorted(zip(*(column.tolist() for column in _table(spec)), strict=True))
    assert sorted((row["user"], row["item"], row["rating"]) for row in rows) == ref
    ref_times = times_of(spec, np.arange(120), user_counts(spec).astype(np.int64))
    assert sorted(row["timestamp"] for row in rows) == sorted(ref_times)
    assert {row["timestamp"] for row in rows if row["user"] == 1} == set(ref_times[: user_counts(spec)[0]])


def test_another_seed_is_another_table() -> None:
    tables = [_table(SyntheticSpec(50, 40, 500, seed=seed)) for seed in (1, 1, 2)]
    assert all(np.array_equal(a, b) for a, b in zip(tables[0], tables[1], strict=True))
    assert not np.array_equal(tables[0][1], tables[2][1])


SCALES = {
    1.0: (480_189, 17_770, 100_480_507),
    0.1: (48_019, 17_770, 10_048_051),
    0.01: (4_802, 17_770, 1_004_805),
    0.001: (480, 2_009, 100_481),
}


@pytest.mark.parametrize("scale", SCALES)
def test_scales(scale: float) -> None:
    spec = SyntheticSpec.netflix(scale)
    assert (spec.n_users, spec.n_items, spec.n_ratings) == SCALES[scale]
    counts = user_counts(spec)
    assert counts.sum() == spec.n_ratings and counts.min() >= 1 and counts.max() <= spec.n_items


def test_tails_are_heavy_on_both_sides(spark: SparkSession) -> None:
    ratings = netflix_like(spark, scale=0.01)
    for side in ("user", "item"):
        counts = np.array([row["count"] for row in ratings.groupBy(side).count().collect()])
        top = np.sort(counts)[::-1]
        # A tenth of the users makes four tenths of the ratings; a tenth of the items has half of them.
        assert top[: len(top) // 10].sum() > (0.4 if side == "user" else 0.5) * counts.sum()
        assert counts.mean() > 1.5 * np.median(counts)


def test_popular_items_follow_their_weights() -> None:
    """With few ratings a user, draws without replacement are nearly draws by weight."""
    weights = np.array([8.0, 4.0, 2.0, 1.0, 1.0])
    probability, alias = kernel.alias_table(weights)
    seen, out = np.zeros(5, bool), np.empty(1, np.int64)
    counts = np.zeros(5)
    no_row, no_rows = np.zeros(1), np.zeros((5, 1))
    for user in range(20_000):
        forced = np.zeros(2, np.int64)
        kernel.draw_items(np.uint64(3), user, forced, probability, alias, no_row, no_rows, 0.0, seen, out)
        counts[out[0]] += 1
    ref = 20_000 * weights / weights.sum()
    assert ((counts - ref) ** 2 / ref).sum() < 23.5  # chi-squared, 4 degrees of freedom, p = 1e-4
    assert not seen.any()


def test_normals_are_normal() -> None:
    draws = kernel.normals(np.uint64(0), kernel.USER_MODEL, np.arange(50_000), 2)
    assert np.abs(draws.mean(axis=0)).max() < 0.02
    assert np.abs(np.cov(draws.T) - np.eye(2)).max() < 0.03
    assert np.mean(np.abs(draws) < 1.0) == pytest.approx(0.6827, abs=0.005)


@pytest.mark.parametrize("noise", [0.0, 0.3, 0.85, 2.0])
def test_moments_equal_those_of_drawn_ratings(noise: float) -> None:
    means = np.array([0.2, 1.3, 2.7, 3.6, 4.9, 6.0])
    draws = np.random.default_rng(0).normal(means, noise, size=(200_000, means.size))
    drawn = np.clip(np.floor(draws + 0.5), 1, 5)
    mean, variance = rating_moments(means, noise)
    np.testing.assert_allclose(mean, drawn.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(variance, drawn.var(axis=0), atol=0.03)


def test_the_truth_attains_the_noise_floor_and_nothing_simpler_does() -> None:
    sizes = {"n_users": 1_000, "n_items": 500, "n_ratings": 100_000}
    spec = SyntheticSpec(**sizes, seed=9)
    users, items, ratings = _table(spec)
    floor = noise_floor(seed=9, **sizes)
    truth = np.sqrt(np.mean((ratings - true_mean(spec, users, items)) ** 2))
    mean_only = ratings.std()
    assert truth == pytest.approx(floor, abs=0.005)
    assert mean_only > 1.2 * floor
    assert 0.8 < floor < 0.9


def test_noise_floor_from_a_sample_of_users() -> None:
    sizes = {"n_users": 3_000, "n_items": 500, "n_ratings": 60_000}
    assert noise_floor(**sizes, sample_users=500) == pytest.approx(noise_floor(**sizes), abs=0.005)


def test_implicit_counts_are_plays(spark: SparkSession) -> None:
    plays = implicit_counts(spark, seed=2, n_users=200, n_items=100, n_ratings=4_000)
    counts = np.array([row["rating"] for row in plays.collect()])
    assert len(counts) == 4_000 and counts.min() == 1.0 and np.array_equal(counts, np.floor(counts))
    assert counts.max() > 5 * np.median(counts)


def test_with_a_taste_users_rate_what_is_theirs_and_the_rest_is_as_without() -> None:
    plain = SyntheticSpec(400, 300, 8_000, seed=6)
    tables = {taste: _table(replace(plain, taste=taste)) for taste in (0.0, 4.0)}
    likings = {}
    for taste, (users, items, _) in tables.items():
        rows = user_rows(plain, users - 1)[:, 1:], item_rows(plain, items - 1)[:, 1:]
        likings[taste] = np.sum(rows[0] * rows[1], axis=1) / kernel.INTERACTION_STD
        assert len(set(zip(users, items, strict=True))) == 8_000
    assert abs(likings[0.0].mean()) < 0.15
    assert np.median(likings[4.0]) > 0.7
    assert np.array_equal(*(np.bincount(users) for users, _, _ in tables.values()))
    popular = [np.argsort(np.bincount(items - 1, minlength=300))[-30:] for _, items, _ in tables.values()]
    assert len(np.intersect1d(*popular)) > 10


def test_the_noise_floor_of_a_configuration_knows_every_option() -> None:
    sizes = {"n_users": 300, "n_items": 200, "n_ratings": 6_000}
    options = sizes | {"rank": 3, "noise": 0.4, "taste": 4.0}
    source = parse(
        {"store": {"location": "x"}, "source": {"format": "synthetic", "seed": 2, "options": options}}
    ).source
    assert noise_floor_of(source) == noise_floor(seed=2, **options) != noise_floor(seed=2, **options | {"taste": 0.0})


BAD_SPECS = {
    "more ratings than pairs": {"n_users": 5, "n_items": 5, "n_ratings": 26},
    "fewer ratings than users": {"n_users": 50, "n_items": 5, "n_ratings": 49},
    "no users": {"n_users": 0, "n_items": 5, "n_ratings": 5},
    "negative taste": {"n_users": 5, "n_items": 5, "n_ratings": 5, "taste": -1.0},
    "negative noise": {"n_users": 5, "n_items": 5, "n_ratings": 5, "noise": -1.0},
}


@pytest.mark.parametrize("name", BAD_SPECS)
def test_sizes_that_cannot_be_met(name: str) -> None:
    with pytest.raises(ParameterError):
        SyntheticSpec(**BAD_SPECS[name])
