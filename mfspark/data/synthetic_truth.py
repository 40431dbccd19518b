"""The best that can be reached on the synthetic ratings: the mean of a rating given its pair, and what is left."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from mfspark.data.synthetic import (
    CHUNK_RATINGS,
    MEAN,
    NOISE,
    RANK,
    SyntheticSpec,
    item_rows,
    item_side,
    ratings_of,
    user_counts,
    user_rows,
)
from mfspark.kernels import synthetic as kernel


def true_mean(spec: SyntheticSpec, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return E[rating | user, item], the best prediction there is, for ids from 1: float64 (n,).

    Parameters
    ----------
    spec : SyntheticSpec
        The table's sizes, seed, rank and noise.
    users, items : int arrays (n,)
        Ids from 1.
    """
    return rating_moments(latent(spec, users, items), spec.noise)[0]


def latent(spec: SyntheticSpec, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return mean + b_u + b_i + p_u . q_i, before noise, rounding and clipping, for ids from 1."""
    distinct_users, of_user = np.unique(np.asarray(users, np.int64) - 1, return_inverse=True)
    distinct_items, of_item = np.unique(np.asarray(items, np.int64) - 1, return_inverse=True)
    u_rows, i_rows = user_rows(spec, distinct_users), item_rows(spec, distinct_items)
    return kernel.latent_means(u_rows[of_user], i_rows[of_item], MEAN)


def rating_moments(means: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of clip(round(N(mean, noise^2)), 1, 5), integrating over each rounding interval."""
    edges = np.arange(1.5, 5.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        below = ndtr((edges - means[:, None]) / noise) if noise > 0 else (edges > means[:, None]).astype(float)
    # E[r] = 1 + sum P(r > edge); E[r^2] = 1 + sum ((k + 1)^2 - k^2) P(r > edge k + 1/2).
    above = 1.0 - below
    first = 1.0 + above.sum(axis=1)
    second = 1.0 + above @ np.array([3.0, 5.0, 7.0, 9.0])
    return first, second - first**2


def noise_floor(
    scale: float = 1.0,
    seed: int = 0,
    rank: int = RANK,
    noise: float = NOISE,
    *,
    n_users: int | None = None,
    n_items: int | None = None,
    n_ratings: int | None = None,
    taste: float = 0.0,
    sample_users: int = 4096,
) -> float:
    """Return the best reachable RMSE of `netflix_like` with the same arguments.

    It is the square root of the conditional variance of the rating given user and item (the noise, its rounding and its
    clipping), averaged over all rated pairs of `sample_users` (default 4096) evenly spaced users.

    Parameters
    ----------
    scale, seed, rank, noise, n_users, n_items, n_ratings, taste
        As for `netflix_like`.
    sample_users : int, default 4096
        Over how many users the mean is taken.
    """
    spec = SyntheticSpec.netflix(scale, seed, rank, noise, n_users, n_items, n_ratings, taste)
    return spec_noise_floor(spec, sample_users)


def spec_noise_floor(spec: SyntheticSpec, sample_users: int = 4096) -> float:
    """Return the best reachable RMSE of a spec (see `noise_floor`)."""
    users = np.unique(np.linspace(0, spec.n_users - 1, min(sample_users, spec.n_users)).astype(np.int64))
    counts = user_counts(spec)[users].astype(np.int64)
    rated, _ = ratings_of(spec, users, counts, item_side(spec))
    variance, at = 0.0, 0
    # Piece by piece: the moments hold several doubles a pair.
    for part in np.array_split(np.arange(users.size), max(1, rated.size // CHUNK_RATINGS)):
        size = int(counts[part].sum())
        means = latent(spec, np.repeat(users[part] + 1, counts[part]), rated[at : at + size] + 1)
        variance += float(rating_moments(means, spec.noise)[1].sum())
        at += size
    return float(np.sqrt(variance / rated.size))
