"""Bayesian matrix factorization by Gibbs sampling: predictions averaged over samples, with their deviations."""

from __future__ import annotations

from dataclasses import replace

from pyspark.ml.param import TypeConverters
from pyspark.sql import DataFrame

from mfspark.blocks.build import Layout
from mfspark.blocks.profile import Profile, Totals
from mfspark.errors import ParameterError
from mfspark.estimators.exchange import ExchangeEstimator
from mfspark.estimators.keywords import keywords
from mfspark.kernels.csr import Side
from mfspark.kernels.objective import Settings
from mfspark.model.bpmf import BPMFModel, BPMFParams
from mfspark.model.factorization import Factorization
from mfspark.model.params import _param
from mfspark.training import bpmf_exchange
from mfspark.training.als_exchange import Exchange
from mfspark.training.bpmf import Chain, Sampling, start
from mfspark.training.bpmf_exchange import ChainState
from mfspark.training.checkpoint import Checkpoints, Resumable
from mfspark.training.history import Iteration
from mfspark.training.loop import Stopping, Sweep, run
from mfspark.training.starts import Start, initial_factors


class BPMF(ExchangeEstimator, BPMFParams):
    """Bayesian probabilistic matrix factorization (Salakhutdinov and Mnih 2008) by Gibbs sampling.

    r ~ N(mean + u . v, 1 / alpha), u ~ N(mu_U, Lambda_U^-1), v ~ N(mu_V, Lambda_V^-1), and each (mu, Lambda) has a
    Normal-Wishart prior with mu_0 = 0, beta_0 = 2, W_0 = I, nu_0 = rank. There is no regParam: the priors' precisions
    are sampled with everything else. Predictions are means over the kept samples.

    Parameters
    ----------
    rank : int, default 10
        Number of factors of one sample; the model's ``rank`` is numSamples times that.
    maxIter : int, default 60
        Number of sweeps.
    burnIn : int, default 20
        Sweeps at the start from which no sample is kept.
    numSamples : int, default 20
        Number of samples kept of the sweeps after burnIn, evenly spread.
    ratingPrecision : float, default 2
        alpha; the paper's value for ratings from 1 to 5. A rating's weight multiplies it.
    deviationCol : str, default ""
        Where not empty, ``transform`` adds a column of that name: the standard deviation of a rating, from the samples'
        spread and 1 / alpha.
    clip : bool, default False
        Clip predictions to the range of the training ratings.
    weightCol : str, optional
        Column of weights >= 0, which multiply ratingPrecision.
    validationIndicatorCol : str, optional
        Boolean column: rows that are not trained on, but whose RMSE is in the history.
    initStd : float, default 0.3
        The chain starts at N(0, initStd^2 / rank).
    seed : int, default 0
        The same seed and data give the same chain.
    userCol, itemCol, ratingCol, predictionCol, coldStartStrategy, filterSeen, blockSize, precision
        As in ``ALS``.
    carrier, materializer, intermediateStorageLevel, finalStorageLevel, workPath, checkpointInterval
        As in ``ALS``.
    numUserBlocks, numItemBlocks, verbose
        As in ``ALS``.

    Raises
    ------
    ParameterError
        By ``fit``, before any Spark job: a value or a combination that cannot take effect; it names what can.
    DataError
        By ``fit``: a column is missing or has nulls, NaN or another type.
    TrainingError
        By ``fit``: a row's precision is not positive definite.

    Examples
    --------
    >>> from mfspark import BPMF
    >>> model = BPMF(rank=16, deviationCol="deviation", clip=True).fit(ratings)
    """

    _model = BPMFModel
    _fixed = {"center": True}

    burnIn = _param("burnIn", "sweeps at the start that are forgotten, >= 0", TypeConverters.toInt)

    @keywords
    def __init__(
        self,
        *,
        rank: int = 10,
        maxIter: int = 60,
        burnIn: int = 20,
        numSamples: int = 20,
        ratingPrecision: float = 2.0,
        deviationCol: str = "",
        clip: bool = False,
        initStd: float = 0.3,
        seed: int = 0,
        userCol: str = "user",
        itemCol: str = "item",
        ratingCol: str = "rating",
        weightCol: str | None = None,
        validationIndicatorCol: str | None = None,
        predictionCol: str = "prediction",
        coldStartStrategy: str = "nan",
        filterSeen: bool = False,
        blockSize: int = 4096,
        numUserBlocks: int | None = None,
        numItemBlocks: int | None = None,
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
        """Raise ParameterError for a value that cannot take effect."""
        super()._check()
        value = self.getOrDefault
        if value("burnIn") < 0 or value("numSamples") < 1 or value("burnIn") + value("numSamples") > value("maxIter"):
            raise ParameterError(
                f"burnIn={value('burnIn')} and numSamples={value('numSamples')} need as many sweeps, but "
                f"maxIter={value('maxIter')}: burnIn >= 0, numSamples >= 1, burnIn + numSamples <= maxIter"
            )
        if not 0 < value("ratingPrecision") < float("inf"):
            raise ParameterError(f"ratingPrecision must be a finite number > 0, not {value('ratingPrecision')}")

    def _settings(self, found: Totals) -> Settings:  # noqa: ARG002
        """Return the parameters of one sample as the kernels take them."""
        return Settings(
            rank=self.getOrDefault("rank"), center="mean", folds="samples", dtype=self.getOrDefault("precision")
        )

    def _start(self, found: Totals, settings: Settings) -> tuple[Start, bool]:  # noqa: ARG002
        """Return where the chain starts; there are no power steps."""
        return Start(self._seed(), self.getOrDefault("initStd"), "normal"), False

    def _stopping(self, advice: str = "look for extreme ratings or weights") -> Stopping:
        """Return when to stop, and what to do about a loss that is not finite."""
        return super()._stopping(advice)

    def _chain(self) -> Chain:
        value = self.getOrDefault
        return Chain(value("ratingPrecision"), value("burnIn"), value("numSamples"), self._seed())

    def _joined(self, settings: Settings) -> Settings:
        """Return the settings of all samples side by side."""
        return replace(settings, rank=settings.rank * self.getOrDefault("numSamples"))

    def _train(
        self, blocks: DataFrame, layout: Layout, found: Profile, settings: Settings, checkpoints: Checkpoints
    ) -> tuple[Factorization, list[Iteration]]:
        value, chain = self.getOrDefault, self._chain()
        factors = initial_factors(found, settings, self._start(found, settings)[0])
        factors.intercept = found.mean
        sampling = Sampling(blocks, layout, settings, chain, value("maxIter"), self._limits(found), value("carrier"))
        state = start(factors, chain)
        earlier = checkpoints.resume(state)
        history = run(sampling, state, self._stopping(), self._hooks(), earlier, checkpoints)
        sides = [state.samples.joined(side) for side in Side]
        return self._result(found, self._joined(settings), sides, factors.intercept), history

    def _held_rows(self) -> int:
        """Return how many rows of factors the driver would hold for each id: all samples, and the last one."""
        return 1 + self.getOrDefault("numSamples")

    def _begin(self, exchange: Exchange, found: Totals, replaced: bool) -> ChainState:
        """Return the start of a chain, on the workers."""
        return bpmf_exchange.start(super()._begin(exchange, found, replaced), self._chain())

    def _sweep(self, exchange: Exchange) -> Sweep:
        """Return the sweep of a chain."""
        return bpmf_exchange.Sampling(exchange, self._chain(), self.getOrDefault("maxIter"))

    def _stored(self, exchange: Exchange, state: ChainState) -> Resumable:
        """Return a chain as checkpoints take it."""
        return bpmf_exchange.Stored(exchange, state)

    def _packed(self, exchange: Exchange, state: ChainState) -> tuple[Settings, list[DataFrame]]:
        """Return the settings of the model, and both sides' samples side by side."""
        return self._joined(exchange.settings), [bpmf_exchange.packed(exchange, side, state) for side in Side]
