"""Stratified SGD: strata, cells, equality with naive SGD, the barrier stage, retries, divergence."""

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import naive
import naive_sgd
import numpy as np
import pyarrow as pa
import pytest

from mfspark.blocks.build import Layout
from mfspark.errors import ParameterError, TrainingError
from mfspark.kernels.csr import Block, balanced_bounds, counting_order
from mfspark.kernels.losses import LOSSES
from mfspark.kernels.sgd.cells import Recipe, UserBlock, first_rows, strata
from mfspark.kernels.sgd.control import MOST_REDONE, Course, EpochSums
from mfspark.training.loop import Stopping
from mfspark.training.placement import Placement, _checked, task_count
from mfspark.training.sgd import run
from mfspark.training.sgd_worker import Job, Worker
from mfspark.transport.barrier import Alone

USERS, ITEMS = 40, 30
RECIPE = Recipe(rank=4, step=0.02, reg_param=(0.05, 0.08), epochs=3, std=0.5, seed=7, mean=3.0)
EMPTY = np.empty(0, np.float32)


def table(seed=1, share=0.4):
    """Return users, items, ratings of a matrix of rank 2 with noise."""
    users, items, _ = naive.random_ratings(USERS, ITEMS, share, seed)
    rng = np.random.default_rng(seed)
    left, right = rng.normal(0, 1, (USERS, 2)), rng.normal(0, 1, (ITEMS, 2))
    ratings = 3 + np.einsum("nk,nk->n", left[users], right[items]) + rng.normal(0, 0.1, len(users))
    return users.astype(np.int32), items.astype(np.int32), ratings.astype(np.float32)


def blocks_of(bounds, users, items, ratings, weights=EMPTY):
    """Return the block of each range of users."""
    found = []
    for low, high in zip(bounds[:-1], bounds[1:], strict=True):
        mine = (users >= low) & (users < high)
        order, indptr = counting_order(users[mine] - low, high - low)
        own = weights[mine][order] if weights.size else weights
        held = np.zeros(high - low + 1, np.int64)
        found.append(Block(indptr, items[mine][order], ratings[mine][order], EMPTY, own, held))
    return found


def job_of(recipe, d, tasks, weighted=False):
    bounds = (balanced_bounds(np.ones(USERS), d, 0.0), balanced_bounds(np.ones(ITEMS), d, 0.0))
    return Job(recipe, Layout(bounds, EMPTY, weighted, False), tasks, b"secret")


def worker_of(recipe, d=1, tasks=1, data=None, weights=EMPTY):
    """Return one worker that holds every block."""
    job = job_of(recipe, d, tasks, weights.size > 0)
    blocks = blocks_of(job.bounds[0], *(data or table()), weights)
    users = [
        UserBlock(number, int(job.bounds[0][number]), block, job.bounds[1], recipe)
        for number, block in enumerate(blocks)
    ]
    return Worker(job, users, Alone())


def factors(worker):
    """Return all factors of both sides in order."""
    sides = [user.rows for user in worker.users], [worker.items[n] for n in sorted(worker.items)]
    return [np.concatenate([rows.factors for rows in side]) for side in sides]


@pytest.mark.parametrize(("d", "tasks"), [(1, 1), (2, 2), (4, 4), (4, 2), (6, 3), (5, 1)])
def test_strata_are_disjoint_and_cover_every_cell_once(d, tasks):
    cells = set()
    for epoch in range(3):
        order = strata(d, tasks, RECIPE, epoch)
        assert order.shape == (d, d)
        assert all(sorted(row) == list(range(d)) for row in order)
        cells = {(p, int(q)) for row in order for p, q in enumerate(row)}
        assert len(cells) == d * d
    fused, group = d // tasks, np.arange(d) // (d // tasks)
    moves = sum((a // fused != b // fused).any() for a, b in zip(order[:-1], order[1:], strict=True))
    assert moves == tasks - 1 and len(set(group)) == tasks


def test_the_order_of_strata_changes_with_epoch_and_seed():
    orders = [strata(8, 8, replace(RECIPE, seed=seed), epoch).tobytes() for seed in (1, 2) for epoch in (0, 1)]
    assert len(set(orders)) == 4
    assert orders[0] == strata(8, 8, replace(RECIPE, seed=1), 0).tobytes()


def test_every_rating_is_visited_exactly_once_an_epoch():
    users, items, ratings = table()
    worker = worker_of(RECIPE, d=4, tasks=2)
    worker._start(strata(4, 2, RECIPE, 0)[0])
    visited, times = [], []

    def look(user, block):
        cell = user.cells[block].ratings
        times.append((user.number, block))
        bounds = worker.job.bounds
        visited.extend(zip(cell.rows + bounds[0][user.number], cell.cols + bounds[1][block], cell.values, strict=True))

    worker._visit(strata(4, 2, RECIPE, 0), look)
    assert sorted(visited) == sorted(zip(users, items, ratings, strict=True))
    for stratum in range(4):
        at = times[4 * stratum : 4 * stratum + 4]
        assert len({p for p, _ in at}) == len({q for _, q in at}) == 4


OPTIONS = {
    "plain": {},
    "biased": {"bias": (True, True)},
    "adagrad": {"schedule": "adagrad", "step": 0.1},
    "nonnegative": {"nonnegative": True, "signed": False, "mean": 0.0},
    "inverse": {"schedule": "inverse", "decay": 0.5},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_one_block_equals_naive_sgd_in_the_same_order(options):
    recipe = replace(RECIPE, **options)
    worker = worker_of(recipe)
    worker._start(np.zeros(1, np.int64))
    user, item = worker.users[0], worker.items[0]
    ref = [rows.factors[:, :4].astype(float) for rows in (user.rows, item)]
    bias = [np.zeros(n) if recipe.bias[0] else None for n in (USERS, ITEMS)]
    squares = [np.ones((n, 4)) for n in (USERS, ITEMS)] if recipe.adagrad else None
    cell, fits = user.cells[0].ratings, []
    for epoch in range(recipe.epochs):
        step = recipe.step / (1 + 0.5 * epoch) if recipe.schedule == "inverse" else recipe.step
        fits.append(
            naive_sgd.sgd_pass(
                cell.rows,
                cell.cols,
                cell.values,
                *ref,
                step=step,
                reg=recipe.reg_param,
                b_u=bias[0],
                b_i=bias[1],
                mean=recipe.mean,
                reg_bias=recipe.reg_param,
                squares=squares,
                slow_only=epoch == 0,
                nonnegative=recipe.nonnegative,
            )  # fmt: skip
        )
    worker = worker_of(recipe)
    history = worker.train()
    for comp, full in zip(factors(worker), ref, strict=True):
        np.testing.assert_allclose(comp[:, :4], full, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose([line.fit for line in history], 2 * np.array(fits), rtol=1e-5)
    counts = [np.bincount(ids, minlength=n) for ids, n in zip(table()[:2], (USERS, ITEMS), strict=True)]
    ref_penalty = sum(
        lam * count @ ((side**2).sum(axis=1) + (0 if b is None else b**2))
        for lam, count, side, b in zip(recipe.reg_param, counts, ref, bias, strict=True)
    )
    assert history[-1].regularisation == pytest.approx(ref_penalty, rel=1e-4)


def test_the_start_does_not_depend_on_the_blocks():
    starts = []
    for d in (1, 4):
        worker = worker_of(RECIPE, d)
        worker._start(np.arange(d))
        starts.append(factors(worker))
    for comp, ref in zip(*starts, strict=True):
        np.testing.assert_array_equal(comp, ref)
    whole, parts = first_rows(0, 3000, 1, RECIPE), [first_rows(low, 1500, 1, RECIPE) for low in (0, 1500)]
    np.testing.assert_array_equal(whole.factors, np.concatenate([rows.factors for rows in parts]))


def test_four_blocks_reach_the_loss_of_one():
    recipe, data = replace(RECIPE, epochs=10, step=0.05), table(share=0.9)
    losses = [worker_of(recipe, d, tasks, data).train()[-1].loss for d, tasks in ((1, 1), (4, 4), (4, 2))]
    np.testing.assert_allclose(losses[1:], losses[0], rtol=0.01)


def test_weights_of_one_change_nothing_and_double_weights_count_twice():
    ratings = table()
    weights = np.ones(len(ratings[0]), np.float32)
    plain = worker_of(RECIPE, 2, 2)
    plain.train()
    weighted = worker_of(RECIPE, 2, 2, weights=weights)
    weighted.train()
    for comp, ref in zip(factors(weighted), factors(plain), strict=True):
        np.testing.assert_allclose(comp, ref, rtol=1e-5, atol=1e-6)
    twice = worker_of(replace(RECIPE, step=RECIPE.step / 2), 2, 2, weights=2 * weights)
    twice.train()
    for comp, ref in zip(factors(twice), factors(weighted), strict=True):
        np.testing.assert_allclose(comp, ref, rtol=1e-4, atol=1e-5)


def test_regularisation_by_exponent():
    plain, scaled = (worker_of(replace(RECIPE, exponent=exponent)) for exponent in (0.0, 1.0))
    counts = np.bincount(table()[0], minlength=USERS)
    np.testing.assert_allclose(plain.users[0].regularisation * counts, RECIPE.reg_param[0], rtol=1e-6)
    assert scaled.users[0].regularisation == RECIPE.reg_param[0] and scaled.regularisation == RECIPE.reg_param[1]


def test_negatives_are_drawn_anew_every_epoch_and_never_observed():
    recipe = replace(RECIPE, implicit=True, negatives=3, loss="logistic", mean=0.0)
    users, items, ratings = table()
    full = np.concatenate([users, np.zeros(ITEMS, np.int32)]), np.concatenate([items, np.arange(ITEMS, dtype=np.int32)])
    data = (*full, np.concatenate([ratings, np.ones(ITEMS, np.float32)]))
    worker = worker_of(recipe, 2, 2, data)
    seen, draws = set(zip(full[0].tolist(), full[1].tolist(), strict=True)), []
    for epoch in (0, 1, 1):
        drawn, positive = [], 0
        for user in worker.users:
            user.prepare(epoch)
            for block, cell in enumerate(user.cells):
                one = cell.ratings
                rows, cols = one.rows + worker.job.bounds[0][user.number], one.cols + worker.job.bounds[1][block]
                pairs = list(zip(rows.tolist(), cols.tolist(), strict=True))
                positive += sum(pair in seen for pair in pairs)
                drawn += [pair for pair in pairs if pair not in seen]
        draws.append(drawn)
        assert positive == len(full[0])
        assert len(drawn) == 3 * np.count_nonzero(full[0])  # user 0 has seen every item
    assert draws[1] == draws[2] != draws[0]
    assert worker.train()[-1].loss > 0


def batch_of(job, data):
    """Return the rows of the frame of blocks."""
    names = ("indptr", "indices", "values", "weights", "held_indptr", "held_indices", "held_values")
    columns = {"block": pa.array(range(job.blocks), pa.int32())}
    blocks = blocks_of(job.bounds[0], *data)
    for name in names:
        columns[f"user_{name}"] = pa.array([getattr(block, name).tobytes() for block in blocks], pa.binary())
    return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))


def test_a_task_that_runs_twice_gives_the_same_rows():
    job = job_of(RECIPE, 4, 1)
    batch = batch_of(job, table())
    one, two = (pa.Table.from_batches(run(iter([batch]), job)) for _ in range(2))
    assert set(one.column("kind").to_pylist()) == {"history", "user", "item"}
    numbers = [table.filter(pa.compute.not_equal(table.column("kind"), "history")) for table in (one, two)]
    assert numbers[0].equals(numbers[1])


def test_more_blocks_than_users(spark):
    from mfspark import SGD

    frame = spark.createDataFrame([(1, 1, 5.0), (2, 1, 1.0)], "user int, item int, rating float")
    model = SGD(rank=1, numUserBlocks=5, maxIter=3).fit(frame)
    assert model.transform(frame).count() == 2


def test_task_count_divides_the_blocks():
    assert [task_count(8, slots) for slots in (0, 1, 2, 3, 7, 8, 100)] == [1, 1, 2, 2, 4, 8, 8]


def test_a_step_too_large_is_halved_and_the_epoch_redone():
    recipe = replace(RECIPE, step=4.0, epochs=6)
    worker = worker_of(recipe, 2, 2)
    history = worker.train()
    assert [line.iteration for line in history] == [1, 2, 3, 4, 5, 6]
    assert all(np.isfinite(line.loss) for line in history)
    assert all(np.isfinite(side).all() for side in factors(worker))
    assert history[-1].loss < history[0].loss


def test_hopeless_data_is_a_clear_error():
    users, items, ratings = table()
    worker = worker_of(RECIPE, 2, 2, (users, items, ratings * np.float32(1e30)))
    with pytest.raises(TrainingError, match="epoch 1 diverges even with step .* lower stepSize"):
        worker.train()
    job = job_of(RECIPE, 2, 1)
    rows = pa.Table.from_batches(run(iter([batch_of(job, (users, items, ratings * np.float32(1e30)))]), job))
    assert "error" in rows.column("kind").to_pylist()


def test_course():
    course = Course(replace(RECIPE, schedule="bold_driver", step=0.1, epochs=9, tol=0.01))
    assert course.keeps(EpochSums(10.0, 1.0, True)) and course.step == 0.1
    assert course.keeps(EpochSums(9.0, 1.0, True)) and course.step == pytest.approx(0.105)
    assert not course.keeps(EpochSums(12.0, 1.0, True)) and course.step == pytest.approx(0.0525)
    assert not course.keeps(EpochSums(5.0, 1.0, False)) and course.epoch == 2
    assert course.keeps(EpochSums(8.99, 1.0, True)) and not course.failed and Stopping(9, 0.01).settled(10.0, 9.99)
    course = Course(RECIPE)
    for _ in range(MOST_REDONE + 1):
        assert not course.failed
        course.keeps(EpochSums(np.nan, 0.0, True))
    assert course.failed


def test_a_rise_is_judged_over_the_same_pairs():
    course = Course(replace(RECIPE, step=0.1, negatives=2, epochs=4))
    assert not course.keeps(EpochSums(20.0, 0.0, True), lambda: 10.0) and course.step == 0.05
    assert course.keeps(EpochSums(10.0, 0.0, True), lambda: 10.0)
    assert course.keeps(EpochSums(8.0, 0.0, True), lambda: pytest.fail("a loss that falls needs no second look"))
    assert not course.keeps(EpochSums(10.5, 0.0, True), lambda: 9.0) and course.step == 0.025
    assert course.keeps(EpochSums(10.5, 0.0, True), lambda: 11.0) and course.step == 0.025  # the draw was unlucky
    assert course.keeps(EpochSums(12.0, 0.0, True), lambda: 11.5) and course.step == 0.0125 and course.overshot
    assert course.failed  # it ends higher than it began


def implicit_data(share, seed):
    """Return 60 users x 30 items with counts 1 to 5, at random."""
    rng = np.random.default_rng(seed)
    users, items = np.nonzero(rng.random((60, 30)) < share)
    return users.astype(np.int32), items.astype(np.int32), rng.integers(1, 6, len(users)).astype(np.float32)


NONNEGATIVE = {"nonnegative": True, "signed": False}


def implicit_fit(data, recipe):
    bounds = (np.array([0, 60]), np.array([0, 30]))
    job = Job(recipe, Layout(bounds, EMPTY, False, False), 1, b"secret")
    return Worker(job, [UserBlock(0, 0, blocks_of(bounds[0], *data)[0], bounds[1], recipe)], Alone()).train()


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
@pytest.mark.parametrize("loss", LOSSES)
def test_implicit_fits_of_small_data_end_whatever_is_drawn(loss, share):
    options = NONNEGATIVE if loss == "poisson_identity" else {}
    recipe = Recipe(
        8, loss=loss, reg_param=(0.01, 0.01), step=0.1, schedule="adagrad", epochs=20, implicit=True, negatives=4
    )
    for seed in range(20):
        history = implicit_fit(implicit_data(share, seed), replace(recipe, seed=seed, **options))
        assert len(history) == 20 and history[-1].loss < 0.9 * history[0].loss


def test_a_first_epoch_that_explodes_to_finite_numbers_is_noticed():
    recipe = Recipe(8, loss="poisson_identity", reg_param=(0.1, 0.1), step=0.05, epochs=20, implicit=True, negatives=4)
    for seed in range(20):
        history = implicit_fit(implicit_data(0.9, seed), replace(recipe, seed=seed, **NONNEGATIVE))
        assert max(line.loss for line in history) < 1e5


def test_the_loss_of_another_state_changes_nothing():
    recipe = replace(RECIPE, schedule="adagrad", implicit=True, negatives=2, loss="logistic", mean=0.0)
    worker, order = worker_of(recipe, 4, 2), strata(4, 2, recipe, 0)
    worker._start(order[0])
    before = worker.snapshot()
    kept = before.copy()
    for user in worker.users:
        user.prepare(0)
    worker._pass(order, 0, 0.1)
    after = [rows.copy() for rows in factors(worker)]
    assert worker._loss_at(before, order, 0) == worker._loss_at(before, order, 0) > 0
    for comp, ref in zip(factors(worker), after, strict=True):
        np.testing.assert_array_equal(comp, ref)
    for comp, ref in zip(before.users, kept.users, strict=True):
        np.testing.assert_array_equal(comp.squares, ref.squares)
    assert before.items.keys() == kept.items.keys()


def test_the_barrier_stage_equals_one_worker_with_every_block(spark):
    from mfspark.training.sgd import fit

    recipe = replace(RECIPE, bias=(True, True), schedule="adagrad")
    for d in (2, 4):
        job = job_of(recipe, d, 2)
        frame = spark.createDataFrame(pa.Table.from_batches([batch_of(job, table())])).repartitionById(d, "block")
        sides, history = fit(frame, job)
        worker = worker_of(recipe, d, 2)
        lines = worker.train()
        for comp, ref in zip(sides, factors(worker), strict=True):
            np.testing.assert_array_equal(comp[:, :4], ref[:, :4])
        assert [line.loss for line in history] == [line.loss for line in lines]


def test_dynamic_allocation_is_refused_with_advice():
    conf = SimpleNamespace(get=lambda key, default: "true" if key == "spark.dynamicAllocation.enabled" else default)
    session = SimpleNamespace(conf=conf)
    instead = "numUserBlocks=1 to train in a single task"
    assert _checked(session, Placement(1), instead).tasks == 1
    with pytest.raises(ParameterError, match="its 3 tasks together.*numUserBlocks=1"):
        _checked(session, Placement(3), instead)


RETRY = """
import os, sys, tempfile
import numpy as np
from pyspark.sql import functions as F
from mfspark import SGD, spark_session
from mfspark.training import sgd as strata

spark = spark_session("retry", master="local[2,4]", config={"spark.driver.memory": "1g"})
spark.sparkContext.setLogLevel("OFF")
rows = [(u, i, float((u * i) % 5)) for u in range(30) for i in range(20) if (u + 2 * i) % 3]
ratings = spark.createDataFrame(rows, "user int, item int, rating float")
models = [SGD(rank=3, maxIter=4, seed=1).fit(ratings)]
again = spark.sparkContext.accumulator(0)
lost = os.path.join(tempfile.mkdtemp(), "lost")
real = strata.run

def failing(batches, job, start=None):
    from pyspark import BarrierTaskContext
    found = list(real(batches, job, start))
    if BarrierTaskContext.get().partitionId() == 1:
        if not os.path.exists(lost):
            open(lost, "w").close()
            raise RuntimeError("lost on purpose")
        again.add(1)
    yield from found

strata.run = failing
models.append(SGD(rank=3, maxIter=4, seed=1).fit(ratings))
for one, two in zip(*(model.fitted.sides for model in models)):
    np.testing.assert_array_equal(one, two)
assert again.value == 1 and os.path.exists(lost), "the stage did not run a second time"
spark.stop()
"""


@pytest.mark.java
def test_a_lost_task_changes_nothing_in_the_result():
    done = subprocess.run([sys.executable, "-c", RETRY], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[:3000]
