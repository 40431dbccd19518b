"""What the first pass learned of the ratings: ids, counts, distinct values, range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from mfspark.blocks.columns import Columns
from mfspark.blocks.encode import MOST_CODES, PROBLEMS, SUMMARY
from mfspark.errors import DataError


@dataclass(frozen=True)
class SideProfile:
    """One side's ids in index order, and the number of training ratings of each."""

    ids: pa.Array
    counts: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of ids."""
        return len(self.ids)


@dataclass(frozen=True)
class Profile:
    """What the first pass learned; ``sides`` are indexed by Side, ``values`` the distinct ratings or None."""

    sides: tuple[SideProfile, SideProfile]
    values: NDArray[np.float32] | None
    rows: int
    held_out: int
    total: float
    weight: float
    low: float
    high: float

    @property
    def mean(self) -> float:
        """The weighted mean of the training ratings."""
        return self.total / self.weight if self.weight else 0.0


def profile(encoded: DataFrame, columns: Columns, explicit: bool = True) -> Profile:
    """Sum up encoded ratings.

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
    summaries = encoded.where("problems is not null").select(*SUMMARY).toArrow().to_pylist()
    problems = np.sum([row["problems"] for row in summaries], axis=0) if summaries else np.zeros(len(PROBLEMS))
    names = {"user": columns.user, "item": columns.item, "rating": columns.rating, "weight": columns.weight}
    wrong = [f"{int(n)} {text.format(**names)}" for n, text in zip(problems, PROBLEMS, strict=True) if n]
    if wrong:
        raise DataError(
            f"the ratings have {'; '.join(wrong)}: remove these rows, or pass them through mfspark.data.check"
        )
    rows = sum(row["rows"][0] for row in summaries)
    held = sum(row["rows"][1] for row in summaries)
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
    sides = (_side([row["user_ids"] for row in summaries]), _side([row["item_ids"] for row in summaries]))
    return Profile(
        sides, coded, rows, held, numbers[:, 0].sum(), numbers[:, 1].sum(), numbers[:, 2].min(), numbers[:, 3].max()
    )


def _add_up(tables: list[pa.Table]) -> pa.Table:
    joined = pa.concat_tables(tables)
    if len(tables) > 1:
        joined = joined.group_by("id").aggregate([("count", "sum")]).rename_columns(["id", "count"])
    return joined.combine_chunks()


def _side(parts: list[bytes | None]) -> SideProfile:
    counted = _add_up([pa.ipc.open_stream(part).read_all() for part in parts if part is not None])
    counted = counted.filter(pc.greater(counted.column("count"), 0)).sort_by("id")
    return SideProfile(counted.column("id").combine_chunks(), counted.column("count").to_numpy())
