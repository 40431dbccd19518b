"""The state of an SGD fit between two of its stages: both sides as tables, and the course."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mfspark.kernels.csr import Side
from mfspark.kernels.sgd.cells import Recipe, Rows, empty_rows


def columns(recipe: Recipe, side: Side, whole: bool) -> int:
    """Return how wide a side's table is: factors, a bias where there is one, and AdaGrad's squares where ``whole``."""
    return recipe.rank + recipe.bias[side] + (4 if whole and recipe.adagrad else 0)


def table(rows: Rows, recipe: Recipe, whole: bool) -> NDArray[np.float32]:
    """Return rows as a table: factors, bias, squares side by side, see ``columns``."""
    parts = [rows.factors[:, : recipe.rank]] + ([] if rows.bias is None else [rows.bias[:, None]])
    return np.column_stack(parts + ([rows.squares] if whole and rows.squares is not None else []))


@dataclass
class State:
    """Where a fit is after an epoch: the sides' whole tables (n x ``columns``), and ``Course.numbers``."""

    sides: list[NDArray[np.float32]]
    course: dict[str, Any] = field(default_factory=dict)

    items: ClassVar[None] = None
    """Which blocks of items a task begins with: those that it needs first, since it has them all."""

    def rows(self, first: int, n: int, side: Side, recipe: Recipe) -> Rows:
        """Return rows ``first`` to ``first + n`` of a side, as ``first_rows`` draws them at the start."""
        return _rows(self.sides[side][first : first + n], side, recipe)

    def parts(self) -> dict[str, Any]:
        """Return what a checkpoint stores."""
        return {"users": self.sides[0], "items": self.sides[1], "course": self.course}

    def restore(self, parts: Mapping[str, Any]) -> None:
        """Become what a checkpoint stored."""
        self.sides, self.course = [parts["users"], parts["items"]], dict(parts["course"])


@dataclass
class Part:
    """What one task is given of a state that nobody has as a whole: some blocks of both sides, and the course.

    Parameters
    ----------
    course : dict
        ``Course.numbers``.
    tables : dict
        By side and number of the first row, a block's table.
    items : list of int
        The blocks of items among them.
    """

    course: dict[str, Any]
    tables: dict[tuple[Side, int], NDArray[np.float32]] = field(default_factory=dict)
    items: list[int] = field(default_factory=list)

    def rows(self, first: int, n: int, side: Side, recipe: Recipe) -> Rows:
        """Return the rows of a block, which has ``n`` of them."""
        return _rows(self.tables[side, first] if n else np.zeros((0, columns(recipe, side, True))), side, recipe)


def _rows(given: NDArray[Any], side: Side, recipe: Recipe) -> Rows:
    """Return a table's rows."""
    rows, k = empty_rows(len(given), side, recipe), recipe.rank
    rows.factors[:, :k] = given[:, :k]
    if rows.bias is not None:
        rows.bias[:] = given[:, k]
    if rows.squares is not None:
        rows.squares[:] = given[:, -4:]
    return rows
