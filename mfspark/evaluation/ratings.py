"""How far predicted ratings are from the true ones, and the two baselines every model has to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyspark.sql.functions as F
from pyspark.sql import Column, DataFrame

from mfspark.errors import DataError, missing_column


@dataclass(frozen=True)
class RatingMetrics:
    """Errors of predicted ratings, named as in `pyspark.ml.evaluation.RegressionEvaluator`.

    Attributes
    ----------
    rmse, mae, r2 : float
        Over the rows that have a prediction.
    predicted, unpredicted : int
        Rows with a prediction, and rows where it is null or NaN (a user or item the model does not know).
    """

    rmse: float
    mae: float
    r2: float
    predicted: int
    unpredicted: int

    def as_dict(self) -> dict[str, float]:
        """Return the metrics by name."""
        return asdict(self)


def rating_metrics(
    predictions: DataFrame,
    rating: str = "rating",
    prediction: str = "prediction",
    clip: tuple[float, float] | None = None,
) -> RatingMetrics:
    """Measure predicted against true ratings, in one pass.

    Parameters
    ----------
    predictions : DataFrame
        One row a rating.
    rating, prediction : str
        The columns of the true and the predicted rating.
    clip : (float, float), optional
        The lowest and highest rating there is: predictions beyond are taken for it. Default: predictions as they are.

    Returns
    -------
    RatingMetrics
        R2 is 1 - SS_error / SS_total, as in `RegressionEvaluator`; NaN where all ratings are equal.

    Raises
    ------
    DataError
        A column is missing, or not one row has a prediction.
    """
    return all_rating_metrics(predictions, rating, (prediction,), clip)[prediction]


def all_rating_metrics(
    predictions: DataFrame, rating: str, columns: Sequence[str], clip: tuple[float, float] | None = None
) -> dict[str, RatingMetrics]:
    """Measure several columns of predictions against the same true ratings, in one pass.

    Parameters
    ----------
    predictions : DataFrame
        One row a rating.
    rating : str
        The column of the true rating.
    columns : sequence of str
        The columns of predictions.
    clip : (float, float), optional
        As in ``rating_metrics``.

    Returns
    -------
    dict of RatingMetrics
        By the column's name.

    Raises
    ------
    DataError
        A column is missing, or has not one prediction.
    """
    for column in (rating, *columns):
        if column not in predictions.columns:
            raise missing_column(column, predictions.columns)
    sums = [total for column in columns for total in _sums(rating, column, clip)]
    row = predictions.agg(F.count("*").alias("rows"), *sums).first()
    return {column: _metrics({} if row is None else row.asDict(), column) for column in columns}


def _sums(rating: str, column: str, clip: tuple[float, float] | None) -> list[Column]:
    truth, guess = F.col(rating).cast("double"), F.col(column).cast("double")
    known = guess.isNotNull() & ~F.isnan(guess)
    if clip is not None:
        guess = F.greatest(F.lit(float(clip[0])), F.least(F.lit(float(clip[1])), guess))
    error = F.when(known, truth - guess)
    return [
        F.sum(error * error).alias(f"{column} squares"),
        F.sum(F.abs(error)).alias(f"{column} absolutes"),
        F.var_pop(F.when(known, truth)).alias(f"{column} variance"),
        F.count(error).alias(f"{column} predicted"),
    ]


def _metrics(sums: Mapping[str, Any], column: str) -> RatingMetrics:
    rows, count = sums.get("rows", 0), sums.get(f"{column} predicted", 0)
    if count == 0:
        raise DataError(f"nothing to evaluate: none of {rows} rows has a prediction and a rating")
    mse, variance = sums[f"{column} squares"] / count, sums[f"{column} variance"]
    return RatingMetrics(
        rmse=mse**0.5,
        mae=sums[f"{column} absolutes"] / count,
        r2=1.0 - mse / variance if variance > 0 else float("nan"),
        predicted=count,
        unpredicted=rows - count,
    )


def mean_baseline(
    train: DataFrame, test: DataFrame, rating: str = "rating", prediction: str = "prediction"
) -> DataFrame:
    """Return ``test`` with the mean training rating in the column ``prediction``.

    Parameters
    ----------
    train, test : DataFrame
        What the mean is taken of, and what gets the prediction.
    rating, prediction : str
        Names of the columns.
    """
    return test.withColumn(prediction, F.lit(_mean(train, rating)))


def bias_baseline(
    train: DataFrame,
    test: DataFrame,
    user: str = "user",
    item: str = "item",
    rating: str = "rating",
    damping_user: float = 10.0,
    damping_item: float = 25.0,
    prediction: str = "prediction",
) -> DataFrame:
    """Return ``test`` with the prediction mu + b_i + b_u, without any factors.

    b_i = sum_u (r_ui - mu) / (damping_item + n_i), then b_u = sum_i (r_ui - mu - b_i) / (damping_user + n_u): the
    decoupled, damped means of Koren, "Factor in the Neighbors" (TKDD 2010), section 2.1, with its values 25 and 10 as
    defaults. An unknown user or item has bias 0.

    Parameters
    ----------
    train, test : DataFrame
        Ratings; ``test`` need not have a rating.
    user, item, rating : str
        Column names.
    damping_user, damping_item : float
        How many ratings at the mean are added to each user's and each item's own.
    prediction : str
        The column to write.
    """
    mean, by_item = item_biases(train, item, rating, damping_item)
    residual = F.col(rating) - F.lit(mean)
    left = train.join(by_item, item)
    by_user = left.groupBy(user).agg(
        (F.sum(residual - F.col("b_i")) / (F.count("*") + F.lit(damping_user))).alias("b_u")
    )
    joined = test.join(by_item, item, "left").join(by_user, user, "left")
    bias = F.coalesce("b_i", F.lit(0.0)) + F.coalesce("b_u", F.lit(0.0))
    return joined.select(*test.columns, (F.lit(mean) + bias).alias(prediction))


def item_biases(train: DataFrame, item: str, rating: str, damping: float) -> tuple[float, DataFrame]:
    """Return the mean rating and the items' damped biases (item, b_i), as ``bias_baseline`` defines them."""
    mean = _mean(train, rating)
    bias = F.sum(F.col(rating) - F.lit(mean)) / (F.count("*") + F.lit(damping))
    return mean, train.groupBy(item).agg(bias.alias("b_i"))


def _mean(train: DataFrame, rating: str) -> float:
    row = train.agg(F.avg(rating).alias("mean")).first()
    if row is None or row["mean"] is None:
        raise DataError(f"no training ratings in column {rating!r}: a baseline needs at least one")
    return float(row["mean"])
