"""One block's half step from end to end, free of Spark: what a task runs, and what a benchmark runs without Spark."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfspark.kernels.confidence import coefficients, ridge
from mfspark.kernels.half_step import SOLVERS, STATISTICS, half_step, held_out, objective
from mfspark.kernels.simd import PANEL

EMPTY = np.empty(0, np.float32)
WARM_SOLVERS = ("cg", "subspace", "descent", "coordinate")
RATINGS_AT_ONCE = 4_000_000  # how many ratings are expanded from codes to floats at a time


@dataclass(frozen=True)
class Settings:
    """What a half step needs to know of the model; pairs are (this for the solved side, that for the fixed side).

    Parameters
    ----------
    rank : int
        The number of factors k, without bias and padding.
    implicit : bool
        Whether all pairs count (Hu, Koren, Volinsky 2008) or the observed ones only.
    confidence, alpha, w0
        See ``mfspark.kernels.confidence``.
    reg_param, l1, bias : tuples
        By side: the L2 weight, the L1 weight, whether the side has a bias.
    exponent : float
        nu of the count scaling.
    solver, steps, size
        A key of SOLVERS or "auto", the CG steps or the sweeps over coordinates, the subspace size.
    nonnegative : bool
        Factors >= 0.
    dtype : str
        "float32" or "float64".
    """

    rank: int
    implicit: bool = False
    confidence: str = "mllib"
    alpha: float = 1.0
    w0: float = 1.0
    reg_param: tuple[float, float] = (0.1, 0.1)
    l1: tuple[float, float] = (0.0, 0.0)
    bias: tuple[bool, bool] = (False, False)
    exponent: float = 1.0
    solver: str = "auto"
    steps: int = 3
    size: int = 64
    nonnegative: bool = False
    dtype: str = "float32"

    @property
    def width(self) -> int:
        """The number of columns in use: the factors, and one for the biases."""
        return self.rank + any(self.bias)

    @property
    def padded(self) -> int:
        """The number of columns of a side's array."""
        return (self.width + PANEL - 1) // PANEL * PANEL

    @property
    def warm(self) -> bool:
        """Whether a half step improves on the previous factors, instead of forgetting them."""
        return self.method in WARM_SOLVERS

    @property
    def method(self) -> str:
        """The solver in use: descent under constraints, or what "auto" stands for."""
        if (self.nonnegative or any(self.l1)) and self.solver != "coordinate":
            return "descent"
        return "dual" if self.solver == "auto" else self.solver

    def swapped(self) -> Settings:
        """Return the same model seen from the other side."""
        return replace(self, reg_param=self.reg_param[::-1], l1=self.l1[::-1], bias=self.bias[::-1])


@dataclass(frozen=True)
class Fixed:
    """The fixed side, ready for a half step: F (n x padded), the targets' offset (n or 0), the base form (k x k)."""

    F: NDArray[Any]
    offset: NDArray[Any]
    base: NDArray[Any]
    intercept: float = 0.0


@dataclass(frozen=True)
class Block:
    """The ratings of consecutive rows of one side in CSR form; held-out ratings lie in a second CSR beside them.

    ``values`` are float ratings, or uint8 codes into ``table``.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    values: NDArray[Any]
    table: NDArray[np.float32] = field(default_factory=lambda: EMPTY)
    weights: NDArray[np.float32] = field(default_factory=lambda: EMPTY)
    held_indptr: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))
    held_indices: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    held_values: NDArray[np.float32] = field(default_factory=lambda: EMPTY)

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.indptr.size - 1


def fix(side: NDArray[Any], settings: Settings, intercept: float = 0.0) -> Fixed:
    """Prepare a side's array (n x padded) to be the fixed one; ``settings`` are those of the solved side.

    A solved bias sees a constant factor 1, and the fixed side's biases are taken from the targets (the augmented
    equations of a biased model). In the implicit case the base form is w0 F^T F, summed in fp64.
    """
    F, offset = np.ascontiguousarray(side), EMPTY.astype(side.dtype)
    solved_bias, fixed_bias = settings.bias
    if solved_bias or fixed_bias:
        F = F.copy()
        offset = F[:, settings.rank].copy() if fixed_bias else offset
        F[:, settings.rank] = 1 if solved_bias else 0
    base = np.zeros((settings.padded, settings.padded), side.dtype)
    if settings.implicit and settings.w0:
        base += settings.w0 * gramian(F)
    return Fixed(F, offset, base.astype(side.dtype), intercept)


def gramian(F: NDArray[Any]) -> NDArray[np.float64]:
    """Return F^T F, products in F's precision over short stretches, their sum in fp64."""
    total = np.zeros((F.shape[1], F.shape[1]))
    for start in range(0, F.shape[0], 4096):
        part = F[start : start + 4096]
        total += part.T @ part
    return total


def expand(block: Block, part: slice, settings: Settings, intercept: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the kernel's ``a`` and ``y`` of a stretch of a block's ratings."""
    number = np.dtype(settings.dtype)
    coded = block.table.size > 0
    ratings = (block.table if coded else block.values[part]).astype(number)
    weights = block.weights[part].astype(number)
    if settings.implicit:
        a, y = (x.astype(number) for x in coefficients(settings.confidence, ratings, settings.alpha, settings.w0))
        if coded:
            a, y = a[block.values[part]], y[block.values[part]]
        return (a * weights, y * weights) if weights.size else (a, y)
    y = ratings - number.type(intercept)
    return weights, (y[block.values[part]] if coded else y)


def row_ridges(block: Block, settings: Settings, n_fixed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return each row's L2 and L1 weight; the count is MLlib's: implicit ratings count where r > 0, weights add up."""
    counted: NDArray[Any] = np.diff(block.indptr).astype(np.float64)
    ratings = block.table if block.table.size else block.values
    if block.weights.size or (settings.implicit and (ratings <= 0).any()):
        each = block.weights if block.weights.size else (ratings > 0)[block.values if block.table.size else ...]
        rows = np.repeat(np.arange(block.rows), np.diff(block.indptr))
        counted = np.bincount(rows, weights=each, minlength=block.rows)
    extra = settings.w0 * n_fixed if settings.implicit and settings.confidence == "ials" else 0.0
    return (
        ridge(counted, settings.reg_param[0], settings.exponent, extra),
        ridge(counted, settings.l1[0] / 2, settings.exponent, extra),
    )


def solve_block(
    block: Block,
    fixed: Fixed,
    settings: Settings,
    start: NDArray[Any] | None = None,
    measure: bool = False,
    limits: tuple[float, float] = (-np.inf, np.inf),
) -> tuple[NDArray[Any], NDArray[np.float64], int]:
    """Solve a block's rows against the fixed side.

    Parameters
    ----------
    block, fixed, settings
        The ratings, the fixed side, and the model as the solved side sees it.
    start : array (rows, padded), optional
        The rows' previous factors, for the solvers that improve on them.
    measure : bool
        Whether the fit and the held-out errors are wanted too; the regularisation always is.
    limits : (float, float)
        The range to which held-out predictions are clipped.

    Returns
    -------
    X : array (rows, padded)
        The solved rows.
    statistics : array (len(STATISTICS),)
        Sums over the block, in the order of STATISTICS.
    unsolved : int
        The first row whose equations have no finite solution, or -1.
    """
    number = np.dtype(settings.dtype)
    X = np.zeros((block.rows, settings.padded), number)
    if start is not None:
        X[:] = start
    reg, l1 = row_ridges(block, settings, len(fixed.F))
    statistics = np.zeros(len(STATISTICS))
    unsolved = -1
    for first, last in stretches(block.indptr):
        part = slice(block.indptr[first], block.indptr[last])
        a, y = expand(block, part, settings, fixed.intercept)
        indptr = block.indptr[first : last + 1] - block.indptr[first]
        ratings = (indptr, block.indices[part], a, y, settings.implicit, fixed.F, fixed.offset, fixed.base)
        rows = slice(first, last)
        jittered, bad = half_step(
            *ratings, reg[rows], l1[rows], settings.width, SOLVERS[settings.method], settings.steps,
            settings.size, settings.nonnegative, X[rows],
        )  # fmt: skip
        statistics[STATISTICS.index("jittered")] += jittered
        if bad >= 0 and unsolved < 0:
            unsolved = first + bad
        if measure:
            objective(*ratings, reg[rows], l1[rows], X[rows], statistics)
    if not measure:
        squares = np.einsum("ij,ij->i", X, X, dtype=np.float64)
        statistics[STATISTICS.index("regularisation")] = reg @ squares + 2 * (l1 @ np.abs(X).sum(axis=1))
    if measure and block.held_indices.size:
        low, high = limits[0] - fixed.intercept, limits[1] - fixed.intercept
        held = (block.held_values - fixed.intercept).astype(number)
        held_out(block.held_indptr, block.held_indices, held, fixed.F, fixed.offset, low, high, X, statistics)
    if unsolved < 0 and not np.isfinite(X).all():
        unsolved = int(np.argmin(np.isfinite(X).all(axis=1)))
    return X, statistics, unsolved


def stretches(indptr: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Cut rows into stretches of about RATINGS_AT_ONCE ratings, so that their floats take little memory."""
    rows = indptr.size - 1
    if rows == 0:
        return []
    marks = np.arange(1, indptr[-1] // RATINGS_AT_ONCE + 1) * RATINGS_AT_ONCE
    cuts = np.unique(np.concatenate([[0], np.searchsorted(indptr[:-1], marks), [rows]]))
    return list(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True))
