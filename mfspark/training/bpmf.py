"""Gibbs sampling on the frame of blocks: one draw of a side called twice with the sides swapped, as the half step is.

A sweep draws the items' prior and the items given the users, then the users' prior and the users given the items
(Salakhutdinov and Mnih 2008, section 3.3). The priors are drawn on the driver from a generator, the rows on the workers
from hashes of their ids: the same seed gives the same chain on any number of blocks, up to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from mfspark.blocks.build import Layout
from mfspark.blocks.index import hash_ids
from mfspark.blocks.map_blocks import joined, visit_blocks
from mfspark.errors import TrainingError
from mfspark.kernels.als.gibbs import Prior, moments, sample_prior, sample_rows
from mfspark.kernels.csr import Block, Side
from mfspark.kernels.objective import Settings
from mfspark.kernels.topk import pair_scores
from mfspark.training.als import Factors
from mfspark.training.history import rmse
from mfspark.training.loop import Measures

_RESULTS = {
    "drawn": "binary", "squares": "double", "held": "binary", "ratings": "binary", "unsolved": "long",
    "repaired": "long",
}  # fmt: skip
PRIOR_STRENGTH = 2.0  # beta_0 of the paper


@dataclass(frozen=True)
class Chain:
    """alpha, the precision of a rating; the first sweeps that are forgotten; how many samples are kept; the seed."""

    precision: float
    burn_in: int
    samples: int
    seed: int

    def generator(self) -> np.random.Generator:
        """Return the generator of the priors, at its start."""
        return np.random.default_rng(self.seed)

    def kept(self, sweeps: int) -> set[int]:
        """Return the numbers (from 0) of the sweeps whose samples are kept: evenly spread, the last one among them."""
        places = np.linspace(sweeps, self.burn_in, self.samples, endpoint=False) - 1
        return set(np.ceil(places).astype(int).tolist())


@dataclass
class Samples:
    """The kept samples of both sides, and the running mean of the held-out predictions."""

    sides: tuple[list[NDArray[Any]], list[NDArray[Any]]] = field(default_factory=lambda: ([], []))
    held: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def joined(self, side: Side) -> NDArray[Any]:
        """Return a side's samples side by side (n x samples k), users divided by the number of samples.

        The product of a user's and an item's row is then the mean over the samples of their products.
        """
        array = np.concatenate(self.sides[side], axis=1)
        return array / np.float32(len(self.sides[side])) if side == Side.USER else array


@dataclass
class State:
    """Where a chain is: its last sample, its ids' hashes, the generator of the priors, and the samples kept."""

    factors: Factors
    keys: tuple[NDArray[np.uint64], ...]
    generator: np.random.Generator
    samples: Samples = field(default_factory=Samples)

    def parts(self) -> dict[str, Any]:
        """Return what a checkpoint stores: samples side by side, and where the generator of the priors is."""
        kept = [np.concatenate(side, axis=1) for side in self.samples.sides if side]
        samples = dict(zip(("user_samples", "item_samples"), kept, strict=False))
        drawn = {"generator": self.generator.bit_generator.state, "samples": len(self.samples.sides[0])}
        return {**self.factors.parts(), **samples, **drawn, "held": self.samples.held}

    def restore(self, parts: Mapping[str, Any]) -> None:
        """Become what a checkpoint stored."""
        self.factors.restore(parts)
        self.generator.bit_generator.state = parts["generator"]
        count, names = parts["samples"], ("user_samples", "item_samples")
        users, items = (np.split(parts[name], count, axis=1) if count else [] for name in names)
        self.samples = Samples((users, items), parts["held"])


def start(factors: Factors, chain: Chain) -> State:
    """Return the state at the start, which replaces the given factors."""
    return State(factors, tuple(map(hash_ids, factors.ids)), chain.generator())


def draw_prior(sums: NDArray[np.float64], generator: np.random.Generator) -> Prior:
    """Draw a side's prior given its ``moments``; nu_0 of the paper is the rank."""
    return sample_prior(sums, generator, PRIOR_STRENGTH, len(sums) - 1)


def not_positive(side: Side, name: str, cause: str = "") -> TrainingError:  # noqa: ARG001
    """Return the error for a row that cannot be drawn."""
    return TrainingError(
        f"the precision of {side.stem} {name} is not positive definite: look for extreme ratings or weights of that id"
    )


def running_mean(mean: NDArray[np.float64], sample: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return the mean of ``count`` samples, of which the last is new and ``mean`` that of the others."""
    return sample if count == 1 else mean + (sample - mean) / count


class Drawn(NamedTuple):
    """What came with drawing a side: the squared errors' sum, held-out ratings and predictions, rows drawn in fp64."""

    squares: float
    predicted: NDArray[np.float64]
    ratings: NDArray[np.float64]
    repaired: int


@dataclass(frozen=True)
class Sampling:
    """Sweeps of a chain; the object itself is the sweep, which replaces ``state.factors`` by the next sample.

    A line of the history is one sweep: fit and loss are the squared error of the sweep's sample on the training ratings
    (a sampler minimises nothing); the validation RMSE is that of the sample until one is kept, then of the mean
    prediction of the samples kept so far, which is what the model predicts.

    Parameters
    ----------
    blocks, layout
        The frame of blocks and how both sides are cut.
    settings : Settings
        The model, seen from the user side.
    chain : Chain
        How long, and what is kept.
    number : int
        How many sweeps there are.
    limits : (float, float)
        The range to which predictions of held-out ratings are clipped.
    carrier : str
        How factors reach the workers.
    """

    blocks: DataFrame
    layout: Layout
    settings: Settings
    chain: Chain
    number: int
    limits: tuple[float, float] = (-np.inf, np.inf)
    carrier: str = "auto"

    def __call__(self, state: State, sweep: int) -> Measures:
        """Draw the items given the users, then the users given the items; keep the sample where it is its turn."""
        samples = state.samples
        before = self._draw(state, Side.ITEM, sweep)
        squares, predicted, ratings, repaired = self._draw(state, Side.USER, sweep)
        if sweep in self.chain.kept(self.number):
            for keep, array in zip(samples.sides, state.factors.sides, strict=True):
                keep.append(array[:, : self.settings.rank].copy())
            count = len(samples.sides[0])
            samples.held = running_mean(samples.held, predicted, count)
        mean = samples.held if samples.sides[0] else predicted
        errors = ratings - np.clip(mean, *self.limits)
        return Measures(squares, 0.0, rmse(float(np.sum(errors**2)), errors.size), before.repaired + repaired)

    def _draw(self, state: State, dst: Side, sweep: int) -> Drawn:
        """Draw one side's prior and then its rows, and replace it."""
        settings, chain, factors = self.settings, self.chain, state.factors
        intercept, array = factors.intercept, factors.sides[dst]
        prior = draw_prior(moments(array, settings.rank), state.generator)
        data = (factors.sides[dst.other], *prior.padded(settings.padded, settings.dtype), state.keys[dst])

        def draw(block: Block, _number: int, rows: slice, data: Any) -> tuple[bytes, float, bytes, bytes, int, int]:
            *given, keys = data
            found = draw_block(block, given, settings, chain, (sweep, int(dst), keys[rows]), intercept)
            held = (found.predicted.tobytes(), block.held_values.astype(np.float32).tobytes())
            return found.X.tobytes(), found.squares, *held, found.unsolved, found.repaired

        results = visit_blocks(self.blocks, self.layout, dst, data, draw, _RESULTS, self.carrier)
        for row in results:
            if row["unsolved"] >= 0:
                place = self.layout.bounds[dst][row["block"]] + row["unsolved"]
                raise not_positive(dst, repr(factors.ids[dst][place].as_py()))
        factors.sides[dst] = joined(results, "drawn", array)
        held, ratings = (
            np.concatenate([np.frombuffer(row[name], np.float32) for row in results]).astype(np.float64)
            for name in ("held", "ratings")
        )
        squares, repaired = (sum(row[name] for row in results) for name in ("squares", "repaired"))
        return Drawn(squares, held, ratings, repaired)


class DrawnBlock(NamedTuple):
    """A block's rows, their squared error, predictions of held-out ratings, the row that failed or -1, repaired."""

    X: NDArray[Any]
    squares: float
    predicted: NDArray[np.float32]
    unsolved: int
    repaired: int


def draw_block(
    block: Block,
    given: Sequence[NDArray[Any]],
    settings: Settings,
    chain: Chain,
    stream: tuple[int, int, NDArray[np.uint64]],
    intercept: float,
) -> DrawnBlock:
    """Draw a block's rows.

    Parameters
    ----------
    block : Block
        Their ratings.
    given : sequence of arrays
        The fixed side (n x padded), and the prior's Lambda and Lambda mu, padded.
    settings : Settings
        The model.
    chain : Chain
        The precision of a rating, and the seed.
    stream : (int, int, uint64 array)
        What the normals depend on: the sweep, the side, and the hashes of the rows' ids.
    intercept : float
        Subtracted from every rating.
    """
    F, base, shift = given
    number = np.dtype(settings.dtype)
    values = block.ratings.astype(number)
    weights = block.weights.astype(number) if block.weights.size else np.ones(len(values), number)
    a = number.type(chain.precision) * weights
    y = values - number.type(intercept)
    X = np.zeros((block.rows, settings.padded), number)
    seed = np.uint64(chain.seed % 2**64)
    drawn = sample_rows(block.indptr, block.indices, a, a * y, F, base, shift, settings.rank, seed, *stream, X)

    def predict(indptr: NDArray[np.int64], indices: NDArray[np.int32]) -> NDArray[Any]:
        out = np.empty(len(indices), number)
        pair_scores(X, F, np.repeat(np.arange(block.rows), np.diff(indptr)), indices, out)
        return out

    errors = y - predict(block.indptr, block.indices)
    held = predict(block.held_indptr, block.held_indices) + number.type(intercept)
    squares = float(np.sum(weights * errors**2, dtype=np.float64))
    return DrawnBlock(X, squares, held.astype(np.float32), *drawn)
