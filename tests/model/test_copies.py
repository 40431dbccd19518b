"""A model as an object: pickled, copied, printed, whatever was looked at before."""

import copy
import pickle

import numpy as np
import pytest
from contract import checkerboard

from mfspark import ALS, FactorizationModel, ParameterError


@pytest.fixture(scope="module")
def ratings(spark):
    return checkerboard(spark)


@pytest.fixture(scope="module")
def looked_at(ratings):
    model = ALS(rank=2, maxIter=1, filterSeen=True, finalStorageLevel="MEMORY_ONLY", coldStartStrategy="drop").fit(
        ratings
    )
    assert model.userFactors.count() == 24 and model.itemFactors.count() == 12
    assert model.transform(ratings).count() == ratings.count()
    assert model.recommendForAllUsers(2).count() == 24
    return model


@pytest.mark.parametrize(
    "again", [lambda model: pickle.loads(pickle.dumps(model)), copy.deepcopy], ids=["pickle", "deepcopy"]
)
def test_a_model_that_was_looked_at_pickles(looked_at, ratings, again):
    twin = again(looked_at)
    assert type(twin) is FactorizationModel and twin.uid == looked_at.uid
    assert twin.extractParamMap() == looked_at.extractParamMap()
    for ref, comp in zip(looked_at.fitted.sides, twin.fitted.sides, strict=True):
        np.testing.assert_array_equal(ref, comp)
    assert twin.userFactors.collect() == looked_at.userFactors.collect()
    assert twin.transform(ratings).collect() == looked_at.transform(ratings).collect()
    assert twin.history.collect() == looked_at.history.collect()
    with pytest.raises(ParameterError, match="as seen=..."):
        twin.recommendForAllUsers(2)
    ref = {row.user: row.recommendations for row in looked_at.recommendForAllUsers(2).collect()}
    assert {row.user: row.recommendations for row in twin.recommendForAllUsers(2, seen=ratings).collect()} == ref


def test_a_pickle_holds_the_factors_once(looked_at):
    sides = sum(side.nbytes for side in looked_at.fitted.sides)
    ids = sum(array.nbytes for array in looked_at.fitted.ids)
    assert len(pickle.dumps(looked_at)) < sides + ids + 20_000


def test_a_copy_within_the_session_still_leaves_out_the_training_pairs(looked_at, ratings):
    twin = looked_at.copy({looked_at.coldStartStrategy: "nan"})
    seen = {(row.user, row.item) for row in ratings.collect()}
    for row in twin.recommendForAllUsers(12).collect():
        assert not {(row.user, one.item) for one in row.recommendations} & seen
    assert looked_at.getColdStartStrategy() == "drop" and twin.getColdStartStrategy() == "nan"


def test_a_model_says_what_it_is_in_one_line(looked_at):
    told = f"FactorizationModel: uid={looked_at.uid}, rank=2, 24 users, 12 items, loss="
    assert repr(looked_at) == f"{told}{looked_at.summary.objectiveHistory[-1]:.6g}"
    assert repr(FactorizationModel()).endswith(", empty")
