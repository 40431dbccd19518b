"""java.util.Random and the data sets that Spark's ALSSuite draws from it, so that both test the same numbers."""

import math

import numpy as np

_MASK = (1 << 48) - 1


class JavaRandom:
    """The generator that the Java API specifies: 48-bit linear congruential, Gaussians by the polar method."""

    def __init__(self, seed):
        self._state = (seed ^ 0x5DEECE66D) & _MASK
        self._spare = None

    def _next(self, bits):
        self._state = (self._state * 0x5DEECE66D + 0xB) & _MASK
        return self._state >> (48 - bits)

    def integer(self):
        value = self._next(32)
        return value - (1 << 32) if value >= 1 << 31 else value

    def single(self):
        return np.float32(self._next(24) / (1 << 24))

    def double(self):
        return ((self._next(26) << 27) + self._next(27)) / (1 << 53)

    def gaussian(self):
        if self._spare is not None:
            value, self._spare = self._spare, None
            return value
        square = 0.0
        while not 0 < square < 1:
            a, b = 2 * self.double() - 1, 2 * self.double() - 1
            square = a * a + b * b
        scale = math.sqrt(-2 * math.log(square) / square)
        self._spare = b * scale
        return a * scale


def factors(size, rank, random):
    """Return ``size`` random ints, sorted, and as many rows of U(-1, 1)."""
    ids = set()
    while len(ids) < size:
        ids.add(random.integer())
    rows = [[np.float32(-1) + random.single() * np.float32(2) for _ in range(rank)] for _ in range(size)]
    return list(zip(sorted(ids), np.array(rows, np.float32), strict=True))


def explicit(users, items, rank, noise=0.0, seed=11):
    """Return training rows (60 %, with noise) and test rows (30 %) of a matrix of low rank."""
    random = JavaRandom(seed)
    both = factors(users, rank, random), factors(items, rank, random)
    training, test = [], []
    for user, x in both[0]:
        for item, y in both[1]:
            drawn = random.double()
            if drawn < 0.6:
                training.append((user, item, float(x @ y) + noise * random.gaussian()))
            elif drawn < 0.9:
                test.append((user, item, float(x @ y)))
    return training, test


def implicit(users, items, rank, noise=0.0, seed=11):
    """Return training and test rows of a matrix of low rank whose negative entries are seldom observed."""
    random = JavaRandom(seed)
    both = factors(users, rank, random), factors(items, rank, random)
    training, test = [], []
    for user, x in both[0]:
        for item, y in both[1]:
            rating = float(x @ y)
            if random.double() >= (0.8 if rating > 0 else 0.2):
                continue
            drawn = random.double()
            if drawn < 0.6:
                training.append((user, item, rating + noise * random.gaussian()))
            elif drawn < 0.9:
                test.append((user, item, rating))
    return training, test
