"""What the estimators that train on the frame of blocks share: parameters in, blocks made, kept and let go."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyspark.ml.util import MLReadable, MLWritable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StringType

from mfspark.blocks import build as block_frames
from mfspark.blocks.build import Layout
from mfspark.blocks.columns import Columns, scan, select
from mfspark.blocks.encode import encode
from mfspark.blocks.profile import Profile, Totals, profile, survey
from mfspark.errors import ParameterError
from mfspark.estimators.checkpointed import CheckpointedEstimator
from mfspark.estimators.keywords import with_keywords_of
from mfspark.estimators.options import OFF
from mfspark.estimators.prepared import Blocks, Fits, Prepared
from mfspark.kernels.csr import Side
from mfspark.kernels.objective import Settings
from mfspark.kernels.rows import padded
from mfspark.model.answers import Fitted
from mfspark.model.factorization import Factorization, SeenBlocks
from mfspark.model.model import FactorizationModel
from mfspark.model.persistence import ParamsReader, ParamsWriter
from mfspark.model.popular import most_rated
from mfspark.session import default_parallelism, driver_limit
from mfspark.store import tables
from mfspark.training.checkpoint import NEVER, Checkpoints
from mfspark.training.history import Iteration
from mfspark.training.loop import Hook, Stopping
from mfspark.training.placement import JOBS, Placement
from mfspark.training.progress import pace, reporter
from mfspark.transport.carriers import CARRIERS
from mfspark.transport.persist import MATERIALIZERS, STORAGE_LEVELS, Materialiser, Workspace
from mfspark.transport.slots import SlotsLostError

LOGGER = logging.getLogger("mfspark.training")


class _Interrupted(Exception):
    """A barrier stage has lost slots; ``fewer`` is the estimator that does without them."""

    def __init__(self, fewer: BlockEstimator) -> None:
        super().__init__()
        self.fewer = fewer


class Encoded(NamedTuple):
    """The encoded ratings, what the first pass learned of them, whether they carry weights, which ids are texts."""

    frame: DataFrame
    found: Totals
    weighted: bool
    texts: tuple[bool, bool]


class BlockEstimator(CheckpointedEstimator, MLReadable, MLWritable):
    """Checks, profiles, builds the blocks of the sides a subclass names, and calls its ``_train``."""

    _carriers: tuple[str, ...] = ("auto", *CARRIERS)
    _sides: tuple[Side, ...] = tuple(Side)
    _model: type[FactorizationModel] = FactorizationModel
    _most_tasks: int | None = None  # how many can run at once, where a fit has found that out
    _fixed: ClassVar[dict[str, Any]] = {}  # options of options.OFF that stand at something else here
    _cut_matters = False  # whether the numbers depend on how the sides are cut into blocks

    _listeners: tuple[Hook, ...] = ()
    """Who else is told of every iteration of a loop that runs in the driver, such as ``tracking.Watch``."""

    def __init__(self) -> None:
        super().__init__()
        self._set_model_defaults()
        self._setDefault(**{**OFF, **self._fixed})

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let ``setParams`` show the keywords of the class's ``__init__``."""
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls) and "setParams" not in vars(cls):
            cls.setParams = with_keywords_of(cls, cls.setParams)  # type: ignore[method-assign]

    def setInitialModel(self, model: FactorizationModel | None) -> BlockEstimator:
        """Refuse an earlier model as start: ALS takes one.

        Raises
        ------
        ParameterError
            There is a model.
        """
        if model is not None:
            raise ParameterError(f"{type(self).__name__} cannot start from a model: choose ALS, or fold new ids in")
        return self

    def _settings(self, found: Totals) -> Settings:
        """Return the parameters as the kernels take them, seen from the user side."""
        raise NotImplementedError

    def _train(
        self, blocks: DataFrame, layout: Layout, found: Profile, settings: Settings, checkpoints: Checkpoints
    ) -> tuple[Factorization, list[Iteration]]:
        raise NotImplementedError

    def _check(self) -> None:
        """Raise ParameterError for a value or a combination that cannot take effect."""
        super()._check()
        self._check_choice("carrier", self._carriers)
        self._check_choice("materializer", ("auto", *MATERIALIZERS))
        levels = {name: self.getOrDefault(name) for name in ("intermediateStorageLevel", "finalStorageLevel")}
        for name in levels:
            self._check_choice(name, STORAGE_LEVELS)
        if levels["intermediateStorageLevel"] == "NONE":
            raise ParameterError("intermediateStorageLevel cannot be NONE: keep no blocks by materializer='none'")
        if self.isSet("intermediateStorageLevel") and self.getOrDefault("materializer") not in ("auto", "persist"):
            raise ParameterError("intermediateStorageLevel takes effect only with materializer 'persist' or 'auto'")

    def _refuse(self, names: tuple[str, ...], why: str) -> None:
        """Raise ParameterError where one of these parameters is set to something else than its default."""
        for name in names:
            parameter = self.getParam(name)
            if self.isSet(parameter) and self.getOrDefault(parameter) != self._defaultParamMap.get(parameter):
                raise ParameterError(f"{name} {why}")

    def _lambdas(self) -> tuple[float, float]:
        """Return lambda_U and lambda_V: regParam where they are not set."""
        both = self.getOrDefault("regParam")
        user, item = (self._optional(name) for name in ("regParamUser", "regParamItem"))
        return both if user is None else user, both if item is None else item

    def _limits(self, found: Totals) -> tuple[float, float]:
        """Return the range to which predictions are clipped."""
        return (found.low, found.high) if self.getOrDefault("clip") else (-np.inf, np.inf)

    def _mean(self, found: Totals) -> float:
        """Return what is predicted of unknown pairs: the mean rating, NaN for implicit feedback, which has none."""
        return np.nan if self._implicit() else found.mean

    def _stopping(self, advice: str = "raise regParam, or divide extreme ratings by a constant") -> Stopping:
        """Return when to stop, and what to do about a loss that is not finite."""
        return Stopping(self.getOrDefault("maxIter"), self.getOrDefault("tol"), advice=advice)

    def _hooks(self) -> list[Hook]:
        """Return who is told of every iteration."""
        told = reporter(self.getOrDefault("maxIter"), pace(self._optional("verbose")), type(self).__name__)
        return [told, *self._listeners]

    def _result(
        self, found: Profile, settings: Settings, sides: Sequence[NDArray[Any]], intercept: float = 0.0
    ) -> Factorization:
        """Return what a fit came to; ``sides`` (n x columns in use, or padded) are padded to the settings' width."""
        users, items = (_padded(side, settings) for side in sides)
        ids = (found.sides[0].ids, found.sides[1].ids)
        return Factorization(settings, ids, (users, items), intercept, self._limits(found), self._mean(found))

    def _columns(self) -> Columns:
        """Return the names of the input columns."""
        names = ("userCol", "itemCol", "ratingCol", "weightCol", "validationIndicatorCol")
        return Columns(*(self._optional(name) or ("" if name == "ratingCol" else None) for name in names))  # type: ignore[arg-type]

    def _check_fit(self, dataset: DataFrame) -> None:  # noqa: ARG002
        """Raise for what cannot take effect on a data set; nothing is read."""
        self._check()

    def _fit(self, dataset: DataFrame) -> FactorizationModel:
        self._check_fit(dataset)
        estimator = self
        while True:
            try:
                return estimator._fit_once(dataset)
            except _Interrupted as interrupted:
                LOGGER.warning("%s; the fit begins anew with what is left", interrupted.__cause__)
                estimator = interrupted.fewer

    @contextmanager
    def _again_with_fewer(self, layout: Layout) -> Iterator[None]:
        """Have a fit that lost slots begin again, on the same blocks, with the slots that are left."""
        try:
            yield
        except SlotsLostError as lost:
            if lost.slots == 0:
                raise
            names = {side: f"num{side.stem.capitalize()}Blocks" for side in self._sides}
            fewer: BlockEstimator = self.copy(
                {self.getParam(name): len(layout.bounds[side]) - 1 for side, name in names.items()}
            )
            fewer._most_tasks = lost.slots
            raise _Interrupted(fewer) from lost

    def prepare(self, dataset: DataFrame) -> Prepared:
        """Return the ratings as blocks that are kept, on which fits with other parameters start at once.

        Parameters
        ----------
        dataset : DataFrame
            The ratings; they must stay what they are until ``close``.

        Returns
        -------
        Prepared
            Its ``fit(params)`` is ``fit(dataset, params)`` without another pass over the ratings. Use it in a ``with``
            block, whose end lets the blocks go.

        Raises
        ------
        DataError, ParameterError
            As ``fit``.
        """
        return Prepared(self, dataset)

    def fitMultiple(self, dataset: DataFrame, paramMaps: Sequence[Mapping[Any, Any]]) -> Iterator[tuple[int, Any]]:
        """Fit every parameter map on blocks that are made once; so does ``fit`` with a list, and CrossValidator.

        Parameters
        ----------
        dataset : DataFrame
            The ratings.
        paramMaps : sequence of dict
            Parameters and their values.

        Returns
        -------
        iterator of (int, FactorizationModel)
            A map's place and its model. Several threads may ask for the next one.
        """
        return Fits(self, dataset, paramMaps)

    def _fit_once(self, dataset: DataFrame) -> FactorizationModel:
        with Workspace(self._materialiser()) as workspace:
            ratings = self._encoded(dataset, workspace)
            encoded, found, spark = ratings.frame, ratings.found, dataset.sparkSession
            if self._exchanges(encoded, found):
                fitted, history = self._fit_by_exchange(ratings, workspace)
                return self._model._of(self, replace(fitted, mean=self._mean(found)), history, dataset)
            if not isinstance(found, Profile):
                found = profile(encoded, self._columns(), not self._implicit())
            layout, barrier = self._layout(spark, found, ratings.weighted)
            cut = {"blocks": self._cut(layout, default_parallelism(spark))} if self._cut_matters else {}
            checkpoints = self._checkpoints(encoded, found, cut)
            keeps = self.getOrDefault("filterSeen")
            once = barrier and not keeps and not checkpoints.active  # the loop is one stage, which reads them once
            frame, release = block_frames.build(
                encoded, found, layout, self.getOrDefault("carrier"), self._sides, pieces_only=once
            )
            seen = workspace.hand_over(frame, release) if keeps else None
            if seen is not None:
                blocks = seen[0]
            else:
                workspace.later(release)
                blocks = frame if once else workspace.replace(encoded, frame)
            with self._again_with_fewer(layout):
                model = self._fit_blocks(Blocks(blocks, layout, found), dataset, checkpoints)
            self._finish(checkpoints)
        if seen is not None:
            model._seen_blocks = SeenBlocks(seen[0], layout.bounds, self._sides, seen[1])
        return model

    def _encoded(self, dataset: DataFrame, workspace: Workspace) -> Encoded:
        """Return the checked ratings after the one pass over them, kept in the workspace."""
        columns = self._columns()
        encoded = workspace.keep(encode(select(dataset, columns), scan(dataset, columns)))
        found = survey(encoded, columns, not self._implicit(), driver_limit(dataset.sparkSession) >> 10)
        user, item = (dataset.schema[name].dataType for name in (columns.user, columns.item))
        texts = (isinstance(user, StringType), isinstance(item, StringType))
        return Encoded(encoded, found, columns.weight is not None, texts)

    def _layout(self, spark: SparkSession, found: Profile, weighted: bool) -> tuple[Layout, bool]:
        """Return how the sides are cut, and whether the loop is a barrier stage."""
        items = self._optional("numItemBlocks") if Side.ITEM in self._sides else 1
        wanted, slots = (self._optional("numUserBlocks"), items), default_parallelism(spark)
        barrier = self._placement(spark, max(number or 1 for number in wanted)).barrier
        if barrier:  # every task holds one block of each side
            wanted = (wanted[0] or slots, wanted[1] or slots)
        return block_frames.plan(found, slots, wanted, weighted), barrier

    def _fit_blocks(self, blocks: Blocks, dataset: DataFrame, checkpoints: Checkpoints = NEVER) -> FactorizationModel:
        """Train on the frame of blocks."""
        found = blocks.found
        fitted, history = self._train(blocks.frame, blocks.layout, found, self._settings(found), checkpoints)
        model = self._model._of(self, fitted, history, dataset)
        model._popular = most_rated(found.sides[Side.ITEM].ids, found.sides[Side.ITEM].counts)
        return model

    def _exchanges(self, encoded: DataFrame, found: Totals) -> bool:  # noqa: ARG002
        """Return whether ids and factors stay on the workers."""
        return False

    def _fit_by_exchange(self, ratings: Encoded, workspace: Workspace) -> tuple[Fitted, list[Iteration]]:
        raise NotImplementedError

    def _placement(self, spark: SparkSession, blocks: int) -> Placement:  # noqa: ARG002
        """Return where the loop runs; in a barrier stage its tasks read every block once."""
        return JOBS

    def _implicit(self) -> bool:
        return self.hasParam("implicitPrefs") and self.getOrDefault("implicitPrefs")

    def _materialiser(self) -> Materialiser:
        """Return how intermediate frames are kept, by the parameters."""
        path = self._optional("workPath")

        def table(frame: DataFrame) -> DataFrame:
            address = f"{path}/mfspark-{uuid.uuid4().hex}"
            tables.overwrite(frame, address)
            return tables.read(frame.sparkSession, address)

        return Materialiser(
            self.getOrDefault("materializer"),
            self.getOrDefault("intermediateStorageLevel") if self.isSet("intermediateStorageLevel") else None,
            table if path else None,
        )

    def write(self) -> ParamsWriter:
        """Return a writer of the parameters."""
        return ParamsWriter(self)

    @classmethod
    def read(cls) -> ParamsReader:
        """Return a reader of the parameters."""
        return ParamsReader(cls)


def _padded(side: NDArray[Any], settings: Settings) -> NDArray[Any]:
    if side.shape[1] == settings.padded and side.dtype == settings.dtype:
        return side
    return padded(side, settings)
