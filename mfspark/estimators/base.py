"""What the estimators that train on the frame of blocks share: parameters in, blocks made, kept and let go."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyspark.ml import Estimator
from pyspark.ml.util import MLReadable, MLWritable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StringType

from mfspark.blocks import build as block_frames
from mfspark.blocks.build import Layout
from mfspark.blocks.columns import Columns, select
from mfspark.blocks.digest import digest
from mfspark.blocks.encode import encode
from mfspark.blocks.profile import Profile, Totals, profile, survey
from mfspark.errors import ParameterError
from mfspark.estimators.keywords import with_keywords_of
from mfspark.estimators.options import OFF, SAME_NUMBERS
from mfspark.estimators.params import FactorizationParams
from mfspark.kernels.csr import Side
from mfspark.kernels.objective import Settings
from mfspark.model.answers import Fitted
from mfspark.model.factorization import Factorization, SeenBlocks
from mfspark.model.model import FactorizationModel
from mfspark.model.persistence import ParamsReader, ParamsWriter
from mfspark.model.popular import most_rated
from mfspark.session import default_parallelism, driver_limit
from mfspark.store import tables
from mfspark.store.checkpoints import StateTable
from mfspark.store.tables import Location
from mfspark.training.checkpoint import NEVER, Checkpoints, key_of
from mfspark.training.history import Iteration
from mfspark.training.loop import Hook, Stopping
from mfspark.training.placement import JOBS, Placement, task_count
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


class BlockEstimator(Estimator, FactorizationParams, MLReadable, MLWritable):
    """Checks, profiles, builds the blocks of the sides a subclass names, and calls its ``_train``."""

    _carriers: tuple[str, ...] = ("auto", *CARRIERS)
    _sides: tuple[Side, ...] = tuple(Side)
    _model: type[FactorizationModel] = FactorizationModel
    _most_tasks: int | None = None  # how many can run at once, where a fit has found that out
    _fixed: ClassVar[dict[str, Any]] = {}  # options of options.OFF that stand at something else here
    _cut_matters = False  # whether the numbers depend on how the sides are cut into blocks
    _checkpoints_at: str | None = None
    """Where a job keeps its run's checkpoints, and removes them itself; without it they are in workPath."""

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
        return [reporter(self.getOrDefault("maxIter"), pace(self._optional("verbose")), type(self).__name__)]

    def _result(
        self, found: Profile, settings: Settings, sides: Sequence[NDArray[Any]], intercept: float = 0.0
    ) -> Factorization:
        """Return what a fit came to; ``sides`` (n x columns in use, or padded) are padded to the settings' width."""
        padded = [_padded(side, settings) for side in sides]
        ids = (found.sides[0].ids, found.sides[1].ids)
        return Factorization(settings, ids, (padded[0], padded[1]), intercept, self._limits(found), self._mean(found))

    def _columns(self) -> Columns:
        """Return the names of the input columns."""
        names = ("userCol", "itemCol", "ratingCol", "weightCol", "validationIndicatorCol")
        return Columns(*(self._optional(name) or ("" if name == "ratingCol" else None) for name in names))  # type: ignore[arg-type]

    def _fit(self, dataset: DataFrame) -> FactorizationModel:
        self._check()
        estimator = self
        while True:
            try:
                return estimator._fit_once(dataset)
            except _Interrupted as interrupted:
                LOGGER.warning("%s; the fit begins anew with what is left", interrupted.__cause__)
                estimator = interrupted.fewer

    def _with_slots(self, lost: SlotsLostError, layout: Layout) -> BlockEstimator:
        """Return the estimator that trains the same model, of the same blocks, with the slots that are left."""
        names = {side: f"num{side.stem.capitalize()}Blocks" for side in self._sides}
        fewer: BlockEstimator = self.copy(
            {self.getParam(name): len(layout.bounds[side]) - 1 for side, name in names.items()}
        )
        fewer._most_tasks = lost.slots
        return fewer

    def _fit_once(self, dataset: DataFrame) -> FactorizationModel:
        columns = self._columns()
        with Workspace(self._materialiser()) as workspace:
            encoded = workspace.keep(encode(select(dataset, columns)))
            found = survey(encoded, columns, not self._implicit(), driver_limit(dataset.sparkSession) >> 10)
            if self._exchanges(encoded, found):
                user, item = (dataset.schema[name].dataType for name in (columns.user, columns.item))
                texts = (isinstance(user, StringType), isinstance(item, StringType))
                ratings = Encoded(encoded, found, columns.weight is not None, texts)
                fitted, history = self._fit_by_exchange(ratings, workspace)
                return self._model._of(self, replace(fitted, mean=self._mean(found)), history, dataset)
            if not isinstance(found, Profile):
                found = profile(encoded, columns, not self._implicit())
            settings = self._settings(found)
            wanted = (
                self._optional("numUserBlocks"),
                self._optional("numItemBlocks") if Side.ITEM in self._sides else 1,
            )
            slots = default_parallelism(dataset.sparkSession)
            barrier = self._placement(dataset.sparkSession, max(number or 1 for number in wanted)).barrier
            if barrier:  # every task holds one block of each side
                wanted = (wanted[0] or slots, wanted[1] or slots)
            layout = block_frames.plan(found, slots, wanted, columns.weight is not None)
            cut = {"blocks": self._cut(layout, slots)} if self._cut_matters else {}
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
            try:
                fitted, history = self._train(blocks, layout, found, settings, checkpoints)
            except SlotsLostError as lost:
                if lost.slots == 0:
                    raise
                raise _Interrupted(self._with_slots(lost, layout)) from lost
            self._finish(checkpoints)
        model = self._model._of(self, fitted, history, dataset)
        model._popular = most_rated(found.sides[Side.ITEM].ids, found.sides[Side.ITEM].counts)
        if seen is not None:
            model._seen_blocks = SeenBlocks(seen[0], layout.bounds, self._sides, seen[1])
        return model

    def _exchanges(self, encoded: DataFrame, found: Totals) -> bool:  # noqa: ARG002
        """Return whether ids and factors stay on the workers."""
        return False

    def _fit_by_exchange(self, ratings: Encoded, workspace: Workspace) -> tuple[Fitted, list[Iteration]]:
        raise NotImplementedError

    def _placement(self, spark: SparkSession, blocks: int) -> Placement:  # noqa: ARG002
        """Return where the loop runs; in a barrier stage its tasks read every block once."""
        return JOBS

    def _checkpoints(self, encoded: DataFrame, found: Totals, cut: Mapping[str, str]) -> Checkpoints:
        """Return where the loop's state is stored (see checkpointInterval); ``cut`` is what else tells fits apart."""
        spark, path = encoded.sparkSession, self._optional("workPath")
        interval = self.getOrDefault("checkpointInterval")
        due = interval < self.getOrDefault("maxIter")  # else none would ever be
        given = None if self._checkpoints_at is None else StateTable(spark, self._checkpoints_at)
        if interval < 1 or not ((due and (path or given)) or (given and given.exists())):
            return NEVER
        ratings = f"{found.rows} ratings, {found.held_out} of them held out ({digest(encoded)})"
        marks = {**self._fingerprint(), "ratings": ratings, **cut}
        storage = given or StateTable(spark, Location(path).table(f"mfspark_checkpoint_{key_of(marks)}"))
        return Checkpoints(storage, interval, marks, type(self).__name__)

    def _finish(self, checkpoints: Checkpoints) -> None:
        """Remove what a fit that has ended stored; a job does so itself, once the model is published."""
        if self._checkpoints_at is None:
            checkpoints.remove()

    def _cut(self, layout: Layout, slots: int) -> str:
        """Return how the ratings are cut, where the numbers depend on it."""
        users, items = (len(bounds) - 1 for bounds in layout.bounds)
        return f"{users} x {items} in {task_count(layout.blocks, slots)} tasks"

    def _fingerprint(self) -> dict[str, Any]:
        """Return the estimator and those of its parameters that a fit's numbers depend on."""
        values = {p.name: self.getOrDefault(p) for p in self.params if self.isDefined(p) and p.name not in SAME_NUMBERS}
        return {"estimator": type(self).__name__} | values

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
    array = np.zeros((len(side), settings.padded), settings.dtype)
    array[:, : side.shape[1]] = side
    return array
