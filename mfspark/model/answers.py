"""Where a model's factors are, decided once: what answers for arrays in the driver, and what for frames of blocks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession

from mfspark.blocks.columns import Columns
from mfspark.kernels.csr import Side
from mfspark.model.cold_start import ColdStart
from mfspark.model.factor_table import FactorTable, index_frame
from mfspark.model.factorization import Factorization, SeenBlocks
from mfspark.model.fold_in import fold_in
from mfspark.model.frames.blocks import FactorBlocks, FrameFactorization, on_workers
from mfspark.model.frames.choose import candidates as frame_candidates
from mfspark.model.frames.fold_in import fold_in_frames
from mfspark.model.frames.predict import Deviation, Prediction, add_values
from mfspark.model.frames.recommend import FrameRecommender
from mfspark.model.ids import IdColumns
from mfspark.model.predict import add_predictions, pair_data, with_cold_start
from mfspark.model.predictive_std import add_deviations
from mfspark.model.recommend import Recommender
from mfspark.model.recommend_new import recommend_new
from mfspark.model.rules import Choice, candidates, restricted

Fitted = Factorization | FrameFactorization


class Recommends(Protocol):
    """Who gives the best of a side for the ids of a side."""

    def for_all(self, side: Side, n: int, seen: DataFrame | None, kept: SeenBlocks | None = None) -> DataFrame:
        """Return the best n of the other side for every id of a side, without the ``seen`` or the ``kept`` pairs."""

    def for_subset(self, side: Side, dataset: DataFrame, n: int, seen: DataFrame | None) -> DataFrame:
        """Return the same for the ids of a data set."""

    def similar(self, side: Side, ids: Any, n: int, candidates: Any = None) -> DataFrame:
        """Return the n nearest of the same side, or of those of it that ``candidates`` of the answers are."""


class OnArrays:
    """Answers of a model whose factors are in the driver: they are sent to wherever the rows are."""

    def __init__(self, fitted: Factorization) -> None:
        self.fitted = fitted
        self._data: Any = None

    def arrays(self) -> Factorization:
        """Return the numbers as arrays."""
        return self.fitted

    def predict(self, dataset: DataFrame, ids: IdColumns, name: str, cold: ColdStart | None = None) -> DataFrame:
        """Return a data set with a column of predictions; where an id is null or unknown NaN, or as ``cold`` has it."""
        users, items = (ids.column(dataset, side) for side in Side)
        if self._data is None:
            self._data = pair_data(self.fitted)
        data = self._data if cold is None else with_cold_start(self._data, self.fitted)
        return add_predictions(dataset, users, items, name, data)

    def deviate(self, dataset: DataFrame, ids: IdColumns, name: str, samples: int, noise: float) -> DataFrame:
        """Return a data set with a column of predictive standard deviations."""
        pair = (ids.column(dataset, Side.USER), ids.column(dataset, Side.ITEM))
        return add_deviations(dataset, pair, name, self.fitted, samples, noise)

    def recommender(self, ids: IdColumns, size: int) -> Recommends:
        """Return what recommends; ``size`` is the edge of a tile of scores."""
        return Recommender(self.fitted, ids, size)

    def candidates(self, ids: IdColumns, side: Side, choice: Choice) -> NDArray[np.int64] | None:
        """Return the places of a side's ids that a choice leaves; None: all."""
        return candidates(choice, ids, side, self.fitted.ids[side])

    def restricted(self, ids: IdColumns, side: Side, choice: Choice) -> Factorization:
        """Return the numbers with those ids only of one side that a choice leaves."""
        return restricted(self.fitted, side, self.candidates(ids, side, choice))

    def fold_in(self, ids: IdColumns, side: Side, ratings: DataFrame, columns: Columns) -> DataFrame:
        """Return factors of one side's ids from ratings."""
        return fold_in(self.fitted, ids, side, ratings, columns)

    def recommend_new(self, ids: IdColumns, folded: DataFrame, ratings: DataFrame, n: int, size: int) -> DataFrame:
        """Return the n best items of folded-in users without those they rated."""
        return recommend_new(self.fitted, ids, folded, ratings, n, size)

    def table(self, side: Side, kind: str) -> DataFrame:
        """Return one side as id, features, bias."""
        return FactorTable.of(self.fitted, side).frame(SparkSession.active(), kind)

    def index(self, side: Side, kind: str) -> DataFrame:
        """Return one side's ids and their numbers: id, index."""
        return index_frame(SparkSession.active(), self.fitted.ids[side], kind)

    def norms(self, side: Side) -> NDArray[np.float64]:
        """Return the norms of the columns of one side's factors (rank,)."""
        return np.linalg.norm(self.fitted.features(side).astype(np.float64), axis=0)

    def release(self) -> None:
        """Let go of nothing: the factors are here."""


class OnFrames:
    """Answers of a model whose factors are on the workers: its blocks are joined with what asks, none is collected."""

    def __init__(self, fitted: FrameFactorization) -> None:
        self.fitted = fitted

    def arrays(self) -> NoReturn:
        """Refuse what needs arrays: explanations."""
        raise on_workers("factors")

    def predict(self, dataset: DataFrame, ids: IdColumns, name: str, cold: ColdStart | None = None) -> DataFrame:
        """Return a data set, in any order, with predictions; where an id is unknown NaN, or as ``cold`` has it."""
        fitted = self.fitted
        pair = (ids.column(dataset, Side.USER), ids.column(dataset, Side.ITEM))
        return add_values(
            fitted, dataset, pair, name, Prediction(fitted.settings, fitted.intercept, fitted.limits, cold)
        )

    def deviate(self, dataset: DataFrame, ids: IdColumns, name: str, samples: int, noise: float) -> DataFrame:
        """Return a data set, in any order, with a column of predictive standard deviations."""
        pair = (ids.column(dataset, Side.USER), ids.column(dataset, Side.ITEM))
        return add_values(self.fitted, dataset, pair, name, Deviation(samples, noise, self.fitted.rank))

    def recommender(self, ids: IdColumns, size: int) -> Recommends:
        """Return what recommends; ``size`` is the edge of a tile of scores."""
        return FrameRecommender(self.fitted, ids, size)

    def candidates(self, ids: IdColumns, side: Side, choice: Choice) -> FactorBlocks:
        """Return the ids of a side that a choice leaves."""
        return frame_candidates(self.fitted.blocks[side], ids, choice)

    def restricted(self, ids: IdColumns, side: Side, choice: Choice) -> FrameFactorization:
        """Return the numbers with those ids only of one side that a choice leaves."""
        blocks = list(self.fitted.blocks)
        blocks[side] = self.candidates(ids, side, choice)
        return replace(self.fitted, blocks=(blocks[0], blocks[1]))

    def fold_in(self, ids: IdColumns, side: Side, ratings: DataFrame, columns: Columns) -> DataFrame:
        """Return factors of one side's ids from ratings, computed when they are used."""
        return fold_in_frames(self.fitted, ids, side, ratings, columns)

    def recommend_new(self, ids: IdColumns, folded: DataFrame, ratings: DataFrame, n: int, size: int) -> DataFrame:
        """Return the n best items of folded-in users without those they rated."""
        items = self.fitted.blocks[Side.ITEM]
        users = FactorBlocks.pack(folded, items.blocks, folded.count(), self.fitted.settings, Side.USER)
        asked = replace(self.fitted, blocks=(users, items), release=None)
        return FrameRecommender(asked, ids, size).for_all(Side.USER, n, ids.pairs(ratings))

    def table(self, side: Side, kind: str) -> DataFrame:
        """Return one side as id, features, bias."""
        return self.fitted.blocks[side].table(kind)

    def index(self, side: Side, kind: str) -> DataFrame:
        """Return one side's ids and their numbers: id, index."""
        return self.fitted.blocks[side].index(kind)

    def norms(self, side: Side) -> NDArray[np.float64]:
        """Return the norms of the columns of one side's factors (rank,)."""
        return self.fitted.blocks[side].norms()

    def release(self) -> None:
        """Let go of the kept blocks, which are made again when needed where they come from tables."""
        if self.fitted.release is not None:
            self.fitted.release()


Answers = OnArrays | OnFrames


def answers_of(fitted: Fitted) -> Answers:
    """Return what answers for a fitted model."""
    return OnFrames(fitted) if isinstance(fitted, FrameFactorization) else OnArrays(fitted)
