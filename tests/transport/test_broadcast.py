"""What is broadcast leaves no files in the driver's temporary folder."""

import gc
import os

import numpy as np
import pyarrow as pa
import pytest

from mfspark import ALS, BPMF, ParameterError
from mfspark.kernels.csr import Side
from mfspark.transport import broadcast
from mfspark.transport.carriers import CARRIERS, carry
from mfspark.transport.persist import Materialiser, Workspace


@pytest.fixture(scope="module")
def ratings(spark):
    rng = np.random.default_rng(0)
    users, items = np.nonzero(rng.random((30, 20)) < 0.5)
    frame = spark.createDataFrame(
        pa.table({"user": users, "item": items, "rating": rng.integers(1, 6, len(users)).astype(np.float32)})
    )
    return frame.persist()


def files(spark):
    """The files of the session's temporary folder, of Python's side and of the JVM's."""
    gc.collect()
    spark._jvm.System.gc()
    collected = broadcast.send(spark, None)  # sweeps
    broadcast.destroy(collected)
    folders = {os.path.dirname(spark.sparkContext._temp_dir), spark.sparkContext._temp_dir}
    return {os.path.join(folder, name) for folder in folders for name in os.listdir(folder)}


FITS = {
    "jobs": {"loop": "jobs"},
    "barrier": {"loop": "barrier"},
    "filterSeen": {"loop": "jobs", "filterSeen": True},
}


@pytest.mark.parametrize("options", FITS.values(), ids=FITS)
def test_fits_leave_no_files(spark, ratings, options):
    als = ALS(rank=4, maxIter=3, **options)
    als.fit(ratings).unpersist()
    before = files(spark)
    for _ in range(3):
        als.fit(ratings).unpersist()
    assert len(files(spark) - before) == 0


def test_a_fit_that_fails_leaves_no_files(spark, ratings):
    before = files(spark)
    with pytest.raises(Exception, match="no folder"):
        with Workspace(Materialiser("persist")) as workspace:
            carried = carry(ratings, [1], lambda batches, _: batches, ratings.schema)
            workspace.hand_over(*carried)
            carried.frame.count()
            raise ParameterError("no folder")
    assert len(files(spark) - before) == 0


def test_what_a_model_returns_can_be_used_again_and_goes_when_it_is_forgotten(spark, ratings):
    model = BPMF(rank=2, maxIter=3, burnIn=1, numSamples=2, deviationCol="sd").fit(ratings)

    def use():
        frames = [model.transform(ratings).where("user < 5"), model.recommendForAllUsers(2), model.similarItems(num=2)]
        first = [frame.count() for frame in frames]
        files(spark)
        assert [frame.limit(10**6).count() for frame in frames] == first

    left = []
    for _ in range(5):
        use()
        left.append(len(files(spark)))
    assert left[-1] <= left[0]  # each use sends four variables


@pytest.mark.parametrize("carrier", CARRIERS)
def test_carried_data_are_released_with_the_result(spark, ratings, carrier):
    def add(batches, data):
        for batch in batches:
            yield pa.RecordBatch.from_arrays([pa.array(batch.column("user").to_numpy() + data)], ["user"])

    before = files(spark)
    table = carry(ratings.select("user"), 100, add, "user long", carrier=carrier).collect()
    assert pa.compute.min(table.column("user")).as_py() == 100
    assert len(files(spark) - before) == 0


def test_a_failed_job_releases_too(spark, ratings):
    def fail(batches, data):  # noqa: ARG001
        raise ValueError("no")
        yield

    before = files(spark)
    with pytest.raises(Exception, match="no"):
        carry(ratings, np.zeros(1000), fail, ratings.schema, carrier="broadcast").collect()
    assert len(files(spark) - before) == 0


def test_the_fixed_side_stays_whole(ratings):
    """A model of the loop of jobs is not hurt by what was destroyed while it was fitted."""
    model = ALS(rank=4, maxIter=2, loop="jobs").fit(ratings)
    assert np.isfinite(model.fitted.features(Side.USER)).all() and model.transform(ratings).dropna().count() > 0
