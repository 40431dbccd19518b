"""A fitted model as something that is kept: its numbers and history, saved, copied, pickled, taken from MLlib."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.ml import Model
from pyspark.ml.util import MLReadable, MLWritable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from mfspark.blocks.columns import id_type
from mfspark.errors import ParameterError, StoreError
from mfspark.kernels.csr import Side
from mfspark.model import tables as tabular
from mfspark.model.answers import Answers, Fitted, answers_of
from mfspark.model.factorization import SeenBlocks
from mfspark.model.mllib import model_of
from mfspark.model.params import ModelParams
from mfspark.model.persistence import ParamsReader, ParamsWriter
from mfspark.model.popular import popular_schema
from mfspark.training.history import Iteration
from mfspark.transport.persist import storage_level


class StoredModel(Model, ModelParams, MLReadable, MLWritable):
    """The numbers of a fitted factorization with their ids' types, its history, and the ways in which it is kept."""

    def __init__(self, fitted: Fitted | None = None) -> None:
        super().__init__()
        self._set_model_defaults()
        self._fitted = fitted
        self._history: list[Iteration] = []
        self._kinds: tuple[T.DataType, T.DataType] = (T.LongType(), T.LongType())
        self._seen: DataFrame | None = None
        self._popular: pa.Table | DataFrame | None = None
        self._asked: Answers | None = None
        self._frames: dict[Side, DataFrame] = {}
        self._seen_blocks: SeenBlocks | None = None

    def __repr__(self) -> str:
        """Say in one line what the model is, as MLlib's does, how large, and how its fit ended."""
        kind = f"{type(self).__name__}: uid={self.uid}"
        if self._fitted is None:
            return f"{kind}, empty"
        users, items = self._fitted.sizes
        told = f"{kind}, rank={self.rank}, {users} users, {items} items"
        last = self._history[-1] if self._history else None
        told += "" if last is None else f", loss={last.loss:.6g}"
        return told if last is None or last.validation_rmse is None else f"{told}, RMSE={last.validation_rmse:.4f}"

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle and deepcopy take along: all but handles on a session's frames, as a saved model."""
        let_go: dict[str, Any] = {"_frames": {}, "_asked": None, "_seen": None, "_seen_blocks": None}
        return self.__dict__ | let_go | {"_popular": self._popular_table()}

    def __copy__(self) -> Self:
        """Return a shallow copy, with the same frames: ``copy(extra)`` is one within the session."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    @classmethod
    def _of(cls, estimator: Any, fitted: Fitted, history: list[Iteration], dataset: DataFrame) -> Self:
        model = cls(fitted)
        model._resetUid(estimator.uid)
        for parameter in model.params:
            if estimator.hasParam(parameter.name) and estimator.isSet(parameter.name):
                model._set(**{parameter.name: estimator.getOrDefault(parameter.name)})
        model._history = history
        names = [model.getOrDefault(name) for name in ("userCol", "itemCol")]
        model._kinds = tuple(id_type(dataset.schema[name].dataType) for name in names)  # type: ignore[assignment]
        if model.getOrDefault("filterSeen"):
            held = estimator._optional("validationIndicatorCol")
            trained = dataset if held is None else dataset.where(~F.coalesce(F.col(f"`{held}`"), F.lit(False)))
            model._seen = trained.select(*names)
        return model

    @property
    def fitted(self) -> Fitted:
        """The model's numbers: as arrays, or for one whose sides pass the driver's limit as frames of blocks."""
        if self._fitted is None:
            raise ParameterError("this FactorizationModel is empty: get one from fit or load")
        return self._fitted

    @property
    def _answers(self) -> Answers:
        """What answers for the model, wherever its factors are."""
        if self._asked is None:
            self._asked = answers_of(self.fitted)
        return self._asked

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
        return self._answers.norms(Side.USER) * self._answers.norms(Side.ITEM)

    @property
    def userFactors(self) -> DataFrame:
        """Factors of the users: id in its original type, features array<float>; kept at ``finalStorageLevel``."""
        return self._factors(Side.USER)

    @property
    def itemFactors(self) -> DataFrame:
        """Factors of the items: id in its original type, features array<float>; kept at ``finalStorageLevel``."""
        return self._factors(Side.ITEM)

    def _factors(self, side: Side) -> DataFrame:
        if side not in self._frames:
            frame = self._answers.table(side, self._kinds[side].simpleString()).select("id", "features")
            level = self.getOrDefault("finalStorageLevel") if self.isDefined("finalStorageLevel") else None
            self._frames[side] = frame if level in (None, "NONE") else frame.persist(storage_level(level))
        return self._frames[side]

    def popularItems(self, num: int = 10, span: str = "all") -> DataFrame:
        """Return the items with the most training ratings, the first first: itemCol, ratings.

        Parameters
        ----------
        num : int, default 10
            How many; the model knows 100, or as many as the train job was told.
        span : str, default "all"
            "recent" counts the last days before the newest rating, which only the train job does.

        Raises
        ------
        ParameterError
            The model has no such list: it is of MLlib or of an older version, or the ratings had no times.
        """
        listed = self._popular_frame(span).where(F.col("place") <= num).orderBy("place")
        return listed.drop("place")

    def _popular_frame(self, span: str) -> DataFrame:
        """Return the popular items of a span: place, itemCol, ratings."""
        table = self._popular_table()
        listed = None if table is None else table.filter(pc.field("span") == span).drop_columns("span")
        if not listed:
            raise ParameterError(f"the model has no popular items of the span {span!r}: it was trained without")
        item, kind = self.getOrDefault("itemCol"), self._kinds[Side.ITEM].simpleString()
        given = listed.select(["place", "id", "ratings"]).rename_columns(["place", item, "ratings"])
        return SparkSession.active().createDataFrame(given, schema=f"place int, `{item}` {kind}, ratings bigint")

    def _popular_table(self) -> pa.Table | None:
        """Return the popular items (span, place, id, ratings), read when they are first asked for."""
        if isinstance(self._popular, DataFrame):
            self._popular = self._popular.toArrow()
        return self._popular

    @property
    def history(self) -> DataFrame:
        """What the fit went through, one row per iteration; empty for a model that MLlib fitted.

        Columns: iteration, loss, fit, regularisation, validationRMSE, seconds, repaired.
        """
        return tabular.history_frame(SparkSession.active(), self._history)

    def tables(self) -> dict[str, DataFrame]:
        """Return everything that makes the model, as DataFrames by name; with ``parameters()`` it is complete.

        They are user_factors and item_factors (id, features, bias), user_ids and item_ids (id, index), history, and
        where it is known what is popular, popular (span, place, id, ratings).
        """
        return self._tables()

    def parameters(self) -> dict[str, Any]:
        """Return the model's class, its parameters and constants, all JSON-able."""
        given = {parameter.name: value for parameter, value in self._paramMap.items()}
        return {"class": type(self).__name__, "params": given} | tabular.parameters(self.fitted, self._kinds)

    @classmethod
    def fromTables(cls, tables: dict[str, DataFrame], parameters: dict[str, Any], limit: int | None = None) -> Self:
        """Return the model whose ``tables()`` and ``parameters()`` these are, of the class that it had.

        Parameters
        ----------
        tables : dict of DataFrame
            As from ``tables()``, wherever they were kept.
        parameters : dict
            As from ``parameters()``, or read back from JSON.
        limit : int, optional
            How many bytes both sides may take up in the driver; a larger model stays on the workers and works as any
            other, but for what is an array. By default ``spark.mfspark.driverLimit``, or a quarter of the driver's
            memory.

        Raises
        ------
        StoreError
            It was of another class than this one, or a table of factors is empty or has rows of another rank.
        """
        fitted, kinds = tabular.from_tables(tables, parameters, limit)
        model = cls._named(parameters.get("class", cls.__name__))(fitted)
        model._set(**{name: value for name, value in parameters.get("params", {}).items() if model.hasParam(name)})
        model._kinds = kinds
        model._history = tabular.history_lines(tables["history"])
        model._popular = tables.get("popular")
        return model

    @classmethod
    def _named(cls, name: str) -> type[Self]:
        """Return this class or the one below it that has a name."""
        kinds, known = [cls], dict[str, type[Self]]()
        while kinds:
            kind = kinds.pop()
            known[kind.__name__] = kind
            kinds.extend(kind.__subclasses__())
        if name not in known:
            raise StoreError(f"this is a stored {name}, not a {cls.__name__}: load it as a {name}")
        return known[name]

    @classmethod
    def fromMLlib(cls, source: Any, estimator: Any = None) -> Self:
        """Return the model that ``pyspark.ml.recommendation.ALS`` fitted, as ours.

        It predicts, recommends, is saved and published as any other. ``load`` of a folder that MLlib saved does the
        same without an estimator.

        Parameters
        ----------
        source : pyspark.ml.recommendation.ALSModel or str
            The model, or the folder it was saved in; the stage of a ``PipelineModel`` is such a model.
        estimator : ALS, optional
            The one of MLlib that fitted it, or ours with the same parameters: its regParam, implicitPrefs, alpha and
            nonnegative are what the model minimises, and MLlib does not keep them. Without it the model cannot fold in.

        Raises
        ------
        ParameterError
            ``source`` is no model of MLlib, or ``estimator`` has another rank or options that MLlib's has not.
        StoreError
            The folder does not exist, or holds something else.
        """
        theirs = model_of(source)
        model = cls(theirs.fitted(estimator))
        model._kinds = (T.IntegerType(), T.IntegerType())
        model._resetUid(theirs.uid)
        rated = {} if estimator is None else {"ratingCol": estimator.getOrDefault("ratingCol")}
        model._set(**theirs.values, **rated)
        return model

    def _tables(self) -> dict[str, DataFrame]:
        frames = tabular.to_tables(self._answers, self._kinds)
        popular, kind = self._popular_table(), self._kinds[Side.ITEM].simpleString()
        if popular is not None:
            frames["popular"] = SparkSession.active().createDataFrame(popular, schema=popular_schema(kind))
        return frames | {"history": self.history}

    def ids(self, side: Side) -> pa.Array:
        """Return one side's ids in index order.

        Raises
        ------
        ParameterError
            The model's ids are on the workers.
        """
        return self.fitted.ids[side]

    def unpersist(self) -> Self:
        """Let go of what is kept on the workers: training pairs for ``filterSeen``, blocks of factors read from tables.

        They are read again when needed.
        """
        if self._seen_blocks is not None:
            self._seen_blocks.release()
            self._seen_blocks = None
        if self._fitted is not None:
            self._answers.release()
        return self

    def write(self) -> ParamsWriter:
        """Return a writer: ``model.write().overwrite().save(path)``."""
        return ParamsWriter(self)

    @classmethod
    def read(cls) -> ParamsReader:
        """Return a reader: ``FactorizationModel.load(path)``."""
        return ParamsReader(cls)
