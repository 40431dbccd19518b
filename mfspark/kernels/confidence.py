"""What a rating means: the coefficients of its term in the normal equations, and the ridge of each row.

One place for the conventions in which the libraries differ; fit, loss, fold-in and tests all come here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mfspark.errors import ParameterError

Array = NDArray[np.floating]


def _mllib(r: Array, alpha: float, w0: float) -> tuple[Array, Array]:
    """C = w0 + alpha |r|, as pyspark.ml (w0 = 1), after Hu, Koren, Volinsky 2008, section 4."""
    extra = alpha * np.abs(r)
    return extra, np.where(r > 0, w0 + extra, 0)


def _linear(r: Array, alpha: float, w0: float) -> tuple[Array, Array]:
    """C = alpha r, as ``implicit``, which multiplies by alpha and adds no one."""
    return alpha * r - w0, np.where(r > 0, alpha * r, 0)


def _log(r: Array, alpha: float, w0: float) -> tuple[Array, Array]:
    """C = w0 + alpha log(1 + |r|), Hu, Koren, Volinsky 2008, equation 6 with epsilon = 1."""
    extra = alpha * np.log1p(np.abs(r))
    return extra, np.where(r > 0, w0 + extra, 0)


def _ials(r: Array, alpha: float, w0: float) -> tuple[Array, Array]:  # noqa: ARG001
    """Observed terms alpha r (s - 1)^2 on top of w0 s^2 over all pairs: Rendle et al. 2022, equation 1."""
    return alpha * r, alpha * r


CONFIDENCES = {"mllib": _mllib, "linear": _linear, "log": _log, "ials": _ials}
"""The forms of confidence of an observed pair by name."""


def coefficients(confidence: str, r: Array, alpha: float, w0: float) -> tuple[Array, Array]:
    """Return a and b of the implicit normal equations for ratings r.

    With the fixed side's rows h and G = H^T H: lhs = w0 G + sum a h h^T, rhs = sum b h, and the loss of all pairs is
    sum over all pairs w0 s^2 + sum over the observed ones a s^2 - 2 b s + b (up to pairs with p = 0 and r < 0, for
    which b = 0).

    Parameters
    ----------
    confidence : str
        A key of CONFIDENCES.
    r : float array
        Ratings (counts); a pair is liked (p = 1) where r > 0.
    alpha : float
        How fast the confidence grows with r.
    w0 : float
        The weight of an unobserved pair.

    Returns
    -------
    a, b : float arrays of the shape of r
    """
    return CONFIDENCES[confidence](np.asarray(r), alpha, w0)


def ridge(counts: Array, reg_param: float, exponent: float, extra: float = 0.0) -> Array:
    """Return each row's L2 weight: reg_param * (count + extra) ** exponent.

    exponent 1 is MLlib's (ALS-WR, Zhou et al. 2008, section 3.1), 0 the plain ridge; ``extra = w0 * n`` is iALS's
    (Rendle et al. 2022, section 3.3).
    """
    if reg_param < 0:
        raise ParameterError(f"regParam must be >= 0, not {reg_param}")
    return reg_param * np.power(np.asarray(counts, dtype=np.float64) + extra, exponent)
