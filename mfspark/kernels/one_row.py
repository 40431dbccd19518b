"""One new row against a fixed side, in numpy and double precision: what ``als.half_step`` solves, without a compiler.

For ratings t of a row, and h_t the factors (and 1, where the row has a bias) of what they name:

    lhs = base + sum_t a_t h_t h_t^T + reg I        x = lhs^-1 sum_t b_t h_t

so that each rating's share of a score h^T x is h^T lhs^-1 h_t b_t (Hu, Koren, Volinsky 2008, section 5).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfspark.errors import TrainingError
from mfspark.kernels.csr import Block
from mfspark.kernels.objective import Fixed, Settings, expand, row_ridges

Doubles = NDArray[np.float64]
MOST_SWEEPS, SETTLED = 5000, 1e-10  # of coordinate descent, and the relative step at which it ends


class Equations(NamedTuple):
    """A row's normal equations: lhs (k x k), H (n x k), b (n,), and its L2 and L1 weight; k without padding."""

    lhs: Doubles
    H: Doubles
    b: Doubles
    ridge: float
    l1: float

    @property
    def rhs(self) -> Doubles:
        """The right side (k,)."""
        return self.b @ self.H

    def shares(self, others: Doubles) -> Doubles:
        """Return each rating's share (m x n) of the scores of others (m x k), x being solved without constraints."""
        return self.b * (self.H @ self._inverse(others.T)).T

    def _inverse(self, right: Doubles) -> Doubles:
        if self.ridge > 0 or not len(self.H):
            try:
                return np.asarray(np.linalg.solve(self.lhs, right), np.float64)
            except np.linalg.LinAlgError:
                pass
        return np.asarray(np.linalg.lstsq(self.lhs, right)[0], np.float64)  # the smallest of many solutions

    def solve(self, nonnegative: bool) -> Doubles:
        """Return the row's k numbers.

        Raises
        ------
        TrainingError
            They are not finite.
        """
        x = self._inverse(self.rhs)
        if np.isfinite(x).all() and (nonnegative or self.l1):
            x = self._descent(x, nonnegative)
        if not np.isfinite(x).all():
            raise TrainingError("the ratings have no finite solution: their magnitudes or weights are too far apart")
        return x

    def _descent(self, x: Doubles, nonnegative: bool) -> Doubles:
        """Minimise x^T lhs x - 2 rhs^T x + l1 |x|_1, one coordinate at a time, from x on (``als.coordinate``)."""
        x, rhs, low = np.maximum(x, 0) if nonnegative else x.copy(), self.rhs, 0.0 if nonnegative else -np.inf
        for _ in range(MOST_SWEEPS):
            moved = 0.0
            for j in np.flatnonzero(self.lhs.diagonal() > 0):
                point = rhs[j] - self.lhs[j] @ x + self.lhs[j, j] * x[j]
                new = max(np.copysign(max(abs(point) - self.l1 / 2, 0.0), point) / self.lhs[j, j], low)
                moved, x[j] = max(moved, abs(new - x[j])), new
            if moved <= SETTLED * np.abs(x).max():
                break
        return x


def one_block(places: NDArray[Any], ratings: Doubles, weights: Doubles | None) -> Block:
    """Return the block of one row's ratings."""
    own: Any = np.empty(0) if weights is None else weights
    return Block(np.array([0, len(places)]), places.astype(np.int32), ratings, weights=own)


def equations(block: Block, fixed: Fixed, settings: Settings) -> Equations:
    """Return the equations of the one row of a block.

    Parameters
    ----------
    block : Block
        Its indices are rows of ``fixed.F``.
    fixed : Fixed
        The rows that the ratings name, in fp64, with the base form and the size of the whole side.
    settings : Settings
        The objective as the row sees it.
    """
    k = settings.rank + settings.bias[0]
    a, y = expand(block, slice(None), settings, fixed.intercept)
    target = y - fixed.offset[block.indices] if fixed.offset.size else y
    b = target if settings.implicit or not a.size else target * a
    H = fixed.F[block.indices, :k]
    reg, l1 = (float(weight[0]) for weight in row_ridges(block, settings, fixed.total))
    lhs = fixed.base[:k, :k] + (H.T * a if a.size else H.T) @ H + reg * np.eye(k)
    return Equations(lhs, H, b, reg, l1)
