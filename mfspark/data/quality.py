"""Accept or reject every rating: `check`. A rejected row keeps its raw text and gets the reason; none is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pyspark.sql.functions as F
from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import types as T

from mfspark.data import reasons
from mfspark.data.source import clear_errors
from mfspark.errors import DataError, ParameterError, missing_column

DUPLICATES = ("last", "mean", "sum", "error", "keep")
READER_COLUMNS = ("user", "item", "rating", "timestamp", "raw", "error")


@dataclass(frozen=True)
class Rules:
    """What a rating must fulfil.

    Parameters
    ----------
    min_rating, max_rating : float, optional
        Smallest and largest rating accepted (default: no bound). They hold for the rows, not for merged sums.
    duplicates : str
        What becomes of several rows of one (user, item): ``last`` (default) keeps the row of the latest timestamp
        (a row without one is the oldest), ties broken by the larger rating, then by the larger raw text; ``mean`` and
        ``sum`` keep one row with the mean or sum of the ratings (and of the weights) and the latest timestamp;
        ``error`` raises; ``keep`` accepts them all, each a rating of its own as in MLlib, and needs no shuffle.
    """

    min_rating: float | None = None
    max_rating: float | None = None
    duplicates: str = "last"

    def __post_init__(self) -> None:
        """Refuse rules that contradict each other."""
        if self.duplicates not in DUPLICATES:
            raise ParameterError(f"duplicates is {self.duplicates!r}; allowed: {', '.join(DUPLICATES)}")
        for name in ("min_rating", "max_rating"):
            bound = getattr(self, name)
            if bound is not None and bound != bound:
                raise ParameterError(f"{name} is NaN; give a number, or leave it out")
        if self.min_rating is not None and self.max_rating is not None and self.min_rating > self.max_rating:
            raise ParameterError(f"min_rating={self.min_rating} is above max_rating={self.max_rating}")


@dataclass(frozen=True)
class Checked:
    """The outcome of `check`.

    Attributes
    ----------
    accepted : DataFrame
        user, item, rating float, timestamp long[, weight double].
    rejected : DataFrame
        user string, item string, rating double, raw string, reason string.
    accepted_count, rejected_count : int
        Their rows.
    reason_counts : dict
        Rejected rows per reason.
    low, high : float
        The smallest and the largest accepted rating.
    example : str or None
        The raw text of a row that did not parse, where there is one.
    """

    accepted: DataFrame
    rejected: DataFrame
    accepted_count: int
    reason_counts: dict[str, int] = field(default_factory=dict)
    low: float = float("-inf")
    high: float = float("inf")
    example: str | None = None

    @property
    def rejected_count(self) -> int:
        """Return the number of rejected rows."""
        return sum(self.reason_counts.values())


def check(
    ratings: DataFrame, rules: Rules | None = None, materialise: Callable[[DataFrame], DataFrame] | None = None
) -> Checked:
    """Accept or reject every row of `read_ratings`; rows in = accepted + rejected.

    The rows are judged in one pass with one shuffle (by user and item, for the duplicates). Counting the reasons is one
    job, and each write of `accepted` or `rejected` would compute that pass again: for large data give `materialise`, a
    function that writes the judged rows once (a staging table, a checkpoint) and returns them read back.

    Parameters
    ----------
    ratings : DataFrame
        user, item, rating, timestamp[, weight], raw, error.
    rules : Rules, optional
        Default: finite ratings, the last row of each pair.
    materialise : callable, optional
        DataFrame -> the same rows, computed once. Default: none.

    Returns
    -------
    Checked
        Accepted and rejected rows, counted.

    Raises
    ------
    DataError
        Not one row accepted (with the count per reason); with ``duplicates="error"``, any pair twice (with the count
        and an example); a column missing.
    """
    rules = rules or Rules()
    missing = [name for name in READER_COLUMNS if name not in ratings.columns]
    if missing:
        raise missing_column(missing[0], ratings.columns)
    with clear_errors("the ratings cannot be read"):
        judged = judge(ratings, rules)
        judged = materialise(judged) if materialise and rules.duplicates != "keep" else judged
        numbers = (F.count("*").alias("rows"), F.min("rating").alias("low"), F.max("rating").alias("high"))
        groups = {row["reason"]: row for row in judged.groupBy("reason").agg(*numbers).collect()}
        counts = {reason: row["rows"] for reason, row in groups.items()}
        accepted_count = counts.pop(None, 0)
        if rules.duplicates == "error" and counts.get(reasons.DUPLICATE_OLDER):
            raise _duplicate_error(judged, counts[reasons.DUPLICATE_OLDER])
    if accepted_count == 0:
        raise DataError(_nothing_accepted(counts))
    weight = ["weight"] if "weight" in ratings.columns else []
    accepted = judged.where("reason is null").select(
        "user", "item", F.col("rating").cast("float"), "timestamp", *weight
    )
    ids = [F.col(side).cast("string").alias(side) for side in ("user", "item")]
    rejected = judged.where("reason is not null").select(*ids, "rating", "raw", "reason")
    ordered = {reason: counts[reason] for reason in sorted(counts, key=lambda name: (-counts[name], name))}
    row = judged.where(F.col("reason") == reasons.UNPARSABLE).first() if reasons.UNPARSABLE in counts else None
    example = None if row is None else row["raw"]
    return Checked(accepted, rejected, accepted_count, ordered, groups[None]["low"], groups[None]["high"], example)


def reconcile(rows_in: int, accepted: int, rejected: int) -> None:
    """Raise `DataError` unless rows in = accepted + rejected.

    Parameters
    ----------
    rows_in, accepted, rejected : int
        Counts of rows.
    """
    if rows_in != accepted + rejected:
        difference = rows_in - accepted - rejected
        raise DataError(
            f"rows do not add up: {rows_in} in, {accepted} accepted + {rejected} rejected = {accepted + rejected} "
            f"({abs(difference)} {'lost' if difference > 0 else 'too many'}); did the input change while it was read?"
        )


def judge(ratings: DataFrame, rules: Rules) -> DataFrame:
    """Return every row with its ``reason`` (null: accepted); merged pairs carry their rating on the accepted row."""
    weighted = "weight" in ratings.columns
    valid = ratings.withColumn("reason", row_reason(ratings, rules, weighted))
    # A bad row is apart, by its raw text: it takes no part in the duplicates, and null ids are not one heap.
    alone = F.when(F.col("reason").isNotNull(), F.xxhash64("raw"))
    pair = Window.partitionBy("user", "item", alone)
    newest = (F.desc_nulls_last("timestamp"), F.desc_nulls_last("rating"), F.desc_nulls_last("raw"))
    position = F.row_number().over(pair.orderBy(*newest))
    if rules.duplicates == "keep":
        judged = valid
    elif rules.duplicates in ("last", "error"):
        ranked = valid.withColumn("position", position)
        older = F.when(F.col("position") > 1, reasons.DUPLICATE_OLDER)
        judged = ranked.withColumn("reason", F.coalesce("reason", older))
    else:
        judged = _merge(valid, rules.duplicates, pair.orderBy(*newest), position, weighted)
    columns = ["user", "item", "rating", "timestamp", *(["weight"] if weighted else [])]
    # The raw text is kept of rejected rows only: it is most of the bytes.
    return judged.select(*columns, F.when(F.col("reason").isNotNull(), F.col("raw")).alias("raw"), "reason")


def row_reason(ratings: DataFrame, rules: Rules, weighted: bool) -> Column:
    """Return the first reason against each row by itself, or null."""
    rating = F.col("rating")
    # Ratings are stored as float: what overflows there is infinite.
    infinite = F.abs(rating.cast("float")) == float("inf")
    below = F.lit(False) if rules.min_rating is None else rating < rules.min_rating
    above = F.lit(False) if rules.max_rating is None else rating > rules.max_rating
    conditions = [
        (F.col("user").isNull(), reasons.NULL_USER),
        (_blank(ratings, "user"), reasons.BLANK_USER),
        (F.col("item").isNull(), reasons.NULL_ITEM),
        (_blank(ratings, "item"), reasons.BLANK_ITEM),
        (rating.isNull(), reasons.NULL_RATING),
        (F.isnan(rating), reasons.NAN_RATING),
        (infinite, reasons.INFINITE_RATING),
        (below | above, reasons.OUT_OF_RANGE),
    ]
    if weighted:
        weight = F.col("weight")
        finite = weight.isNotNull() & ~F.isnan(weight) & (weight < float("inf")) & (weight >= 0)
        conditions.append((~finite, reasons.BAD_WEIGHT))
    reason = F.when(F.col("error").isNotNull(), F.col("error"))
    for condition, name in conditions:
        reason = reason.when(condition, name)
    return reason


def _merge(valid: DataFrame, how: str, ordered: WindowSpec, position: Column, weighted: bool) -> DataFrame:
    # Ordered, so that the sum of the same doubles is always taken in the same order.
    whole = ordered.rowsBetween(Window.unboundedPreceding, Window.unboundedFollowing)
    merge = F.avg if how == "mean" else F.sum
    merged = valid.withColumn("position", position).withColumn("merged", merge("rating").over(whole))
    if weighted:
        merged = merged.withColumn("merged_weight", merge("weight").over(whole))
    overflow = F.when(F.abs(F.col("merged").cast("float")) == float("inf"), reasons.INFINITE_RATING)
    other = F.when(F.col("position") > 1, reasons.DUPLICATE_MERGED)
    merged = merged.withColumn("reason", F.coalesce("reason", overflow, other))
    accepted = F.col("reason").isNull()
    for name, value in (("rating", "merged"), ("weight", "merged_weight")):
        if value in merged.columns:
            merged = merged.withColumn(name, F.when(accepted, F.col(value)).otherwise(F.col(name)))
    return merged


def _blank(ratings: DataFrame, side: str) -> Column:
    if not isinstance(ratings.schema[side].dataType, T.StringType):
        return F.lit(False)
    return ~F.col(side).rlike(r"(?U)\S")


def _duplicate_error(judged: DataFrame, count: int) -> DataError:
    row = judged.where(F.col("reason") == reasons.DUPLICATE_OLDER).orderBy("user", "item").first()
    example = f"; for example user {row['user']!r}, item {row['item']!r}" if row else ""
    return DataError(
        f"{count} row(s) repeat a (user, item) pair{example}; remove them, or set duplicates to last, mean or sum"
    )


def _nothing_accepted(counts: dict[str, int]) -> str:
    if not counts:
        return "not one rating: the input has no rows; check the path"
    listed = ", ".join(f"{reason}: {count}" for reason, count in sorted(counts.items()))
    rows = sum(counts.values())
    return f"not one rating accepted of {rows} rows ({listed}); check the columns, the format and the range"
