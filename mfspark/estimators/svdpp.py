"""SVD++: factors, biases, and what the set of rated items tells of a user, by distributed SGD."""

from __future__ import annotations

from pyspark.ml.param import TypeConverters
from pyspark.ml.param.shared import HasStepSize
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
from mfspark.training.checkpoint import Checkpoints
from mfspark.training.history import Iteration
from mfspark.training.loop import run
from mfspark.training.svdpp import Descent, Epochs, start


class SVDPlusPlus(BlockEstimator, HasStepSize):
    """SVD++ (Koren 2008, section 5), trained by stochastic gradient descent on blocks of users.

    Predicts mean + b_u + b_i + q_i . (p_u + |N(u)|^-1/2 sum over j in N(u) of y_j), where N(u) are the items that the
    user rated, and minimises

        sum over the ratings of (r - prediction)^2 + lambda_B (b_u^2 + b_i^2) + lambda_U |p_u|^2 + lambda_V |q_i|^2
                                + lambda_Y sum over j in N(u) of |y_j|^2

    The fitted model is an ordinary ``FactorizationModel``: a user's factors are p_u with its implicit part added.
    Users who come later can be folded in, but by ridge regression of their ratings on q (whose ridge lambda_U shrinks
    the whole vector, not p_u alone): a training user's ratings do not give back exactly its factors.

    Parameters
    ----------
    rank : int, default 10
        Number of factors.
    maxIter : int, default 20
        Number of passes over the ratings.
    stepSize : float, default 0.007
        The first step eta.
    stepDecay : float, default 0.03
        In iteration t = 0, 1, ... the step is stepSize * exp(-stepDecay t).
    regParam, regParamUser, regParamItem : float, default 0.02, regParam, regParam
        lambda_U and lambda_V, per rating as above: a row's weight grows with its number of ratings.
    regParamImplicit : float, default 0.002
        lambda_Y. The sum above has |N(u)| terms for every one of a user's ratings, so that it should be much smaller
        than the others.
    regParamBias : float, default 0.01
        lambda_B.
    initStd : float, default 0.1
        p and q start at N(0, initStd^2 / rank); y and the biases at 0.
    tol : float, default 0
        Stop when the loss falls by less than this share in an iteration; 0 never stops early.
    clip : bool, default False
        Clip predictions to the range of the training ratings.
    validationIndicatorCol : str, optional
        Boolean column: rows that are not trained on, but whose RMSE is in the history.
    seed : int, default 0
        The same seed, data and number of blocks give the same factors.
    userCol, itemCol, ratingCol, predictionCol, coldStartStrategy, filterSeen, blockSize, numUserBlocks, verbose
        As in ``ALS``.
    carrier, materializer, intermediateStorageLevel, finalStorageLevel, workPath, checkpointInterval
        As in ``ALS``.

    Raises
    ------
    ParameterError
        By ``fit``, before any Spark job: a value or a combination that cannot take effect; it names what can.
    DataError
        By ``fit``: a column is missing or has nulls, NaN or another type.
    TrainingError
        By ``fit``: the loss is not finite: the step is too large.

    Examples
    --------
    >>> from mfspark import SVDPlusPlus
    >>> model = SVDPlusPlus(rank=20, maxIter=30, clip=True).fit(ratings)
    """

    stepDecay = _param("stepDecay", "how fast the step falls, per iteration, >= 0", TypeConverters.toFloat)
    regParamImplicit = _param("regParamImplicit", "lambda_Y, of the implicit factors", TypeConverters.toFloat)
    regParamBias = _param("regParamBias", "lambda_B, of the biases", TypeConverters.toFloat)

    _sides = (Side.USER,)
    _fixed = {"userBias": True, "itemBias": True, "center": True}

    _cut_matters = True

    @keywords
    def __init__(
        self,
        *,
        rank: int = 10,
        maxIter: int = 20,
        regParam: float = 0.02,
        regParamUser: float | None = None,
        regParamItem: float | None = None,
        regParamImplicit: float = 0.002,
        regParamBias: float = 0.01,
        clip: bool = False,
        stepSize: float = 0.007,
        stepDecay: float = 0.03,
        tol: float = 0.0,
        initStd: float = 0.1,
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
        carrier: str = "auto",
        materializer: str = "auto",
        intermediateStorageLevel: str = "MEMORY_AND_DISK",
        finalStorageLevel: str = "MEMORY_AND_DISK",
        workPath: str | None = None,
        checkpointInterval: int = 10,
        verbose: bool | None = None,
    ) -> None: ...

    def _check(self) -> None:
        """Raise ParameterError for a value that cannot take effect."""
        super()._check()
        for name in ("regParamImplicit", "regParamBias", "stepDecay", "initStd"):
            value = self.getOrDefault(name)
            if not 0 <= value < float("inf"):
                raise ParameterError(f"{name} must be a finite number >= 0, not {value}")
        if not 0 < self.getOrDefault("stepSize") < float("inf"):
            raise ParameterError(f"stepSize must be a finite number > 0, not {self.getOrDefault('stepSize')}")

    def _settings(self, found: Totals) -> Settings:  # noqa: ARG002
        """Return the parameters as the kernels take them, seen from the user side."""
        return Settings(
            rank=self.getOrDefault("rank"), reg_param=self._lambdas(), bias=(True, True), center="mean", folds="svdpp"
        )

    def _train(
        self, blocks: DataFrame, layout: Layout, found: Profile, settings: Settings, checkpoints: Checkpoints
    ) -> tuple[Factorization, list[Iteration]]:
        value = self.getOrDefault
        sizes = (len(found.sides[0]), len(found.sides[1]))
        state = start(sizes, settings.rank, found.mean, self._seed(), value("initStd"))
        lambdas = (*settings.reg_param, value("regParamImplicit"), value("regParamBias"))
        descent = Descent(value("stepSize"), value("stepDecay"), lambdas, self._seed())
        epochs = Epochs(blocks, layout, descent, value("maxIter"), self._limits(found), value("carrier"))
        stopping, earlier = self._stopping("lower stepSize"), checkpoints.resume(state)
        history = run(epochs, state, stopping, self._hooks(), earlier, checkpoints)
        point = epochs.finish(state)
        return self._result(found, settings, (point.users, point.items), point.mean), history
