"""Gibbs sampling on the frame of blocks: one draw of a side called twice with the sides swapped, as the half step is.

A sweep draws the items' prior and the items given the users, then the users' prior and the users given the items
(Salakhutdinov and Mnih 2008, section 3.3). The priors are drawn on the driver from a generator, the rows on the workers
from counters: the same seed gives the same chain on any number of blocks, up to rounding.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from mfspark.blocks.build import Layout
from mfspark.blocks.map_blocks import joined, visit_blocks
from mfspark.errors import TrainingError
from mfspark.kernels.als.gibbs import Prior, sample_prior, sample_rows
from mfspark.kernels.csr import Block, Side
from mfspark.kernels.objective import Settings
from mfspark.kernels.topk import pair_scores
from mfspark.training.als import Factors
from mfspark.training.history import Iteration
from mfspark.training.loop import Schedule

_RESULTS = {"drawn": "binary", "squares": "double", "held": "binary", "ratings": "binary", "unsolved": "long"}
PRIOR_STRENGTH = 2.0  # beta_0 of the paper


@dataclass(frozen=True)
class Chain:
    """alpha, the precision of a rating; the first sweeps that are forgotten; how many samples are kept; the seed."""

    precision: float
    burn_in: int
    samples: int
    seed: int

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


def sample(
    blocks: DataFrame,
    layout: Layout,
    factors: Factors,
    settings: Settings,
    chain: Chain,
    schedule: Schedule,
    carrier: str = "auto",
) -> tuple[Samples, list[Iteration]]:
    """Run a chain from the given start, replacing ``factors`` by its last state; return the kept samples.

    A line of the history is one sweep: fit and loss are the squared error of the sweep's sample on the training ratings
    (a sampler minimises nothing); the validation RMSE is that of the sample until one is kept, then of the mean
    prediction of the samples kept so far, which is what the model predicts.
    """
    generator, samples, history = np.random.default_rng(chain.seed), Samples(), list[Iteration]()
    kept = chain.kept(schedule.iterations)
    for sweep in range(schedule.iterations):
        began = time.perf_counter()
        for dst in (Side.ITEM, Side.USER):
            prior = sample_prior(factors.sides[dst][:, : settings.rank], generator, PRIOR_STRENGTH, settings.rank)
            drawn = _draw(blocks, layout, factors, dst, prior, settings, chain, sweep, carrier)
        squares, predicted, ratings = drawn
        if sweep in kept:
            for keep, array in zip(samples.sides, factors.sides, strict=True):
                keep.append(array[:, : settings.rank].copy())
            count = len(samples.sides[0])
            samples.held = predicted if count == 1 else samples.held + (predicted - samples.held) / count
        mean = samples.held if samples.sides[0] else predicted
        errors = ratings - np.clip(mean, *schedule.limits)
        rmse = float(np.sqrt(np.mean(errors**2))) if errors.size else None
        line = Iteration(sweep + 1, squares, squares, 0.0, rmse, time.perf_counter() - began)
        history.append(line)
        if schedule.report is not None:
            schedule.report(line, schedule.iterations)
    return samples, history


def _draw(
    blocks: DataFrame,
    layout: Layout,
    factors: Factors,
    dst: Side,
    prior: Prior,
    settings: Settings,
    chain: Chain,
    sweep: int,
    carrier: str,
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Draw one side, replace it in ``factors``; return the squared error, the held-out predictions and ratings."""
    intercept, bounds = factors.intercept, layout.bounds[dst]
    data = (factors.sides[dst.other], *prior.padded(settings.padded, settings.dtype))

    def draw(block: Block, _number: int, rows: slice, data: Any) -> tuple[bytes, float, bytes, bytes, int]:
        return _draw_block(block, data, settings, chain, (sweep, int(dst), rows.start), intercept)

    found = visit_blocks(blocks, layout, dst, data, draw, _RESULTS, carrier)
    for row in found:
        if row["unsolved"] >= 0:
            raise TrainingError(
                f"the precision of {dst.stem} number {bounds[row['block']] + row['unsolved']} is not positive "
                "definite: use precision='float64', or look for extreme ratings or weights of that id"
            )
    factors.sides[dst] = joined(found, "drawn", factors.sides[dst])
    held, ratings = (
        np.concatenate([np.frombuffer(row[name], np.float32) for row in found]).astype(np.float64)
        for name in ("held", "ratings")
    )
    return sum(row["squares"] for row in found), held, ratings


def _draw_block(
    block: Block, data: Any, settings: Settings, chain: Chain, stream: tuple[int, int, int], intercept: float
) -> tuple[bytes, float, bytes, bytes, int]:
    """Draw a block's rows; return them, their squared error, the held-out predictions and ratings, the failed row."""
    F, base, shift = data
    number = np.dtype(settings.dtype)
    values = (block.table[block.values] if block.table.size else block.values).astype(number)
    weights = block.weights.astype(number) if block.weights.size else np.ones(len(values), number)
    a = number.type(chain.precision) * weights
    y = values - number.type(intercept)
    X = np.zeros((block.rows, settings.padded), number)
    seed = np.uint64(chain.seed % 2**64)
    unsolved = sample_rows(block.indptr, block.indices, a, a * y, F, base, shift, settings.rank, seed, *stream, X)

    def predict(indptr: NDArray[np.int64], indices: NDArray[np.int32]) -> NDArray[Any]:
        out = np.empty(len(indices), number)
        pair_scores(X, F, np.repeat(np.arange(block.rows), np.diff(indptr)), indices, out)
        return out

    errors = y - predict(block.indptr, block.indices)
    held = predict(block.held_indptr, block.held_indices) + number.type(intercept)
    ratings = block.held_values.astype(np.float32)
    squares = float(np.sum(weights * errors**2, dtype=np.float64))
    return X.tobytes(), squares, held.astype(np.float32).tobytes(), ratings.tobytes(), unsolved
