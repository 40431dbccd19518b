"""Recommendations and neighbours, block against block: every block of rows meets the candidates, chunk by chunk.

Candidates are cut into chunks of whole blocks, of about CHUNK_BYTES; the rows' blocks meet each chunk in a task of
their own, and what is best in each chunk is merged. Shuffled are the candidates once for every block of rows, and where
there are several chunks the rows once for every chunk.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from mfspark.blocks.build import place
from mfspark.kernels.csr import Side, counting_order
from mfspark.kernels.objective import Settings
from mfspark.kernels.rows import unit_rows
from mfspark.kernels.topk import best_columns
from mfspark.model.factorization import SeenBlocks, scoring_rows
from mfspark.model.frames.blocks import FactorBlocks, FrameFactorization, Rows, read_rows
from mfspark.model.frames.choose import asked_frame, pick
from mfspark.model.frames.pieces import PIECES, cells, combined, cut, home, opened, places, unpack
from mfspark.model.ids import IdColumns, unknown_ids
from mfspark.model.recommend import Lists
from mfspark.model.sorted_ids import how_many
from mfspark.transport.arrow import flat, nothing
from mfspark.transport.workers import check_workers

CHUNK_BYTES = 128 << 20


class Chosen(NamedTuple):
    """The rows to answer for: their frame of blocks, and the group of each block (-1: none of its rows is wanted)."""

    frame: DataFrame
    groups: NDArray[np.int32]


@dataclass(frozen=True)
class Contest:
    """Who is ranked for whom.

    Parameters
    ----------
    rows, candidates : FactorBlocks
        The sides.
    lists : Lists
        How the result is called.
    n : int
        How many are wanted.
    size : int
        The edge of a tile of scores.
    intercept : float
        The model's.
    neighbours : bool
        Whether rows are compared by the cosine with those of their own side, themselves left out.
    """

    rows: FactorBlocks
    candidates: FactorBlocks
    lists: Lists
    n: int
    size: int
    intercept: float = 0.0
    neighbours: bool = False

    @property
    def chunks(self) -> int:
        """The number of chunks of candidates."""
        bytes_ = self.candidates.size * self.candidates.row_bytes
        return max(1, min(self.candidates.blocks, -(-bytes_ // CHUNK_BYTES)))


class FrameRecommender(NamedTuple):
    """What recommending needs of a model on frames: its numbers, its id columns, and the edge of a tile of scores."""

    fitted: FrameFactorization
    ids: IdColumns
    size: int

    def for_all(self, side: Side, n: int, seen: DataFrame | None, kept: SeenBlocks | None = None) -> DataFrame:
        """Return the best n of the other side for every id of a side; ``seen`` pairs are left out.

        ``kept`` blocks of pairs belong to a model in the driver; with this one the pairs are kept as they were given.
        """
        assert kept is None
        contest = self._contest(side, how_many(n, "the number of recommendations"))
        return best(contest, _everyone(contest.rows), self._seen(side, seen))

    def for_subset(self, side: Side, dataset: DataFrame, n: int, seen: DataFrame | None) -> DataFrame:
        """Return the best n of the other side for the distinct known ids of a data set."""
        contest = self._contest(side, how_many(n, "the number of recommendations"))
        wanted = self.ids.wanted(dataset, side)
        return best(contest, _some(contest.rows, pick(contest.rows, wanted)), self._seen(side, seen))

    def similar(
        self, side: Side, ids: Iterable[Any] | None, n: int, candidates: FactorBlocks | None = None
    ) -> DataFrame:
        """Return the n ids of the same side, or of some of it, with the largest cosine, for some or all ids."""
        n = how_many(n, "the number of neighbours")
        blocks, name, kind = self.fitted.blocks[side], self.ids.names[side], self.ids.kinds[side]
        lists = Lists((name, name), (kind, kind), score_name="similarity")
        contest = Contest(blocks, candidates or blocks, lists, n, self.size, neighbours=True)
        if ids is None:
            return best(contest, _everyone(blocks), None)
        asked = self.ids.asked(side, ids)
        picked = pick(blocks, asked_frame(blocks, self.ids, asked))
        found = combined(opened(picked.select("ids").toArrow().column("ids")))
        known = pa.array([], asked.type) if found is None else flat(found, "id").cast(asked.type)
        missing = asked.filter(pc.invert(pc.is_in(asked, value_set=known)))
        if len(missing):
            raise unknown_ids(missing.to_pylist())
        return best(contest, _some(blocks, picked), None)

    def _contest(self, side: Side, n: int) -> Contest:
        fitted, other = self.fitted, side.other
        names, kinds = self.ids.names, self.ids.kinds
        lists = Lists((names[side], names[other]), (kinds[side], kinds[other]), fitted.limits, fitted.loss)
        return Contest(fitted.blocks[side], fitted.blocks[other], lists, n, self.size, fitted.intercept)

    def _seen(self, side: Side, seen: DataFrame | None) -> DataFrame | None:
        """Return the seen pairs as row and candidate."""
        if seen is None:
            return None
        pairs = self.ids.pairs(seen).toDF(*(one.stem for one in Side))
        return pairs.select(F.col(side.stem).alias("row"), F.col(side.other.stem).alias("candidate"))


def _everyone(blocks: FactorBlocks) -> Chosen:
    return Chosen(blocks.frame, np.arange(blocks.blocks, dtype=np.int32))


def _some(blocks: FactorBlocks, picked: DataFrame) -> Chosen:
    """Return picked rows, so many of their blocks in a group as make up one usual block."""
    counted = {row["block"]: row["rows"] for row in replace(blocks, frame=picked).counts().collect()}
    usual = max(1, blocks.size // blocks.blocks)
    groups, group, filled = np.full(blocks.blocks, -1, np.int32), 0, 0
    for block in sorted(counted):
        if filled and filled + counted[block] > usual:
            group, filled = group + 1, 0
        groups[block] = group
        filled += counted[block]
    return Chosen(picked, groups)


def best(contest: Contest, chosen: Chosen, seen: DataFrame | None) -> DataFrame:
    """Return the best candidates of every chosen row.

    Parameters
    ----------
    contest : Contest
        Who is ranked for whom.
    chosen : Chosen
        The rows.
    seen : DataFrame, optional
        Pairs to leave out: row, candidate, in the types of the ids.
    """
    session = chosen.frame.sparkSession
    check_workers(session)
    chunks, groups = contest.chunks, chosen.groups
    count = int(groups.max(initial=-1)) + 1
    if count == 0:
        return session.createDataFrame([], contest.lists.schema)
    coming = _candidates(contest, count)
    if seen is not None:
        coming = coming.unionByName(_seen_pieces(contest, seen, groups, count), allowMissingColumns=True)
    placed = place(coming, "target", count * chunks).groupBy("target")
    if chunks == 1 and (groups == np.arange(len(groups))).all():
        own = chosen.frame.groupBy("block")  # where they lie already
    else:
        own = place(_spread(chosen, chunks), "target", count * chunks).groupBy("target")
    met = own.cogroup(placed).applyInArrow(_meeting(contest), PIECES)
    if chunks > 1:
        met = place(met, "target", count).groupBy("target").applyInArrow(_merging(contest), PIECES)
    return unpack(met.select("rows"), contest.lists.schema)


def _candidates(contest: Contest, groups: int) -> DataFrame:
    """Return the candidates' blocks, a copy for each group: target, their_ids, their_data.

    The names are others than those of the rows' blocks: of a frame that is cogrouped with itself Spark takes columns of
    one name for the same ones.
    """
    copies = contest.candidates.frame.withColumn("target", F.explode(F.sequence(F.lit(0), F.lit(groups - 1))))
    target = F.col("target") * F.lit(contest.chunks) + F.col("block") % F.lit(contest.chunks)
    parts = (F.col(name).alias(f"their_{name}") for name in ("ids", "data"))
    return copies.select(target.cast("int").alias("target"), *parts)


def _spread(chosen: Chosen, chunks: int) -> DataFrame:
    """Return the chosen rows' blocks, a copy for each chunk of candidates: target, block, ids, data."""
    copies = chosen.frame.withColumn("target", F.explode(F.sequence(F.lit(0), F.lit(chunks - 1))))
    group = F.lit(chosen.groups.tolist())[F.col("block")]
    target = (group * F.lit(chunks) + F.col("target")).cast("int")
    return copies.select(target.alias("target"), "block", "ids", "data")


def _seen_pieces(contest: Contest, seen: DataFrame, groups: NDArray[np.int32], count: int) -> DataFrame:
    """Return the seen pairs with where they are needed: target, rows."""
    chunks, own, other = contest.chunks, contest.rows.blocks, contest.candidates.blocks

    def key(table: pa.Table) -> NDArray[np.int32]:
        group = groups[home(flat(table, "row"), own)]
        chunk = home(flat(table, "candidate"), other) % chunks
        return np.where(group < 0, -1, group * chunks + chunk).astype(np.int32)

    return cut(seen, key, count * chunks)


def _meeting(contest: Contest) -> Any:
    """Return the function of a group of rows and a chunk of candidates."""
    settings, lists, chunks, n, size = contest.rows.settings, contest.lists, contest.chunks, contest.n, contest.size
    neighbours, pair, intercept = contest.neighbours, (contest.rows.side, contest.candidates.side), contest.intercept

    def prepared(rows: Rows, side: Side) -> NDArray[Any]:
        if neighbours:
            return unit_rows(rows.data[:, : settings.rank])
        return scoring_rows(rows.data, settings, intercept, side)

    def meet(own: pa.Table, coming: pa.Table) -> pa.Table:
        rows = read_rows(own, settings) if own.num_rows else None
        if rows is None:
            return nothing(PIECES)
        chunk = _chunk(coming, settings) if coming.num_rows else None
        ids, found, scores = lists.no_ids, np.zeros((len(rows.ids), 0), np.int32), np.zeros((len(rows.ids), 0))
        if chunk is not None:
            ids = chunk.ids
            out = _left_out(rows, chunk, coming, neighbours)
            left, right = (prepared(part, side) for part, side in zip((rows, chunk), pair, strict=True))
            found, scores = best_columns(left, right, min(n, len(right)), size, *out)
        if chunks == 1:
            done, target = pa.Table.from_batches(lists.batches(rows.ids, ids, found, scores)), 0
        else:
            target, number = divmod(own.column("target")[0].as_py(), chunks)
            done = _entries(rows.ids, ids.cast(lists.no_ids.type), (found, scores), every_row=number == 0)
        sent = list(cells(done))
        return pa.table({"target": pa.array([target] * len(sent), pa.int32()), "rows": pa.array(sent, pa.binary())})

    return meet


def _chunk(coming: pa.Table, settings: Settings) -> Rows | None:
    """Return the candidates among what has come."""
    blocks = pa.table({name: coming.column(f"their_{name}") for name in ("ids", "data")})
    return read_rows(blocks.filter(pc.is_valid(blocks.column("ids"))), settings)


def _left_out(
    rows: Rows, chunk: Rows, coming: pa.Table, neighbours: bool
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return which candidates each row must not get: its start in the list of places, and that list."""
    own, other = np.arange(len(rows.ids), dtype=np.int32), np.empty(0, np.int32)
    if neighbours:
        other = places(rows.ids, chunk.ids)
    else:
        pairs = combined(opened(coming.column("rows"))) if "rows" in coming.column_names else None
        own = own[:0] if pairs is None else places(flat(pairs, "row"), rows.ids)
        other = other if pairs is None else places(flat(pairs, "candidate"), chunk.ids)
    known = (own >= 0) & (other >= 0)
    order, indptr = counting_order(own[known], len(rows.ids))
    return indptr, other[known][order]


def _entries(
    row_ids: pa.Array, ids: pa.Array, found: tuple[NDArray[np.int32], NDArray[Any]], every_row: bool
) -> pa.Table:
    """Return what a chunk found as rows of row, candidate, score; with ``every_row`` also one without a candidate."""
    rows, ranks = np.nonzero(found[0] >= 0)
    parts = [(row_ids.take(pa.array(rows)), ids.take(pa.array(found[0][rows, ranks])), found[1][rows, ranks])]
    if every_row:
        parts.append((row_ids, pa.nulls(len(row_ids), ids.type), np.full(len(row_ids), -np.inf)))
    names = ["row", "candidate", "score"]
    return pa.concat_tables(
        [pa.table([*part[:2], pa.array(part[2].astype(np.float64))], names=names) for part in parts]
    )


def _merging(contest: Contest) -> Any:
    """Return the function that merges what the chunks of candidates have found for a group of rows."""
    lists, n = contest.lists, contest.n

    def merge(parts: pa.Table) -> pa.Table:
        table = combined(opened(parts.column("rows")))
        assert table is not None
        order = [("row", "ascending"), ("score", "descending"), ("candidate", "ascending")]
        table = table.sort_by(order).combine_chunks()
        coded = flat(table, "row").dictionary_encode()
        codes, row_ids = coded.indices.to_numpy(), coded.dictionary
        starts = np.searchsorted(codes, np.arange(len(row_ids)))
        ranks = np.arange(len(codes)) - starts[codes]
        kept = np.flatnonzero((ranks < n) & flat(table, "candidate").is_valid().to_numpy(zero_copy_only=False))
        found = np.full((len(row_ids), int(ranks[kept].max(initial=-1)) + 1), -1, np.int32)
        scores = np.zeros(found.shape)
        found[codes[kept], ranks[kept]] = kept
        scores[codes[kept], ranks[kept]] = flat(table, "score").to_numpy()[kept]
        done = pa.Table.from_batches(lists.batches(row_ids, flat(table, "candidate"), found, scores))
        sent = list(cells(done))
        return pa.table({"target": pa.array([0] * len(sent), pa.int32()), "rows": pa.array(sent, pa.binary())})

    return merge
