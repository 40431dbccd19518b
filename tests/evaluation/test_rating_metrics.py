"""Rating errors and baselines against numpy and pyspark.ml."""

import math

import numpy as np
import pytest
from pyspark.ml.evaluation import RegressionEvaluator

from mfspark.errors import DataError
from mfspark.evaluation import all_rating_metrics, bias_baseline, mean_baseline, rating_metrics

TRAIN = [("a", "x", 5.0), ("a", "y", 3.0), ("b", "x", 4.0), ("b", "y", 1.0), ("c", "x", 2.0)]
TEST = [("a", "x", 4.0), ("c", "y", 2.0), ("new", "x", 3.0), ("b", "new", 1.0), ("new", "new", 5.0)]
COLUMNS = "user string, item string, rating double"


@pytest.fixture(scope="module")
def train(spark):
    return spark.createDataFrame(TRAIN, COLUMNS)


@pytest.fixture(scope="module")
def test_rows(spark):
    return spark.createDataFrame(TEST, COLUMNS)


def ref_bias_predictions(damping_user, damping_item):
    mean = np.mean([r for _, _, r in TRAIN])
    items = {i for _, i, _ in TRAIN}
    b_i = {}
    for item in items:
        residuals = [r - mean for _, i, r in TRAIN if i == item]
        b_i[item] = sum(residuals) / (damping_item + len(residuals))
    b_u = {}
    for user in {u for u, _, _ in TRAIN}:
        residuals = [r - mean - b_i[i] for u, i, r in TRAIN if u == user]
        b_u[user] = sum(residuals) / (damping_user + len(residuals))
    return {(u, i): mean + b_i.get(i, 0.0) + b_u.get(u, 0.0) for u, i, _ in TEST}


@pytest.mark.parametrize("damping", [(10.0, 25.0), (0.0, 0.0), (1.0, 3.0)])
def test_bias_baseline_is_the_damped_means(train, test_rows, damping):
    predicted = bias_baseline(train, test_rows, damping_user=damping[0], damping_item=damping[1])
    assert predicted.columns == ["user", "item", "rating", "prediction"]
    comp = {(row["user"], row["item"]): row["prediction"] for row in predicted.collect()}
    assert comp == pytest.approx(ref_bias_predictions(*damping), abs=1e-12)


def test_mean_baseline_predicts_the_training_mean(train, test_rows):
    assert {row["prediction"] for row in mean_baseline(train, test_rows).collect()} == {3.0}


def test_metrics_equal_pyspark_ml(spark):
    generator = np.random.default_rng(3)
    rows = [
        (float(r), float(r + e)) for r, e in zip(generator.integers(1, 6, 50), generator.normal(size=50), strict=True)
    ]
    df = spark.createDataFrame(rows, "rating double, prediction double")
    comp = rating_metrics(df).as_dict()
    for name in ("rmse", "mae", "r2"):
        ref = RegressionEvaluator(labelCol="rating", metricName=name).evaluate(df)
        assert comp[name] == pytest.approx(ref, rel=1e-12)
    assert (comp["predicted"], comp["unpredicted"]) == (50, 0)


def test_rows_without_a_prediction_are_counted_and_left_out(spark):
    rows = [(5.0, 4.0), (1.0, float("nan")), (2.0, None), (3.0, 5.0)]
    comp = rating_metrics(spark.createDataFrame(rows, "rating double, prediction double"))
    assert (comp.predicted, comp.unpredicted) == (2, 2)
    assert comp.rmse == pytest.approx(math.sqrt((1 + 4) / 2))
    assert comp.mae == 1.5


def test_clipping_moves_predictions_into_the_range(spark):
    df = spark.createDataFrame([(5.0, 6.5), (1.0, -2.0), (3.0, 3.5)], "rating double, prediction double")
    assert rating_metrics(df, clip=(1, 5)).rmse == pytest.approx(math.sqrt(0.25 / 3))
    assert rating_metrics(df).rmse > 1


def test_several_columns_are_measured_as_each_alone(spark):
    rows = [(5.0, 6.5, None), (1.0, -2.0, 2.0), (3.0, 3.5, float("nan")), (2.0, None, 2.5)]
    df = spark.createDataFrame(rows, "rating double, own double, other double")
    for clip in (None, (1, 5)):
        found = all_rating_metrics(df, "rating", ["own", "other"], clip)
        assert found == {name: rating_metrics(df, prediction=name, clip=clip) for name in ("own", "other")}
    with pytest.raises(DataError, match="none of 1 rows has a prediction"):
        all_rating_metrics(df.where("own > 6"), "rating", ["own", "other"])


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ([(1.0, 2.0)], "rating double, guess double", "no column 'prediction'; .* rating, guess"),
        ([(1.0, None)], "rating double, prediction double", "none of 1 rows has a prediction"),
        ([], "rating double, prediction double", "none of 0 rows has a prediction"),
    ],
)
def test_nothing_to_evaluate_is_an_error(spark, rows, columns, message):
    with pytest.raises(DataError, match=message):
        rating_metrics(spark.createDataFrame(rows, columns))


def test_a_baseline_without_training_rows_is_an_error(train, test_rows):
    with pytest.raises(DataError, match="no training ratings in column 'rating'"):
        mean_baseline(train.where("rating > 9"), test_rows)
