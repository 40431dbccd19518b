"""Orthogonal Procrustes alignment: how far factors have moved, once what no prediction can tell has been turned away.

With an orthogonal Q the factors U Q and V Q predict what U and V predict, so that two fits of one model may differ by a
rotation (or reflection) and be the same model. Schoenemann 1966, "A generalized solution of the orthogonal Procrustes
problem": argmin_Q |A Q - B|_F = W Z^T, where W S Z^T is the singular value decomposition of A^T B.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Drift(NamedTuple):
    """How far the rows of one side have moved.

    Parameters
    ----------
    relative : float
        |A Q - B|_F / |B|_F: 0 where nothing moved, about 1.4 for factors that have nothing to do with each other.
    cosine : float
        The mean cosine between the rows of A Q and of B; NaN where no pair of rows has a direction.
    """

    relative: float
    cosine: float


def rotation(a: Array, b: Array) -> Array:
    """Return the orthogonal matrix (k, k) that brings the rows of a nearest to those of b.

    Parameters
    ----------
    a, b : float64 array (n, k)
        Row i of both belongs together.

    Examples
    --------
    >>> turned = rotation(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[0.0, 1.0], [2.0, 0.0]]))
    >>> np.abs(turned).round(12).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    left, _, right = np.linalg.svd(a.T @ b)
    turned: Array = left @ right
    return turned


def drift(a: Array, b: Array, turn: Array) -> Drift:
    """Return how far the rows of b are from those of a, turned.

    Parameters
    ----------
    a, b : float64 array (n, k)
        Row i of both belongs together; n may be 0.
    turn : float64 array (k, k)
        As ``rotation`` returns it, perhaps of more rows than these.
    """
    moved = a @ turn
    whole, apart = float(np.linalg.norm(b)), float(np.linalg.norm(moved - b))
    relative = apart / whole if whole else (0.0 if apart == 0 else float("inf"))
    norms = np.linalg.norm(moved, axis=1) * np.linalg.norm(b, axis=1)
    known = norms > 0
    cosines = np.einsum("ij,ij->i", moved[known], b[known]) / norms[known]
    return Drift(relative, float(cosines.mean()) if cosines.size else float("nan"))
