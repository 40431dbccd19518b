"""Recommending under rules: what is left out, what alone may be recommended, and from which score on.

Lists of ids bind every row: the model is asked as one that has no other candidates. Pairs bind one row each: denied
ones are left out like seen ones, and where pairs are allowed, these are predicted and the best of each row are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from mfspark.errors import DataError, ParameterError
from mfspark.kernels.csr import Side
from mfspark.model.factorization import Factorization
from mfspark.model.ids import IdColumns
from mfspark.model.sorted_ids import SortedIds

Pairs = DataFrame | Sequence[DataFrame] | None
Ids = DataFrame | Iterable[Any] | None


class Rules(NamedTuple):
    """The rules as they were asked for.

    Parameters
    ----------
    seen : DataFrame or sequence of DataFrame, optional
        Pairs to leave out.
    allow : DataFrame or iterable of ids, optional
        Ids or pairs: the only candidates.
    deny : DataFrame or iterable of ids, optional
        Ids or pairs to leave out.
    min_score : float, optional
        The smallest score that is given out.
    """

    seen: Pairs = None
    allow: Ids = None
    deny: Ids = None
    min_score: float | None = None

    @property
    def binding(self) -> bool:
        """Whether more than one frame of seen pairs decides what the candidates are."""
        return self.allow is not None or self.deny is not None or isinstance(self.seen, list | tuple)


class Choice(NamedTuple):
    """The ids that alone are candidates, and those that are none: lists or frames; None where there is no such rule."""

    allow: Ids = None
    deny: Ids = None


class Bound(NamedTuple):
    """Rules made ready for one side: the candidates that remain, pairs left out, pairs allowed."""

    candidates: Choice
    out: DataFrame | None
    allowed: DataFrame | None


def bind(rules: Rules, ids: IdColumns, side: Side) -> Bound:
    """Return rules as they bind the rows of a side.

    Parameters
    ----------
    rules : Rules
        What was asked for.
    ids : IdColumns
        The model's id columns.
    side : Side
        Whose rows get recommendations.

    Raises
    ------
    DataError
        A frame has not the columns it needs, or ids of another type.
    """
    other = side.other
    allow, allowed = _split(rules.allow, ids, other)
    deny, denied = _split(rules.deny, ids, other)
    given: Any = rules.seen if isinstance(rules.seen, list | tuple) else [] if rules.seen is None else [rules.seen]
    out = [ids.pairs(frame) for frame in given] + ([] if denied is None else [denied])
    return Bound(Choice(allow, deny), reduce(DataFrame.unionByName, out) if out else None, allowed)


def bind_ids(rules: Rules, ids: IdColumns, side: Side) -> Choice:
    """Return which of one side's ids remain under rules that are lists of ids; ParameterError for pairs."""
    allow, deny = (_split(given, ids, side) for given in (rules.allow, rules.deny))
    if allow[1] is not None or deny[1] is not None:
        raise ParameterError(
            f"neighbours are allowed and denied by ids, not by pairs: select {ids.names[side]!r} alone"
        )
    return Choice(allow[0], deny[0])


def candidates(choice: Choice, ids: IdColumns, side: Side, known: pa.Array) -> NDArray[np.int64] | None:
    """Return the places, among a side's known ids, of those that a choice leaves; None where it leaves all."""
    allow, deny = (ids.distinct(one, side) if isinstance(one, DataFrame) else one for one in choice)
    if allow is None and deny is None:
        return None
    listed = SortedIds(known, side.stem)
    places = np.arange(len(listed)) if allow is None else listed.known(allow)
    return places if deny is None else np.setdiff1d(places, listed.known(deny), assume_unique=True)


def _split(given: Ids, ids: IdColumns, other: Side) -> tuple[Any, DataFrame | None]:
    """Return candidates that were given as ids for all rows, or as pairs."""
    if given is None or not isinstance(given, DataFrame):
        return given, None
    name, row = ids.names[other], ids.names[other.other]
    if name not in given.columns:
        raise DataError(f"column {name!r} is missing; the data has {', '.join(given.columns)}")
    if row in given.columns:
        return None, ids.pairs(given)
    ids.check(given, other)
    return given, None


def restricted(fitted: Factorization, side: Side, candidates: NDArray[np.int64] | None) -> Factorization:
    """Return a model of which one side has only some of its ids, in their order."""
    if candidates is None:
        return fitted
    ids, sides = list(fitted.ids), list(fitted.sides)
    ids[side] = ids[side].take(pa.array(candidates))
    sides[side] = sides[side][candidates]
    return replace(fitted, ids=(ids[0], ids[1]), sides=(sides[0], sides[1]))


def best_allowed(
    predicted: DataFrame, score: str, names: tuple[str, str], n: int, clip: tuple[float, float]
) -> DataFrame:
    """Return the best n of each row's predicted pairs, ties by the smaller id; rows without any have no row.

    Parameters
    ----------
    predicted : DataFrame
        The pairs that are allowed and not left out, and a column of predictions that are not clipped.
    score : str
        That column.
    names : (str, str)
        The columns of the rows and the candidates.
    n : int
        How many.
    clip : (float, float)
        The range to which the scores given out are clipped.
    """
    row, candidate = names
    known = predicted.where(~F.isnan(score))
    pair = F.struct((-F.col(score)).alias("worst"), F.col(f"`{candidate}`").alias("id"))
    ordered = F.sort_array(F.collect_list(pair))
    low, high = (F.lit(float(limit)).cast("float") for limit in clip)

    def given(one: Column) -> Column:
        clipped = F.least(F.greatest(-one["worst"], low), high)
        return F.struct(one["id"].alias(candidate), clipped.alias("rating"))

    best = known.groupBy(row).agg(F.slice(ordered, 1, n).alias("best"))
    return best.select(row, F.transform("best", given).alias("recommendations"))


def at_least(recommended: DataFrame, score: str, least: float | None) -> DataFrame:
    """Return recommendations without those whose score is less."""
    if least is None:
        return recommended
    if isinstance(least, bool) or not isinstance(least, int | float | np.number) or np.isnan(least):
        raise ParameterError(f"minScore must be a number, not {least!r}")
    smallest = F.lit(float(least)).cast("float")
    kept = F.filter("recommendations", lambda pair: pair[score] >= smallest)
    return recommended.withColumn("recommendations", kept)


def allowed_best(model: Any, side: Side, n: int, bound: Bound, dataset: DataFrame | None) -> DataFrame:
    """Return the best n of the pairs that are allowed, of all rows or of those in a data set.

    Parameters
    ----------
    model : FactorizationModel
        One that has no other candidates than those that remain.
    side : Side
        Whose rows get recommendations.
    n : int
        How many.
    bound : Bound
        The rules.
    dataset : DataFrame, optional
        Whose rows.
    """
    ids, fitted, score = model._id_columns(), model.fitted, "__score"
    pairs, names = without(bound.allowed, bound.out, ids.names), ids.names  # type: ignore[arg-type]
    if dataset is not None:
        rows = dataset.select(ids.column(dataset, side).alias(names[side])).distinct()
        pairs = pairs.join(rows, names[side], "left_semi")
    raw = model.of_numbers(replace(fitted, limits=(-np.inf, np.inf))).setParams(predictionCol=score)
    predicted = raw.setParams(coldStartStrategy="nan").transform(pairs.distinct())
    return best_allowed(predicted, score, (names[side], names[side.other]), n, fitted.limits)


def without(pairs: DataFrame, out: DataFrame | None, names: tuple[str, str]) -> DataFrame:
    """Return pairs without those left out."""
    return pairs if out is None else pairs.join(out.distinct(), list(names), "left_anti")
