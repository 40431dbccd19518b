"""Gibbs sampling whose sides and samples stay on the workers: the chain of ``training.bpmf``, drawn by exchange.

A draw is a half step of ``training.als_exchange`` whose blocks draw their rows instead of solving them. Of a side the
driver sees its moments, from which the next prior is drawn; a block of users keeps the running mean of its held-out
predictions for itself; kept samples are frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from mfspark.blocks.index import hash_ids
from mfspark.blocks.routes import RoutedBlock
from mfspark.kernels.als.half_step import FIT, REPAIRED, STATISTICS, VALID_ROWS, VALID_SQUARES
from mfspark.kernels.csr import Side
from mfspark.session import collect_garbage
from mfspark.training.als import measures
from mfspark.training.als_exchange import Exchange, State, met, packed_of, renew
from mfspark.training.bpmf import Chain, draw_block, draw_prior, not_positive, running_mean
from mfspark.training.exchange_pieces import (
    KEPT,
    Solved,
    emitted,
    factor_rows,
    failed_row,
    gathered,
    kept_rows,
    own_piece,
    own_pieces,
    pieces_of,
    with_known_held,
)
from mfspark.training.loop import Measures
from mfspark.transport.persist import Kept


@dataclass
class ChainState(State):
    """Where a chain is: its last sample, the generator of the priors, and the samples kept, some in every frame."""

    generator: np.random.Generator
    count: int = 0
    samples: tuple[list[Kept], list[Kept]] = field(default_factory=lambda: ([], []))

    def keep(self, exchange: Exchange) -> None:
        """Keep the last sample."""
        for side, kept in zip(Side, self.samples, strict=True):
            rows = factor_rows(self.side(side)).select(F.lit(self.count).alias("sample"), "block", "data")
            kept.append(exchange.keep(rows))
        self.count += 1

    def close(self) -> None:
        """Let go of everything."""
        super().close()
        for kept in (*self.samples[0], *self.samples[1]):
            if kept.let_go is not None:
                kept.let_go()

    def every_sample(self, side: Side) -> DataFrame:
        """Return the samples of a side: sample int (from 0), block int, data binary."""
        return reduce(DataFrame.unionByName, [kept.frame for kept in self.samples[side]])


def start(state: State, chain: Chain) -> ChainState:
    """Return a chain whose first sample is what was drawn, as ``als_exchange.begin`` does."""
    return ChainState(state.user, state.item, chain.generator())


@dataclass(frozen=True)
class Stored:
    """A chain's state as checkpoints take it."""

    exchange: Exchange
    state: ChainState

    def parts(self) -> dict[str, Any]:
        """Return what a checkpoint stores: the users' sample, whose moments follow from it, and the items' moments."""
        state = self.state
        frames = {"users": factor_rows(state.user), "held": kept_rows(state.user)}
        if state.count:
            frames |= {f"{side.stem}_samples": state.every_sample(side) for side in Side}
        return {
            **frames,
            "item_moments": state.item.gram,
            "generator": state.generator.bit_generator.state,
            "samples": state.count,
        }

    def restore(self, parts: Mapping[str, Any]) -> None:
        """Put what a checkpoint stored in the place of the state."""
        state = self.state
        state.replace(Side.USER, renew(self.exchange, Side.USER, parts["users"], lambda X: X, parts["held"]))
        state.item = state.item._replace(gram=parts["item_moments"])
        state.generator.bit_generator.state = parts["generator"]
        state.count = parts["samples"]
        for side, kept in zip(Side, state.samples, strict=True):
            if state.count:
                kept.append(self.exchange.keep(parts[f"{side.stem}_samples"]))


@dataclass(frozen=True)
class Sampling:
    """Sweeps of a chain, as ``training.bpmf.Sampling``; the object itself is the sweep.

    Parameters
    ----------
    exchange : Exchange
        The blocks and the model.
    chain : Chain
        How long, and what is kept.
    number : int
        How many sweeps there are.
    """

    exchange: Exchange
    chain: Chain
    number: int

    def __call__(self, state: ChainState, sweep: int) -> Measures:
        """Draw the items given the users, then the users given the items; keep the sample where it is its turn.

        Raises
        ------
        TrainingError
            A row's precision is not positive definite.
        """
        kept = sweep in self.chain.kept(self.number)
        for side in (Side.ITEM, Side.USER):
            state.replace(side, self._draw(state, side, sweep, state.count + kept, kept))
        if kept:
            state.keep(self.exchange)
        collect_garbage(state.user.frame.sparkSession)  # as the sweep of ALS
        return measures(state.item.statistics, state.user.statistics)

    def _draw(self, state: ChainState, side: Side, sweep: int, count: int, kept: bool) -> Solved:
        """Draw one side's prior and then its rows; with this sweep ``count`` samples are kept."""
        exchange, chain, settings = self.exchange, self.chain, self.exchange.settings
        limits, intercept = exchange.limits, exchange.intercept
        given = draw_prior(state.side(side).gram, state.generator).padded(settings.padded, settings.dtype)

        def draw(block: RoutedBlock, pieces: pa.Table) -> Iterator[pa.RecordBatch]:
            fixed = gathered(pieces, block, settings)
            csr = with_known_held(block, fixed)
            stream = (sweep, int(side), hash_ids(block.ids))
            drawn = draw_block(csr, (fixed, *given), settings, chain, stream, intercept)
            statistics, mean = np.zeros(len(STATISTICS)), None
            statistics[[FIT, REPAIRED]] = drawn.squares, drawn.repaired
            if side is Side.USER and csr.held_values.size:
                before, predicted = own_piece(pieces, KEPT), drawn.predicted.astype(np.float64)
                mean = predicted if before is None else np.frombuffer(before)
                if kept:
                    mean = running_mean(mean, predicted, count)
                errors = csr.held_values.astype(np.float64) - np.clip(mean, *limits)
                statistics[[VALID_SQUARES, VALID_ROWS]] = np.sum(errors**2), errors.size
            own = mean.tobytes() if mean is not None and count else None
            return emitted(block, drawn.X, settings, statistics.tolist(), failed_row(block, csr, drawn.unsolved), own)

        pieces = pieces_of(state.side(side.other))
        if side is Side.USER:
            pieces = pieces.unionByName(own_pieces(kept_rows(state.user), KEPT))
        return met(exchange, side, pieces, draw, not_positive)


def packed(exchange: Exchange, side: Side, state: ChainState) -> DataFrame:
    """Return a side's ids and its samples side by side: block int, ids binary (Arrow IPC), data binary.

    As of ``training.bpmf.Samples.joined`` the product of a user's and an item's row is the mean over the samples.
    """
    settings, count = exchange.settings, state.count

    def array_of(given: pa.Table) -> NDArray[Any]:
        rows: list[NDArray[Any]] = [np.zeros(0)] * count
        for place_, cell in zip(given.column("sample").to_pylist(), given.column("data"), strict=True):
            rows[place_] = np.frombuffer(cell.as_buffer(), settings.dtype).reshape(-1, settings.width)
        array = np.concatenate(rows, axis=1)
        return array / array.dtype.type(count) if side is Side.USER else array

    return packed_of(exchange, side, state.every_sample(side), array_of)
