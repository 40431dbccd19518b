"""Rows of factors as vectors, in numpy alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfspark.kernels.objective import Settings


def unit_rows(X: NDArray[Any]) -> NDArray[Any]:
    """Return rows (n x k) scaled to length 1, whose products are cosines; a zero row stays zero."""
    norms = np.linalg.norm(X, axis=1, keepdims=True)
    return X / np.where(norms == 0, 1, norms)


def padded(rows: NDArray[Any], settings: Settings) -> NDArray[Any]:
    """Return a copy of rows (n x columns in use) in the settings' type, padded with zeros (n x padded)."""
    X = np.zeros((len(rows), settings.padded), settings.dtype)
    X[:, : rows.shape[1]] = rows
    return X
