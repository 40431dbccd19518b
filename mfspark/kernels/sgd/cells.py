"""The blocks of stratified SGD (Gemulla, Nijkamp, Haas, Sismanis 2011, section 4), free of Spark.

Users and items are cut into d blocks each, which cut the ratings into d x d *cells*. A *stratum* is d cells that share
no user and no item; d strata cover all cells. Worked example, d = 2: stratum 0 is the cells (0, 0) and (1, 1), stratum
1 the cells (0, 1) and (1, 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfspark.kernels.csr import Block, Side, counting_order, decode
from mfspark.kernels.losses import POISSON, POISSON_IDENTITY, get_loss
from mfspark.kernels.objective import Objective, ridge, visit_regularisation
from mfspark.kernels.sgd.negatives import sample_negatives
from mfspark.kernels.sgd.order import order_ratings
from mfspark.kernels.sgd.simd import aligned_zeros
from mfspark.kernels.sgd.update import sgd_block
from mfspark.kernels.topk import pair_scores

Array = NDArray[Any]
_ORDER, _TILES, _START, _STRATA = range(4)  # what a stream of random numbers is for
_MASK = 0xFFFFFFFFFFFFFFFF
_CHUNK = 1024  # rows whose start is drawn together


@dataclass(frozen=True)
class Recipe(Objective):
    """An objective and how SGD descends on it; pairs are (user, item).

    With ``implicit`` a pair is 1 where its rating is > 0 (its count under the Poisson losses), and what is drawn is 0.

    Parameters
    ----------
    rank : int
        The number of factors k.
    mean : float
        The constant part of every score.
    step, schedule, decay
        The first step size, a key of ``schedules.STEP_SCHEDULES``, and its decay per epoch.
    epochs, tol
        At most so many; stop when the loss falls by less than this share (0: never).
    std, signed
        The start is N(0, std^2 / rank), or its absolute value.
    seed : int
        Of everything that is drawn.
    limits : (float, float)
        The range to which predictions of held-out ratings are clipped.
    """

    rank: int
    mean: float = 0.0
    step: float = 0.05
    schedule: str = "constant"
    decay: float = 0.1
    epochs: int = 10
    tol: float = 0.0
    std: float = 1.0
    signed: bool = True
    seed: int = 0
    limits: tuple[float, float] = (-np.inf, np.inf)

    @property
    def adagrad(self) -> bool:
        """Whether every row keeps its squared gradients."""
        return self.schedule == "adagrad"


def generator(recipe: Recipe, *keys: int) -> np.random.Generator:
    """Return the random numbers of one purpose: a function of the seed and the keys, so that a task can be redone."""
    return np.random.default_rng([recipe.seed & _MASK, *keys])


def strata(blocks: int, tasks: int, recipe: Recipe, epoch: int) -> NDArray[np.int64]:
    """Return an epoch's strata in random order: row t gives for each user block the item block it meets at time t.

    The d blocks are ``tasks`` groups of consecutive ones. A group of user blocks meets all cells of one group of item
    blocks before it turns to the next: inside a task item blocks need no sending.

    Parameters
    ----------
    blocks, tasks : int
        d, and a divisor of d.
    recipe : Recipe
        Its seed counts.
    epoch : int
        From 0.
    """
    drawn, fused = generator(recipe, _STRATA, epoch), blocks // tasks
    group, inner = np.divmod(np.arange(blocks), fused)
    rows = []
    for shift in drawn.permutation(tasks):
        for turn in drawn.permutation(fused):
            rows.append((group + shift) % tasks * fused + (inner + turn) % fused)
    return np.array(rows)


@dataclass
class Rows:
    """One block of one side: its factors (n x padded rank), and biases (n) and squared gradients (n x 4) or None."""

    factors: NDArray[np.float32]
    bias: NDArray[np.float32] | None = None
    squares: NDArray[np.float32] | None = None

    def arrays(self) -> list[NDArray[np.float32]]:
        """Return the arrays there are."""
        return [array for array in (self.factors, self.bias, self.squares) if array is not None]

    def copy(self) -> Rows:
        """Return a copy on its own cache lines."""
        factors = aligned_zeros(*self.factors.shape)
        factors[:] = self.factors
        return Rows(factors, *(None if array is None else array.copy() for array in (self.bias, self.squares)))


def empty_rows(n: int, side: Side, recipe: Recipe) -> Rows:
    """Return the rows of a block, all zero (squared gradients one)."""
    bias = np.zeros(n, np.float32) if recipe.bias[side] else None
    return Rows(aligned_zeros(n, recipe.rank), bias, np.ones((n, 4), np.float32) if recipe.adagrad else None)


def first_rows(first: int, n: int, side: Side, recipe: Recipe) -> Rows:
    """Return the start of rows ``first`` to ``first + n``: a function of the seed, the side and the row only."""
    rows, k = empty_rows(n, side, recipe), recipe.rank
    for chunk in range(first // _CHUNK, -(-(first + n) // _CHUNK)):
        drawn = generator(recipe, _START, side, chunk).standard_normal((_CHUNK, k), np.float32)
        drawn *= np.float32(recipe.std / np.sqrt(k))
        low, high = max(first, chunk * _CHUNK), min(first + n, (chunk + 1) * _CHUNK)
        part = drawn[low - chunk * _CHUNK : high - chunk * _CHUNK]
        rows.factors[low - first : high - first, :k] = part if recipe.signed else np.abs(part)
    return rows


@dataclass(frozen=True)
class Ratings:
    """Ratings of one block of users as triples; ``values`` are codes where the block has a table."""

    rows: NDArray[np.int32]
    cols: NDArray[np.int32]
    values: Array
    weights: NDArray[np.float32] | None = None

    def take(self, at: Array) -> Ratings:
        """Return some of the triples, in this order."""
        weights = None if self.weights is None else self.weights[at]
        return Ratings(self.rows[at], self.cols[at], self.values[at], weights)


@dataclass(frozen=True)
class Cell:
    """The ratings of one cell in the order of visit, item numbers from the start of the item block."""

    ratings: Ratings
    tile_starts: NDArray[np.int64]


def triples(indptr: Array, indices: Array, values: Array, weights: Array) -> Ratings:
    """Return the ratings of a CSR as triples."""
    rows = np.repeat(np.arange(indptr.size - 1, dtype=np.int32), np.diff(indptr))
    return Ratings(rows, indices, values, weights if weights.size else None)


def cut(ratings: Ratings, bounds: NDArray[np.int64]) -> list[Ratings]:
    """Split by item block, keeping the order; item numbers then count from the start of their block."""
    block_of = np.repeat(np.arange(len(bounds) - 1, dtype=np.int32), np.diff(bounds))
    order, starts = counting_order(block_of[ratings.cols], len(bounds) - 1)
    parts = []
    for block in range(len(bounds) - 1):
        part = ratings.take(order[starts[block] : starts[block + 1]])
        parts.append(Ratings(part.rows, part.cols - np.int32(bounds[block]), part.values, part.weights))
    return parts


def cells(ratings: Ratings, n_rows: int, bounds: NDArray[np.int64], recipe: Recipe, *keys: int) -> list[Cell]:
    """Cut a user block's ratings at the item bounds, each cell ordered for the caches from the seed and the keys."""
    found = []
    for block, part in enumerate(cut(ratings, bounds)):
        seed = int(generator(recipe, _ORDER, block, *keys).integers(2**63))
        width = int(bounds[block + 1] - bounds[block])
        order = order_ratings(part.rows, part.cols, n_rows, width, rank=recipe.rank, seed=seed)
        found.append(Cell(part.take(order.positions), order.tile_starts))
    return found


class UserBlock:
    """One block of users: the ratings beside the factors, which never leave the task.

    Parameters
    ----------
    number, first : int
        The block, and its first user.
    block : Block
        Its ratings.
    bounds : int64 array (d + 1,)
        The item bounds.
    recipe : Recipe
        What is minimised.
    """

    def __init__(self, number: int, first: int, block: Block, bounds: NDArray[np.int64], recipe: Recipe) -> None:
        self.number, self.first, self.bounds, self.recipe = number, first, bounds, recipe
        self.table = block.table if block.table.size and not recipe.implicit else None
        self._csr = block
        self.counts = np.diff(block.indptr).astype(np.float64) * (1 + recipe.negatives)
        ratings = triples(block.indptr, block.indices, block.values, block.weights)
        self.weight = self.counts
        if ratings.weights is not None:
            drawn = np.diff(block.indptr) * float(recipe.negatives)
            self.weight = np.bincount(ratings.rows, ratings.weights, block.rows) + drawn
        self._observed = self._preferences(ratings) if recipe.implicit else None
        self.cells = [] if recipe.implicit else cells(ratings, block.rows, bounds, recipe, number)
        held = triples(block.held_indptr, block.held_indices, block.held_values, np.empty(0, np.float32))
        if recipe.implicit:
            held = self._preferences(held)
        self.held = cut(held, bounds) if held.rows.size else []
        self.regularisation = visit_regularisation(self.weight, self.counts, recipe.reg_param[0], recipe.exponent)
        self.rows = first_rows(first, block.rows, Side.USER, recipe)

    def item_weights(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the number and the weights of this block's ratings, by item, for all items."""
        n, weights = int(self.bounds[-1]), self._csr.weights
        counts = np.bincount(self._csr.indices, minlength=n).astype(np.float64)
        if not weights.size:
            return counts, counts
        return counts, np.bincount(self._csr.indices, weights, n).astype(np.float64)

    def prepare(self, epoch: int) -> None:
        """Draw an epoch's negatives; a user who has seen every item gets none."""
        if self._observed is None:
            return
        seen, recipe = self._observed, self.recipe
        drawn = sample_negatives(
            self._csr.indptr, self._csr.indices, int(self.bounds[-1]), recipe.negatives,
            seed=recipe.seed, epoch=epoch, first_row=self.first, skip_full=True,
        )  # fmt: skip
        rows, cols = np.repeat(seen.rows, recipe.negatives), drawn.ravel()
        rows, cols = rows[cols >= 0], cols[cols >= 0]
        values = np.concatenate([seen.values, np.zeros(len(rows), np.float32)])
        weights = None
        if seen.weights is not None:
            weights = np.concatenate([seen.weights, np.ones(len(rows), np.float32)])
        both = Ratings(np.concatenate([seen.rows, rows]), np.concatenate([seen.cols, cols]), values, weights)
        self.cells = cells(both, self._csr.rows, self.bounds, recipe, self.number, epoch)

    def descend(
        self, items: Rows, block: int, regularisation: float | NDArray[np.float32], step: float, epoch: int
    ) -> float:
        """Pass over one cell, changing both sides in place; return the sum of losses, each before its update."""
        cell, recipe, own = self.cells[block], self.recipe, self.rows
        ratings = cell.ratings
        drawn = generator(recipe, _TILES, epoch, self.number, block)
        return sgd_block(
            ratings.rows, ratings.cols, ratings.values, own.factors, items.factors, step=step, loss=recipe.loss,
            reg_user=self.regularisation, reg_item=regularisation, levels=self.table, weights=ratings.weights,
            user_bias=own.bias, item_bias=items.bias, mean=recipe.mean, reg_user_bias=self.regularisation,
            reg_item_bias=regularisation, user_squares=own.squares, item_squares=items.squares, rank=recipe.rank,
            slow_only=recipe.adagrad and epoch == 0, nonnegative=recipe.nonnegative, tile_starts=cell.tile_starts,
            tile_order=drawn.permutation(len(cell.tile_starts) - 1),
        )  # fmt: skip

    def measure(self, items: Rows, block: int) -> tuple[float, int]:
        """Return the sum of squared errors of the held-out ratings of one cell, and their number."""
        held, recipe, own = self.held[block], self.recipe, self.rows
        scores = np.empty(held.rows.size, np.float32)
        pair_scores(own.factors, items.factors, held.rows, held.cols, scores)
        scores += np.float32(recipe.mean)
        for bias, index in ((own.bias, held.rows), (items.bias, held.cols)):
            if bias is not None:
                scores += bias[index]
        predicted = np.clip(get_loss(recipe.loss).response(scores), *recipe.limits)
        return float(np.sum((predicted - held.values.astype(np.float64)) ** 2)), held.rows.size

    def _preferences(self, ratings: Ratings) -> Ratings:
        values = decode(ratings.values, self._csr.table).astype(np.float32)
        if get_loss(self.recipe.loss).code not in (POISSON, POISSON_IDENTITY):
            values = (values > 0).astype(np.float32)
        return Ratings(ratings.rows, ratings.cols, values, ratings.weights)


def penalty(rows: Rows, weight: Array, reg: float, exponent: float) -> float:
    """Return the sum of ``reg * weight ** exponent * |row|^2 / 2`` over the rows that have ratings, biases included."""
    squares = np.einsum("ij,ij->i", rows.factors, rows.factors, dtype=np.float64)
    if rows.bias is not None:
        squares = squares + rows.bias.astype(np.float64) ** 2
    rated = weight > 0
    return float(ridge(weight[rated], reg, exponent) @ squares[rated]) / 2
