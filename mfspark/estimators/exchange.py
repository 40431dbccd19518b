"""A fit whose ids and factors stay on the workers: blocks by hash, routed to each other, and sweeps by exchange."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from mfspark.blocks.exchange import HashLayout, hash_layout, ids_from, side_blocks
from mfspark.blocks.profile import Profile, Totals, distinct
from mfspark.blocks.routes import Sides, route
from mfspark.errors import ParameterError
from mfspark.estimators.base import BlockEstimator, Encoded
from mfspark.kernels.csr import Side
from mfspark.kernels.objective import Settings
from mfspark.kernels.rows import padded
from mfspark.model.answers import Fitted
from mfspark.model.factor_table import sides_bytes
from mfspark.model.factorization import Factorization
from mfspark.model.frames.blocks import FactorBlocks, FrameFactorization
from mfspark.session import default_parallelism, driver_limit
from mfspark.training import als_exchange
from mfspark.training.als_exchange import Exchange, State, Stored
from mfspark.training.checkpoint import Checkpoints, Resumable
from mfspark.training.exchange_pieces import factor_rows
from mfspark.training.history import Iteration
from mfspark.training.loop import Stopping, Sweep, run
from mfspark.training.progress import LOGGER
from mfspark.training.starts import POWER_STEPS, Start, of_length, power_length, power_settings
from mfspark.transport.persist import Workspace, lost

Outcome = TypeVar("Outcome")
ATTEMPTS = 3  # fits begun, where executors are lost with both copies of a side


class ExchangeEstimator(BlockEstimator):
    """An estimator whose sweeps also run by exchange, and do so by themselves where the sides pass the driver."""

    _carriers = (*BlockEstimator._carriers, "exchange")

    def _check(self) -> None:
        """Raise ParameterError for a value or a combination that cannot take effect."""
        super()._check()
        if self.getOrDefault("carrier") == "exchange":
            for name, value in (("loop", "barrier"), ("loop", "gang"), ("materializer", "none")):
                if self.hasParam(name) and self.getOrDefault(name) == value:
                    raise ParameterError(f"carrier 'exchange' cannot be combined with {name} {value!r}: leave it out")

    def _exchanges(self, encoded: DataFrame, found: Totals) -> bool:
        """Return whether ids and factors are to stay on the workers: asked for, or too large for the driver."""
        carrier, settings = self.getOrDefault("carrier"), self._settings(found)
        if carrier != "auto" or self.getOrDefault("materializer") == "none":
            return carrier == "exchange"
        if self.hasParam("loop") and self.getOrDefault("loop") not in ("auto", "jobs"):
            return False
        limit, row = driver_limit(encoded.sparkSession), settings.padded * settings.itemsize * self._held_rows()
        if found.id_bytes + sum(found.listed) * row <= limit:
            return False
        count = sum(map(len, found.sides)) if isinstance(found, Profile) else sum(distinct(encoded))
        return found.id_bytes + count * row > limit

    def _fit_by_exchange(self, ratings: Encoded, workspace: Workspace) -> tuple[Fitted, list[Iteration]]:
        """Train, the sides staying on the workers, where a model that passes the driver's limit keeps them."""
        found, layout = ratings.found, self._hash_layout(ratings)
        cut = {"carrier": "exchange", "blocks": "{} x {} by hash".format(*layout.blocks)}
        checkpoints = self._checkpoints(ratings.frame, found, cut)
        exchange = self._exchange(ratings, layout, workspace)

        def keep(lines: Sequence[Iteration], state: State) -> None:
            checkpoints(lines, self._stored(exchange, state))

        def attempt() -> tuple[Fitted, list[Iteration]]:
            state = self._begin(exchange, found, checkpoints.found)
            try:
                earlier = checkpoints.resume(self._stored(exchange, state))
                history = run(self._sweep(exchange), state, self._stopping(), self._hooks(), earlier, keep)
                return self._collected(exchange, *self._packed(exchange, state), ratings), history
            finally:
                state.close()

        return self._attempted(attempt, checkpoints)

    def _attempted(self, attempt: Callable[[], Outcome], checkpoints: Checkpoints) -> Outcome:
        """Return what a fit comes to, which begins again where executors are lost with what only they held."""
        for number in range(ATTEMPTS):
            try:
                outcome = attempt()
                self._finish(checkpoints)
                return outcome
            except Exception as error:
                if number + 1 == ATTEMPTS or not lost(error):
                    raise
                LOGGER.warning("executors are gone with the factors they held: the fit starts again")
                checkpoints.look()
        raise AssertionError("unreachable")

    def _hash_layout(self, ratings: Encoded) -> HashLayout:
        """Return how ids are spread."""
        wanted = (self._optional("numUserBlocks"), self._optional("numItemBlocks"))
        return hash_layout(ratings.found, default_parallelism(ratings.frame.sparkSession), wanted, ratings.weighted)

    def _exchange(self, ratings: Encoded, layout: HashLayout, workspace: Workspace) -> Exchange:
        """Return the fit's blocks, routed and kept."""
        value, found = self.getOrDefault, ratings.found
        settings = self._settings(found)
        raw = [workspace.keep(side_blocks(ratings.frame, layout, side)) for side in Side]
        counts = layout.blocks
        sides = [
            workspace.compute(route(raw[side], raw[side.other], counts[side], counts[side.other])) for side in Side
        ]
        for frame in (*raw, ratings.frame):
            workspace.drop(frame)
        sizes, pairs = zip(*(_size(frame) for frame in sides), strict=True)
        LOGGER.info(
            "carrier exchange: %d users in %d blocks, %d items in %d blocks%s",
            sizes[0], counts[0], sizes[1], counts[1], self._moved(sum(pairs), settings),
        )  # fmt: skip
        intercept = found.mean if value("center") else 0.0
        keep = workspace.materialiser.cut
        return Exchange(Sides(*sides), layout, (sizes[0], sizes[1]), settings, intercept, self._limits(found), keep)

    def _moved(self, pairs: int, settings: Settings) -> str:
        """Return what a sweep shuffles, given the number of (solved block, fixed row) pairs."""
        return f", {pairs * settings.width * settings.itemsize / 1e6:.4g} MB shuffled a sweep"

    def _held_rows(self) -> int:
        """Return how many rows of factors the driver would hold for each id."""
        return 1

    def _sweep(self, exchange: Exchange) -> Sweep:
        """Return what an iteration of the loop does to a state."""
        return exchange

    def _stored(self, exchange: Exchange, state: Any) -> Resumable:
        """Return a state as checkpoints take it."""
        return Stored(exchange, state)

    def _packed(self, exchange: Exchange, state: Any) -> tuple[Settings, list[DataFrame]]:
        """Return the settings of the model that a state has come to, and its sides: see ``als_exchange.packed``."""
        return exchange.settings, [als_exchange.packed(exchange, side, state.side(side)) for side in Side]

    def _collected(
        self, exchange: Exchange, settings: Settings, packed: Sequence[DataFrame], ratings: Encoded
    ) -> Fitted:
        """Return both sides: as arrays in the driver, or where they would pass its limit as blocks on the workers."""
        sizes, counts = exchange.sizes, exchange.layout.blocks
        if sides_bytes(sizes, settings, ratings.texts) <= driver_limit(ratings.frame.sparkSession):
            (user_ids, user_rows), (item_ids, item_rows) = (_gathered(frame, settings) for frame in packed)
            ids, rows = (user_ids, item_ids), (user_rows, item_rows)
            return Factorization(settings, ids, rows, exchange.intercept, exchange.limits)
        users, items = (
            FactorBlocks(exchange.keep(packed[side]).frame, counts[side], sizes[side], settings, side) for side in Side
        )
        return FrameFactorization(settings, (users, items), exchange.intercept, exchange.limits)

    def _begin(self, exchange: Exchange, found: Totals, replaced: bool) -> State:
        """Return the start, on the workers; where it will be replaced, without power steps."""
        start, power = self._start(found, exchange.settings)
        begin = als_exchange.begin if replaced or not power else partial(self._power_steps, found)
        return begin(exchange, start)

    def _power_steps(self, found: Totals, exchange: Exchange, start: Start) -> State:
        """Return the start that two steps of the power iteration have turned towards the data."""
        settings = exchange.settings
        steps = replace(exchange, settings=power_settings(settings, start.std, found, exchange.intercept))
        state = als_exchange.begin(steps, start)
        run(steps, state, Stopping(POWER_STEPS))
        rank, length = settings.rank, power_length(settings, found.rows, exchange.sizes[Side.ITEM], start.std)
        for side in Side:
            rows = factor_rows(state.side(side))
            state.replace(side, als_exchange.renew(exchange, side, rows, lambda X: of_length(X, rank, length)))
        return state

    def _start_mode(self, found: Totals) -> str:
        """Return the start that is drawn."""
        raise NotImplementedError

    def _start(self, found: Totals, settings: Settings) -> tuple[Start, bool]:
        """Return where the fit starts, and whether power steps are to follow."""
        raise NotImplementedError


def _size(blocks: DataFrame) -> tuple[int, int]:
    """Return the number of ids of a side's blocks, and how many rows they send to the other side's."""
    ids, sent = (F.sum(F.length(name).cast("bigint")) for name in ("indptr", "routes"))
    row = blocks.select(ids, sent, F.count("*")).first()
    return row[0] // 8 - row[2], row[1] // 4  # type: ignore[index]


def _gathered(packed: DataFrame, settings: Settings) -> tuple[pa.Array, NDArray[Any]]:
    """Return a packed side's ids, sorted, and its factors (n x padded) in their order."""
    table = packed.select("ids", "data").toArrow()
    known = pa.concat_arrays([ids_from(cell.as_buffer()) for cell in table.column("ids")])
    rows = [np.frombuffer(cell.as_buffer(), settings.dtype) for cell in table.column("data")]
    order = pc.array_sort_indices(known)
    return known.take(order), padded(np.concatenate(rows).reshape(len(known), -1)[order.to_numpy()], settings)
