"""What is minimised: what a rating means, the ridge of each row, and a side made ready to be the fixed one.

One place for the conventions in which the libraries differ; fit, loss, fold-in and tests all come here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mfspark.errors import ParameterError
from mfspark.kernels.csr import EMPTY, PANEL, Block, Side

Array = NDArray[np.floating]


def _mllib(r: Array, alpha: float, w0: float) -> tuple[Array, Array]:
    """C = w0 + alpha |r|, as pyspark.ml (w0 = 1), after Hu, Koren, Volinsky 2008, section 4."""
    extra = alpha * np.abs(r)
    return extra, np.where(r > 0, w0 + extra, 0)


def _linear(r: Array, alpha: float, w0: float) -> tuple[Array, Array]:
    """C = alpha |r|, as ``implicit``, which adds no one: a negative r is a dislike held with confidence alpha |r|."""
    c = alpha * np.abs(r)
    return c - w0, np.where(r > 0, c, 0)


def _log(r: Array, alpha: float, w0: float) -> tuple[Array, Array]:
    """C = w0 + alpha log(1 + |r|), Hu, Koren, Volinsky 2008, equation 6 with epsilon = 1."""
    extra = alpha * np.log1p(np.abs(r))
    return extra, np.where(r > 0, w0 + extra, 0)


def _ials(r: Array, alpha: float, w0: float) -> tuple[Array, Array]:  # noqa: ARG001
    """Observed terms alpha |r| (s - p)^2 on top of w0 s^2 over all pairs: Rendle et al. 2022, equation 1 (r > 0)."""
    extra = alpha * np.abs(r)
    return extra, np.where(r > 0, extra, 0)


CONFIDENCES = {"mllib": _mllib, "linear": _linear, "log": _log, "ials": _ials}
"""The forms of confidence of an observed pair by name."""


def coefficients(confidence: str, r: Array, alpha: float, w0: float) -> tuple[Array, Array]:
    """Return a and b of the implicit normal equations for ratings r.

    With the fixed side's rows h and G = H^T H: lhs = w0 G + sum a h h^T, rhs = sum b h, and the loss of all pairs is
    sum over all pairs w0 s^2 + sum over the observed ones a s^2 - 2 b s + b.

    Parameters
    ----------
    confidence : str
        A key of CONFIDENCES.
    r : float array
        Ratings (counts); a pair is liked (p = 1) where r > 0, and observed but not liked (p = 0) elsewhere, the surer
        the more negative r is. a is at least -w0, so that the equations stay positive definite.
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


def visit_regularisation(weight: Array, counts: Array, reg: float, exponent: float) -> float | NDArray[np.float32]:
    """Return the L2 to apply at each visit so that an epoch applies ``reg * weight ** exponent`` to a row.

    Parameters
    ----------
    weight, counts : float64 arrays (n,)
        A row's sum of weights, and its number of visits in an epoch.
    reg, exponent : float
        lambda and nu.
    """
    if exponent == 1.0 and weight is counts:
        return reg
    scale = np.zeros(len(counts), np.float32)
    met = (counts > 0) & (weight > 0)
    scale[met] = ridge(weight[met], reg, exponent) / counts[met]
    return scale


WARM_SOLVERS = ("cg", "subspace", "descent", "coordinate")
RATINGS_AT_ONCE = 4_000_000  # how many ratings are expanded from codes to floats at a time


INTERCEPTS = ("none", "mean", "learned")
"""How a model's constant comes about: 0, the link of the mean rating, or a parameter of the descent."""
REFUSALS = {
    "samples": "BPMF cannot fold in: fit again with the new ratings, or use ALS",
    "svd": "this model's factors do not solve ALS's equations, so that nothing can be folded in: fit again, or use ALS",
    "untold": "a model of MLlib does not hold what it minimises, which fold-in needs: tell it by "
    "FactorizationModel.fromMLlib(model, estimator), the estimator being the ALS that fitted it",
    "svdpp": "SVDPlusPlus cannot fold in: the model keeps no implicit factors: fit again, or use ALS with biases",
}
"""Why a model cannot be folded into, by the rule ``Objective.folds``."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What is minimised, once for fit, loss, fold-in and the stored model; pairs are (user, item).

    With s = intercept + b_u + b_i + x_u . y_i and p = [r > 0], the fit is

    - explicit: sum over the ratings of w l(s, r), l a key of ``losses.LOSSES`` (twice it for "squared": (r - s)^2);
    - implicit, ``negatives`` 0: sum over all pairs of c (p - s)^2, c by ``coefficients``;
    - implicit, ``negatives`` n > 0: the mean over the draws of sum w l(s, p) over the ratings and of l(s, 0) over n
      unrated items, drawn uniformly for each (``kernels.sgd.expected``),

    beside the L2 and L1 weights of each row, ``ridge``.

    Parameters
    ----------
    loss : str
        A key of ``losses.LOSSES``.
    implicit : bool
        Whether all pairs count (Hu, Koren, Volinsky 2008) or the observed ones only.
    confidence, alpha, w0
        See ``coefficients``; implicit without ``negatives`` only.
    negatives : int
        Unrated items drawn for each rating, or 0.
    reg_param, l1, bias : tuples
        By side: the L2 weight, the L1 weight, whether the side has a bias.
    exponent : float
        nu of the count scaling.
    nonnegative : bool
        Factors >= 0.
    center : str
        One of INTERCEPTS.
    folds : str
        "rows" where each row minimises the objective given the other side, or why not: a key of REFUSALS.
    """

    loss: str = "squared"
    implicit: bool = False
    confidence: str = "mllib"
    alpha: float = 1.0
    w0: float = 1.0
    negatives: int = 0
    reg_param: tuple[float, float] = (0.1, 0.1)
    l1: tuple[float, float] = (0.0, 0.0)
    bias: tuple[bool, bool] = (False, False)
    exponent: float = 1.0
    nonnegative: bool = False
    center: str = "none"
    folds: str = "rows"

    def refusal(self, side: Side) -> str | None:
        """Return why new ids of a side cannot be folded in, or None where they can."""
        if self.folds in REFUSALS:
            return REFUSALS[self.folds]
        if self.loss != "squared":
            return f"fold-in solves the equations of the squared loss, not of {self.loss!r}: fit again"
        if self.negatives and side == Side.ITEM:
            return (
                "items cannot be folded into a model of drawn negatives, which does not keep how many each user drew: "
                "fit again, or use ALS(implicitPrefs=True)"
            )
        return None

    def unexplained(self) -> str | None:
        """Return why a user's score is not the sum of what each rating contributes, or None where it is."""
        refusal = self.refusal(Side.USER)
        if refusal is not None:
            return f"an explanation solves the user's equations again, but {refusal}"
        if self.nonnegative or any(self.l1):
            return "under nonnegative or elasticNetParam a score is not a sum over the ratings: nothing is explained"
        if self.negatives:
            return "with drawn negatives a score comes from items that were not rated, too: nothing is explained"
        return None

    def swapped(self) -> Self:
        """Return the same seen from the other side."""
        return replace(self, reg_param=self.reg_param[::-1], l1=self.l1[::-1], bias=self.bias[::-1])


@dataclass(frozen=True)
class Settings(Objective):
    """An objective and how a half step solves it; pairs are (this for the solved side, that for the fixed side).

    Parameters
    ----------
    rank : int
        The number of factors k, without bias and padding.
    solver, steps, size
        A key of SOLVERS or "auto", the CG steps or the sweeps over coordinates, the subspace size.
    dtype : str
        "float32" or "float64".
    """

    rank: int
    solver: str = "auto"
    steps: int = 3
    size: int = 64
    dtype: str = "float32"

    @property
    def objective(self) -> Objective:
        """What is minimised, without how."""
        return Objective(**{part.name: getattr(self, part.name) for part in fields(Objective)})

    @property
    def width(self) -> int:
        """The number of columns in use: the factors, and one for the biases."""
        return self.rank + any(self.bias)

    @property
    def itemsize(self) -> int:
        """The bytes of one number."""
        return np.dtype(self.dtype).itemsize

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


@dataclass(frozen=True)
class Fixed:
    """The fixed side, ready for a half step: F (n x padded), the targets' offset (n or 0), the base form (fp64).

    ``total`` is the number of rows of the whole side, of which F may be the part that a block needs.
    """

    F: NDArray[Any]
    offset: NDArray[Any]
    base: NDArray[Any]
    intercept: float = 0.0
    total: int = 0


def fix(
    side: NDArray[Any],
    settings: Settings,
    intercept: float = 0.0,
    base: NDArray[Any] | None = None,
    total: int | None = None,
) -> Fixed:
    """Prepare a side's array (n x padded) to be the fixed one; ``settings`` are those of the solved side.

    A solved bias sees a constant factor 1, and the fixed side's biases are taken from the targets (the augmented
    equations of a biased model). In the implicit case the base form is w0 F^T F, summed in fp64; where ``side`` is only
    a part of the fixed side, ``base`` and ``total`` are those of the whole.
    """
    F, offset = np.ascontiguousarray(side), EMPTY.astype(side.dtype)
    solved_bias, fixed_bias = settings.bias
    if solved_bias or fixed_bias:
        F = F.copy()
        offset = F[:, settings.rank].copy() if fixed_bias else offset
        F[:, settings.rank] = 1 if solved_bias else 0
    if base is None:
        base = np.zeros((settings.padded, settings.padded))
        if settings.implicit and settings.w0:
            base += settings.w0 * gramian(F)
    return Fixed(F, offset, base, intercept, len(F) if total is None else total)


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
    ratings = block.distinct(part).astype(number)
    weights = block.weights[part].astype(number)
    if settings.implicit:
        a, y = (x.astype(number) for x in coefficients(settings.confidence, ratings, settings.alpha, settings.w0))
        a, y = block.each(a, part), block.each(y, part)
        return (a * weights, y * weights) if weights.size else (a, y)
    y = ratings - number.type(intercept)
    return weights, block.each(y, part)


def row_ridges(block: Block, settings: Settings, n_fixed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return each row's weights of |x|_2^2 and |x|_1; the count is MLlib's: ratings > 0 if implicit, weights add up."""
    counted: NDArray[Any] = np.diff(block.indptr).astype(np.float64)
    liked = block.distinct() > 0
    if block.weights.size or (settings.implicit and not liked.all()):
        each = block.weights if block.weights.size else block.each(liked)
        rows = np.repeat(np.arange(block.rows), np.diff(block.indptr))
        counted = np.bincount(rows, weights=each, minlength=block.rows)
    extra = settings.w0 * n_fixed if settings.implicit and settings.confidence == "ials" else 0.0
    return (
        ridge(counted, settings.reg_param[0], settings.exponent, extra),
        ridge(counted, settings.l1[0], settings.exponent, extra),
    )


def stretches(indptr: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Cut rows into stretches of about RATINGS_AT_ONCE ratings, so that their floats take little memory."""
    rows = indptr.size - 1
    if rows == 0:
        return []
    marks = np.arange(1, indptr[-1] // RATINGS_AT_ONCE + 1) * RATINGS_AT_ONCE
    cuts = np.unique(np.concatenate([[0], np.searchsorted(indptr[:-1], marks), [rows]]))
    return list(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True))
