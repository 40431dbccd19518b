"""The places of ids among a model's sorted ids, by bisection: quick for one id, without a table of all of them."""

from __future__ import annotations

import operator
from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mfspark.errors import DataError, ParameterError

FEW = 1000  # texts that are looked up one by one


class SortedIds:
    """Ids in ascending order: whole numbers, or texts in the order of their code points.

    Parameters
    ----------
    ids : pa.Array
        Sorted, distinct, without null.
    what : str
        What they are ids of, for messages.
    """

    def __init__(self, ids: pa.Array, what: str) -> None:
        self.ids, self.what = ids, what
        self._numbers: NDArray[Any] | None = ids.to_numpy() if pa.types.is_integer(ids.type) else None

    def __len__(self) -> int:
        """Return how many ids there are."""
        return len(self.ids)

    def __getitem__(self, place: int) -> Any:
        """Return the id at a place; ``bisect`` asks for it."""
        return self.ids[place].as_py()

    def typed(self, text: str) -> Any:
        """Return an id from its text; a text where numbers are kept, and it is none, stays as it is."""
        try:
            return text if self._numbers is None else int(text)
        except ValueError:
            return text

    def take(self, places: NDArray[Any]) -> list[Any]:
        """Return the ids at some places."""
        return self.ids.take(pa.array(places)).to_pylist() if self._numbers is None else self._numbers[places].tolist()

    def places(self, ids: Iterable[Any]) -> NDArray[np.int64]:
        """Return the places of ids (n,), -1 where an id is None or unknown.

        Raises
        ------
        ParameterError
            One text was given instead of a list.
        DataError
            Some ids are of another type than the model's, or no whole numbers.
        """
        if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
            raise ParameterError(f"expected a list of {self.what} ids, such as [{ids!r}], got {ids!r}")
        given = ids.tolist() if isinstance(ids, np.ndarray | pa.Array) else list(ids)
        return self._textual(given) if self._numbers is None else self._numbered(given, self._numbers)

    def known(self, ids: Iterable[Any]) -> NDArray[np.int64]:
        """Return the distinct places of those ids that are known, in ascending order; raises as ``places``."""
        found = np.unique(self.places(ids))
        return found[found >= 0]

    def _numbered(self, given: list[Any], kept: NDArray[Any]) -> NDArray[np.int64]:
        known = np.array([value is not None for value in given], np.bool_)
        whole = [0 if value is None else value for value in given]
        wrong = [value for value in whole if not is_whole(value)]
        if wrong:
            raise self._other_type(wrong, "whole numbers")
        numbers = np.array([int(value) for value in whole], np.int64)
        found = np.searchsorted(kept, numbers)
        found[found == len(self)] = 0
        return np.where(known & (kept[found] == numbers), found, -1)

    def _textual(self, given: list[Any]) -> NDArray[np.int64]:
        wrong = [value for value in given if not (value is None or isinstance(value, str))]
        if wrong:
            raise self._other_type(wrong, "strings")
        if len(given) > FEW:
            found = pc.index_in(pa.array(given, self.ids.type), value_set=self.ids, skip_nulls=True)
            return pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64)
        places = [0 if value is None else bisect_left(self, value) for value in given]
        met = (place < len(self) and self[place] == value for place, value in zip(places, given, strict=True))
        return np.array([place if known else -1 for place, known in zip(places, met, strict=True)], np.int64)

    def _other_type(self, wrong: list[Any], kind: str) -> DataError:
        return DataError(
            f"{len(wrong)} {self.what} ids, such as {wrong[0]!r}, are no {kind} as the model's: convert them"
        )


def is_whole(value: Any) -> bool:
    """Return whether a value is a whole number that 64 bits hold, of whatever type; a truth value is none."""
    if isinstance(value, bool | np.bool_ | str):
        return False
    try:
        return bool(value == int(value)) and -(2**63) <= int(value) < 2**63
    except (TypeError, ValueError, OverflowError):
        return False


def how_many(n: Any, what: str) -> int:
    """Return a number of results as an int.

    Raises
    ------
    ParameterError
        It is no whole number (a float is none, nor is a text), or less than 1.
    """
    try:
        number = operator.index(n)
    except TypeError:
        number = None
    if number is None or isinstance(n, bool):
        raise ParameterError(f"{what} must be an int, not {n!r}")
    if number < 1:
        raise ParameterError(f"{what} must be at least 1, not {number}")
    return number
