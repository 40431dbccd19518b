"""Ranking metrics against a slow readable twin and pyspark.ml's evaluator."""

import math

import numpy as np
import pytest
from pyspark.ml.evaluation import RankingEvaluator

from mfspark.errors import DataError, ParameterError
from mfspark.evaluation import ranking_metrics

N_ITEMS = 12


def ref_metrics(lists, truths, k, n_items):
    """Every metric user by user, straight from its definition."""
    totals = {}
    for user, truth in truths.items():
        full = lists.get(user, [])[:k]
        hits = [item in truth for item in full]
        ideal = sum(1 / math.log2(j + 2) for j in range(min(len(truth), k)))
        precisions = [sum(hits[: j + 1]) / (j + 1) for j in range(len(full)) if hits[j]]
        values = {
            "precisionAtK": sum(hits) / k,
            "recallAtK": sum(hits) / len(truth),
            "truncatedRecallAtK": sum(hits) / min(len(truth), k),
            "hitRateAtK": float(any(hits)),
            "ndcgAtK": sum(1 / math.log2(j + 2) for j, hit in enumerate(hits) if hit) / ideal,
            "meanAveragePrecisionAtK": sum(precisions) / min(len(truth), k),
            "meanReciprocalRank": 1 / (hits.index(True) + 1) if any(hits) else 0.0,
            "areaUnderROC": ref_area(full, truth, n_items),
        }
        for name, value in values.items():
            totals.setdefault(name, []).append(value)
    listed = {item for items in lists.values() for item in items[:k]}
    means = {name: float(np.mean(values)) for name, values in totals.items()}
    return means | {"coverageAtK": len(listed) / n_items, "users": float(len(truths))}


def ref_area(full, truth, n_items):
    """The share of (relevant, other) pairs in the right order; unlisted items share one last place."""
    place = {item: full.index(item) if item in full else len(full) for item in range(n_items)}
    pairs = [(place[good], place[bad]) for good in truth for bad in range(n_items) if bad not in truth]
    return sum((good < bad) + 0.5 * (good == bad) for good, bad in pairs) / len(pairs)


def example(seed):
    generator = np.random.default_rng(seed)
    lists, truths = {}, {}
    for user in range(8):
        lists[user] = [int(item) for item in generator.permutation(N_ITEMS)[: generator.integers(1, N_ITEMS + 1)]]
        truths[user] = {int(item) for item in generator.choice(N_ITEMS, generator.integers(1, 5), replace=False)}
    del lists[0]  # a user the model does not know
    truths.pop(7)  # a user without a relevant item
    return lists, truths


def frames(spark, lists, truths, structs):
    kind = "array<struct<item: int, rating: float>>" if structs else "array<int>"
    rows = [(user, [(item, 1.0) for item in items] if structs else items) for user, items in lists.items()]
    recommended = spark.createDataFrame(rows, f"user int, recommendations {kind}")
    pairs = [(user, item) for user, items in truths.items() for item in items]
    return recommended, spark.createDataFrame(pairs + pairs[:2], "user int, item int")


@pytest.mark.parametrize(("k", "structs"), [(1, True), (3, False), (N_ITEMS, True)])
def test_every_metric_equals_its_definition(spark, k, structs):
    lists, truths = example(seed=k)
    comp = ranking_metrics(*frames(spark, lists, truths, structs), k=k, n_items=N_ITEMS)
    assert comp == pytest.approx(ref_metrics(lists, truths, k, N_ITEMS), abs=1e-12)


@pytest.mark.parametrize("name", ["precisionAtK", "recallAtK", "ndcgAtK", "meanAveragePrecisionAtK"])
def test_full_lists_equal_pyspark_ml(spark, name):
    lists, truths = example(seed=5)
    lists = {user: items for user, items in lists.items() if user in truths and len(items) >= 3}
    truths = {user: truths[user] for user in lists}
    comp = ranking_metrics(*frames(spark, lists, truths, structs=False), k=3)[name]
    rows = [([float(i) for i in lists[user]], [float(i) for i in truths[user]]) for user in lists]
    df = spark.createDataFrame(rows, "prediction array<double>, label array<double>")
    assert comp == pytest.approx(RankingEvaluator(metricName=name, k=3).evaluate(df), abs=1e-12)


def test_without_the_number_of_items_two_metrics_are_left_out(spark):
    comp = ranking_metrics(*frames(spark, *example(seed=1), structs=True), k=3)
    assert "areaUnderROC" not in comp
    assert "coverageAtK" not in comp


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        (lambda r, t: (r, t), {"k": 0}, ParameterError, "k=0"),
        (lambda r, t: (r, t), {"n_items": 1}, ParameterError, "n_items=1, but one user alone has"),
        (lambda r, t: (r, t.where("item > 99")), {}, DataError, "no relevant"),
        (lambda r, t: (r.drop("recommendations"), t), {}, DataError, "recommended has no column 'recommendations'"),
        (lambda r, t: (r, t.drop("item")), {}, DataError, "relevant has no column 'item'"),
        (lambda r, t: (r.selectExpr("user", "1 AS recommendations"), t), {}, DataError, "must be an array"),
    ],
    ids=["k", "n_items", "no truth", "no lists", "no item", "no array"],
)
def test_what_cannot_be_measured_is_an_error(spark, change, options, error, message):
    recommended, relevant = frames(spark, *example(seed=2), structs=True)
    with pytest.raises(error, match=message):
        ranking_metrics(*change(recommended, relevant), **options)
