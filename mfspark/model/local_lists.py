"""The lists that ``LocalModel`` answers with: the best ids by their scores, and the popular items."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mfspark.errors import ParameterError
from mfspark.kernels.best import best_of
from mfspark.model.factorization import Factorization
from mfspark.model.new_user import Scored
from mfspark.model.sorted_ids import SortedIds, how_many

Array = NDArray[Any]
WANTED = "the number of recommendations"


def best_scored(
    fitted: Factorization | None, ids: SortedIds, scores: Array, k: int, chosen: Array | None, out: Array, least: Any
) -> list[Scored]:
    """Return the best ids of scores, the best first, ties by the smaller id.

    Parameters
    ----------
    fitted : Factorization or None
        Whose predictions the scores become; None: they stay as they are.
    ids : SortedIds
        The ids of the places that are scored.
    scores : array (len(ids),), or (len(chosen),) of the chosen places
        Overwritten where places are out.
    k : int
        How many, >= 1.
    chosen, out : arrays of places
        The only candidates, None: all; and what is none (-1: unknown, passed over).
    least : float or None
        The smallest prediction that is kept.
    """
    k, out = how_many(k, WANTED), out[out >= 0]
    scores[out if chosen is None else np.flatnonzero(np.isin(chosen, out))] = -np.inf
    best = best_of(scores, k)
    places = best.places if chosen is None else chosen[best.places]
    given = (best.scores if fitted is None else fitted.respond(best.scores)).astype(np.float32)
    kept = slice(None) if least is None else given >= np.float32(least)
    return list(map(Scored, ids.take(places[kept]), given[kept].tolist()))


def unwanted(ids: SortedIds, *given: Iterable[Any] | None) -> Array:
    """Return the places of the ids of several lists, -1 for an unknown one."""
    return np.concatenate([np.empty(0, np.int64), *(ids.places(one) for one in given if one is not None)])


def popular_scored(
    table: pa.Table | None, ids: SortedIds, k: int, span: str, allow: Iterable[Any] | None, out: Array
) -> list[Scored]:
    """Return the first of the popular items of a span (span, place, id, ratings) that the rules leave.

    Raises
    ------
    ParameterError
        There is no list of this span.
    """
    k = how_many(k, WANTED)
    listed = None if table is None else table.filter(pc.field("span") == span).sort_by("place")
    if not listed:
        raise ParameterError(f"the model has no popular items of the span {span!r}: it was trained without")
    items, counts = listed.column("id").to_pylist(), listed.column("ratings").to_pylist()
    places = ids.places(items)
    kept = ~np.isin(places, out[out >= 0])
    if allow is not None:
        kept &= np.isin(places, ids.known(allow))
    return [Scored(items[t], float(counts[t])) for t in np.flatnonzero(kept)[:k]]
