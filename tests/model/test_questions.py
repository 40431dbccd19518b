"""What a model is asked with: ids of every type, numbers of results, column names; one line where it cannot answer."""

import numpy as np
import pandas as pd
import pytest
from contract import checkerboard

from mfspark import ALS, DataError, ParameterError


@pytest.fixture(scope="module")
def ratings(spark):
    return checkerboard(spark)


@pytest.fixture(scope="module")
def model(ratings):
    return ALS(rank=2, maxIter=2).fit(ratings)


@pytest.fixture(scope="module")
def texts(spark):
    return ALS(rank=2, maxIter=1).fit(checkerboard(spark, id_of=str, id_type="string"))


PLAIN = [(1, 101), (2, 104), (999, 101)]


@pytest.mark.parametrize("kind", ["tinyint", "smallint", "bigint", "float", "double", "decimal(20,2)"])
def test_whole_ids_of_any_number_type_are_the_same_ids(model, spark, kind):
    pairs = spark.createDataFrame(PLAIN[: 2 if kind == "tinyint" else 3], "user int, item int")
    given = pairs.selectExpr(f"cast(user as {kind}) as user", f"cast(item as {kind}) as item")
    comp = [row.prediction for row in model.transform(given).collect()]
    np.testing.assert_array_equal(comp, [row.prediction for row in model.transform(pairs).collect()])
    assert {row.user for row in model.recommendForUserSubset(given, 2).collect()} == {1, 2}
    seen = model.recommendForUserSubset(pairs.where("user = 1"), 12, seen=given).first()
    assert len(seen.recommendations) == 11 and 101 not in [row.item for row in seen.recommendations]


@pytest.mark.parametrize("kind", ["bigint", "double"])
def test_ids_beyond_the_kept_type_are_unknown(model, spark, kind):
    far = spark.createDataFrame([(2**40, 101), (1, 2**40)], "user bigint, item bigint")
    far = far.selectExpr(f"cast(user as {kind}) as user", f"cast(item as {kind}) as item")
    assert all(np.isnan(row.prediction) for row in model.transform(far).collect())
    assert [row.user for row in model.recommendForUserSubset(far, 1).collect()] == [1]


def test_ids_of_64_bits_stay_exact_beside_null_ids(spark):
    far = 2**60
    rated = spark.createDataFrame(
        [(far + u, far + i, float(u + i)) for u in range(4) for i in range(4)], "user long, item long, rating double"
    )
    model = ALS(rank=1, maxIter=1, seed=1).fit(rated.coalesce(1))
    pairs = [(far + 1, far + 3), (None, far), (far + 2, None), (far + 3, far + 1), (far + 4, far)]
    asked = spark.createDataFrame(pairs, "user long, item long").coalesce(1)
    comp = {(row.user, row.item): row.prediction for row in model.transform(asked).collect()}
    users, items = (model.fitted.features(side) for side in (0, 1))
    ref = {
        pair: np.nan if None in pair or pair[0] == far + 4 else users[pair[0] - far] @ items[pair[1] - far]
        for pair in pairs
    }
    assert comp.keys() == ref.keys()
    np.testing.assert_allclose([comp[pair] for pair in pairs], [ref[pair] for pair in pairs], rtol=1e-5)


@pytest.mark.parametrize("bad", [1.5, float("nan"), float("inf")])
def test_an_id_that_is_not_whole_is_refused_everywhere(model, spark, bad):
    pairs = spark.createDataFrame([(1.0, 101.0), (bad, 102.0), (bad, 103.0)], "user double, item double")
    lazily = "column 'user' has the id .*, which is not a whole number"
    for frame in (model.transform(pairs), model.recommendForAllUsers(2, seen=pairs)):
        with pytest.raises(Exception, match=lazily):
            frame.collect()
    with pytest.raises(DataError, match="^column 'user' has 2 ids that are not whole numbers"):
        model.recommendForUserSubset(pairs, 2)
    with pytest.raises(DataError, match="2 ids in column user that are not whole numbers"):
        model.foldInUsers(pairs.selectExpr("*", "cast(5 as float) as rating"))
    with pytest.raises(DataError, match="1 ids, such as"):
        model.similarUsers([bad, 1], 2)


@pytest.mark.parametrize(
    "ask",
    [
        lambda model, pairs: model.transform(pairs),
        lambda model, pairs: model.recommendForAllUsers(2, seen=pairs),
        lambda model, pairs: model.recommendForUserSubset(pairs, 2),
        lambda model, pairs: model.foldInUsers(pairs),
        lambda model, pairs: model.foldInItems(pairs),
    ],
)
def test_ids_of_another_type_are_refused_before_any_job(model, texts, ratings, spark, ask):
    strings = spark.createDataFrame([("1", "101", 5.0)], "user string, item string, rating float")
    with pytest.raises(DataError, match="^column 'user' is string, but the model's ids are int: cast it$"):
        ask(model, strings)
    with pytest.raises(DataError, match="^column 'user' is int, but the model's ids are string: cast it$"):
        ask(texts, ratings)
    dates = ratings.selectExpr("current_date() as user", "item", "rating")
    with pytest.raises(DataError, match="^column 'user' is date, but the model's ids are int: cast it$"):
        ask(model, dates)
    with pytest.raises(DataError, match="^column 'user' is missing; the data has item, rating$"):
        ask(model, ratings.drop("user"))


@pytest.mark.parametrize(
    ("given", "kind"),
    [(pd.DataFrame({"user": [1], "item": [101]}), "pandas.DataFrame"), ([(1, 101, 5.0)], "list"), (None, "NoneType")],
    ids=["pandas", "list", "None"],
)
@pytest.mark.parametrize(
    "ask",
    [
        lambda _, data: ALS().fit(data),
        lambda model, data: model.transform(data),
        lambda model, data: model.recommendForUserSubset(data, 2),
        lambda model, data: model.foldInUsers(data),
    ],
)
def test_what_is_no_spark_frame_is_named(model, given, kind, ask):
    with pytest.raises(DataError, match=f"^expected a Spark DataFrame, got a {kind}: spark.createDataFrame"):
        ask(model, given)


def test_seen_must_be_a_spark_frame(model):
    for seen, kind in (([(1, 101)], "tuple"), ({1: 101}, "dict")):
        with pytest.raises(DataError, match=f"^expected a Spark DataFrame, got a {kind}"):
            model.recommendForAllUsers(2, seen=seen)


@pytest.mark.parametrize("number", ["2", 2.0, None, True], ids=repr)
@pytest.mark.parametrize("ask", ["recommendForAllUsers", "recommendForAllItems", "similarItems"])
def test_the_number_of_results_is_an_int(model, number, ask):
    arguments = (None, number) if ask == "similarItems" else (number,)
    with pytest.raises(ParameterError, match=f"^the number of .* must be an int, not {number!r}$"):
        getattr(model, ask)(*arguments)


def test_numbers_of_numpy_are_numbers(model):
    assert len(model.recommendForAllUsers(np.int64(3)).first().recommendations) == 3


def test_block_size_of_zero_is_refused(model):
    with pytest.raises(ParameterError, match="^blockSize must be at least 1, not 0$"):
        model.copy().setBlockSize(0)
    with pytest.raises(ParameterError, match="^blockSize must be at least 1, not 0$"):
        model.copy({model.blockSize: 0}).recommendForAllUsers(2)
    with pytest.raises(ParameterError, match="^blockSize must be at least 1, not -3$"):
        ALS(blockSize=-3)


def test_neighbours_are_asked_for_by_a_list_of_the_models_ids(model, texts):
    with pytest.raises(ParameterError, match=r"^expected a list of ids, such as \[5\], got 5$"):
        model.similarItems(5)
    with pytest.raises(ParameterError, match=r"^expected a list of ids, such as \['101'\], got '101'$"):
        texts.similarItems("101")
    with pytest.raises(DataError, match="^2 ids, such as '100', are no int as the model has: convert them$"):
        model.similarItems(["100", "101"])
    with pytest.raises(DataError, match="^1 ids, such as 100, are no string as the model has"):
        texts.similarItems([100])
    with pytest.raises(DataError, match="^1 ids are unknown to the model, such as 1099511627776$"):
        model.similarItems([100, 2**40])
    for ids in ([100, 101], np.array([100, 101]), (100.0, np.int8(101)), range(100, 102)):
        assert {row.item for row in model.similarItems(ids, 2).collect()} == {100, 101}
    assert texts.similarItems(np.array(["101"]), 2).count() == 1


def test_fold_in_of_longs_into_a_model_of_ints(model, ratings, spark):
    ref = {row.id: row.features for row in model.foldInUsers(ratings).collect()}
    folded = model.foldInUsers(ratings.selectExpr("cast(user as bigint) user", "cast(item as bigint) item", "rating"))
    assert folded.schema["id"].dataType.simpleString() == "int"
    assert {row.id: row.features for row in folded.collect()} == ref
    far = spark.createDataFrame([(2**40, 101, 5.0), (2**41, 101, 5.0)], "user bigint, item bigint, rating float")
    with pytest.raises(DataError, match="^column 'user' has 2 ids beyond the model's type int"):
        model.foldInUsers(far)
    with pytest.raises(DataError, match="^column 'user' has 2 ids that the model does not know"):
        model.foldInItems(far)


@pytest.mark.parametrize("spelling", ["drop", "DROP", "Drop"])
def test_cold_start_is_read_in_letters_of_either_case(model, ratings, spark, spelling):
    cold = spark.createDataFrame([(1, 101), (999, 101)], "user int, item int")
    assert model.copy().setColdStartStrategy(spelling).transform(cold).count() == 1
    assert model.transform(cold, {model.coldStartStrategy: spelling}).count() == 1
    assert ALS(coldStartStrategy=spelling).getColdStartStrategy() == "drop"
    estimator = ALS(rank=2, maxIter=1)
    assert estimator.fit(ratings, {estimator.coldStartStrategy: spelling}).transform(cold).count() == 1
    assert model.copy().setColdStartStrategy("NaN").transform(cold).count() == 2


def test_a_misspelt_cold_start_is_refused(model, ratings):
    message = "^coldStartStrategy must be one of nan, drop, mean, not 'dorp'$"
    estimator = ALS(rank=2, maxIter=1)
    for wrong in (
        lambda: model.copy().setColdStartStrategy("dorp"),
        lambda: model.transform(ratings, {model.coldStartStrategy: "dorp"}),
        lambda: ALS(coldStartStrategy="dorp"),
        lambda: estimator.fit(ratings, {estimator.coldStartStrategy: "dorp"}),
    ):
        with pytest.raises(ParameterError, match=message):
            wrong()


def test_an_existing_column_is_never_replaced(model, ratings):
    predicted = model.transform(ratings)
    with pytest.raises(DataError, match="^column 'prediction' already exists: drop it, or choose another name"):
        model.transform(predicted)
    for name in ("rating", "Rating"):
        with pytest.raises(DataError, match=f"^column '{name}' already exists"):
            model.copy({model.predictionCol: name}).transform(ratings)
    assert model.copy({model.predictionCol: "second"}).transform(predicted).columns[-2:] == ["prediction", "second"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("k", "rank"), ("factors", "rank"), ("n_factors", "rank"), ("reg", "regParam"), ("lambda_", "regParam"),
        ("regularization", "regParam"), ("iterations", "maxIter"), ("n_iter", "maxIter"), ("max_iter", "maxIter"),
        ("random_state", "seed"), ("user_col", "userCol"), ("rnak", "rank"), ("implicit", "implicitPrefs"),
    ],
)  # fmt: skip
def test_a_wrong_parameter_name_is_answered_by_the_right_one(name, meant):
    with pytest.raises(ParameterError, match=rf"^ALS has no parameter '{name}' \(did you mean {meant}\?\); it has "):
        ALS(**{name: 1})


def test_nothing_is_suggested_where_nothing_is_near():
    with pytest.raises(ParameterError, match="^ALS has no parameter 'zzz'; it has "):
        ALS(zzz=1)
