"""The fitted model: predictions, recommendations, similar ids, fold-in, and its tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.ml import Model
from pyspark.ml.util import MLReadable, MLWritable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from mfspark.blocks.columns import Columns, id_type
from mfspark.errors import ParameterError, StoreError
from mfspark.kernels.csr import Side
from mfspark.model import tables as tabular
from mfspark.model.factor_table import FactorTable
from mfspark.model.factorization import Factorization, SeenBlocks
from mfspark.model.fold_in import fold_in
from mfspark.model.ids import IdColumns
from mfspark.model.params import ModelParams, block_size, cold_start
from mfspark.model.persistence import ParamsReader, ParamsWriter
from mfspark.model.predict import PairData, add_predictions, pair_data
from mfspark.model.recommend import Recommender, unit_rows
from mfspark.training.history import Iteration
from mfspark.transport.persist import storage_level


class FactorizationModel(Model, ModelParams, MLReadable, MLWritable):
    """A fitted factorization, with the face of ``pyspark.ml.recommendation.ALSModel``.

    Ids come out in the type in which they were given. ``coldStartStrategy``, ``predictionCol``, ``userCol``,
    ``itemCol``, ``blockSize`` and ``filterSeen`` are copied from the estimator and can be set anew.
    """

    def __init__(self, fitted: Factorization | None = None) -> None:
        super().__init__()
        self._set_model_defaults()
        self._fitted = fitted
        self._history: list[Iteration] = []
        self._kinds: tuple[T.DataType, T.DataType] = (T.LongType(), T.LongType())
        self._seen: DataFrame | None = None
        self._data: PairData | None = None
        self._frames: dict[Side, DataFrame] = {}
        self._seen_blocks: SeenBlocks | None = None

    def __repr__(self) -> str:
        """Say in one line what the model is, as MLlib's does, and how many ids it has."""
        kind = f"{type(self).__name__}: uid={self.uid}"
        if self._fitted is None:
            return f"{kind}, empty"
        users, items = map(len, self._fitted.ids)
        return f"{kind}, rank={self.rank}, {users} users, {items} items"

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle and deepcopy take along: all but handles on a session's frames, as a saved model."""
        return self.__dict__ | {"_frames": {}, "_data": None, "_seen": None, "_seen_blocks": None}

    def __copy__(self) -> FactorizationModel:
        """Return a shallow copy, with the same frames: ``copy(extra)`` is one within the session."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    @classmethod
    def _of(
        cls, estimator: Any, fitted: Factorization, history: list[Iteration], dataset: DataFrame
    ) -> FactorizationModel:
        model = cls(fitted)
        model._resetUid(estimator.uid)
        for parameter in model.params:
            if estimator.hasParam(parameter.name) and estimator.isSet(parameter.name):
                model._set(**{parameter.name: estimator.getOrDefault(parameter.name)})
        model._history = history
        names = [model.getOrDefault(name) for name in ("userCol", "itemCol")]
        model._kinds = tuple(id_type(dataset.schema[name].dataType) for name in names)  # type: ignore[assignment]
        if model.getOrDefault("filterSeen"):
            model._seen = dataset.select(*names)
        return model

    @property
    def fitted(self) -> Factorization:
        """The model's numbers as arrays."""
        if self._fitted is None:
            raise ParameterError("this FactorizationModel is empty: get one from fit or load")
        return self._fitted

    @property
    def rank(self) -> int:
        """The number of factors."""
        return self.fitted.rank

    @property
    def intercept(self) -> float:
        """The constant part of every prediction."""
        return self.fitted.intercept

    @property
    def singularValues(self) -> np.ndarray:
        """The singular values (rank,), largest first, of a model fitted by TruncatedSVD.

        Computed from the factors U sqrt(S) and V sqrt(S): the products of their columns' norms.
        """
        norms = [np.linalg.norm(self.fitted.features(side).astype(np.float64), axis=0) for side in Side]
        return norms[0] * norms[1]

    @property
    def userFactors(self) -> DataFrame:
        """Factors of the users: id, features array<float>."""
        return self._factors(Side.USER)

    @property
    def itemFactors(self) -> DataFrame:
        """Factors of the items: id, features array<float>."""
        return self._factors(Side.ITEM)

    def _factors(self, side: Side) -> DataFrame:
        if side not in self._frames:
            table = FactorTable.of(self.fitted, side)
            frame = table.frame(SparkSession.active(), self._kinds[side].simpleString()).select("id", "features")
            level = self.getOrDefault("finalStorageLevel") if self.isDefined("finalStorageLevel") else None
            self._frames[side] = frame if level in (None, "NONE") else frame.persist(storage_level(level))
        return self._frames[side]

    @property
    def history(self) -> DataFrame:
        """One row per iteration: iteration, loss, fit, regularisation, validationRMSE, seconds, repaired."""
        return tabular.history_frame(SparkSession.active(), self._history)

    def tables(self) -> dict[str, DataFrame]:
        """Return everything that makes the model, as DataFrames by name; with ``parameters()`` it is complete."""
        return self._tables()

    def parameters(self) -> dict[str, Any]:
        """Return the model's class, its parameters and constants, all JSON-able."""
        given = {parameter.name: value for parameter, value in self._paramMap.items()}
        return {"class": type(self).__name__, "params": given} | tabular.parameters(self.fitted, self._kinds)

    @classmethod
    def fromTables(cls, tables: dict[str, DataFrame], parameters: dict[str, Any]) -> FactorizationModel:
        """Return the model whose ``tables()`` and ``parameters()`` these are, of the class that it had.

        Raises
        ------
        StoreError
            It was of another class than this one, or its tables do not fit its rank.
        """
        fitted, kinds = tabular.from_tables(tables, parameters)
        model = cls._named(parameters.get("class", cls.__name__))(fitted)
        model._set(**{name: value for name, value in parameters.get("params", {}).items() if model.hasParam(name)})
        model._kinds = kinds
        model._history = tabular.history_lines(tables["history"])
        return model

    @classmethod
    def _named(cls, name: str) -> type[FactorizationModel]:
        """Return this class or the one below it that has a name."""
        kinds, known = [cls], dict[str, type[FactorizationModel]]()
        while kinds:
            kind = kinds.pop()
            known[kind.__name__] = kind
            kinds.extend(kind.__subclasses__())
        if name not in known:
            raise StoreError(f"this is a stored {name}, not a {cls.__name__}: load it as a {name}")
        return known[name]

    def _tables(self) -> dict[str, DataFrame]:
        frames = tabular.to_tables(SparkSession.active(), self.fitted, self._kinds)
        return frames | {"history": self.history}

    def _transform(self, dataset: DataFrame) -> DataFrame:
        ids = self._id_columns()
        users, items = (ids.column(dataset, side) for side in Side)
        drops = cold_start(self.getOrDefault("coldStartStrategy")) == "drop"
        if self._data is None:
            self._data = pair_data(self.fitted)
        name = self.getOrDefault("predictionCol")
        predicted = add_predictions(dataset, users, items, name, self._data)
        return predicted.where(~F.isnan(F.col(f"`{name}`"))) if drops else predicted

    def _id_columns(self) -> IdColumns:
        return IdColumns((self.getOrDefault("userCol"), self.getOrDefault("itemCol")), self._kinds, self.fitted.ids)

    def _recommender(self) -> Recommender:
        return Recommender(self.fitted, self._id_columns(), block_size(self.getOrDefault("blockSize")))

    def _recommend_all(self, side: Side, n: int, seen: DataFrame | None) -> DataFrame:
        kept = self._seen_blocks
        if seen is None and kept is not None and side in kept.sides and self.getOrDefault("filterSeen"):
            return self._recommender().for_kept(side, n, kept)
        return self._recommender().for_all(side, n, self._pairs_seen(seen))

    def recommendForAllUsers(self, numItems: int, seen: DataFrame | None = None) -> DataFrame:
        """Return each user's best items: userCol, recommendations array<struct<itemCol, rating>>.

        Parameters
        ----------
        numItems : int
            How many; fewer where there are fewer candidates.
        seen : DataFrame, optional
            Pairs (userCol, itemCol) to leave out. With ``filterSeen`` the training data is the default.
        """
        return self._recommend_all(Side.USER, numItems, seen)

    def recommendForAllItems(self, numUsers: int, seen: DataFrame | None = None) -> DataFrame:
        """Return each item's best users: itemCol, recommendations array<struct<userCol, rating>>."""
        return self._recommend_all(Side.ITEM, numUsers, seen)

    def recommendForUserSubset(self, dataset: DataFrame, numItems: int, seen: DataFrame | None = None) -> DataFrame:
        """Return the best items of the distinct known users in a data set's userCol."""
        return self._recommender().for_subset(Side.USER, dataset, numItems, self._pairs_seen(seen))

    def recommendForItemSubset(self, dataset: DataFrame, numUsers: int, seen: DataFrame | None = None) -> DataFrame:
        """Return the best users of the distinct known items in a data set's itemCol."""
        return self._recommender().for_subset(Side.ITEM, dataset, numUsers, self._pairs_seen(seen))

    def similarItems(self, items: Sequence[Any] | None = None, num: int = 10) -> DataFrame:
        """Return the items most similar by the cosine of their factors: itemCol, recommendations.

        Parameters
        ----------
        items : sequence of ids, optional
            Whose neighbours; all items by default.
        num : int, default 10
            How many; an item is not its own neighbour.
        """
        return self._recommender().similar(Side.ITEM, items, num)

    def similarUsers(self, users: Sequence[Any] | None = None, num: int = 10) -> DataFrame:
        """Return the users most similar by the cosine of their factors: userCol, recommendations."""
        return self._recommender().similar(Side.USER, users, num)

    def foldInUsers(self, ratings: DataFrame, ratingCol: str = "rating", weightCol: str | None = None) -> DataFrame:
        """Return factors for users from their ratings of known items: id, features (and bias).

        Each is the minimum of the model's own objective, the items held: a training user's ratings give back that
        user's factors, exactly after ALS, up to its remaining noise after a descent. Items must be known to the model.

        Parameters
        ----------
        ratings : DataFrame
            Columns userCol, itemCol and ``ratingCol``.
        ratingCol : str, default "rating"
            Ratings as those of the fit.
        weightCol : str, optional
            Weights as those of the fit.

        Raises
        ------
        ParameterError
            The model has no such minimum: its loss is not the squared one, or BPMF, SVDPlusPlus or TruncatedSVD
            fitted it; of items also where SGD drew negatives.
        DataError
            Some items are unknown, or ids or ratings cannot be used.
        """
        return fold_in(self.fitted, self._id_columns(), Side.USER, ratings, self._columns(ratingCol, weightCol))

    def foldInItems(self, ratings: DataFrame, ratingCol: str = "rating", weightCol: str | None = None) -> DataFrame:
        """Return factors for items from the ratings that known users gave them: id, features (and bias)."""
        return fold_in(self.fitted, self._id_columns(), Side.ITEM, ratings, self._columns(ratingCol, weightCol))

    def _columns(self, rating: str, weight: str | None) -> Columns:
        return Columns(self.getOrDefault("userCol"), self.getOrDefault("itemCol"), rating, weight)

    def _pairs_seen(self, seen: DataFrame | None) -> DataFrame | None:
        if seen is None and self.getOrDefault("filterSeen"):
            if self._seen is None:
                raise ParameterError("filterSeen needs the pairs to leave out: a loaded model takes them as seen=...")
            seen = self._seen
        return seen

    def unpersist(self) -> FactorizationModel:
        """Let go of the training pairs that ``filterSeen`` keeps on the workers; they are read again when needed."""
        if self._seen_blocks is not None:
            self._seen_blocks.release()
            self._seen_blocks = None
        return self

    def write(self) -> ParamsWriter:
        """Return a writer: ``model.write().overwrite().save(path)``."""
        return ParamsWriter(self)

    @classmethod
    def read(cls) -> ParamsReader:
        """Return a reader: ``FactorizationModel.load(path)``."""
        return ParamsReader(cls)

    def similarity_arrays(self, side: Side) -> np.ndarray:
        """Return one side's factors with rows of length 1 (n x rank); a zero row stays zero."""
        return unit_rows(self.fitted.features(side))

    def ids(self, side: Side) -> pa.Array:
        """Return one side's ids in index order."""
        return self.fitted.ids[side]
