"""The engine on Spark against the naive ALS: any number of blocks, any carrier, any materializer."""

import naive
import numpy as np
import pyarrow as pa
import pytest

from mfspark import ALS, DataError
from mfspark.blocks.build import build, plan, read_block
from mfspark.blocks.columns import Columns, select
from mfspark.blocks.encode import encode
from mfspark.blocks.profile import profile
from mfspark.errors import ParameterError
from mfspark.kernels.csr import Side
from mfspark.kernels.objective import Settings
from mfspark.training import loop
from mfspark.training.als import Factors, HalfSteps
from mfspark.transport.carriers import CARRIERS
from mfspark.transport.persist import MATERIALIZERS, Materialiser

RANK = 3
USERS, ITEMS, R = naive.random_ratings(17, 11, 0.4, seed=5)


@pytest.fixture(scope="module")
def ratings(spark):
    table = pa.table({"user": USERS, "item": ITEMS, "rating": R})
    return spark.createDataFrame(table).repartition(3)


def start(settings):
    rng = np.random.default_rng(1)
    U, V = rng.normal(size=(17, RANK)), rng.normal(size=(11, RANK))
    sides = []
    for side in (U, V):
        array = np.zeros((len(side), settings.padded), settings.dtype)
        array[:, :RANK] = side
        sides.append(array)
    return U, V, Factors(sides)


def run(ratings, settings, wanted=(2, 2), sweeps=3, carrier="auto", how="persist", table=None):
    columns = Columns()
    chosen = encode(select(ratings, columns))
    found = profile(chosen, columns)
    layout = plan(found, 2, wanted, False)
    frame, release = build(chosen, found, layout, carrier)
    kept, let_go = Materialiser(how, table=table).keep(frame)
    U, V, factors = start(settings)
    half_steps = HalfSteps(kept, layout, settings, carrier=carrier)
    history = loop.run(half_steps, factors, loop.Stopping(sweeps))
    if let_go is not None:
        let_go()
    release()
    return U, V, factors, history


@pytest.mark.parametrize("blocks", [(1, 1), (2, 2), (7, 7), (18, 2), (3, 12)])
def test_factors_equal_naive_after_three_sweeps(ratings, blocks):
    U, V, factors, history = run(ratings, Settings(RANK), blocks)
    ref_U, ref_V = naive.als(USERS, ITEMS, R, U, V, 3)
    for comp, ref in ((factors.sides[0], ref_U), (factors.sides[1], ref_V)):
        error = np.linalg.norm(comp[:, :RANK] - ref) / np.linalg.norm(ref)
        assert error < 1e-4
    fit, penalty = naive.explicit_loss(USERS, ITEMS, R, ref_U, ref_V)
    assert history[-1].fit == pytest.approx(fit, rel=1e-4)
    assert history[-1].regularisation == pytest.approx(penalty, rel=1e-4)


@pytest.mark.parametrize("form", ["mllib", "linear", "log", "ials"])
def test_implicit_equals_naive(ratings, form):
    settings = Settings(RANK, implicit=True, confidence=form, alpha=0.7, w0=0.5)
    U, V, factors, history = run(ratings, settings)
    options = dict(form=form, alpha=0.7, w0=0.5)
    ref_U, ref_V = naive.als(USERS, ITEMS, R, U, V, 3, **options)
    assert np.linalg.norm(factors.sides[0][:, :RANK] - ref_U) / np.linalg.norm(ref_U) < 1e-4
    fit, penalty = naive.implicit_loss(USERS, ITEMS, R, ref_U, ref_V, **options)
    assert history[-1].loss == pytest.approx(fit + penalty, rel=1e-4)


@pytest.mark.parametrize("carrier", list(CARRIERS))
def test_carriers_agree(ratings, carrier):
    ref = run(ratings, Settings(RANK), sweeps=1)[2]
    comp = run(ratings, Settings(RANK), sweeps=1, carrier=carrier)[2]
    np.testing.assert_array_equal(comp.sides[0], ref.sides[0])


@pytest.mark.parametrize("how", ["auto", *MATERIALIZERS])
def test_materializers_agree(ratings, how, spark, tmp_path):
    from mfspark.store import tables

    def table(frame):
        tables.overwrite(frame, str(tmp_path / "blocks"))
        return tables.read(spark, str(tmp_path / "blocks"))

    ref = run(ratings, Settings(RANK), sweeps=1)[2]
    comp = run(ratings, Settings(RANK), sweeps=1, how=how, table=table)[2]
    np.testing.assert_array_equal(comp.sides[0], ref.sides[0])


def test_a_platform_that_refuses_to_cache(ratings, monkeypatch):
    """Databricks serverless answers so to cache, persist and checkpoint."""

    def refuse(*_args, **_kwargs):
        raise RuntimeError("[NOT_SUPPORTED_WITH_SERVERLESS] PERSIST TABLE is not supported on serverless compute.")

    for name in ("persist", "cache", "localCheckpoint"):
        monkeypatch.setattr(type(ratings), name, refuse)
    model = ALS(rank=RANK, maxIter=2).fit(ratings)
    assert model.transform(ratings).count() == len(R)
    with pytest.raises(RuntimeError, match="SERVERLESS"):
        ALS(rank=RANK, maxIter=2, materializer="persist").fit(ratings)


def test_delta_materializer_needs_a_folder(ratings):
    with pytest.raises(ParameterError, match="workPath"):
        ALS(materializer="delta").fit(ratings)


def test_blocks_hold_every_rating_once_on_both_sides(ratings):
    columns = Columns()
    chosen = encode(select(ratings, columns))
    found = profile(chosen, columns)
    layout = plan(found, 2, (5, 3), False)
    frame, _ = build(chosen, found, layout)
    expected = sorted(zip(USERS.tolist(), ITEMS.tolist(), R.tolist(), strict=True))
    for side in Side:
        comp = []
        for batch in frame.toArrow().to_batches():
            for row in range(batch.num_rows):
                number = batch.column("block")[row].as_py()
                if number + 1 >= len(layout.bounds[side]):
                    continue
                block = read_block(batch, row, side, layout)
                for r in range(block.rows):
                    for t in range(block.indptr[r], block.indptr[r + 1]):
                        pair = (layout.bounds[side][number] + r, int(block.indices[t]))
                        comp.append((*(pair if side == Side.USER else pair[::-1]), float(block.table[block.values[t]])))
        assert sorted(comp) == expected


def test_the_worked_example(spark):
    """The example in the docstring of mfspark.blocks.build."""
    rows = [(0, 0, 1.0), (0, 2, 1.0), (1, 1, 1.0), (2, 0, 1.0)]
    frame = spark.createDataFrame(rows, "user int, item int, rating float")
    columns = Columns()
    encoded = encode(select(frame.coalesce(1), columns))
    found = profile(encoded, columns)
    layout = plan(found, 2, (2, 2), False)
    table = build(encoded, found, layout)[0].toArrow().sort_by("block")
    comp = {}
    for side in Side:
        for number, batch in enumerate(table.to_batches(max_chunksize=1)):
            block = read_block(batch, 0, side, layout)
            comp[side.stem, number] = (block.indptr.tolist(), block.indices.tolist())
    one, two = ([0, 2, 3], [0, 2, 1]), ([0, 1], [0])
    assert comp == {("user", 0): one, ("user", 1): two, ("item", 0): one, ("item", 1): two}


def test_many_distinct_ratings_stay_floats(spark):
    rng = np.random.default_rng(0)
    r = rng.normal(3, 1, len(R))
    r = np.concatenate([r] * 4) + rng.normal(size=4 * len(R))
    users, items = np.tile(USERS, 4), np.tile(ITEMS, 4)  # duplicate pairs count as often as they occur
    frame = spark.createDataFrame(pa.table({"user": users, "item": items, "rating": r}))
    columns = Columns()
    found = profile(encode(select(frame, columns)), columns)
    assert found.values is None
    U, V, factors, _ = run(frame, Settings(RANK, dtype="float64"))
    ref_U, _ = naive.als(users, items, r.astype(np.float32), U, V, 3)
    np.testing.assert_allclose(factors.sides[0][:, :RANK], ref_U, rtol=1e-6)


def test_one_rating(spark):
    frame = spark.createDataFrame([(7, 9, 4.0)], "user long, item long, rating double")
    model = ALS(rank=2, maxIter=3, regParam=0.01).fit(frame)
    assert model.transform(frame).first().prediction == pytest.approx(4.0, rel=0.05)


def test_one_item_with_most_ratings(spark):
    rows = [(u, 0, float(u % 5 + 1)) for u in range(500)] + [(u, 1 + u % 20, 3.0) for u in range(100)]
    frame = spark.createDataFrame(rows, "user int, item int, rating float")
    model = ALS(rank=4, maxIter=3, numItemBlocks=6, numUserBlocks=3).fit(frame)
    assert model.history.count() == 3 and np.isfinite(model.fitted.sides[0]).all()


def test_ids_beyond_int32_and_negative(spark):
    rows = [(2**40 + u, -u - 1, 3.0) for u in range(5)]
    model = ALS(rank=2, maxIter=1).fit(spark.createDataFrame(rows, "user long, item long, rating float"))
    assert {row.id for row in model.userFactors.collect()} == {2**40 + u for u in range(5)}
    assert {row.id for row in model.itemFactors.collect()} == {-u - 1 for u in range(5)}


BAD_ROWS = [
    ("null user", [(None, 1, 1.0)], "1 null ids in column user"),
    ("null item", [(1, None, 1.0)], "1 null ids in column item"),
    ("null rating", [(1, 1, None)], "1 null, NaN or infinite values in column rating"),
    ("NaN rating", [(1, 1, float("nan")), (1, 2, float("nan"))], "2 null, NaN or infinite values in column rating"),
    ("infinite rating", [(1, 1, float("inf"))], "1 null, NaN or infinite values in column rating"),
]


@pytest.mark.parametrize("rows,message", [row[1:] for row in BAD_ROWS], ids=[row[0] for row in BAD_ROWS])
def test_rows_that_cannot_be_trained_on(spark, rows, message):
    frame = spark.createDataFrame([(1, 1, 3.0), *rows], "user int, item int, rating double")
    with pytest.raises(DataError, match=message):
        ALS(rank=2, maxIter=1).fit(frame)


def test_fractional_ids_empty_data_missing_and_wrong_columns(spark):
    with pytest.raises(DataError, match="1 ids in column user that are not whole"):
        ALS().fit(spark.createDataFrame([(1.5, 1, 1.0)], "user double, item int, rating float"))
    empty = spark.createDataFrame([], "user int, item int, rating float")
    with pytest.raises(DataError, match="no ratings to train on"):
        ALS().fit(empty)
    with pytest.raises(DataError, match="the data has no column 'movie'; the columns are user, item, rating"):
        ALS(itemCol="movie").fit(empty)
    with pytest.raises(DataError, match="'rating' is string, but must be a number"):
        ALS().fit(spark.createDataFrame([(1, 1, "5")], "user int, item int, rating string"))
    with pytest.raises(DataError, match="negative values in column w"):
        ALS(weightCol="w").fit(spark.createDataFrame([(1, 1, 1.0, -1.0)], "user int, item int, rating float, w float"))
