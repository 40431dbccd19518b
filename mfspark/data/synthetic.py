"""A Netflix-shaped synthetic source whose best reachable RMSE is known, generated in parallel by Spark.

Rating = round(mean + b_u + b_i + p_u . q_i + noise), clipped to 1..5, with normal biases, factors and noise. Each
user's number of ratings is lognormal (the Netflix Prize data: median 96, mean 209), each item's popularity is lognormal
as well. Which pairs are rated does not depend on the ratings, unless there is a ``taste``. Every user and every item
has at least one rating.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyspark.sql.functions as F
from pyspark.sql import DataFrame, SparkSession

from mfspark.data.source import Source
from mfspark.errors import ParameterError
from mfspark.kernels import synthetic as kernel
from mfspark.session import default_parallelism

NETFLIX_USERS, NETFLIX_ITEMS, NETFLIX_RATINGS = 480_189, 17_770, 100_480_507
MEAN = 3.6
USER_BIAS_STD, ITEM_BIAS_STD = 0.43, 0.5
USER_COUNT_SIGMA, ITEM_WEIGHT_SIGMA = 1.247, 1.7
CHUNK_RATINGS = 500_000
# 1999-11-11 to 2005-12-31, the days of the Netflix Prize ratings.
FIRST_SECOND, SPAN_SECONDS = 942_278_400, 2_242 * 86_400
RANK, NOISE = 8, 0.85


@dataclass(frozen=True)
class SyntheticSpec:
    """The size and the model of a synthetic table; equal specs give equal tables.

    Parameters
    ----------
    n_users, n_items, n_ratings : int
        Exact numbers: ids run from 1, every one of them occurs.
    seed : int
        Of every draw (default 0).
    rank : int
        Length of the true factors (default 8).
    noise : float
        Standard deviation of the normal noise before rounding (default 0.85).
    taste : float
        How much of what a user rates is a matter of taste: 0, the default, popularity alone; from about 3 on nearly all
        of it has a p_u . q_i of at least one standard deviation.
    """

    n_users: int
    n_items: int
    n_ratings: int
    seed: int = 0
    rank: int = RANK
    noise: float = NOISE
    taste: float = 0.0

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be met."""
        if min(self.n_users, self.n_items) < 1:
            raise ParameterError(f"n_users={self.n_users}, n_items={self.n_items}: both must be at least 1")
        least, most = max(self.n_users, self.n_items), self.n_users * self.n_items
        if not least <= self.n_ratings <= most:
            raise ParameterError(
                f"n_ratings={self.n_ratings} must be between {least} (every user and item at least once) and {most} "
                f"(distinct pairs of {self.n_users} users and {self.n_items} items)"
            )
        others = {name: getattr(self, name) for name in ("rank", "noise", "seed", "taste")}
        if min(others.values()) < 0:
            given = ", ".join(f"{name}={value}" for name, value in others.items())
            raise ParameterError(f"{given}: none may be negative")

    @classmethod
    def netflix(
        cls,
        scale: float = 1.0,
        seed: int = 0,
        rank: int = RANK,
        noise: float = NOISE,
        n_users: int | None = None,
        n_items: int | None = None,
        n_ratings: int | None = None,
        taste: float = 0.0,
    ) -> SyntheticSpec:
        """Return the spec of a scaled Netflix Prize table.

        Ratings and users shrink with `scale` (users to no fewer than 200); items stay 17,770 as long as each can have
        50 ratings on average. So 0.1 is 48,019 x 17,770 with 10 M ratings, 0.01 is 4,802 x 17,770 with 1 M. Numbers
        given explicitly win.
        """
        if not scale > 0:
            raise ParameterError(f"scale={scale} must be above 0")
        ratings = n_ratings or max(1, round(NETFLIX_RATINGS * scale))
        users = n_users or max(200, round(NETFLIX_USERS * scale))
        items = n_items or min(NETFLIX_ITEMS, max(1, ratings // 50))
        return cls(users, items, ratings, seed, rank, noise, taste)


def netflix_like(
    spark: SparkSession,
    scale: float = 1.0,
    seed: int = 0,
    partitions: int | None = None,
    rank: int = RANK,
    noise: float = NOISE,
    *,
    n_users: int | None = None,
    n_items: int | None = None,
    n_ratings: int | None = None,
    taste: float = 0.0,
    timestamps: bool = False,
) -> DataFrame:
    """Return user long, item long, rating float (1..5)[, timestamp long]; the same table whatever the partitioning.

    At scale 1.0: exactly 480,189 users, 17,770 items and 100,480,507 distinct pairs. `SyntheticSpec.netflix` explains
    the other scales; `noise_floor` gives the best reachable RMSE of the same arguments.

    Parameters
    ----------
    spark : SparkSession
        The session.
    scale : float, default 1
        The share of Netflix's number of ratings.
    seed : int, default 0
        Of everything that is drawn.
    partitions : int, optional
        How many tasks; default by cores and size.
    rank : int, default 8
        Number of true factors.
    noise : float, default 0.85
        Standard deviation of a rating before rounding and clipping.
    n_users, n_items, n_ratings : int, optional
        Sizes that win over the scale's.
    taste : float, default 0
        How much of what a user rates is a matter of taste (`SyntheticSpec`).
    timestamps : bool, default False
        Whether there is a column timestamp.

    Raises
    ------
    ParameterError
        Sizes that cannot be met.
    """
    spec = SyntheticSpec.netflix(scale, seed, rank, noise, n_users, n_items, n_ratings, taste)
    return generate(spark, spec, partitions, timestamps=timestamps)


def implicit_counts(
    spark: SparkSession, scale: float = 1.0, seed: int = 0, partitions: int | None = None, **sizes: Any
) -> DataFrame:
    """Return user, item, rating = number of plays (1 or more): 1 + floor(exp(b_u + b_i + p_u . q_i + noise)).

    Parameters
    ----------
    spark : SparkSession
        The session.
    scale, seed, partitions
        As for `netflix_like`.
    **sizes : int or float
        n_users, n_items, n_ratings; taste.
    """
    return generate(spark, SyntheticSpec.netflix(scale, seed, **sizes), partitions, plays=True)


def generate(
    spark: SparkSession,
    spec: SyntheticSpec,
    partitions: int | None = None,
    timestamps: bool = False,
    plays: bool = False,
) -> DataFrame:
    """Generate a spec's table with Spark: each task makes the ratings of ranges of users."""
    counts = user_counts(spec)
    tasks = partitions or max(2 * default_parallelism(spark), spec.n_ratings // 4_000_000)
    per_chunk = max(1, min(-(-spec.n_users // tasks), CHUNK_RATINGS * spec.n_users // spec.n_ratings))
    chunks = -(-spec.n_users // per_chunk)
    schema = "user long, item long, rating float" + (", timestamp long" if timestamps else "")
    ranges = spark.range(0, chunks, 1, min(tasks, chunks))
    return ranges.mapInArrow(_generator(spec, counts, per_chunk, timestamps, plays), schema)


def _generator(
    spec: SyntheticSpec, counts: np.ndarray, per_chunk: int, timestamps: bool, plays: bool
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def make(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        items = item_side(spec)
        for batch in batches:
            for chunk in batch.column(0).to_numpy():
                users = np.arange(chunk * per_chunk, min((chunk + 1) * per_chunk, spec.n_users))
                rated, ratings = ratings_of(spec, users, counts[users].astype(np.int64), items, plays)
                columns = {"user": np.repeat(users + 1, counts[users]), "item": rated + 1, "rating": ratings}
                if timestamps:
                    columns["timestamp"] = times_of(spec, users, counts[users].astype(np.int64))
                yield pa.RecordBatch.from_pydict(columns)

    return make


def item_side(spec: SyntheticSpec) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return item rows (n_items, 1 + rank) and the alias table (probability, alias) of the items' popularity."""
    numbers = np.arange(spec.n_items)
    logs = kernel.normals(np.uint64(spec.seed), kernel.ITEM_WEIGHT, numbers, 1)[:, 0]
    probability, alias = kernel.alias_table(np.exp(ITEM_WEIGHT_SIGMA * logs))
    return item_rows(spec, numbers), probability, alias


def item_rows(spec: SyntheticSpec, items: np.ndarray) -> np.ndarray:
    """Return (bias, factors) of item numbers from 0: float64 (n, 1 + rank)."""
    rows = kernel.normals(np.uint64(spec.seed), kernel.ITEM_MODEL, items, 1 + spec.rank)
    rows[:, 0] *= ITEM_BIAS_STD
    return rows


def user_rows(spec: SyntheticSpec, users: np.ndarray) -> np.ndarray:
    """Return (bias, factors) of user numbers from 0, scaled so that p_u . q_i has standard deviation 0.45."""
    rows = kernel.normals(np.uint64(spec.seed), kernel.USER_MODEL, users, 1 + spec.rank)
    rows[:, 0] *= USER_BIAS_STD
    rows[:, 1:] *= kernel.INTERACTION_STD / np.sqrt(max(spec.rank, 1))
    return rows


def forced_items(spec: SyntheticSpec, users: np.ndarray) -> np.ndarray:
    """Return first and last + 1 of the items each user rates in any case: item j falls to user floor(j U / I)."""
    first = -(-users * spec.n_items // spec.n_users)
    return np.stack([first, -(-(users + 1) * spec.n_items // spec.n_users)], axis=1)


def user_counts(spec: SyntheticSpec) -> np.ndarray:
    """Return each user's number of ratings, int32 (n_users,), lognormal, within its bounds, summing to n_ratings."""
    users = np.arange(spec.n_users)
    weights = np.exp(USER_COUNT_SIGMA * kernel.normals(np.uint64(spec.seed), kernel.USER_COUNT, users, 1)[:, 0])
    least = np.maximum(1, np.diff(forced_items(spec, users), axis=1)[:, 0])

    def at(factor: float) -> np.ndarray:
        return np.clip(np.floor(np.minimum(factor * weights, spec.n_items)), least, spec.n_items).astype(np.int64)

    low, high = 0.0, 1.0
    while at(high).sum() < spec.n_ratings:
        high *= 2.0
    for _ in range(64):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle).sum() <= spec.n_ratings else (low, middle)
    counts = at(low)
    while (missing := spec.n_ratings - counts.sum()) > 0:
        counts[np.flatnonzero(counts < spec.n_items)[:missing]] += 1
    while (missing := counts.sum() - spec.n_ratings) > 0:
        counts[np.flatnonzero(counts > least)[:missing]] -= 1
    return counts.astype(np.int32)


def ratings_of(
    spec: SyntheticSpec,
    users: np.ndarray,
    counts: np.ndarray,
    items: tuple[np.ndarray, np.ndarray, np.ndarray],
    plays: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Return item numbers from 0 (int64) and ratings (float32) of some users, user after user."""
    rated, ratings = np.empty(counts.sum(), np.int64), np.empty(counts.sum(), np.float32)
    rows, forced = user_rows(spec, users), forced_items(spec, users)
    seed = np.uint64(spec.seed)
    kernel.fill_ratings(seed, users, counts, forced, rows, *items, MEAN, spec.noise, spec.taste, plays, rated, ratings)
    return rated, ratings


def times_of(spec: SyntheticSpec, users: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the seconds since 1970 of some users' ratings, int64."""
    times = np.empty(counts.sum(), np.int64)
    kernel.fill_times(np.uint64(spec.seed), users, counts, FIRST_SECOND, SPAN_SECONDS, times)
    return times


def read_synthetic(spark: SparkSession, source: Source) -> DataFrame:
    """Read the synthetic source: `options` are the arguments of `netflix_like` (scale, seed, partitions, ...).

    With ``plays`` the ratings are numbers of plays, as of `implicit_counts`.
    """
    whole = ("seed", "partitions", "rank", "n_users", "n_items", "n_ratings")
    numbers = (*whole, "scale", "noise", "taste")
    arguments: dict[str, float | int] = {}
    options = dict(source.options)
    plays = options.pop("plays", False)
    if not isinstance(plays, bool):
        raise ParameterError(f"synthetic option plays={plays!r} must be true or false")
    for key, value in options.items():
        if key not in numbers:
            known = ", ".join((*numbers, "plays"))
            raise ParameterError(f"synthetic has no option {key!r}; allowed: {known}")
        try:
            arguments[key] = int(str(value)) if key in whole else float(str(value))
        except ValueError:
            raise ParameterError(f"synthetic option {key}={value!r} must be a number") from None
    partitions = arguments.pop("partitions", None)
    spec = SyntheticSpec.netflix(**arguments)  # type: ignore[arg-type]
    table = generate(spark, spec, None if partitions is None else int(partitions), timestamps=True, plays=plays)
    raw = F.to_json(F.struct(*table.columns))
    rating = F.col("rating").cast("double").alias("rating")
    return table.select(
        "user", "item", rating, "timestamp", raw.alias("raw"), F.lit(None).cast("string").alias("error")
    )
