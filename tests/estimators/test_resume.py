"""Every estimator, killed in mid-fit and started again, ends as if nothing had happened."""

import naive
import numpy as np
import pyarrow as pa
import pytest
from memory_storage import KEPT, MemoryStorage

from mfspark import ALS, BPMF, SGD, GradientDescent, SVDPlusPlus, TruncatedSVD
from mfspark.blocks.columns import Columns, select
from mfspark.blocks.digest import digest
from mfspark.blocks.encode import encode
from mfspark.kernels.csr import Side
from mfspark.model.frames.blocks import FrameFactorization
from mfspark.store import tables
from mfspark.training.checkpoint import NEVER

COMMON = dict(rank=3, maxIter=4, checkpointInterval=2, validationIndicatorCol="held", numUserBlocks=2, verbose=False)
BIASED = dict(userBias=True, itemBias=True, center=True)
CASES = {
    "ALS, jobs": (ALS, dict(loop="jobs", solver="cg", initMode="power")),
    "ALS, barrier": (ALS, dict(loop="barrier", numItemBlocks=2, weightCol="weight", **BIASED)),
    "ALS, exchange": (ALS, dict(numItemBlocks=3, solver="cg", initMode="power")),
    "SGD": (SGD, dict(stepSchedule="adagrad", stepSize=0.1, **BIASED)),
    "SGD, implicit": (SGD, dict(implicitPrefs=True, stepSchedule="bold_driver", loss="logistic")),
    "SGD, exchange": (SGD, dict(stepSchedule="adagrad", stepSize=0.1, **BIASED)),
    "SGD, implicit, exchange": (SGD, dict(implicitPrefs=True, stepSchedule="bold_driver", loss="logistic")),
    "BPMF": (BPMF, dict(burnIn=1, numSamples=2)),
    "BPMF, exchange": (BPMF, dict(burnIn=1, numSamples=2, numItemBlocks=3)),
    "SVDPlusPlus": (SVDPlusPlus, {}),
    "GradientDescent": (GradientDescent, dict(center=True)),
    "TruncatedSVD": (TruncatedSVD, dict(tol=0.0, imputation="userMean")),
}


class Killed(BaseException):
    """What a kill is in a test: nothing of the fit catches it."""


@pytest.fixture(scope="module")
def rows():
    users, items, r = naive.random_ratings(17, 11, 0.4, seed=5)
    weight = 1.0 + np.arange(len(r)) % 3
    return pa.table({"user": users, "item": items, "rating": r, "weight": weight, "held": np.arange(len(r)) % 5 == 0})


@pytest.fixture(scope="module")
def ratings(spark, rows):
    return spark.createDataFrame(rows).persist()


@pytest.fixture
def room(spark, case):
    """No side fits the driver where a case is of exchange: its model is left on the workers."""
    if "exchange" in case:
        spark.conf.set("spark.mfspark.driverLimit", 0)
    yield
    spark.conf.unset("spark.mfspark.driverLimit")


@pytest.fixture
def memory(monkeypatch):
    """Checkpoints are kept in memory; what is returned says after which one the fit dies (None: it lives)."""
    dies = {"after": None}

    class Storage(MemoryStorage):
        def write(self, iteration, *what):
            super().write(iteration, *what)
            if iteration == dies["after"]:
                raise Killed

    monkeypatch.setattr("mfspark.estimators.checkpointed.StateTable", Storage)
    KEPT.clear()
    return dies


def killed(estimator, ratings, memory, after=2):
    memory["after"] = after
    with pytest.raises(Killed):
        estimator.fit(ratings)
    memory["after"] = None


def told(caplog):
    return [message for message in caplog.messages if "resumed" in message or "ignored" in message]


def sides(model):
    """The sides' ids, biases and factors, wherever they are."""
    tables = (model.tables()[f"{side.stem}_factors"].orderBy("id").toPandas().fillna(0) for side in Side)
    return [np.column_stack([table[["id", "bias"]], np.stack(table["features"].to_numpy())]) for table in tables]


def assert_same(comp, ref):
    for one, other in zip(sides(comp), sides(ref), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert comp.fitted.intercept == ref.fitted.intercept
    lines, expected = ([row.asDict() for row in model.history.orderBy("iteration").collect()] for model in (comp, ref))
    assert [line["iteration"] for line in lines] == [1, 2, 3, 4]
    for name in ("loss", "validationRMSE", "repaired"):
        np.testing.assert_allclose(*([line[name] or 0.0 for line in side] for side in (lines, expected)), rtol=1e-6)


@pytest.mark.usefixtures("room")
@pytest.mark.parametrize("case", CASES)
def test_a_killed_fit_ends_as_an_uninterrupted_one(case, ratings, memory, caplog):
    kind, settings = CASES[case]
    ref = kind(**COMMON, **settings).fit(ratings)
    assert KEPT == {}, "without workPath nothing is stored"
    killed(kind(**COMMON, **settings, workPath="memory"), ratings, memory)
    (address,) = KEPT
    assert "/memory/mfspark_checkpoint_" in address and list(KEPT[address]) == [2]
    with caplog.at_level("INFO", "mfspark"):
        comp = kind(**COMMON, **settings, workPath="memory").fit(ratings)  # another object, another uid
    assert told(caplog) == [f"{kind.__name__}  resumed after iteration 2, from {address}"]
    assert_same(comp, ref)
    assert isinstance(comp.fitted, FrameFactorization) == ("exchange" in case)
    assert KEPT == {address: {}}, "the fit has ended: its state is gone"


def test_another_run_of_the_same_id_goes_on_only_from_its_own(spark, rows, ratings, memory, caplog):
    """As the train job: the place is given, and what lies there may be another data set's or another setting's."""

    def of_run(**changed):
        settings = {**COMMON, "loop": "jobs", **changed}
        estimator = ALS(**settings)
        estimator._checkpoints_at = "run-7"
        return estimator

    killed(of_run(), ratings, memory)
    of_run(regParam=0.2).fit(ratings)
    assert told(caplog) == ["ALS: the checkpoint of iteration 2 in run-7 is ignored: regParam was 0.1 and is 0.2"]
    caplog.clear()
    swapped = rows["rating"].to_numpy().copy()
    one, other = 1, int(np.flatnonzero(swapped != swapped[1])[0])
    swapped[[one, other]] = swapped[[other, one]]  # the same counts, mean and range
    changed = spark.createDataFrame(rows.set_column(2, "rating", pa.array(swapped)))
    killed(of_run(regParam=0.2), changed, memory)
    assert "is ignored: ratings was" in told(caplog)[0] and len(told(caplog)) == 1
    caplog.clear()
    with caplog.at_level("INFO", "mfspark"):  # neither blocks nor the place of the loop change the numbers
        resumed = of_run(regParam=0.2, loop="barrier", numUserBlocks=1, numItemBlocks=1).fit(changed)
    assert told(caplog) == ["ALS  resumed after iteration 2, from run-7"]
    assert_same(resumed, ALS(**COMMON, regParam=0.2, loop="jobs").fit(changed))
    assert list(KEPT["run-7"]) == [2], "the job removes it, once the model is published"


@pytest.mark.usefixtures("memory")
def test_where_no_checkpoint_can_be_due_nothing_is_looked_for(ratings, monkeypatch):
    read = "mfspark.estimators.checkpointed.digest"
    monkeypatch.setattr(read, lambda _: pytest.fail("the ratings are read once more"))
    for settings in ({"checkpointInterval": -1}, {"checkpointInterval": 4}, {"maxIter": 0}):
        estimator = ALS(**{**COMMON, **settings}, workPath="memory")
        assert estimator._checkpoints(ratings, None, {}) is NEVER
        estimator._checkpoints_at = "run-1"
        assert estimator._checkpoints(ratings, None, {}) is NEVER
    assert ALS(**COMMON)._checkpoints(ratings, None, {}) is NEVER


def test_a_fit_of_seconds_stores_nothing_unless_asked(ratings, memory, monkeypatch):
    options = {name: value for name, value in COMMON.items() if name != "checkpointInterval"} | {"maxIter": 12}
    memory["after"] = 10
    ALS(**options, workPath="memory").fit(ratings)
    assert KEPT == {}
    with pytest.raises(Killed):
        ALS(**options, workPath="memory", checkpointInterval=10).fit(ratings)
    monkeypatch.setattr("mfspark.estimators.checkpointed.SHORT", 1e9)
    KEPT.clear()
    with pytest.raises(Killed):
        ALS(**options, workPath="memory").fit(ratings)


def test_a_work_folder_is_as_it_was_after_a_fit_in_it(ratings, tmp_path, monkeypatch):
    """With real tables, and a fit whose process dies: the folder says which fit's state it is."""
    path = str(tmp_path / "work")
    estimator = ALS(**COMMON, loop="barrier", numItemBlocks=2, workPath=path)
    overwrite = tables.overwrite

    def store_and_die(frame, address):
        overwrite(frame, address)
        if "arrays" not in address:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(tables, "overwrite", store_and_die)
        with pytest.raises(Killed):
            estimator.fit(ratings)
    left = sorted(path.name for path in (tmp_path / "work").iterdir())
    assert left[0].startswith("mfspark_checkpoint_") and left[1].startswith(f"{left[0]}_2_arrays_")
    assert_same(estimator.fit(ratings), ALS(**COMMON, loop="barrier", numItemBlocks=2).fit(ratings))
    assert list((tmp_path / "work").iterdir()) == []


def test_the_digest_sees_every_change_of_the_ratings_and_no_change_of_their_order(spark, rows):
    columns = Columns(weight="weight", validation="held")

    def of(table, parts=1):
        frame = spark.createDataFrame(table).repartition(parts)
        return digest(encode(select(frame, columns)))

    def changed(name, values):
        place = rows.column_names.index(name)
        return rows.set_column(place, name, pa.array(values))

    ref = of(rows)
    assert ref == of(rows.take(np.random.default_rng(1).permutation(len(rows))), 3) and len(ref) == 16
    others = [of(rows.slice(1)), of(pa.concat_tables([rows, rows.slice(0, 1)]))]
    for name, wrong in (("user", 999), ("rating", 2.25), ("weight", 7.0), ("held", False)):
        values = rows[name].to_pylist()
        others.append(of(changed(name, [wrong, *values[1:]])))
    assert len({ref, *others}) == 7


def test_the_parameters_that_change_no_number_are_parameters():
    from mfspark.estimators.options import SAME_NUMBERS

    known = {parameter.name for kind, _ in CASES.values() for parameter in kind().params}
    assert known >= SAME_NUMBERS
    marks = ALS(rank=3, seed=4)._fingerprint()
    assert marks["rank"] == 3 and marks["seed"] == 4 and marks["estimator"] == "ALS"
    assert not SAME_NUMBERS & set(marks)
