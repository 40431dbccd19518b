"""Recommendations on Spark under rules are LocalModel's, ties in the order of the ids, frames and lists alike."""

import numpy as np
import pyarrow as pa
import pytest
from frame_models import on_frames
from pyspark.sql import types as T
from test_local import ITEMS, USERS, fitted

from mfspark import DataError, FactorizationModel, LocalModel, ParameterError
from mfspark.kernels.objective import Settings
from mfspark.model.factorization import Factorization


def on_spark(one):
    model = FactorizationModel(one)
    model._kinds = (T.LongType(), T.LongType())
    return model


@pytest.fixture(scope="module")
def tied():
    """Whole numbers, so that scores are exact and many of them equal; clipped where the best ones lie."""
    rng = np.random.default_rng(3)
    settings = Settings(rank=2)
    sides = [np.zeros((n, settings.padded), np.float32) for n in (USERS, ITEMS)]
    for side in sides:
        side[:, :2] = rng.integers(0, 3, (len(side), 2))
    ids = [pa.array(range(100, 100 + 2 * n, 2)) for n in (USERS, ITEMS)]
    return Factorization(settings, tuple(ids), tuple(sides), 0.0, (0.0, 6.0))


@pytest.fixture(params=["arrays", "frames"])
def model(tied, spark, request):
    return on_spark(tied) if request.param == "arrays" else on_frames(spark, on_spark(tied))


def lists(frame):
    return {row[0]: [tuple(one) for one in row.recommendations] for row in frame.collect()}


def test_ties_are_in_the_order_of_the_ids_whatever_the_rules(model, tied, spark):
    local, users = LocalModel(tied), tied.ids[0].to_pylist()
    items = tied.ids[1].to_pylist()
    allow, deny = items[5:40], [*items[7:9], 5]
    some = spark.createDataFrame([(item,) for item in allow], "item bigint")
    pairs = spark.createDataFrame([(user, item) for user in users[:6] for item in allow], "user bigint, item bigint")
    seen = spark.createDataFrame([(user, items[10 + user % 7]) for user in users], "user bigint, item bigint")
    for frame, asked, rules in (
        (model.recommendForAllUsers(5), users, {}),
        (model.recommendForAllUsers(5, deny=deny, minScore=2), users, {"deny": deny, "min_score": 2}),
        (model.recommendForAllUsers(5, allow=some, deny=deny), users, {"allow": allow, "deny": deny}),
        (model.recommendForAllUsers(5, seen=[seen], allow=allow), users, {"allow": allow, "seen": seen}),
        (model.recommendForAllUsers(5, seen=seen, allow=pairs), users[:6], {"allow": allow, "seen": seen}),
        (
            model.recommendForUserSubset(seen.limit(3), 5, allow=pairs, deny=deny),
            users[:3],
            {"allow": allow, "deny": deny},
        ),
    ):
        comp = lists(frame)
        assert sorted(comp) == asked
        for user in asked:
            own = rules | ({"seen": [items[10 + user % 7]]} if "seen" in rules else {})
            assert comp[user] == [tuple(one) for one in local.recommend(user, 5, **own)]
    assert any(len({score for _, score in one}) < len(one) for one in comp.values())


def test_nothing_may_remain(model, spark):
    assert all(found == [] for found in lists(model.recommendForAllUsers(3, allow=[])).values())
    assert all(found == [] for found in lists(model.recommendForAllUsers(3, minScore=100)).values())
    none = spark.createDataFrame([], "user bigint, item bigint")
    assert lists(model.recommendForAllUsers(3, allow=none)) == {}
    assert all(found == [] for found in lists(model.similarItems(None, 3, allow=[1])).values())
    assert len(lists(model.recommendForAllItems(2, deny=[100]))) == ITEMS


def test_wrong_rules_are_refused(model, spark):
    pairs = spark.createDataFrame([(100, 100)], "user bigint, item bigint")
    with pytest.raises(ParameterError, match="^neighbours are allowed and denied by ids, not by pairs"):
        model.similarItems([100], 2, deny=pairs)
    with pytest.raises(DataError, match="^column 'item' is missing; the data has user$"):
        model.recommendForAllUsers(2, allow=pairs.select("user"))
    with pytest.raises(DataError, match="^1 (item )?ids, such as 'x', are no (whole numbers|bigint) as"):
        model.recommendForAllUsers(2, deny=["x"])
    with pytest.raises(ParameterError, match="^minScore must be a number, not '3'$"):
        model.recommendForAllUsers(2, minScore="3")
    with pytest.raises(ParameterError, match="must be at least 1, not 0$"):
        model.recommendForAllUsers(0, deny=[100])


def test_an_explained_frame_is_what_is_explained_here(spark):
    one = fitted(bias=(True, True))
    model, local = on_spark(one), LocalModel(one)
    given = [(7, 100, 4.0, 1.0), (7, 104, 1.0, 0.5), (7, 110, 5.0, 2.0), (8, 100, 3.0, 1.0)]
    ratings = spark.createDataFrame(given, "user bigint, item bigint, rating float, weight float")
    pairs = spark.createDataFrame([(7, 102), (8, 106)], "user bigint, item bigint")
    found = {row.user: row for row in model.explain(pairs, ratings, weightCol="weight").collect()}
    for user, item in ((7, 102), (8, 106)):
        mine = {i: r for u, i, r, _ in given if u == user}
        ref = local.explain(mine, item, {i: w for u, i, _, w in given if u == user})
        np.testing.assert_allclose([found[user].score, found[user].base], ref[:2], rtol=1e-5)
        comp = [tuple(part) for part in found[user].contributions]
        assert [item for item, _ in comp] == [part.id for part in ref.contributions]
        np.testing.assert_allclose([c for _, c in comp], [part.score for part in ref.contributions], rtol=1e-5)
    unknown = ratings.selectExpr("user", "item + 1 as item", "rating")
    with pytest.raises(Exception, match="3 items are unknown to the model|1 items are unknown to the model"):
        model.explain(pairs, unknown).collect()
