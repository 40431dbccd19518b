"""The model whose sides stay on the workers: the same rows as the form of arrays, and no side in the driver."""

import copy
import pickle

import numpy as np
import pytest
from contract import checkerboard
from frame_models import assert_lists_equal, on_frames, rows, same_factors, same_rows
from plans import plan_of, shuffles
from pyspark.ml.linalg import Vectors
from pyspark.sql import functions as F

from mfspark import ALS, BPMF, SGD, DataError, FactorizationModel, ParameterError, load_model
from mfspark.kernels.csr import Side
from mfspark.model.frames import recommend
from mfspark.model.frames.blocks import FrameFactorization
from mfspark.store import Registry

LIMIT = "spark.mfspark.driverLimit"


@pytest.fixture(scope="module", autouse=True)
def no_room(spark):
    """Every model that is read is too large for the driver."""
    spark.conf.set(LIMIT, "0")
    yield
    spark.conf.unset(LIMIT)


def in_driver(spark, estimator, ratings):
    """Fit as if there were room."""
    spark.conf.unset(LIMIT)
    model = estimator.fit(ratings)
    spark.conf.set(LIMIT, "0")
    assert not isinstance(model.fitted, FrameFactorization)
    return model


IDS = {"bigint": lambda x: x * 7919 + 2**40, "string": lambda x: f"Ü-{x:04d}", "int": int}
BIASED = dict(userBias=True, itemBias=True, center=True, regParam=0.01)
CASES = {
    "several blocks": ((12, 7), (3, 2), "int", BIASED),
    "more blocks than ids": ((4, 3), (5, 4), "string", dict(itemBias=True)),
    "one block, implicit": ((12, 7), (1, 1), "bigint", dict(implicitPrefs=True, alpha=5.0, precision="float64")),
}


@pytest.fixture(scope="module", params=CASES)
def pair(request, spark):
    """The same model on arrays and on frames, and its ratings."""
    sizes, blocks, kind, options = CASES[request.param]
    ratings = checkerboard(spark, *sizes, IDS[kind], kind)
    model = in_driver(spark, ALS(rank=3, maxIter=2, seed=1, **options), ratings)
    return model, on_frames(spark, model, blocks), ratings


def test_every_question_has_the_same_answer(pair, spark):
    arrays, frames, ratings = pair
    kinds = [ratings.schema[name].dataType.simpleString() for name in ("user", "item")]
    strange = spark.createDataFrame([(None, None)], ratings.select("user", "item").schema).unionByName(
        ratings.limit(3).select(F.col("user"), F.lit("9" * 8).cast(kinds[1]).alias("item"))
    )
    asked = ratings.select("user", "item").unionByName(ratings.limit(5).select("user", "item")).unionByName(strange)
    same_rows(frames.transform(asked), arrays.transform(asked), "user", "item")
    if not arrays.fitted.settings.implicit:
        comp, ref = (model.copy({model.coldStartStrategy: "mean"}).transform(asked) for model in (frames, arrays))
        same_rows(comp, ref, "user", "item")
    one = ratings.where("rating > 1")
    some = one.select("user", "item").limit(4).unionByName(strange)
    comp, ref = (model.recommendForItemSubset(some, 30, seen=one) for model in (frames, arrays))
    assert_lists_equal(comp, ref)
    same_factors(frames._answers.table(Side.ITEM, kinds[1]), arrays._answers.table(Side.ITEM, kinds[1]))
    same_factors(frames.foldInUsers(one), arrays.foldInUsers(one))
    assert_lists_equal(frames.recommendForNewUsers(one, 3), arrays.recommendForNewUsers(one, 3))


@pytest.fixture(scope="module")
def plain(spark):
    ratings = checkerboard(spark)
    arrays = in_driver(spark, ALS(rank=2, maxIter=2, filterSeen=True), ratings)
    return arrays, on_frames(spark, arrays), ratings


def test_candidates_come_in_one_chunk_or_several(plain, monkeypatch):
    arrays, frames, ratings = plain
    ref, near = arrays.recommendForAllUsers(12), arrays.similarUsers(num=3)
    for size in (recommend.CHUNK_BYTES, 60):  # 60: one for each of their blocks
        monkeypatch.setattr(recommend, "CHUNK_BYTES", size)
        assert_lists_equal(frames.recommendForAllUsers(12), ref)  # without the training pairs
        assert_lists_equal(frames.similarUsers(num=3), near)
    assert_lists_equal(frames.similarItems([100, 103], 4), arrays.similarItems([100, 103], 4))
    same_factors(frames.foldInItems(ratings), arrays.foldInItems(ratings))


def test_other_columns_come_through_as_they_are(plain, spark):
    _, frames, ratings = plain
    spark.conf.set("spark.sql.session.timeZone", "Europe/Berlin")
    try:
        wide = ratings.selectExpr(
            "user", "item", "timestamp'2026-01-01 10:00:00' at", "date'2026-01-01' day", "array(1, null) few",
            "map('a', 1) named", "struct(1 as x, 'b' as y) pair", "cast(1.5 as decimal(10, 2)) price", "null nothing",
        )  # fmt: skip
        comp = frames.transform(wide).drop("prediction")
        assert comp.schema == wide.schema
        assert sorted(map(str, comp.collect())) == sorted(map(str, wide.collect()))
    finally:
        spark.conf.unset("spark.sql.session.timeZone")
    vectors = spark.createDataFrame([(1, 101, Vectors.dense([1.0, 2.0]))], ["user", "item", "given"])
    assert frames.transform(vectors).first().given == Vectors.dense([1.0, 2.0])


def test_what_is_an_array_is_refused(plain):
    _, frames, ratings = plain
    assert frames.userFactors.columns == ["id", "features"] and frames.transform(ratings).columns
    for ask in (
        lambda: frames.similarity_arrays(Side.USER),
        lambda: frames.ids(Side.ITEM),
        lambda: frames.fitted.sides,
        lambda: frames.fitted.bias(Side.USER),
        lambda: frames.fitted.scoring(),
        lambda: frames.explain(ratings, ratings),
    ):
        with pytest.raises(ParameterError, match=r"on the workers.*load the saved model with a larger spark\.mfspark"):
            ask()
    with pytest.raises(ParameterError, match="cannot be pickled: save or publish the model"):
        pickle.dumps(frames)
    for twin in (copy.deepcopy(frames), frames.copy()):  # within the session as good as the model
        assert repr(twin) == repr(frames) and twin.extractParamMap() == frames.extractParamMap()
        assert twin.fitted is frames.fitted
    for wrong, message in (
        (ratings.withColumn("prediction", F.lit(1)), "^column 'prediction' already exists"),
        (
            ratings.selectExpr("string(user) user", "item"),
            "^column 'user' is string, but the model's ids are int",
        ),
    ):
        with pytest.raises(DataError, match=message):
            frames.transform(wrong)


def test_strange_and_unusable_ids_to_fold_in(plain, spark):
    _, frames, ratings = plain
    strange = spark.createDataFrame([(1, 5, 3.0), (2, 5, 1.0), (1, 6, 2.0)], "user int, item int, rating float")
    with pytest.raises(DataError, match="^column 'item' has 2 ids that the model does not know: remove their ratings$"):
        frames.foldInUsers(ratings.select("user", "item", "rating").unionByName(strange))
    far = spark.createDataFrame([(2**40, 101, 5.0), (2**41, 101, 5.0)], "user bigint, item bigint, rating float")
    with pytest.raises(DataError, match="^column 'user' has 2 ids beyond the model's type int: fit with longs$"):
        frames.foldInUsers(far)
    with pytest.raises(DataError, match="null ids in column user"):
        frames.foldInUsers(spark.createDataFrame([(None, 101, 5.0)], "user int, item int, rating float"))
    with pytest.raises(DataError, match="^2 ids are unknown to the model, such as 7$"):
        frames.similarItems([7, 101, 8], 2)
    nobody = frames.recommendForUserSubset(strange.withColumn("user", F.lit(-5)), 2)
    assert nobody.columns == ["user", "recommendations"] and nobody.count() == 0


def test_users_of_drawn_negatives_fold_in_alike(spark):
    ratings = checkerboard(spark).where("rating > 1")
    sgd = SGD(rank=3, maxIter=3, implicitPrefs=True, numNegatives=2, userBias=True, itemBias=True, seed=1)
    arrays = in_driver(spark, sgd, ratings)
    same_factors(on_frames(spark, arrays).foldInUsers(ratings), arrays.foldInUsers(ratings))


def test_samples_and_their_deviations(spark, tmp_path):
    ratings = checkerboard(spark)
    arrays = in_driver(spark, BPMF(rank=2, maxIter=4, burnIn=1, numSamples=3, deviationCol="sd"), ratings)
    arrays.save(str(tmp_path / "model"))
    frames = FactorizationModel.load(str(tmp_path / "model"))
    assert isinstance(frames.fitted, FrameFactorization) and type(frames) is type(arrays)
    same_rows(frames.transform(ratings), arrays.transform(ratings), "user", "item")


def test_a_stored_model_is_read_as_its_size_says(plain):
    arrays, frames, ratings = plain
    tables, parameters = frames.tables(), frames.parameters()
    loaded, small = (FactorizationModel.fromTables(tables, parameters, limit) for limit in (None, 10_000))
    assert isinstance(loaded.fitted, FrameFactorization) and not isinstance(small.fitted, FrameFactorization)
    assert "rank=2, 24 users, 12 items, loss=" in repr(loaded) and loaded.fitted.objective == arrays.fitted.objective
    np.testing.assert_array_equal(small.fitted.sides[0], arrays.fitted.sides[0])
    np.testing.assert_allclose(loaded.singularValues, arrays.singularValues, rtol=1e-5)
    index = rows(tables["user_ids"], "index")
    assert [row[1] for row in index] == list(range(24)) and sorted(row[0] for row in index) == list(range(24))
    for _ in range(2):
        same_rows(loaded.transform(ratings), arrays.transform(ratings), "user", "item")
        loaded.unpersist()  # the blocks are made again
    short = tables["user_factors"].withColumn("features", F.slice("features", 1, 1))
    broken = FactorizationModel.fromTables(tables | {"user_factors": short}, parameters)
    with pytest.raises(Exception, match="user_factors has rows without the model's 2 factors: save the model again"):
        broken.transform(ratings).count()


class Spy:
    """Counts what comes to the driver and what leaves it, in rows and in bytes."""

    def __init__(self, spark, monkeypatch):
        self.most_rows = self.bytes = 0
        kind, session = type(spark.range(1)), type(spark)
        arrow, create = kind.toArrow, session.createDataFrame

        def to_arrow(frame):
            return self.count(arrow(frame))

        def collect(frame):
            self.count(arrow(frame))
            return original(frame)

        def create_frame(one, data, *args, **kwargs):
            self.most_rows = max(self.most_rows, len(data))
            return create(one, data, *args, **kwargs)

        original = kind.collect
        monkeypatch.setattr(kind, "toArrow", to_arrow)
        monkeypatch.setattr(kind, "collect", collect)
        monkeypatch.setattr(session, "createDataFrame", create_frame)
        for name in ("toPandas", "toLocalIterator"):
            monkeypatch.setattr(kind, name, lambda *_: pytest.fail("a frame was collected"))

    def count(self, table):
        self.most_rows, self.bytes = max(self.most_rows, table.num_rows), self.bytes + table.nbytes
        return table


@pytest.fixture
def small_results(spark):
    """No job may give the driver more bytes, by whatever way; a task of any kind gives a few thousand."""
    conf, name = spark.sparkContext._jsc.sc().conf(), "spark.driver.maxResultSize"
    conf.set(name, "600k")
    with pytest.raises(Exception, match="maxResultSize"):
        spark.range(200_000).toArrow()
    yield
    conf.set(name, "0")


@pytest.mark.usefixtures("whole_plans", "small_results")
def test_no_side_and_no_result_passes_through_the_driver(spark, tmp_path, monkeypatch):
    pairs = spark.range(9_000).selectExpr("cast(id % 4000 as int) user", "cast(id % 1499 as int) item", "1f rating")
    registry = Registry(spark, str(tmp_path / "store"))
    with monkeypatch.context() as patch:
        spy = Spy(spark, patch)
        model = ALS(rank=64, maxIter=1, regParam=1.0, filterSeen=True).fit(pairs)
        assert "rank=64, 4000 users, 1499 items, loss=" in repr(model)
        results = [
            model.transform(pairs),
            model.recommendForAllUsers(3),
            model.recommendForAllItems(2, deny=[5]),
            model.recommendForUserSubset(pairs, 2, seen=pairs),
            model.similarItems(num=2),
            model.foldInUsers(pairs),
            model.userFactors,
        ]
        model.save(str(tmp_path / "model"))
        registry.publish("run", model)
        results.append(load_model(registry).transform(pairs))
        for result in results:
            result.write.format("noop").mode("overwrite").save()
            assert "Broadcast" not in plan_of(result)
        model.unpersist()
        assert model.transform(pairs.limit(1)).first().prediction > 0  # what was fitted stays
    assert spy.most_rows < 50  # a row a block, of sums; an id column alone has 1,499
    assert spy.bytes < 100_000  # both sides have 1,400,000, the results more


@pytest.mark.usefixtures("whole_plans")
def test_kept_blocks_are_not_shuffled_again(plain):
    _, frames, ratings = plain
    model = FactorizationModel.fromTables(frames.tables(), frames.parameters()).setParams(filterSeen=False)
    for side in Side:
        model.fitted.blocks[side].frame.count()
    assert len(shuffles(model.transform(ratings))) == 2  # the rows to their users' blocks, and on to their items'
    assert len(shuffles(model.recommendForAllUsers(3))) == 1  # the candidates
    assert len(shuffles(model.recommendForAllUsers(3, seen=ratings))) == 1  # and the pairs with them
    model.unpersist()
