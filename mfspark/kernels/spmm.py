"""Products of a sparse block in CSR form, and of its transpose, with tall, thin matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfspark.kernels.compile import jit
from mfspark.kernels.simd import PANEL, add_scaled


@jit(fastmath=True)
def add_product(indptr, indices, values, Q, out):  # type: ignore[no-untyped-def]
    """Add S Q to out, for S (rows x n) and Q (n x k); k is a multiple of PANEL."""
    for r in range(indptr.size - 1):
        for t in range(indptr[r], indptr[r + 1]):
            add_scaled(out, r, Q, indices[t], values[t], 0)


@jit(fastmath=True)
def add_transposed_product(indptr, indices, values, Y, out):  # type: ignore[no-untyped-def]
    """Add S^T Y to out, for S (rows x n) and Y (rows x k); k is a multiple of PANEL."""
    for r in range(indptr.size - 1):
        for t in range(indptr[r], indptr[r + 1]):
            add_scaled(out, indices[t], Y, r, values[t], 0)


def padded(array: NDArray[Any]) -> NDArray[np.float64]:
    """Return an array (n, k) in double precision with zero columns up to a multiple of PANEL."""
    n, k = array.shape
    out = np.zeros((n, -(-k // PANEL) * PANEL))
    out[:, :k] = array
    return out
