"""Evaluators of pyspark.ml: what ``CrossValidator`` and ``TrainValidationSplit`` choose parameters by.

Those score ``model.transform(held-out rows)``. For ratings this is what any model gives. For ranking it must be lists:
``TopK`` makes an estimator's model answer with each held-out user's best items beside the relevant ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyspark.sql.functions as F
from pyspark.ml import Estimator, Model
from pyspark.ml.evaluation import Evaluator
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable
from pyspark.sql import DataFrame

from mfspark.errors import DataError, ParameterError, missing_column
from mfspark.evaluation.ranking import items_of, per_user, with_hits
from mfspark.evaluation.ratings import rating_metrics

RATING_METRICS = ("rmse", "mse", "mae", "r2")
RANKING_METRICS = (
    "ndcgAtK", "precisionAtK", "recallAtK", "truncatedRecallAtK", "hitRateAtK", "meanAveragePrecisionAtK",
    "meanReciprocalRank", "areaUnderROC",
)  # fmt: skip


def _param(name: str, doc: str, converter: Callable[[Any], Any]) -> Param:
    return Param(Params._dummy(), name, doc, converter)


class _MetricEvaluator(Evaluator, DefaultParamsReadable, DefaultParamsWritable):
    """An evaluator whose parameter ``metricName`` is one of ``metrics``."""

    metrics: tuple[str, ...] = ()
    metricName = _param("metricName", "the metric that is returned", TypeConverters.toString)

    def _metric(self) -> str:
        name = self.getOrDefault("metricName")
        if name not in self.metrics:
            raise ParameterError(f"metricName must be one of {', '.join(self.metrics)}, not {name!r}")
        return str(name)


class RatingEvaluator(_MetricEvaluator):
    """The error of predicted ratings, over the rows that have a prediction.

    Unlike ``pyspark.ml.evaluation.RegressionEvaluator`` it does not turn NaN where a user or item is new to the model.

    Parameters
    ----------
    metricName : str, default "rmse"
        rmse, mse, mae or r2.
    labelCol : str, default "rating"
        Column of the true rating.
    predictionCol : str, default "prediction"
        Column of the predicted one.
    """

    metrics = RATING_METRICS
    labelCol = _param("labelCol", "column of the true rating", TypeConverters.toString)
    predictionCol = _param("predictionCol", "column of the predicted rating", TypeConverters.toString)

    def __init__(self, metricName: str = "rmse", labelCol: str = "rating", predictionCol: str = "prediction") -> None:
        super().__init__()
        self._set(metricName=metricName, labelCol=labelCol, predictionCol=predictionCol)

    def _evaluate(self, dataset: DataFrame) -> float:
        name = self._metric()
        found = rating_metrics(dataset, self.getOrDefault("labelCol"), self.getOrDefault("predictionCol"))
        return found.rmse**2 if name == "mse" else float(getattr(found, name))

    def isLargerBetter(self) -> bool:
        """Return whether a larger metric is a better one."""
        return self._metric() == "r2"


class RankingEvaluator(_MetricEvaluator):
    """How good lists are: one metric of ``ranking_metrics``, of a frame that has the lists and the relevant items.

    ``TopK(estimator)`` gives such frames. A user whose list is null counts as zero.

    Parameters
    ----------
    metricName : str, default "ndcgAtK"
        ndcgAtK, precisionAtK, recallAtK, truncatedRecallAtK, hitRateAtK, meanAveragePrecisionAtK, meanReciprocalRank or
        areaUnderROC.
    k : int, default 10
        Only the first k of each list count.
    recommendationsCol : str, default "recommendations"
        Column of lists, best first: of items, or of structs whose first field is the item.
    relevantCol : str, default "relevant"
        Column of arrays of items.
    numItems : int, optional
        How many items there are, for areaUnderROC.

    Examples
    --------
    >>> from mfspark import ALS
    >>> ranked = TopK(ALS(rank=2, maxIter=2, implicitPrefs=True), k=10)
    >>> lists = ranked.fit(ratings).transform(new_ratings)
    >>> RankingEvaluator("ndcgAtK", 10).evaluate(lists)
    0.0
    """

    metrics = RANKING_METRICS
    k = _param("k", "how many of each list count, >= 1", TypeConverters.toInt)
    recommendationsCol = _param("recommendationsCol", "column of lists, best first", TypeConverters.toString)
    relevantCol = _param("relevantCol", "column of arrays of relevant items", TypeConverters.toString)
    numItems = _param("numItems", "how many items there are, for areaUnderROC", TypeConverters.toInt)

    def __init__(
        self,
        metricName: str = "ndcgAtK",
        k: int = 10,
        recommendationsCol: str = "recommendations",
        relevantCol: str = "relevant",
        numItems: int | None = None,
    ) -> None:
        super().__init__()
        self._set(metricName=metricName, k=k, recommendationsCol=recommendationsCol, relevantCol=relevantCol)
        if numItems is not None:
            self._set(numItems=numItems)

    def _evaluate(self, dataset: DataFrame) -> float:
        name, k = self._metric(), self.getOrDefault("k")
        n_items = self.getOrDefault("numItems") if self.isDefined("numItems") else None
        if k < 1 or (name == "areaUnderROC" and not n_items):
            raise ParameterError(f"k={k}, numItems={n_items}: k must be at least 1, and areaUnderROC needs numItems")
        columns = [self.getOrDefault(column) for column in ("recommendationsCol", "relevantCol")]
        if columns[0] not in dataset.columns:
            raise DataError(
                f"there is no column {columns[0]!r} of lists: an estimator whose model is to be ranked goes into TopK"
            )
        if columns[1] not in dataset.columns:
            raise missing_column(columns[1], dataset.columns)
        rows = dataset.select(
            F.slice(items_of(dataset, columns[0]), 1, k).alias("list"), F.col(columns[1]).alias("truth")
        ).where(F.size("truth") > 0)
        row = with_hits(rows).agg(F.avg(per_user(k, n_items)[name]).alias("mean")).first()
        if row is None or row["mean"] is None:
            raise DataError("nothing to evaluate: no user has a relevant item")
        return float(row["mean"])

    def isLargerBetter(self) -> bool:
        """Return True: all of these metrics are the better the larger."""
        return True


class _TopKParams(Params):
    k = _param("k", "how many items are recommended, >= 1", TypeConverters.toInt)
    relevant = _param("relevant", "held-out ratings from here on are the ones to find", TypeConverters.toFloat)


class TopK(Estimator, _TopKParams):
    """An estimator whose model answers with lists, to be chosen by ``RankingEvaluator``; also as a Pipeline's stage.

    The model's ``transform(rows)`` gives a row for each user in the rows: userCol, ``relevant`` (the items of the
    rows), and ``recommendations``, the best items without those trained on, null where the user is new to the model.
    The fitted model itself is ``.model``: it is that one that is saved or published.

    Parameters
    ----------
    estimator : Estimator
        One of mfspark; its parameters are what a grid varies.
    k : int, default 10
        How many items.
    relevant : float, optional
        The smallest rating of a row that is to be found; every row by default.
    """

    def __init__(self, estimator: Any, k: int = 10, relevant: float | None = None) -> None:
        super().__init__()
        self.estimator = estimator
        self._set(k=k)
        if relevant is not None:
            self._set(relevant=relevant)

    def copy(self, extra: Any = None) -> TopK:
        """Return a copy, the estimator's parameters in ``extra`` set on a copy of that, as a Pipeline does.

        Parameters
        ----------
        extra : dict, optional
            Parameters and their values, of this or of the estimator.
        """
        twin = super().copy(extra)
        twin.estimator = self.estimator.copy(extra)
        return twin

    def prepare(self, dataset: DataFrame) -> PreparedTopK:
        """Return the ratings prepared for several fits, as ``ALS.prepare`` does.

        Parameters
        ----------
        dataset : DataFrame
            The ratings.
        """
        return PreparedTopK(self, dataset)

    def _fit(self, dataset: DataFrame) -> TopKModel:
        return self._answering(self.estimator.fit(dataset), dataset)

    def _answering(self, model: Any, dataset: DataFrame) -> TopKModel:
        """Return a fitted model as one that answers with lists."""
        inner = self.estimator
        held_out = inner.getOrDefault("validationIndicatorCol") if inner.isDefined("validationIndicatorCol") else None
        trained = dataset.where(~F.col(f"`{held_out}`")) if held_out else dataset
        columns = [inner.getOrDefault(name) for name in ("userCol", "itemCol", "ratingCol")]
        return self._copyValues(TopKModel(model, trained.select(*columns[:2]), columns))


class PreparedTopK:
    """Ratings prepared for several fits of a ``TopK``.

    Parameters
    ----------
    estimator : TopK
        Whose parameters, and those of its own estimator, hold where a fit changes nothing.
    dataset : DataFrame
        The ratings.
    """

    def __init__(self, estimator: TopK, dataset: DataFrame) -> None:
        self._estimator, self._dataset = estimator, dataset
        self._prepared = estimator.estimator.prepare(dataset)

    def __enter__(self) -> PreparedTopK:
        """Return the prepared ratings."""
        return self

    def __exit__(self, *error: object) -> None:
        """Let the blocks go."""
        self._prepared.close()

    def fit(self, params: dict[Any, Any]) -> TopKModel:
        """Return the model of the estimator with some parameters changed.

        Parameters
        ----------
        params : dict
            Parameters of either estimator, and their values.
        """
        chosen = self._estimator.copy(params)
        own = {key: value for key, value in params.items() if chosen.estimator.hasParam(key.name)}
        return chosen._answering(self._prepared.fit(own), self._dataset)


class TopKModel(Model, _TopKParams):
    """What ``TopK`` fitted: ``model`` with the pairs it was trained on, which it does not recommend.

    Parameters
    ----------
    model : FactorizationModel
        The fitted model.
    seen : DataFrame
        The pairs it was trained on.
    columns : list of str
        Of users, items and ratings; the last may be empty.
    """

    def __init__(self, model: Any, seen: DataFrame, columns: list[str]) -> None:
        super().__init__()
        self.model, self.seen, self.columns = model, seen, columns

    def _transform(self, dataset: DataFrame) -> DataFrame:
        user, item, rating = self.columns
        if self.isDefined("relevant"):
            if not rating:
                raise ParameterError("relevant needs a ratingCol: without one every row is relevant")
            dataset = dataset.where(F.col(f"`{rating}`") >= self.getOrDefault("relevant"))
        truth = dataset.groupBy(user).agg(F.collect_set(item).alias("relevant"))
        return truth.join(self.model.recommendForAllUsers(self.getOrDefault("k"), seen=self.seen), user, "left")
