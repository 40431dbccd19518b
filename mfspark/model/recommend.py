"""Recommendations and neighbours, by blocks of one side. They take a model's numbers and id columns, not the model."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from mfspark.blocks import build as block_frames
from mfspark.blocks.columns import Columns, select
from mfspark.blocks.encode import encode
from mfspark.blocks.profile import Profile, SideProfile
from mfspark.kernels.csr import Side, balanced_bounds
from mfspark.kernels.rows import unit_rows
from mfspark.kernels.topk import best_columns
from mfspark.model.factorization import Factorization, SeenBlocks, respond
from mfspark.model.ids import IdColumns, arrow_type, find
from mfspark.model.sorted_ids import how_many
from mfspark.session import default_parallelism
from mfspark.transport.carriers import carry

log = logging.getLogger(__name__)


class Lists(NamedTuple):
    """How a result is called: a row's id, and the list of its candidates; pairs are (rows, candidates).

    Parameters
    ----------
    names, kinds : pairs
        The names and types of the id columns.
    limits : (float, float)
        The range to which the scores given out are clipped.
    loss : str
        Whose response the scores given out go through; it grows with the score, so that the order stays.
    score_name : str
        The name of the score's field.
    """

    names: tuple[str, str]
    kinds: tuple[T.DataType, T.DataType]
    limits: tuple[float, float] = (-np.inf, np.inf)
    loss: str = "squared"
    score_name: str = "rating"

    @property
    def schema(self) -> T.StructType:
        """The result's schema: the row's id, recommendations array<struct<candidate's id, score>>."""
        fields = [T.StructField(self.names[1], self.kinds[1]), T.StructField(self.score_name, T.FloatType())]
        lists = T.StructField("recommendations", T.ArrayType(T.StructType(fields)))
        return T.StructType([T.StructField(self.names[0], self.kinds[0]), lists])

    @property
    def no_ids(self) -> pa.Array:
        """No ids of candidates, in their type."""
        return pa.array([], arrow_type(self.kinds[1]))

    def batches(
        self, row_ids: pa.Array, column_ids: pa.Array, places: NDArray[np.int32], scores: NDArray[Any]
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows of the result from the places (rows x n, -1: none) of their candidates and the raw scores."""
        filled = places >= 0
        offsets = np.zeros(len(places) + 1, np.int32)
        np.cumsum(filled.sum(axis=1), out=offsets[1:])
        values = pa.array(respond(scores[filled], self.limits, self.loss).astype(np.float32))
        pairs = pa.StructArray.from_arrays(
            [column_ids.take(pa.array(places[filled])), values], names=[self.names[1], self.score_name]
        )
        lists = pa.ListArray.from_arrays(pa.array(offsets), pairs)
        for start in range(0, len(places), 10_000):
            part = slice(start, min(start + 10_000, len(places)))
            yield pa.RecordBatch.from_arrays(
                [row_ids[part.start : part.stop], lists[part.start : part.stop]], names=self.schema.names
            )


class Ranking(NamedTuple):
    """What is ranked: the rows of one array against those of another, the candidates; pairs are (rows, candidates).

    Parameters
    ----------
    arrays : (array, array)
        n x d and m x d; a score is the product of two rows.
    ids : (pa.Array, pa.Array)
        The ids of their rows.
    lists : Lists
        How the result is called.
    """

    arrays: tuple[NDArray[Any], NDArray[Any]]
    ids: tuple[pa.Array, pa.Array]
    lists: Lists


def best_of(blocks: DataFrame, bounds: NDArray[np.int64], ranking: Ranking, n: int, size: int) -> DataFrame:
    """Return the n best candidates of every row, as ids.

    Parameters
    ----------
    blocks : DataFrame
        Column ``block``, and where something must be left out also ``indptr`` and ``indices`` (binary).
    bounds : int64 array
        The rows of each block.
    ranking : Ranking
        What is ranked.
    n, size : int
        How many, and the edge of a tile of scores.
    """
    lists = ranking.lists

    def best(batches: Iterator[pa.RecordBatch], data: Any) -> Iterator[pa.RecordBatch]:
        (left, right), (row_ids, column_ids) = data
        for batch in batches:
            for row in range(batch.num_rows):
                number = batch.column("block")[row].as_py()
                part = slice(bounds[number], bounds[number + 1])
                seen: tuple[Any, Any] = (None, None)
                if "indptr" in batch.schema.names:
                    parts = [batch.column(name)[row].as_buffer() for name in ("indptr", "indices")]
                    seen = (np.frombuffer(parts[0], np.int64), np.frombuffer(parts[1], np.int32))
                places, scores = best_columns(left[part], right, min(n, len(right)), size, *seen)
                yield from lists.batches(row_ids[part.start : part.stop], column_ids, places, scores)

    return carry(blocks, (ranking.arrays, ranking.ids), best, lists.schema, packed=True).frame


class Recommender(NamedTuple):
    """What recommending needs of a model: its numbers, its id columns, and the edge of a tile of scores."""

    fitted: Factorization
    ids: IdColumns
    size: int

    def for_all(self, side: Side, n: int, seen: DataFrame | None, kept: SeenBlocks | None = None) -> DataFrame:
        """Return the best n of the other side for every id of a side, without the ``seen`` or the ``kept`` pairs."""
        if kept is None:
            return self._best(side, n, seen, None)
        n = how_many(n, "the number of recommendations")
        frame = _seen_columns(kept.frame.where(F.col("block") < len(kept.bounds[side]) - 1), side)
        return best_of(frame, kept.bounds[side], self._ranking(side, None), n, self.size)

    def for_subset(self, side: Side, dataset: DataFrame, n: int, seen: DataFrame | None) -> DataFrame:
        """Return the best n of the other side for the distinct known ids of a data set."""
        how_many(n, "the number of recommendations")
        places = pc.index_in(self.ids.distinct(dataset, side), value_set=self.fitted.ids[side])
        if places.null_count:
            log.warning(
                "%d of %d ids in column %r are unknown to the model and get no recommendations",
                places.null_count, len(places), self.ids.names[side],
            )  # fmt: skip
        return self._best(side, n, seen, np.sort(places.drop_null().to_numpy()))

    def similar(
        self, side: Side, ids: Iterable[Any] | None, n: int, candidates: NDArray[np.int64] | None = None
    ) -> DataFrame:
        """Return the n ids of the same side, or of some places of it, with the largest cosine, for some or all ids."""
        n = how_many(n, "the number of neighbours")
        known = self.fitted.ids[side]
        chosen = np.arange(len(known)) if ids is None else find(self.ids.asked(side, ids), known)
        array = unit_rows(self.fitted.features(side))
        name, kind = self.ids.names[side], self.ids.kinds[side]
        others = np.arange(len(known)) if candidates is None else candidates
        pair = (known.take(pa.array(chosen)), known.take(pa.array(others)))
        lists = Lists((name, name), (kind, kind), score_name="similarity")
        ranking = Ranking((array[chosen], array[others]), pair, lists)
        spark = SparkSession.active()
        bounds = _bounds(len(chosen), spark)
        own = np.where(np.isin(chosen, others), np.searchsorted(others, chosen), -1)
        return best_of(_own_blocks(own, bounds, spark), bounds, ranking, n, self.size)

    def _best(self, side: Side, n: int, seen: DataFrame | None, rows: NDArray[Any] | None) -> DataFrame:
        n = how_many(n, "the number of recommendations")
        spark = SparkSession.active()
        ranking = self._ranking(side, rows)
        bounds = _bounds(len(ranking.ids[0]), spark)
        if seen is None:
            numbers = spark.range(0, len(bounds) - 1, 1, len(bounds) - 1)
            frame = numbers.select(F.col("id").cast("int").alias("block"))
        else:
            frame = self._seen_blocks(side, seen, ranking.ids[0], bounds)
        return best_of(frame, bounds, ranking, n, self.size)

    def _ranking(self, side: Side, rows: NDArray[Any] | None) -> Ranking:
        arrays, known, (names, kinds) = self.fitted.scoring(), self.fitted.ids, self.ids
        own, own_ids = arrays[side], known[side]
        if rows is not None:
            own, own_ids = own[rows], own_ids.take(pa.array(rows))
        other = side.other
        lists = Lists((names[side], names[other]), (kinds[side], kinds[other]), self.fitted.limits, self.fitted.loss)
        return Ranking((own, arrays[other]), (own_ids, known[other]), lists)

    def _seen_blocks(self, side: Side, seen: DataFrame, known: pa.Array, bounds: NDArray[np.int64]) -> DataFrame:
        """Return the seen pairs as blocks of the rows asked for; pairs with other ids are left out."""
        pairs = select(self.ids.pairs(seen), Columns(*self.ids.names, ""))
        sides = [SideProfile(ids, np.zeros(len(ids), np.int64)) for ids in self.fitted.ids]
        sides[side] = SideProfile(known, np.zeros(len(known), np.int64))
        both = [bounds, bounds]
        both[side.other] = np.array([0, len(sides[side.other])])
        layout = block_frames.Layout((both[0], both[1]), np.ones(1, np.float32), False, False, known_only=True)
        profile = Profile(layout.table, 0, 0, 0.0, 0.0, 0.0, 0.0, sides=(sides[0], sides[1]))
        return _seen_columns(block_frames.build(encode(pairs), profile, layout, sides=(side,))[0], side)


def _own_blocks(own: NDArray[Any], bounds: NDArray[np.int64], spark: SparkSession) -> DataFrame:
    """Return blocks of rows that leave out one candidate each, the row itself, where that is one (not -1)."""
    parts = [own[start:stop].astype(np.int32) for start, stop in zip(bounds, bounds[1:], strict=False)]
    own = pa.table(
        {
            "block": pa.array(range(len(parts)), pa.int32()),
            "indptr": [np.concatenate([[0], np.cumsum(part >= 0)]).astype(np.int64).tobytes() for part in parts],
            "indices": [part[part >= 0].tobytes() for part in parts],
        }
    )
    frame = spark.createDataFrame(own, schema="block int, indptr binary, indices binary")
    return block_frames.place(frame, "block", len(parts))


def _seen_columns(frame: DataFrame, side: Side) -> DataFrame:
    columns = (F.col(f"{side.stem}_{part}").alias(part) for part in ("indptr", "indices"))
    return frame.select("block", *columns)


def _bounds(rows: int, spark: SparkSession) -> NDArray[np.int64]:
    return balanced_bounds(np.ones(rows), max(1, min(rows, 2 * default_parallelism(spark))), 0.0)
