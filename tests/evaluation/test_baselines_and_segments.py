"""Baselines that offer all users the same, and metrics by deciles, against plain Python."""

from collections import Counter

import numpy as np
import pytest

from mfspark.errors import DataError, ParameterError
from mfspark.evaluation import (
    bias_ranking,
    deciles,
    in_one_order,
    popularity_ranking,
    ranking_metrics,
    ranking_segments,
    rating_metrics,
    rating_segments,
)

N_ITEMS = 15


def example():
    """Users 0 to 19 with 1 to 14 ratings each; item i the more popular the smaller i is."""
    generator = np.random.default_rng(4)
    weights = np.arange(N_ITEMS, 0, -1) ** 2.0
    rows = []
    for user in range(20):
        items = generator.choice(N_ITEMS, 1 + user * 2 // 3, replace=False, p=weights / weights.sum())
        rows += [(user, int(item), float(generator.integers(1, 6))) for item in items]
    return rows


ROWS = example()


@pytest.fixture(scope="module")
def train(spark):
    return spark.createDataFrame(ROWS, "user int, item int, rating double").cache()


def collected(lists):
    return {row["user"]: [one["item"] for one in row["recommendations"]] for row in lists.collect()}


def ref_lists(score, k, seen):
    order = sorted(score, key=lambda item: (-score[item], item))
    return {user: [item for item in order if (user, item) not in seen][:k] for user in {user for user, _, _ in ROWS}}


@pytest.mark.parametrize("k", [1, 3, 40])
def test_the_popular_items_but_for_those_seen(train, k):
    seen = {(user, item) for user, item, _ in ROWS}
    counts = Counter(item for _, item, _ in ROWS)
    lists = popularity_ranking(train, train, k, seen=train)
    assert collected(lists) == {user: items for user, items in ref_lists(counts, k, seen).items() if items}
    assert lists.schema.simpleString() == ("struct<user:int,recommendations:array<struct<item:int,rating:float>>>")
    assert collected(popularity_ranking(train, train, k)) == ref_lists(counts, k, set())


def test_biases_order_items_as_the_predictions_of_the_bias_baseline(train):
    ratings = [rating for *_, rating in ROWS]
    mean = np.mean(ratings)
    residuals = {}
    for _, item, rating in ROWS:
        residuals.setdefault(item, []).append(rating - mean)
    score = {item: sum(own) / (25 + len(own)) for item, own in residuals.items()}
    assert collected(bias_ranking(train, train, 5)) == ref_lists(score, 5, set())
    best = bias_ranking(train, train, 1).first()["recommendations"][0]
    assert best["rating"] == pytest.approx(mean + max(score.values()))


def test_users_who_saw_everything_have_no_list_and_strangers_the_whole(spark, train):
    everything = spark.createDataFrame([(0, item, 1.0) for item in range(N_ITEMS)], train.schema)
    users = spark.createDataFrame([(0,), (0,), (777,)], "user int")
    found = collected(popularity_ranking(train, users, 4, seen=everything))
    assert set(found) == {777} and len(found[777]) == 4
    with pytest.raises(ParameterError, match="k=0"):
        in_one_order(train, users, 0)
    with pytest.raises(DataError, match="no column 'item'"):
        in_one_order(users, users, 1)


def ref_deciles(column):
    counts = Counter(row[column] for row in ROWS)
    cuts = np.percentile(list(counts.values()), np.arange(10, 100, 10))
    return {one: (count, 1 + int((cuts < count).sum())) for one, count in counts.items()}


@pytest.mark.parametrize("name", ["user", "item"])
def test_deciles_of_counts(train, name):
    comp = {row[name]: (row["ratings"], row["decile"]) for row in deciles(train, name).collect()}
    assert comp == ref_deciles(("user", "item").index(name))
    assert {1, 10} <= {decile for _, decile in comp.values()}
    with pytest.raises(DataError, match="no column 'users'"):
        deciles(train, "users")


def as_dict(segments):
    return {(row["segment"], row["decile"], row["metric"]): row["value"] for row in segments.collect()}


def test_ranking_by_segments_adds_up_to_the_whole(spark, train):
    relevant = spark.createDataFrame(
        [(u, (u * 7 + j) % N_ITEMS) for u in range(21) for j in (0, 3)], "user int, item int"
    )
    lists = popularity_ranking(train, train, 4).cache()
    found = as_dict(ranking_segments(lists, relevant, train, k=3))
    whole = ranking_metrics(lists, relevant, 3)
    ours = ref_deciles(0)
    users = {d: [u for u in range(21) if ours.get(u, (0, 0))[1] == d] for d in range(11)}
    assert len(users[0]) == 1  # user 20 was not trained on, and has no list
    assert found["user", 0, "ndcgAtK"] == 0
    for metric in ("precisionAtK", "recallAtK", "ndcgAtK"):
        parts = [(len(own), found["user", d, metric]) for d, own in users.items() if own]
        assert sum(n * value for n, value in parts) / 21 == pytest.approx(whole[metric])
    exposure = {d: found["item", d, "exposureAtK"] for d in range(11) if ("item", d, "exposureAtK") in found}
    top = sorted(Counter(item for _, item, _ in ROWS).items(), key=lambda one: (-one[1], one[0]))[:3]
    ref = Counter(ref_deciles(1)[item][1] for item, _ in top)
    assert {d: share for d, share in exposure.items() if share} == pytest.approx({d: n / 3 for d, n in ref.items()})
    hits = sum(found["item", d, "relevant"] * found["item", d, "recallAtK"] for d in range(1, 11)
               if found.get(("item", d, "relevant")))  # fmt: skip
    assert hits / 42 == pytest.approx(whole["recallAtK"])  # every user has two relevant items


def test_errors_by_segments_add_up_to_the_whole(spark, train):
    generator = np.random.default_rng(2)
    rows = [(u, i, r, r + float(generator.normal()), 3.0) for u, i, r in ROWS]
    rows += [(99, 99, 4.0, None, 3.0), (99, 0, 4.0, float("nan"), 3.0)]
    predicted = spark.createDataFrame(rows, "user int, item int, rating double, prediction double, mean_only double")
    found = as_dict(rating_segments(predicted, train, ("prediction", "mean_only")))
    ref = rating_metrics(predicted)
    sizes = {n: Counter(ref_deciles(n)[row[n]][1] for row in ROWS) for n in (0, 1)}
    for n, name in enumerate(("user", "item")):
        squares = sum(size * found[name, d, "rmse"] ** 2 for d, size in sizes[n].items())
        assert squares / len(ROWS) == pytest.approx(ref.rmse**2)
    assert found["user", 0, "ratings"] == 2 and ("user", 0, "rmse") not in found
    assert found["user", 0, "mean_only_mae"] == 1
