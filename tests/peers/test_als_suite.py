"""Each case of Spark's ALSSuite.scala, written anew: the same data, settings and tolerances, our import.

Names are those of the Scala cases. ``DIFFERENCES.md`` lists where the answer differs on purpose, and the cases that
look into MLlib's own data structures. Spark's helper ignores the ``maxIter`` it is given, so that its cases run the
default 10 iterations; so do these.
"""

import numpy as np
import pyarrow as pa
import pytest
from java_random import explicit, implicit
from pyspark.sql import functions as F
from pyspark.sql import types as T

from mfspark import ALS, ALSModel, DataError, ParameterError
from mfspark.kernels.als.half_step import solve_block
from mfspark.kernels.csr import Block, Side
from mfspark.kernels.objective import Settings, fix
from mfspark.model.factorization import Factorization

SCHEMA = "user int, item int, rating float"


def solved(rows, targets, reg, weights=(), exponent=0.0):
    """Return the kernel's solution of one row of explicit ratings."""
    settings = Settings(rank=2, reg_param=(reg, reg), exponent=exponent, dtype="float64")
    F_ = np.zeros((len(rows), settings.padded))
    F_[:, :2] = rows
    n = len(rows)
    block = Block(
        np.array([0, n]), np.arange(n, dtype=np.int32), np.array(targets, np.float32),
        weights=np.array(weights, np.float32),
    )  # fmt: skip
    return solve_block(block, fix(F_, settings), settings)[0][0, :2]


def test_normal_equation_construction():
    reg = 0.5  # MLlib adds weight * target; its case gives the products 3 = 1 * 3 and 12 = 2 * 6
    first = solved([(1, 2), (4, 5)], (3, 6), reg, (1, 2))
    np.testing.assert_allclose(np.array([[33, 42], [42, 54]]) @ first + reg * first, (51, 66), rtol=1e-8)
    merged = solved([(1, 2), (4, 5), (7, 8)], (3, 6, 9), reg, (1, 2, 1))
    np.testing.assert_allclose(np.array([[82, 98], [98, 118]]) @ merged + reg * merged, (114, 138), rtol=1e-8)


def test_cholesky_solver():
    rows, targets = [(1, 2), (1, 3), (1, 4)], (4, 9, 16)
    np.testing.assert_allclose(solved(rows, targets, 0.0), (-8.333333, 6.0), rtol=1e-6)
    np.testing.assert_allclose(solved(rows, targets, 1.5), (-0.1155556, 3.28), rtol=1e-6)


def check(spark, data, rank, reg, target, **options):
    training, test = (spark.createDataFrame(rows, SCHEMA) for rows in data)
    als = ALS(rank=rank, regParam=reg, **{"seed": 0, "numUserBlocks": 2, "numItemBlocks": 3, **options})
    model = als.fit(training)
    rows = model.transform(test).select("rating", "prediction").collect()
    rating, prediction = np.array(rows, np.float64).T
    weight = np.ones_like(rating)
    if als.getImplicitPrefs():
        weight = 1 + als.getAlpha() * np.abs(rating)
        rating, prediction = np.clip(rating, 0, 1), np.clip(prediction, 0, 1)
    assert np.sqrt(np.average((rating - prediction) ** 2, weights=weight)) < target
    assert model.uid == als.uid
    copied = als.copy({als.maxIter: 1})
    assert copied.uid == als.uid and copied.getMaxIter() == 1 and als.getMaxIter() == 10
    return model


@pytest.mark.parametrize("rank", [1, 2])
def test_exact_rank_1_matrix(spark, rank):
    check(spark, explicit(20, 40, 1), rank, 1e-5, 0.001)


@pytest.mark.parametrize("rank", [1, 2])
def test_approximate_rank_1_matrix(spark, rank):
    check(spark, explicit(20, 40, 1, 0.01), rank, 0.01, 0.02)


@pytest.mark.parametrize("rank", [2, 3])
def test_approximate_rank_2_matrix(spark, rank):
    check(spark, explicit(20, 40, 2, 0.01), rank, 0.01, 0.03)


@pytest.mark.parametrize("loop", ["jobs", "auto"])
@pytest.mark.parametrize("users,items", [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_different_block_settings(spark, users, items, loop):
    options = {"numUserBlocks": users, "numItemBlocks": items, "loop": loop}
    check(spark, explicit(20, 40, 2, 0.01), 3, 0.01, 0.03, **options)


def test_more_blocks_than_ratings(spark):
    # Ten ratings: from one start in five (MLlib: three) ten iterations do not suffice for the bound, thirty do.
    check(spark, explicit(4, 4, 1), 1, 1e-4, 0.002, numUserBlocks=5, numItemBlocks=5, seed=1)


def test_implicit_feedback(spark):
    check(spark, implicit(20, 40, 2, 0.01), 2, 0.01, 0.3, implicitPrefs=True)


def test_implicit_feedback_regression(spark):
    """Negative feedback is not the same as zero feedback."""
    models = [
        ALS(rank=1, regParam=0.01, implicitPrefs=True, numUserBlocks=2, numItemBlocks=3).fit(
            spark.createDataFrame([(0, 0, 1.0), (1, 1, 1.0), (0, 1, dislike)], SCHEMA)
        )
        for dislike in (-3.0, 0.0)
    ]
    for name in ("userFactors", "itemFactors"):
        one, other = (getattr(model, name) for model in models)
        assert one.intersect(other).count() == 0


@pytest.mark.parametrize("kind", ["bigint", "string"])
def test_using_generic_id_types(spark, kind):
    rows, _ = implicit(20, 40, 2, 0.01)
    ratings = spark.createDataFrame(rows, SCHEMA).select(
        F.col("user").cast(kind).alias("user"), F.col("item").cast(kind).alias("item"), "rating"
    )
    model = ALS(rank=2, maxIter=4).fit(ratings)
    for factors in (model.userFactors, model.itemFactors):
        assert factors.schema["id"].dataType.simpleString() == kind
    assert {row.id for row in model.userFactors.collect()} == {row[0] for row in ratings.select("user").collect()}


def test_nonnegative_constraint(spark):
    rows, _ = implicit(20, 40, 2, 0.01)
    model = ALS(rank=2, maxIter=4, nonnegative=True).fit(spark.createDataFrame(rows, SCHEMA))
    for factors in (model.userFactors, model.itemFactors):
        values = np.array([row.features for row in factors.collect()])
        assert (values >= 0).all() and (values > 0).any()


def test_partitioner_in_returned_factors(spark):
    """Ours has no partitioner: ids come once each, whatever the blocks."""
    rows, _ = implicit(20, 40, 2, 0.01)
    model = ALS(rank=2, maxIter=4, numUserBlocks=3, numItemBlocks=4).fit(spark.createDataFrame(rows, SCHEMA))
    for place, factors in enumerate((model.userFactors, model.itemFactors)):
        assert sorted(row.id for row in factors.collect()) == sorted({row[place] for row in rows})


@pytest.mark.parametrize("implicit_prefs", [False, True])
def test_als_with_large_number_of_iterations(spark, implicit_prefs):
    rows, _ = explicit(4, 4, 1)
    als = ALS(rank=1, maxIter=50, numUserBlocks=2, numItemBlocks=2, implicitPrefs=implicit_prefs)
    model = als.fit(spark.createDataFrame(rows, SCHEMA))
    assert len(model._history) == 50 and all(np.isfinite(side).all() for side in model.fitted.sides)


ALL_PARAMETERS = {
    "predictionCol": "myPredictionCol",
    "maxIter": 1,
    "rank": 1,
    "regParam": 0.01,
    "numUserBlocks": 2,
    "numItemBlocks": 2,
    "implicitPrefs": True,
    "alpha": 0.9,
    "nonnegative": True,
    "checkpointInterval": 20,
    "intermediateStorageLevel": "MEMORY_ONLY",
    "finalStorageLevel": "MEMORY_AND_DISK_SER",
}


def test_read_write(spark, tmp_path):
    ratings = spark.createDataFrame(explicit(4, 4, 1)[0], SCHEMA)
    als = ALS()
    for name, value in ALL_PARAMETERS.items():
        assert getattr(als, f"set{name[0].upper()}{name[1:]}")(value) is als
    als.write().overwrite().save(str(tmp_path / "als"))
    again = ALS.load(str(tmp_path / "als"))
    assert {name: again.getOrDefault(name) for name in ALL_PARAMETERS} == ALL_PARAMETERS
    assert {name: getattr(again, f"get{name[0].upper()}{name[1:]}")() for name in ALL_PARAMETERS} == ALL_PARAMETERS
    model = als.fit(ratings)
    model.write().overwrite().save(str(tmp_path / "model"))
    loaded = ALSModel.load(str(tmp_path / "model"))
    assert loaded.rank == model.rank and loaded.getPredictionCol() == "myPredictionCol"
    for name in ("userFactors", "itemFactors"):
        one, other = (sorted(getattr(each, name).collect()) for each in (model, loaded))
        assert one == other


NUMBERS = ("smallint", "bigint", "int", "float", "tinyint", "double", "decimal(10,0)")


@pytest.fixture(scope="module")
def five(spark):
    return spark.createDataFrame([(i, 10 * (i + 1), float(i + 1)) for i in range(5)], SCHEMA)


@pytest.mark.parametrize("column", ["user", "item", "rating"])
def test_input_type_validation_numeric_types(five, column):
    als = ALS(maxIter=1, rank=1)
    ref = als.fit(five)
    for kind in NUMBERS:
        frame = five.withColumn(column, F.col(column).cast(kind))
        comp = als.fit(frame)
        for side in Side:
            np.testing.assert_array_equal(comp.fitted.features(side), ref.fitted.features(side))
        ref_first, comp_first = (
            min(row.prediction for row in model.transform(data).collect())
            for model, data in ((ref, five), (comp, frame))
        )
        assert comp_first == pytest.approx(ref_first, abs=1e-6)


def test_input_type_validation_strings(five):
    """Strings are ids here, but no ratings."""
    with pytest.raises(DataError, match="column 'rating' is string, but must be a number"):
        ALS(maxIter=1, rank=1).fit(five.withColumn("rating", F.col("rating").cast("string")))
    model = ALS(maxIter=1, rank=1).fit(five.withColumn("user", F.col("user").cast("string")))
    assert model.userFactors.schema["id"].dataType == T.StringType()


def test_checked_cast_ids_of_any_size(spark):
    """Beyond int, ids are ids like any other; a fraction is refused, in one line that counts the rows."""
    big, small = 2**31, -(2.0**31) - 1
    frame = spark.createDataFrame(
        [(0, 0, 0.0, 1, 1, 1.0, 3.0), (0, big, small, 0, big, small, 2.0), (1, 1, 1.0, 0, 0, 0.0, 5.0)],
        "user int, user_big long, user_small double, item int, item_big long, item_small double, rating double",
    )
    als = ALS(maxIter=1, rank=1)
    for name, other in (("user_big", "item"), ("user_small", "item"), ("item_big", "user"), ("item_small", "user")):
        column = name.split("_")[0]
        renamed = frame.select(F.col(name).alias(column), other, "rating")
        model = als.fit(renamed)
        factors = model.userFactors if column == "user" else model.itemFactors
        assert (big if "big" in name else int(small)) in [row.id for row in factors.collect()]
        assert model.transform(renamed).where(F.isnan("prediction")).count() == 0
        cold = [row.prediction for row in als.fit(frame).transform(renamed.orderBy(column)).collect()]
        assert np.isnan(cold).sum() == 1
    wrong = frame.withColumn("user", F.col("user") + 0.1)
    with pytest.raises(DataError, match="^the ratings have 3 .*user"):
        als.fit(wrong)
    for kind in ("decimal(15,2)", "double"):
        assert als.fit(frame.withColumn("user", F.col("user").cast(kind))).userFactors.count() == 2
        with pytest.raises(DataError, match="^the ratings have 3 .*user"):
            als.fit(wrong.withColumn("user", F.col("user").cast(kind)))


def test_als_with_empty_data(spark):
    with pytest.raises(ValueError, match="no ratings to train on: 0 rows"):
        ALS().fit(spark.createDataFrame([], SCHEMA))


def test_cold_start_strategy(spark):
    rows, _ = explicit(4, 4, 1)
    data = spark.createDataFrame(rows, SCHEMA)
    user, item = max(row[0] for row in rows), max(row[1] for row in rows)
    pairs = [(user - 10, item - 20), (user, item - 20), (user - 10, item), (user, item)]
    test = spark.createDataFrame(pairs, "user int, item int").coalesce(1)
    model = ALS(maxIter=1, rank=1).fit(data)
    predictions = [row.prediction for row in model.transform(test).collect()]
    assert np.isnan(predictions[:3]).all() and np.isfinite(predictions[3])
    dropped = model.setColdStartStrategy("drop").transform(test).collect()
    assert [row.prediction for row in dropped] == [predictions[3]]


@pytest.mark.parametrize("value", ["nan", "NaN", "Nan", "drop", "DROP", "Drop"])
def test_case_insensitive_cold_start_param_value(known, spark, value):
    cold = spark.createDataFrame([(0, 3), (0, 99)], "user int, item int")
    model = known.copy().setColdStartStrategy(value)
    assert model.transform(cold).count() == (2 if value.lower() == "nan" else 1)


@pytest.fixture
def known(spark):  # noqa: ARG001 - it makes frames in the active session
    """A model of given factors: (6, 4), (3, 4), (3, 6) for users 0 to 2; four items 3 to 6."""
    settings = Settings(rank=2)
    users, items = np.zeros((3, settings.padded), np.float32), np.zeros((4, settings.padded), np.float32)
    users[:, :2] = [(6, 4), (3, 4), (3, 6)]
    items[:, :2] = [(5, 6), (6, 2), (3, 6), (4, 1)]
    ids = pa.array(range(3), pa.int32()), pa.array(range(3, 7), pa.int32())
    model = ALSModel(Factorization(settings, ids, (users, items)))
    model._kinds = (T.IntegerType(), T.IntegerType())
    return model.setUserCol("user").setItemCol("item")


BEST_ITEMS = {
    0: [(3, 54.0), (4, 44.0), (5, 42.0), (6, 28.0)],
    1: [(3, 39.0), (5, 33.0), (4, 26.0), (6, 16.0)],
    2: [(3, 51.0), (5, 45.0), (4, 30.0), (6, 18.0)],
}
BEST_USERS = {
    3: [(0, 54.0), (2, 51.0), (1, 39.0)],
    4: [(0, 44.0), (2, 30.0), (1, 26.0)],
    5: [(2, 45.0), (0, 42.0), (1, 33.0)],
    6: [(0, 28.0), (2, 18.0), (1, 16.0)],
}


def check_recommendations(frame, expected, k, columns):
    assert frame.columns == [columns[0], "recommendations"]
    rows = frame.collect()
    assert len(rows) == len(expected)
    for key, recommended in rows:
        assert [tuple(each) for each in recommended] == expected[key][:k]
        assert list(recommended[0].asDict()) == [columns[1], "rating"]


@pytest.mark.parametrize("k", [2, 4, 6])
def test_recommend_for_all_users(known, k):
    check_recommendations(known.recommendForAllUsers(k), BEST_ITEMS, k, ("user", "item"))


@pytest.mark.parametrize("k", [2, 3, 4])
def test_recommend_for_all_items(known, k):
    check_recommendations(known.recommendForAllItems(k), BEST_USERS, k, ("item", "user"))


@pytest.mark.parametrize("k", [2, 4, 6])
def test_recommend_for_user_subset(known, spark, k):
    subset = spark.createDataFrame([(0,), (2,)], "user int")
    expected = {user: BEST_ITEMS[user] for user in (0, 2)}
    check_recommendations(known.recommendForUserSubset(subset, k), expected, k, ("user", "item"))


@pytest.mark.parametrize("k", [2, 3, 4])
def test_recommend_for_item_subset(known, spark, k):
    subset = spark.createDataFrame([(3,), (6,)], "item int")
    expected = {item: BEST_USERS[item] for item in (3, 6)}
    check_recommendations(known.recommendForItemSubset(subset, k), expected, k, ("item", "user"))


def test_subset_recommendations_eliminate_duplicate_ids(known, spark):
    users = spark.createDataFrame([(0,), (1,), (0,), (1,)], "user int")
    expected = {user: BEST_ITEMS[user] for user in (0, 1)}
    check_recommendations(known.recommendForUserSubset(users, 2), expected, 2, ("user", "item"))
    items = spark.createDataFrame([(3,), (4,), (5,), (4,), (5,)], "item int")
    expected = {item: BEST_USERS[item] for item in (3, 4, 5)}
    check_recommendations(known.recommendForItemSubset(items, 2), expected, 2, ("item", "user"))


def test_subset_recommendations_on_full_input_equal_recommend_for_all(known):
    users = known.userFactors.withColumnRenamed("id", "user").drop("features")
    expected = {user: best for user, best in known.recommendForAllUsers(2).collect()}
    assert {user: best for user, best in known.recommendForUserSubset(users, 2).collect()} == expected
    items = known.itemFactors.withColumnRenamed("id", "item").drop("features")
    expected = {item: best for item, best in known.recommendForAllItems(2).collect()}
    assert {item: best for item, best in known.recommendForItemSubset(items, 2).collect()} == expected


def test_als_should_not_introduce_unnecessary_shuffle(spark, capsys):
    model = ALS(maxIter=2, implicitPrefs=True, checkpointInterval=-1).fit(
        spark.createDataFrame([(0, 0, 1.0), (0, 1, 2.0), (1, 0, 3.0)], SCHEMA)
    )
    for factors in (model.userFactors, model.itemFactors):
        factors.explain()
        assert "Exchange" not in capsys.readouterr().out


@pytest.mark.parametrize("loop", ["jobs", "auto"])
def test_shuffle_cleanup_in_algorithm(spark, loop):
    """Iterations leave no shuffle files, and a fit keeps no frame; MLlib cuts its lineage to that end."""
    training = spark.createDataFrame(implicit(20, 5, 1, 0.2, seed=0)[0], SCHEMA).coalesce(2)
    context = spark.sparkContext
    manager = context._jvm.org.apache.spark.SparkEnv.get().blockManager().diskBlockManager()

    def shuffles():
        names = manager.getAllFiles().mkString("\n").splitlines()
        return {name.rsplit("/", 1)[-1].split("_")[1] for name in names if "/shuffle_" in name}

    def kept():
        return {int(number) for number in context._jsc.getPersistentRDDs().keySet()}

    added = []
    for iterations in (1, 7):
        before, others = shuffles(), kept()
        ALS(rank=1, regParam=1e-5, checkpointInterval=1, maxIter=iterations, loop=loop).fit(training)
        added.append(len(shuffles() - before))
        assert not kept() - others  # those of earlier tests may go at any time
    assert added[1] < added[0] + 6  # six more iterations; the JVM may meanwhile have deleted one of the fit's own


FOUR = [(0, 0, 1.0), (0, 1, 2.0), (1, 2, 3.0), (1, 0, 2.0)]


@pytest.mark.parametrize("name,value", [("Intermediate", "foo"), ("Intermediate", "NONE"), ("Final", "foo")])
def test_invalid_storage_params(name, value):
    als = getattr(ALS(), f"set{name}StorageLevel")(value)
    with pytest.raises(ParameterError, match=f"{name.lower()}StorageLevel (must be one of NONE|cannot be NONE)"):
        als.fit(None)


def test_default_storage_params():
    als = ALS()
    assert als.getIntermediateStorageLevel() == als.getFinalStorageLevel() == "MEMORY_AND_DISK"
    assert als.getCheckpointInterval() == 10 and als.setCheckpointInterval(-1).getCheckpointInterval() == -1


LEVELS = {  # on disk, in memory, off heap, as objects, copies: org.apache.spark.storage.StorageLevel
    "MEMORY_ONLY": (False, True, False, True, 1),
    "MEMORY_ONLY_SER": (False, True, False, False, 1),
    "MEMORY_AND_DISK": (True, True, False, True, 1),
    "MEMORY_AND_DISK_SER": (True, True, False, False, 1),
    "DISK_ONLY": (True, False, False, False, 1),
    "NONE": (False, False, False, False, 1),
}


def level_of(frame):
    level = frame.storageLevel
    return level.useDisk, level.useMemory, level.useOffHeap, level.deserialized, level.replication


def test_non_default_storage_params(spark):
    data = spark.createDataFrame(FOUR, SCHEMA)
    jvm = spark.sparkContext._jvm.org.apache.spark.storage.StorageLevel
    for name, parts in LEVELS.items():
        level = jvm.fromString(name)
        assert (level.useDisk(), level.useMemory(), level.useOffHeap(), level.deserialized()) == parts[:4]
        als = ALS(maxIter=1, rank=1, filterSeen=True, finalStorageLevel=name)
        kept = "DISK_ONLY" if name == "NONE" else name
        model = als.setIntermediateStorageLevel(kept).fit(data)
        assert level_of(model.userFactors) == level_of(model.itemFactors) == parts
        assert level_of(model._seen_blocks.frame) == LEVELS[kept]
        model.unpersist()
        for factors in (model.userFactors, model.itemFactors):
            factors.unpersist()


@pytest.mark.parametrize("seed", [-1, -(2**63), 2**63 - 1])
def test_seeds_are_javas_longs(spark, seed):
    data = spark.createDataFrame(FOUR, SCHEMA)
    one, two = (ALS(rank=2, maxIter=1, seed=seed, initMode="mllib").fit(data).fitted.sides for _ in range(2))
    for left, right in zip(one, two, strict=True):
        np.testing.assert_array_equal(left, right)


def test_streaming_transform(spark, tmp_path):
    """Spark's suite transforms streams too."""
    data = spark.createDataFrame(FOUR, SCHEMA)
    model = ALS(rank=2, maxIter=2).fit(data)
    data.write.parquet(str(tmp_path / "in"))
    stream = model.transform(spark.readStream.schema(data.schema).parquet(str(tmp_path / "in")))
    query = stream.writeStream.format("memory").queryName("predicted").start()
    query.processAllAvailable()
    query.stop()
    comp = sorted(spark.table("predicted").collect())
    assert comp == sorted(model.transform(data).collect())
