"""The situations of ``implicit``'s recommender_base_test.py, on our estimators of implicit feedback.

Even users like even items and odd users odd ones; what a user is best recommended is the one item withheld from it.
"""

import pickle

import numpy as np
import pytest
from pyspark.sql import functions as F

from mfspark import ALS, SGD, ParameterError
from mfspark.kernels.csr import Side

IMPLICIT = {"implicitPrefs": True, "seed": 1, "numUserBlocks": 2, "numItemBlocks": 2}
MODELS = {
    "cholesky": lambda: ALS(rank=3, solver="cholesky", alpha=2.0, regParam=0.1, maxIter=15, **IMPLICIT),
    "cg": lambda: ALS(rank=3, solver="cg", alpha=2.0, regParam=0.1, maxIter=15, **IMPLICIT),
    "implicit's confidence": lambda: ALS(
        rank=3,
        confidence="linear",
        unobservedWeight=0.5,
        alpha=2.0,
        regParam=2.0,
        regExponent=0.0,
        maxIter=15,
        **IMPLICIT,
    ),
    "nonnegative": lambda: ALS(rank=3, nonnegative=True, alpha=2.0, regParam=0.1, maxIter=15, **IMPLICIT),
    "logistic": lambda: SGD(rank=3, loss="logistic", regParam=0.003, maxIter=60, center=True, **IMPLICIT),
}


def board(spark, n, kind="float"):
    likes = [(u, i, 1.0) for u in range(n) for i in range(u % 2, n, 2) if u != i]
    return spark.createDataFrame(likes, "user int, item int, rating double").select(
        "user", "item", F.col("rating").cast(kind).alias("rating")
    )


@pytest.fixture(scope="module")
def likes(spark):
    return board(spark, 50).coalesce(2).cache()


@pytest.fixture(scope="module", params=MODELS)
def model(request, likes):
    return MODELS[request.param]().fit(likes)


def test_the_withheld_item_is_the_best_unseen_one(model, likes, spark):
    best = {row.user: row.recommendations for row in model.recommendForAllUsers(1, seen=likes).collect()}
    assert {user: found[0].item for user, found in best.items()} == {user: user for user in range(50)}
    subset = spark.createDataFrame([(2,), (3,), (4,)], "user int")
    for row in model.recommendForUserSubset(subset, 1, seen=likes).collect():
        assert row.recommendations[0].item == row.user
        assert row.recommendations[0].rating == pytest.approx(best[row.user][0].rating, rel=1e-5)


def test_more_than_there_are_and_further_filters(model, likes, spark):
    for row in model.recommendForAllUsers(10_000, seen=likes).collect():
        assert len(row.recommendations) == 26
    further = likes.select("user", "item").union(spark.createDataFrame([(0, 0)], "user int, item int"))
    best = model.recommendForUserSubset(further.where("user = 0"), 1, seen=further).first()
    assert best.recommendations[0].item != 0


def test_scores_fall(model):
    for row in model.recommendForAllUsers(50).collect():
        assert (np.diff([each.rating for each in row.recommendations]) <= 0).all()


def test_recalculated_users_score_the_same(model, likes):
    if model.fitted.objective.refusal(Side.USER):
        with pytest.raises(ParameterError, match="fold-in solves the equations of the squared loss"):
            model.foldInUsers(likes)
        return
    comp = {row.id: row.features for row in model.foldInUsers(likes.where("user < 10")).collect()}
    ref = {row.id: row.features for row in model.userFactors.where("id < 10").collect()}
    assert len(comp) == 10
    Y = model.fitted.features(1)
    for user, features in ref.items():
        np.testing.assert_allclose(Y @ np.array(comp[user]), Y @ np.array(features), atol=5e-3)


def test_neighbours_are_of_the_same_parity(model):
    for frame, column in ((model.similarUsers(num=10), "user"), (model.similarItems(num=10), "item")):
        rows = frame.collect()
        assert len(rows) == 50
        for row in rows:
            assert {each[column] % 2 for each in row.recommendations} == {row[column] % 2}


def test_pickle(model, likes):
    again = pickle.loads(pickle.dumps(model))
    assert sorted(again.recommendForAllUsers(3, seen=likes).collect()) == sorted(
        model.recommendForAllUsers(3, seen=likes).collect()
    )


def test_an_item_that_nobody_likes_is_nobodys_neighbour(likes):
    dull = likes.withColumn("rating", F.when(F.col("item").isin(42, 49), 0.0).otherwise(F.col("rating")))
    for row in MODELS["cholesky"]().fit(dull).similarItems(list(range(40)), 10).collect():
        assert not {42, 49} & {each.item for each in row.recommendations}


def test_doubles_and_floats_are_the_same(spark, likes):
    one, two = (
        MODELS["cholesky"]().fit(frame).fitted.sides for frame in (likes, board(spark, 50, "double").coalesce(2))
    )
    for left, right in zip(one, two, strict=True):
        np.testing.assert_array_equal(left, right)
