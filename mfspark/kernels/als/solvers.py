"""The solvers of a row by name: what each is told, and the one function that the half step calls for all.

What a solver is told is a type of its own, and numba compiles the half step anew for each type of its arguments: a fit
compiles the solver it runs, and no other. A new solver is a class here, its function in ``ROW_SOLVERS``, and a line in
``SOLVERS``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba.extending import overload
from numpy.typing import NDArray

from mfspark.kernels.als.coordinate import coordinates
from mfspark.kernels.als.row_solvers import conjugate_gradients, dense, descent, dual, subspace
from mfspark.kernels.compile import REORDERED
from mfspark.kernels.objective import Settings


class Exact(NamedTuple):
    """Cholesky, by the n x n system of rows with few ratings where ``dual``; the share the diagonal is raised by."""

    dual: bool
    jitter: float = 0.0


class Gradients(NamedTuple):
    """A number of conjugate gradient steps."""

    steps: int


class Subspaces(NamedTuple):
    """Newton steps on this many dimensions at a time."""

    size: int


class Descent(NamedTuple):
    """At most this many sweeps over the coordinates of the assembled equations, under X >= 0 where asked."""

    nonnegative: bool
    sweeps: int


class Sweeps(NamedTuple):
    """Sweeps over the coordinates with the residuals kept, under X >= 0 where asked."""

    nonnegative: bool
    sweeps: int


SOLVERS = {
    "cholesky": lambda _: Exact(False),
    "dual": lambda _: Exact(True),
    "cg": lambda settings: Gradients(settings.steps),
    "subspace": lambda settings: Subspaces(settings.size),
    "descent": lambda settings: Descent(settings.nonnegative, settings.steps),
    "coordinate": lambda settings: Sweeps(settings.nonnegative, settings.steps),
}
"""What the solver of a name is told by the settings."""


def solver(settings: Settings) -> Any:
    """Return the solver in use, as told by the settings."""
    return SOLVERS[settings.method](settings)


class Row(NamedTuple):
    """A row's equations: arguments of ``half_step``, with ``b`` and ``target`` from 0 on for the row."""

    indices: Any
    a: Any
    first: Any
    last: Any
    F: Any
    base: Any
    reg: Any
    l1: Any
    rank: Any
    implicit: Any
    b: Any
    target: Any


class Scratch(NamedTuple):
    """Space for gathered rows H, W (chunk x k), the equations A (k x k), and ``cholesky``'s work (PANEL x k)."""

    H: Any
    W: Any
    A: Any
    work: Any


def _exact(how, row, scratch, x):  # type: ignore[no-untyped-def]
    a, n = row.a, row.last - row.first
    if how.dual and not row.implicit and row.reg > 0 and 4 * n <= 3 * row.rank:
        positive = True
        for t in range(row.first, row.last if a.size else row.first):
            positive = positive and a[t] > 0
        if positive and dual(row.indices, a, row.first, row.last, row.F, row.reg, row.target, x):
            return True
    return dense(
        row.indices, a, row.first, row.last, row.F, row.base, row.reg, how.jitter, row.b,
        scratch.H, scratch.W, scratch.A, scratch.work, x,
    )  # fmt: skip


def _gradients(how, row, scratch, x):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return conjugate_gradients(
        row.indices, row.a, row.first, row.last, row.F, row.base, row.reg, row.b, how.steps, x
    )  # fmt: skip


def _subspaces(how, row, scratch, x):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return subspace(row.indices, row.a, row.first, row.last, row.F, row.base, row.reg, row.b, how.size, x)


def _descent(how, row, scratch, x):  # type: ignore[no-untyped-def]
    return descent(
        row.indices, row.a, row.first, row.last, row.F, row.base, row.reg, row.b, row.l1, how.nonnegative, how.sweeps,
        scratch.H, scratch.W, scratch.A, x,
    )  # fmt: skip


def _sweeps(how, row, scratch, x):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return coordinates(
        row.indices, row.a, row.first, row.last, row.F, row.base, row.reg, row.rank, row.b, row.l1,
        how.nonnegative, how.sweeps, x,
    )  # fmt: skip


ROW_SOLVERS = {Exact: _exact, Gradients: _gradients, Subspaces: _subspaces, Descent: _descent, Sweeps: _sweeps}


def solve_row(how: Any, row: Row, scratch: Scratch, x: NDArray[Any]) -> bool:  # noqa: ARG001
    """Solve one row into x (1 x k), in some solvers starting from it; return whether that succeeded."""
    raise NotImplementedError("only compiled code can call this")


@overload(solve_row, jit_options={"fastmath": REORDERED, "error_model": "numpy"})
def _choose(how, row, scratch, x):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return ROW_SOLVERS[how.instance_class]
