"""The truncated singular value decomposition of a matrix of ratings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pyspark.ml.param import TypeConverters
from pyspark.sql import DataFrame

from mfspark.blocks.build import Layout
from mfspark.blocks.profile import Profile, Totals
from mfspark.errors import ParameterError
from mfspark.estimators.base import BlockEstimator
from mfspark.estimators.keywords import keywords
from mfspark.kernels.csr import Side
from mfspark.kernels.objective import Settings
from mfspark.model.factorization import Factorization
from mfspark.model.params import _param
from mfspark.training.als import Factors
from mfspark.training.checkpoint import Checkpoints
from mfspark.training.gradient_descent import Descent, Pass
from mfspark.training.history import Iteration
from mfspark.training.truncated_svd import IMPUTATIONS, Matrix, background, factorize


class TruncatedSVD(BlockEstimator):
    """The best approximation of rank k of the whole matrix, missing pairs being 0 or a mean (Eckart, Young 1936).

    Unlike the other estimators, which fit the rated pairs only, this takes all users x items pairs as data: no matrix
    of rank k has a smaller sum of squared errors over all of them. For a fully observed matrix the two agree without
    regularisation. Found by randomised block subspace iteration (Halko, Martinsson, Tropp 2011, algorithm 4.4), in
    double precision, without forming the matrix.

    The model's factors are x_u = U_u sqrt(S) and y_i = V_i sqrt(S), so that predictions are entries of U S V^T;
    ``model.singularValues`` has S, and dividing the factors by its root gives back the orthonormal U and V.
    Singular values below about 1e-8 of the largest are not resolved, since the iteration works with A^T A.

    Parameters
    ----------
    rank : int, default 10
        k, at most the smaller of the numbers of users and items.
    imputation : str, default "zero"
        What a missing pair is: "zero"; "mean" of all ratings; "userMean"; "itemMean". The means are added as a
        rank-one matrix and never stored. With "zero" pairs that occur twice add up; with means every pair must be
        unique.
    oversampling : int, default 10
        Further dimensions of the subspace that is iterated: more dimensions need fewer iterations.
    maxIter : int, default 10
        The largest number of iterations, at least 1; each is a pass over the ratings.
    tol : float, default 1e-8
        Stop when the captured sum of squares grows by less than this share of the matrix's; 0 never stops early.
    seed : int, default 0
        Of the random subspace at the start.
    clip : bool, default False
        Clip predictions to the range of the ratings.
    validationIndicatorCol : str, optional
        Boolean column: rows that are left out (missing, hence imputed); their RMSE is in the last line of the history.
    userCol, itemCol, ratingCol, predictionCol, coldStartStrategy, filterSeen, blockSize, precision
        As in ``ALS``.
    numUserBlocks, verbose
        As in ``ALS``.
    carrier, materializer, intermediateStorageLevel, finalStorageLevel, workPath, checkpointInterval
        As in ``ALS``.

    Raises
    ------
    ParameterError
        By ``fit``, before any Spark job: a value or a combination that cannot take effect; it names what can.
    DataError
        By ``fit``: a column is missing or has nulls, NaN or another type.

    Notes
    -----
    The history's ``loss`` is the squared Frobenius error |A - U S V^T|^2. Regularisation, biases, weights and
    constraints do not apply; setting one raises, and so do folding in and a rank above that of the matrix's shape.

    Examples
    --------
    >>> from mfspark import TruncatedSVD
    >>> model = TruncatedSVD(rank=2, imputation="itemMean").fit(ratings)
    >>> model.singularValues
    """

    imputation = _param("imputation", "one of " + ", ".join(IMPUTATIONS), TypeConverters.toString)
    oversampling = _param("oversampling", "further dimensions of the subspace, >= 0", TypeConverters.toInt)

    _sides = (Side.USER,)

    @keywords
    def __init__(
        self,
        *,
        rank: int = 10,
        maxIter: int = 10,
        imputation: str = "zero",
        oversampling: int = 10,
        clip: bool = False,
        tol: float = 1e-08,
        seed: int = 0,
        userCol: str = "user",
        itemCol: str = "item",
        ratingCol: str = "rating",
        validationIndicatorCol: str | None = None,
        predictionCol: str = "prediction",
        coldStartStrategy: str = "nan",
        filterSeen: bool = False,
        blockSize: int = 4096,
        numUserBlocks: int | None = None,
        precision: str = "float32",
        carrier: str = "auto",
        materializer: str = "auto",
        intermediateStorageLevel: str = "MEMORY_AND_DISK",
        finalStorageLevel: str = "MEMORY_AND_DISK",
        workPath: str | None = None,
        checkpointInterval: int = 10,
        verbose: bool | None = None,
    ) -> None: ...

    def _check(self) -> None:
        """Raise ParameterError for a value or a combination that cannot take effect."""
        super()._check()
        self._check_choice("imputation", IMPUTATIONS)
        for name, least in (("maxIter", 1), ("oversampling", 0)):
            if self.getOrDefault(name) < least:
                raise ParameterError(f"{name} must be at least {least}, not {self.getOrDefault(name)}")

    def _settings(self, found: Totals) -> Settings:
        """Return the parameters as the kernels take them."""
        assert isinstance(found, Profile)  # its carriers list the ids
        rank, least = self.getOrDefault("rank"), min(len(side) for side in found.sides)
        if rank > least:
            users, items = (len(side) for side in found.sides)
            raise ParameterError(f"rank is {rank}, but a matrix of {users} users x {items} items has at most {least}")
        return Settings(rank=rank, reg_param=(0.0, 0.0), folds="svd", dtype=self.getOrDefault("precision"))

    def _train(
        self, blocks: DataFrame, layout: Layout, found: Profile, settings: Settings, checkpoints: Checkpoints
    ) -> tuple[Factorization, list[Iteration]]:
        value = self.getOrDefault
        shape = (len(found.sides[0]), len(found.sides[1]))
        behind = background(blocks, layout, found, value("imputation"))
        matrix = Matrix(blocks, layout, shape, behind, value("carrier"))
        width = settings.rank + value("oversampling")
        stopping, hooks = self._stopping(), self._hooks()
        result, history = factorize(matrix, settings.rank, width, self._seed(), stopping, hooks, checkpoints)
        sides = [vectors * np.sqrt(result.s) for vectors in (result.U, result.V)]
        fitted = self._result(found, settings, sides)
        if found.held_out:
            weights = [side.counts.astype(np.float64) for side in found.sides]
            measure = Pass(blocks, layout, settings, Descent(), weights, fitted.limits, value("carrier"))
            rmse = measure.at(Factors(list(fitted.sides)), 0, last=True).validation_rmse
            history[-1] = replace(history[-1], validation_rmse=rmse)
        return fitted, history
