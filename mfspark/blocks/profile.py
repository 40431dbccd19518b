"""What the first pass learned of the ratings: ids, counts, distinct values, range."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from mfspark.blocks.columns import Columns
from mfspark.blocks.encode import MOST_CODES, PROBLEMS, SUMMARY
from mfspark.blocks.index import hash_ids, ids_of
from mfspark.errors import DataError
from mfspark.transport.arrow import row_batch


@dataclass(frozen=True)
class SideProfile:
    """One side's ids in index order, and the number of training ratings of each."""

    ids: pa.Array
    counts: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of ids."""
        return len(self.ids)


@dataclass(frozen=True)
class Totals:
    """What the first pass learned but for the ids themselves.

    Parameters
    ----------
    values : float32 array or None
        The distinct ratings, where they are few.
    rows, held_out : int
        The number of ratings, and of those that are not trained on.
    total, weight : float
        The sums of weight x rating and of weight over the training ratings.
    low, high : float
        Their range.
    listed : (int, int)
        How many ids the partitions list, by Side: those of several partitions several times.
    id_bytes : int
        The size of these lists.
    """

    values: NDArray[np.float32] | None
    rows: int
    held_out: int
    total: float
    weight: float
    low: float
    high: float
    listed: tuple[int, int] = (0, 0)
    id_bytes: int = 0

    @property
    def mean(self) -> float:
        """The weighted mean of the training ratings."""
        return self.total / self.weight if self.weight else 0.0


@dataclass(frozen=True, kw_only=True)
class Profile(Totals):
    """What the first pass learned; ``sides`` are indexed by Side."""

    sides: tuple[SideProfile, SideProfile]


def profile(encoded: DataFrame, columns: Columns, explicit: bool = True) -> Profile:
    """Sum up encoded ratings, all ids listed.

    Parameters
    ----------
    encoded : DataFrame
        From ``encode``.
    columns : Columns
        The original names, for messages.
    explicit : bool
        Whether ratings are explicit; implicit ones need a positive value.

    Raises
    ------
    DataError
        There is no row to train on, or some rows have an id, rating or weight that cannot be used.
    """
    summaries = _summaries(encoded, 1 << 62)
    return _listed(summaries, _totals(summaries, columns, explicit))


def survey(encoded: DataFrame, columns: Columns, explicit: bool, most: int) -> Totals:
    """Sum up encoded ratings, the ids listed only where the partitions' lists are short.

    Parameters
    ----------
    encoded, columns, explicit
        As in ``profile``.
    most : int
        How many bytes one partition's lists may have.

    Returns
    -------
    Totals
        A Profile where all lists were short.

    Raises
    ------
    DataError
        As in ``profile``.
    """
    summaries = _summaries(encoded, most)
    found = _totals(summaries, columns, explicit)
    return _listed(summaries, found) if all(row["listed"] for row in summaries) else found


def distinct(encoded: DataFrame) -> tuple[int, int]:
    """Return about how many users and items encoded ratings have, to 3 %; no list of ids leaves its worker.

    The k-th smallest of all hashes tells how densely they lie (Bar-Yossef et al. 2002, section 2).
    """
    names, k = SUMMARY[:2], 1024

    def smallest(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for row in range(batch.num_rows):
                hashes = [hash_ids(ids_of(batch.column(name)[row])) for name in names]
                kept = [np.sort(one)[:k].tobytes() for one in hashes]
                yield row_batch(dict.fromkeys(names, pa.binary()), kept)

    lists = encoded.where("problems is not null").select(*names)
    sketches = lists.mapInArrow(smallest, ", ".join(f"{name} binary" for name in names)).toArrow()
    counts = []
    for name in names:
        hashes = np.concatenate([np.frombuffer(data.as_buffer(), np.uint64) for data in sketches.column(name)])
        least = np.unique(hashes)[:k]
        counts.append(least.size if least.size < k else round((k - 1) / (float(least[-1]) + 1) * 2.0**64))
    return counts[0], counts[1]


def _summaries(encoded: DataFrame, most: int) -> list[dict[str, Any]]:
    """Return the partitions' last rows, the lists of ids only where they have at most so many bytes."""
    rows = encoded.where("problems is not null")
    size = F.length("user_ids") + F.length("item_ids")
    short = size <= most
    ids = [F.when(short, F.col(name)).alias(name) for name in SUMMARY[:2]]
    chosen = rows.select(*ids, *SUMMARY[2:], short.alias("listed"), size.cast("bigint").alias("id_bytes"))
    return chosen.toArrow().to_pylist()


def _totals(summaries: list[dict[str, Any]], columns: Columns, explicit: bool) -> Totals:
    problems = np.sum([row["problems"] for row in summaries], axis=0) if summaries else np.zeros(len(PROBLEMS))
    names = {"user": columns.user, "item": columns.item, "rating": columns.rating, "weight": columns.weight}
    wrong = [f"{int(n)} {text.format(**names)}" for n, text in zip(problems, PROBLEMS, strict=True) if n]
    if wrong:
        raise DataError(
            f"the ratings have {'; '.join(wrong)}: remove these rows, or pass them through mfspark.data.check"
        )
    counts = np.sum([row["rows"] for row in summaries], axis=0).tolist() if summaries else [0] * 4
    rows, held = counts[:2]
    if rows == held:
        what = "all of them are held out" if rows else "the data set is empty"
        raise DataError(f"no ratings to train on: {rows} rows, {what}")
    numbers = np.array([row["numbers"] for row in summaries])
    coded = None
    if all(row["values"] is not None for row in summaries):
        values = np.unique(np.concatenate([np.frombuffer(row["values"], np.float32) for row in summaries]))
        coded = values if len(values) <= MOST_CODES else None
    if not explicit and numbers[:, 3].max() <= 0:
        raise DataError(
            f"column {columns.rating!r} has no positive value, so that no pair is liked (implicitPrefs=True)"
        )
    sums, low, high = numbers[:, :2].sum(0), numbers[:, 2].min(), numbers[:, 3].max()
    listed, size = (counts[2], counts[3]), sum(row["id_bytes"] for row in summaries)
    return Totals(coded, rows, held, sums[0], sums[1], low, high, listed, size)


def _listed(summaries: list[dict[str, Any]], found: Totals) -> Profile:
    sides = (_side([row["user_ids"] for row in summaries]), _side([row["item_ids"] for row in summaries]))
    return Profile(**vars(found), sides=sides)


def _add_up(tables: list[pa.Table]) -> pa.Table:
    joined = pa.concat_tables(tables)
    if len(tables) > 1:
        joined = joined.group_by("id").aggregate([("count", "sum")]).rename_columns(["id", "count"])
    return joined.combine_chunks()


def _side(parts: list[bytes | None]) -> SideProfile:
    counted = _add_up([pa.ipc.open_stream(part).read_all() for part in parts if part is not None])
    counted = counted.filter(pc.greater(counted.column("count"), 0)).sort_by("id")
    return SideProfile(counted.column("id").combine_chunks(), counted.column("count").to_numpy())
