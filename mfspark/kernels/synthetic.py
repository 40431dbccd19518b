"""Numba kernels of the synthetic ratings: every number is a function of (seed, stream, entity, counter) alone.

The generator is splitmix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", section 5)
used as a counter-based one: the n-th draw of a stream is the mixed value of key + n * gamma. A user's ratings therefore
do not depend on which other users the same task makes, and no state is carried from one to the next.
"""

from __future__ import annotations

import math

import numpy as np

from mfspark.kernels.compile import jit

GAMMA = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)
S30, S27, S31, S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
TO_UNIT = 1.0 / 9007199254740992.0
INTERACTION_STD = 0.45  # of p_u . q_i

USER_COUNT, USER_MODEL, ITEM_MODEL, ITEM_WEIGHT, DRAW, NOISE, TIME, TASTE = (np.uint64(k) for k in range(1, 9))


@jit
def mix(z: np.uint64) -> np.uint64:
    """Mix 64 bits (the finaliser of splitmix64)."""
    z = (z ^ (z >> S30)) * MIX_1
    z = (z ^ (z >> S27)) * MIX_2
    return z ^ (z >> S31)


@jit
def stream(seed: np.uint64, kind: np.uint64, entity: int) -> np.uint64:
    """Return the key of one entity's stream of one kind."""
    return mix(mix(mix(seed + GAMMA) ^ (kind * MIX_1)) + np.uint64(entity) * GAMMA)


@jit
def uniform(key: np.uint64, counter: int) -> float:
    """Return the counter-th uniform of a stream, in [0, 1) with 53 bits."""
    return (mix(key + np.uint64(counter + 1) * GAMMA) >> S11) * TO_UNIT


@jit
def normal(key: np.uint64, counter: int) -> float:
    """Return the counter-th standard normal of a stream (Box and Muller 1958)."""
    radius = math.sqrt(-2.0 * math.log(1.0 - uniform(key, 2 * counter)))
    return radius * math.cos(2.0 * math.pi * uniform(key, 2 * counter + 1))


@jit
def normals(seed: np.uint64, kind: np.uint64, entities: np.ndarray, width: int) -> np.ndarray:
    """Return `width` standard normals for each entity: float64 (n, width)."""
    out = np.empty((entities.size, width))
    for row in range(entities.size):
        key = stream(seed, kind, entities[row])
        for k in range(width):
            out[row, k] = normal(key, k)
    return out


@jit
def alias_table(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Walker's alias table (Vose 1991) of positive weights: probability float64 (n,), alias int64 (n,)."""
    n = weights.size
    probability = weights * (n / weights.sum())
    alias = np.arange(n)
    small, large = np.empty(n, np.int64), np.empty(n, np.int64)
    n_small, n_large = 0, 0
    for k in range(n):
        if probability[k] < 1.0:
            small[n_small] = k
            n_small += 1
        else:
            large[n_large] = k
            n_large += 1
    while n_small > 0 and n_large > 0:
        n_small -= 1
        low, high = small[n_small], large[n_large - 1]
        alias[low] = high
        probability[high] -= 1.0 - probability[low]
        if probability[high] < 1.0:
            n_large -= 1
            small[n_small] = high
            n_small += 1
    # What is left differs from 1 by rounding only.
    for k in range(n_small):
        probability[small[k]] = 1.0
    for k in range(n_large):
        probability[large[k]] = 1.0
    return probability, alias


@jit
def latent_mean(user_row: np.ndarray, item_row: np.ndarray, mean: float) -> float:
    """Return mean + b_u + b_i + p_u . q_i; a row is (bias, factors...), already scaled."""
    total = mean + user_row[0] + item_row[0]
    for k in range(1, user_row.size):
        total += user_row[k] * item_row[k]
    return total


@jit
def liking(user_row: np.ndarray, item_row: np.ndarray, taste: float) -> float:
    """Return 1 / (1 + exp(-taste (z - 1))), z = p_u . q_i in standard deviations."""
    z = latent_mean(user_row, item_row, -user_row[0] - item_row[0]) / INTERACTION_STD
    return 1.0 / (1.0 + math.exp(-taste * (z - 1.0)))


@jit
def draw_items(
    seed: np.uint64,
    user: int,
    forced: np.ndarray,
    probability: np.ndarray,
    alias: np.ndarray,
    user_row: np.ndarray,
    item_rows: np.ndarray,
    taste: float,
    seen: np.ndarray,
    out: np.ndarray,
) -> None:
    """Fill `out` with distinct items: forced[0] .. forced[1] - 1, then draws by popularity without replacement.

    Repeated items are drawn again, which is sampling without replacement by weight. With a `taste` above 0 a drawn item
    is taken with probability 1 / (1 + exp(-taste (z - 1))), z = p_u . q_i in standard deviations: mostly what lies at
    least one of them above the mean. A user who takes a large part of all items would wait long for the rare ones, so
    after 8 draws an item wanted (64 with a taste) the remaining draws are uniform. `seen` is bool (n_items,), all False
    before and after.
    """
    key, chooser = stream(seed, DRAW, user), stream(seed, TASTE, user)
    n, n_items, counter = 0, probability.size, 0
    for item in range(forced[0], forced[1]):
        out[n] = item
        seen[item] = True
        n += 1
    patience = (64 if taste > 0.0 else 8) * out.size + 64
    while n < out.size:
        at = uniform(key, counter) * n_items
        item = int(at)
        patient = counter < patience
        if patient and at - item >= probability[item]:
            item = alias[item]
        counter += 1
        if seen[item]:
            continue
        if not (patient and taste > 0.0) or uniform(chooser, counter) < liking(user_row, item_rows[item], taste):
            seen[item] = True
            out[n] = item
            n += 1
    for k in range(n):
        seen[out[k]] = False


@jit
def fill_ratings(
    seed: np.uint64,
    users: np.ndarray,
    counts: np.ndarray,
    forced: np.ndarray,
    user_rows: np.ndarray,
    item_rows: np.ndarray,
    probability: np.ndarray,
    alias: np.ndarray,
    mean: float,
    noise: float,
    taste: float,
    plays: bool,
    items: np.ndarray,
    ratings: np.ndarray,
) -> None:
    """Fill items int64 (n,) and ratings float32 (n,) of some users, one user after the other.

    Parameters
    ----------
    seed : uint64
        Of every stream.
    users, counts : int64 (m,)
        User numbers from 0 and how many items each rates; n = counts.sum().
    forced : int64 (m, 2)
        First and last + 1 of the items that this user rates in any case.
    user_rows, item_rows : float64 (m, 1 + rank), (n_items, 1 + rank)
        Bias and factors.
    probability, alias : float64 (n_items,), int64 (n_items,)
        The alias table by which items are drawn.
    mean, noise : float
        The mean rating, and the standard deviation of the noise.
    taste : float
        How much of what a user rates is a matter of taste (`draw_items`); 0: popularity alone.
    plays : bool
        False: round(latent + noise) clipped to 1..5. True: 1 + floor(exp(latent - mean + noise)).
    items, ratings : int64 (n,), float32 (n,)
        Filled.
    """
    seen = np.zeros(probability.size, np.bool_)
    start = 0
    for row in range(users.size):
        stop = start + counts[row]
        taken = items[start:stop]
        draw_items(seed, users[row], forced[row], probability, alias, user_rows[row], item_rows, taste, seen, taken)
        key = stream(seed, NOISE, users[row])
        for k in range(start, stop):
            value = latent_mean(user_rows[row], item_rows[items[k]], mean) + noise * normal(key, k - start)
            if plays:
                ratings[k] = 1.0 + math.floor(math.exp(min(value - mean, 12.0)))
            else:
                ratings[k] = min(5.0, max(1.0, math.floor(value + 0.5)))
        start = stop


@jit
def fill_times(
    seed: np.uint64, users: np.ndarray, counts: np.ndarray, first: int, span: int, times: np.ndarray
) -> None:
    """Fill times int64 (n,): uniform seconds in [first, first + span)."""
    at = 0
    for row in range(users.size):
        key = stream(seed, TIME, users[row])
        for k in range(counts[row]):
            times[at] = first + int(uniform(key, k) * span)
            at += 1


@jit
def latent_means(user_rows: np.ndarray, item_rows: np.ndarray, mean: float) -> np.ndarray:
    """Return the latent mean of n pairs given their rows: float64 (n,)."""
    out = np.empty(len(user_rows))
    for k in range(len(user_rows)):
        out[k] = latent_mean(user_rows[k], item_rows[k], mean)
    return out
