"""Two versions of one store side by side: metrics, parameters, who came and who went, and how far the factors moved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from mfspark.kernels.procrustes import drift, rotation
from mfspark.store import tables
from mfspark.store.schemas import ModelVersion
from mfspark.store.tables import Location

SAMPLE_BYTES = 64 << 20  # of one side of one model in the driver
SIDES = ("users", "items")
_BUCKETS = 1 << 30
Pair = tuple[Any, Any]
Read = Callable[[ModelVersion, list[str]], dict[str, DataFrame]]


class Moved(NamedTuple):
    """What became of one side.

    Parameters
    ----------
    common, gained, lost : int
        Ids of both versions, of the second alone, of the first alone.
    compared : int
        Ids whose factors were compared: all common ones, or a sample of them; 0 where the ranks differ.
    drift : float or None
        How far these moved, after rotation (see ``kernels.procrustes.Drift``); None where nothing was compared.
    cosine : float or None
        The mean cosine between before and after.
    """

    common: int
    gained: int
    lost: int
    compared: int
    drift: float | None
    cosine: float | None


@dataclass(frozen=True)
class Comparison:
    """Two versions, and what differs.

    Attributes
    ----------
    a, b : ModelVersion
        The versions.
    metrics : dict
        By name, what either has: (a's, b's), None where one has none.
    parameters : dict
        By dotted name, those that differ: (a's, b's).
    users, items : Moved
        The sides. One rotation is taken for both, since only that leaves all predictions as they are.
    ranks : tuple of int
        The numbers of factors; where they differ, no drift is computed.
    """

    a: ModelVersion
    b: ModelVersion
    metrics: dict[str, Pair]
    parameters: dict[str, Pair]
    users: Moved
    items: Moved
    ranks: tuple[int, int]

    def lines(self) -> list[str]:
        """Return the comparison as lines of text."""
        text = [f"versions     {self.a.version} (run {self.a.run_id}) and {self.b.version} (run {self.b.run_id})"]
        text += [f"metric       {name}: {_shown(a)} -> {_shown(b)}" for name, (a, b) in self.metrics.items()]
        text += [f"parameter    {name}: {_shown(a)} -> {_shown(b)}" for name, (a, b) in self.parameters.items()]
        for name in SIDES:
            side: Moved = getattr(self, name)
            text.append(f"{name:<12} {side.common:,} in both, {side.gained:,} gained, {side.lost:,} lost{_drift(side)}")
        if self.ranks[0] != self.ranks[1]:
            text.append(f"drift        not computed: the ranks {self.ranks[0]} and {self.ranks[1]} differ")
        return text


def compare(spark: SparkSession, location: Location, read: Read, a: ModelVersion, b: ModelVersion) -> Comparison:
    """Return what differs between two versions (see ``Registry.compare``).

    Parameters
    ----------
    spark : SparkSession
        The session.
    location : Location
        The store.
    read : callable
        ``read(version, names)`` returns tables of a version.
    a, b : ModelVersion
        The versions.
    """
    names = ["user_factors", "item_factors"]
    before, after = read(a, names), read(b, names)
    ranks = _rank(before), _rank(after)
    counts = [_counts(before[name], after[name]) for name in names]
    if ranks[0] == ranks[1]:
        users, items = _moved(counts, before, after, ranks)
    else:
        users, items = (Moved(*count, 0, None, None) for count in counts)
    return Comparison(a, b, _metrics(spark, location, a, b), differing(a.parameters, b.parameters), users, items, ranks)


def measured(spark: SparkSession, location: Location, version: ModelVersion) -> dict[str, float]:
    """Return the newest evaluation of each metric of a version since it was published."""
    address = location.table("metrics")
    if not tables.exists(spark, address):
        return {}
    rows = tables.read(spark, address).where(F.col("model_version") == version.version)
    rows = rows.where(F.col("evaluated_at") >= F.lit(version.created_at))
    newest = rows.groupBy("metric").agg(F.max_by("value", "evaluated_at").alias("value")).orderBy("metric").collect()
    return {row["metric"]: row["value"] for row in newest}


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Pair]:
    """Return by dotted name the values that differ between two nested mappings, None where one has none.

    Examples
    --------
    >>> differing({"model": {"rank": 4, "seed": 1}}, {"model": {"rank": 8, "seed": 1, "tol": 0.1}})
    {'model.rank': (4, 8), 'model.tol': (None, 0.1)}
    """
    one, other = flat(a), flat(b)
    names = sorted({*one, *other})
    return {name: (one.get(name), other.get(name)) for name in names if one.get(name) != other.get(name)}


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values in one level, by dotted names.

    Parameters
    ----------
    values : mapping
        The values.
    prefix : str
        What stands before each name.
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def _metrics(spark: SparkSession, location: Location, a: ModelVersion, b: ModelVersion) -> dict[str, Pair]:
    found = []
    for version in (a, b):
        numbers = {name: value for name, value in version.metrics.items() if isinstance(value, int | float)}
        found.append(numbers | measured(spark, location, version))
    names = sorted({*found[0], *found[1]})
    return {name: (found[0].get(name), found[1].get(name)) for name in names}


def _rank(read: Mapping[str, DataFrame]) -> int:
    row = read["item_factors"].select(F.size("features").alias("rank")).first()
    return row["rank"] if row else 0


def _counts(before: DataFrame, after: DataFrame) -> tuple[int, int, int]:
    """Return how many ids are in both, in the second alone, in the first alone."""
    one, other = (frame.select("id", F.lit(True).alias(name)) for frame, name in ((before, "a"), (after, "b")))
    counts = ["count_if(a AND b) AS n", "count_if(a IS NULL) AS gained", "count_if(b IS NULL) AS lost"]
    found = one.join(other, "id", "full").selectExpr(*counts).collect()[0]
    return found["n"], found["gained"], found["lost"]


def _moved(
    counts: list[tuple[int, int, int]], before: Mapping[str, DataFrame], after: Mapping[str, DataFrame], ranks: Pair
) -> list[Moved]:
    names = ("user_factors", "item_factors")
    pairs = [_common(before[name], after[name], count[0], ranks[0]) for name, count in zip(names, counts, strict=True)]
    turn = rotation(*(np.concatenate([pair[at] for pair in pairs]) for at in (0, 1)))
    found = []
    for (a, b), count in zip(pairs, counts, strict=True):
        far = drift(a, b, turn) if len(a) else (None, None)
        found.append(Moved(*count, len(a), *far))
    return found


def _common(before: DataFrame, after: DataFrame, common: int, rank: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the factors of common ids, of both versions in one order: of all, or of those whose hash is small."""
    share = SAMPLE_BYTES / max(1, 4 * rank * common)
    if share < 1:
        small = F.pmod(F.xxhash64("id"), F.lit(_BUCKETS)) < int(share * _BUCKETS)
        before, after = before.where(small), after.where(small)
    renamed = after.select("id", F.col("features").alias("later"))
    table = before.select("id", "features").join(renamed, "id").select("features", "later").toArrow()
    columns = (table.column(name).combine_chunks() for name in ("features", "later"))
    a, b = (np.asarray(column.flatten(), np.float64).reshape(table.num_rows, rank) for column in columns)
    return a, b


def _drift(side: Moved) -> str:
    if side.drift is None or side.cosine is None:
        return ""
    sample = f", of a sample of {side.compared:,}" if side.compared < side.common else ""
    return f"; drift {side.drift:.3g}, mean cosine {side.cosine:.3f}{sample}"


def _shown(value: Any) -> str:
    return "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
