"""The one loop: when it stops, whom it tells, and that a copied state goes on as the fit itself would."""

import copy
import dataclasses
import io
import json
import logging
import pickle
import subprocess
import sys

import naive
import numpy as np
import pyarrow as pa
import pytest

from mfspark.blocks.build import build, plan
from mfspark.blocks.columns import Columns, select
from mfspark.blocks.encode import encode
from mfspark.blocks.profile import profile
from mfspark.errors import ParameterError, TrainingError
from mfspark.kernels.als.half_step import STATISTICS
from mfspark.kernels.csr import Side
from mfspark.kernels.objective import Settings
from mfspark.kernels.sgd.cells import Recipe
from mfspark.training import bpmf, gradient_descent, sgd_state, svdpp, truncated_svd
from mfspark.training.als import HalfSteps, UnsolvableError, measures
from mfspark.training.checkpoint import Checkpoints
from mfspark.training.history import Iteration, from_bytes, rmse, to_bytes
from mfspark.training.loop import Measures, Stopping, run
from mfspark.training.placement import OLD_LOOPS, choose
from mfspark.training.progress import LOGGER, PATIENCE, pace, reporter
from mfspark.training.sgd_worker import Worker
from mfspark.training.starts import Start, initial_factors
from mfspark.transport.barrier import Alone


def sweep_of(*losses, **more):
    return lambda _state, number: Measures(losses[number], **more)


@pytest.mark.parametrize(
    "stopping,lines",
    [
        (Stopping(0), 0),
        (Stopping(3), 3),
        (Stopping(9, tol=0.1), 3),  # 8 to 7.5 is less than a tenth
        (Stopping(9, tol=0.1, whole=100.0), 2),  # 10 to 8 is less than a tenth of 100
        (Stopping(9, tol=0.02), 5),  # a rise is no fall
    ],
)
def test_when_it_stops(stopping, lines):
    history = run(sweep_of(10.0, 8.0, 7.5, 7.0, 7.5, 1.0, 0.5, 0.2, 0.1), None, stopping)
    assert [line.iteration for line in history] == list(range(1, lines + 1))


def test_a_state_is_kept_where_the_fit_goes_on_and_a_history_is_gone_on_from():
    """Not where it ends: at the last iteration, and where the loss has settled."""
    losses = (10.0, 8.0, 7.5, 7.0, 7.5, 1.0, 0.5, 0.2, 0.1)
    kept = []

    def keep(lines, state):
        kept.append((len(lines), lines[-1].loss, state))

    stopping = Stopping(9, tol=0.1)
    ref = run(sweep_of(*losses), "state", stopping, keep=keep)
    assert kept == [(1, 10.0, "state"), (2, 8.0, "state")] and stopping.ends(ref) and not stopping.ends(ref, False)
    comp = run(sweep_of(*losses), "state", stopping, history=ref[:2])
    assert [(line.iteration, line.loss) for line in comp] == [(line.iteration, line.loss) for line in ref]
    del kept[:]
    run(sweep_of(*losses), None, Stopping(2), keep=keep)
    assert [number for number, *_ in kept] == [1]


def test_an_undone_step_is_no_reason_to_stop():
    assert len(run(sweep_of(5.0, 5.0, 5.0, moved=False), None, Stopping(3, tol=0.1))) == 3
    assert len(run(sweep_of(5.0, 5.0, 5.0), None, Stopping(3, tol=0.1))) == 2


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_ends_the_fit_before_any_hook_sees_it(loss):
    told = []
    with pytest.raises(TrainingError, match="after iteration 2: lower stepSize"):
        run(sweep_of(1.0, loss), None, Stopping(5, advice="lower stepSize"), [lambda line, _: told.append(line)])
    assert [line.iteration for line in told] == [1]


def test_hooks_get_the_line_and_the_state_of_the_iterations_end():
    def sweep(state, number):
        state.append(number)
        return Measures(1.0, 2.0, 0.5, repaired=number)

    told = []
    history = run(sweep, [], Stopping(2), [lambda line, state: told.append((line, list(state)))])
    assert [(line.loss, line.fit, line.regularisation, line.repaired) for line in history] == [
        (3, 1, 2, 0),
        (3, 1, 2, 1),
    ]
    assert told == [(history[0], [0]), (history[1], [0, 1])]


def test_the_loop_needs_no_pyspark():
    names = ", ".join(f"mfspark.training.{name}" for name in ("loop", "history", "progress"))
    code = f"import sys; sys.modules['pyspark'] = None; import {names}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_sweep_counts_the_rows_repaired_in_both_half_steps():
    first, second = (np.array([halves.get(name, 0.0) for name in STATISTICS]) for halves in (
        {"regularisation": 1.0, "repaired": 2}, {"fit": 4.0, "regularisation": 3.0, "repaired": 5}
    ))  # fmt: skip
    assert measures(first, second) == Measures(4.0, 4.0, None, 7)


def test_lines_travel_as_bytes():
    lines = [Iteration(1, 3.0, 2.0, 1.0, None, 0.5), Iteration(2, 2.0, 1.5, 0.5, 0.25, 0.25, repaired=7)]
    assert from_bytes(to_bytes(lines)) == lines and from_bytes(to_bytes([])) == []
    assert rmse(8.0, 2) == 2.0 and rmse(0.0, 0) is None


def test_an_unsolvable_row_survives_its_way_to_the_driver():
    error = pickle.loads(pickle.dumps(UnsolvableError(Side.ITEM, 17)))
    assert (error.side, error.place) == (Side.ITEM, 17) and "item number 17" in str(error)
    error = pickle.loads(pickle.dumps(UnsolvableError(Side.ITEM, 17, "'x'", "weight")))
    assert "item 'x' have no finite solution (weight): its weights are extreme" in str(error)


@pytest.fixture(scope="module")
def data(spark):
    """The blocks of 17 users and 11 items, some ratings held out."""
    users, items, r = naive.random_ratings(17, 11, 0.4, seed=5)
    table = pa.table({"user": users, "item": items, "rating": r, "held": np.arange(len(r)) % 5 == 0})
    encoded = encode(select(spark.createDataFrame(table), Columns(validation="held")))
    learned = profile(encoded, Columns())
    layout = plan(learned, 2, (2, 2), False)
    return build(encoded, learned, layout)[0].persist(), layout, learned


def als(blocks, layout, learned):
    settings = Settings(3, solver="cg")
    return HalfSteps(blocks, layout, settings), initial_factors(learned, settings, Start(1, 1.0, "normal"))


def descent(schedule):
    def method(blocks, layout, learned):
        settings, how = Settings(3), gradient_descent.Descent(schedule=schedule, rate=0.3)
        weights = gradient_descent.row_weights(blocks, layout, learned)
        gradients = gradient_descent.Pass(blocks, layout, settings, how, weights)
        start = initial_factors(learned, settings, Start(1, 1.0, "normal"))
        return gradient_descent.Steps(gradients, 4), gradient_descent.start(gradients, start)

    return method


def svd_plus_plus(blocks, layout, learned):
    sizes = tuple(len(side) for side in learned.sides)
    descent = svdpp.Descent(0.02, 0.1, (0.1, 0.1, 0.01, 0.1), 3)
    return svdpp.Epochs(blocks, layout, descent, 4), svdpp.start(sizes, 3, learned.mean, 1, 0.5)


def chain(blocks, layout, learned):
    settings, how = Settings(3), bpmf.Chain(2.0, 1, 2, 5)
    start = bpmf.start(initial_factors(learned, settings, Start(1, 0.3, "normal")), how)
    return bpmf.Sampling(blocks, layout, settings, how, 4), start


METHODS = {
    "als": als, "adam": descent("constant"), "bold_driver": descent("bold_driver"), "svdpp": svd_plus_plus,
    "bpmf": chain,
}  # fmt: skip


def stored(parts):
    """What becomes of a state's parts on their way through a checkpoint."""
    arrays = {name: part.copy() for name, part in parts.items() if isinstance(part, np.ndarray)}
    others = {name: part for name, part in parts.items() if name not in arrays}
    return arrays | json.loads(json.dumps(others))


@pytest.mark.parametrize("at", [1, 3])  # before BPMF keeps its first sample, and after
@pytest.mark.parametrize("method", METHODS)
def test_a_state_goes_on_from_its_parts_as_the_fit_itself(data, method, at):
    """What a checkpoint needs: the parts of a state are all that changes, and it is restored into a new one."""
    kept = {}

    def keep(lines, state):
        kept[len(lines)] = stored(state.parts())

    sweep, state = METHODS[method](*data)
    ref = run(sweep, state, Stopping(4), keep=keep)
    again = METHODS[method](*data)[1]
    again.restore(kept[at])
    comp = run(sweep, again, Stopping(4), history=ref[:at])
    assert [line.iteration for line in comp] == [1, 2, 3, 4]
    assert [(line.loss, line.validation_rmse) for line in comp] == [(line.loss, line.validation_rmse) for line in ref]
    assert ref[-1].validation_rmse is not None
    np.testing.assert_equal(leaves(again), leaves(state))


def leaves(value):
    """All arrays and numbers that a state is made of."""
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if isinstance(value, pa.Array):
        return value.to_pylist()
    if hasattr(value, "__dict__"):
        return {name: leaves(part) for name, part in vars(value).items()}
    if isinstance(value, dict):
        return {name: leaves(part) for name, part in value.items()}
    return [leaves(part) for part in value] if isinstance(value, list | tuple) else value


def test_truncated_svd_tells_of_every_multiplication_and_its_state(data):
    blocks, layout, learned = data
    shape = tuple(len(side) for side in learned.sides)
    behind = truncated_svd.background(blocks, layout, learned, "zero")
    matrix, told = truncated_svd.Matrix(blocks, layout, shape, behind), []
    result, history = truncated_svd.factorize(
        matrix, 2, 4, 0, Stopping(4), [lambda line, state: told.append((line, copy.deepcopy(state)))]
    )
    assert [line.iteration for line, _ in told] == [1, 2, 3, 4] == [line.iteration for line in history]
    assert all(after.loss <= before.loss for before, after in zip(history, history[1:], strict=False))
    assert told[2][1].decomposition is None and np.array_equal(told[3][1].decomposition.s, result.s)
    assert len(truncated_svd.factorize(matrix, 2, 4, 0, Stopping(1))[1]) == 1
    again = truncated_svd.Basis(np.zeros(0), 0.0)
    again.restore(stored(told[1][1].parts()))
    resumed = Resumed(again, history[:2])
    comp, lines = truncated_svd.factorize(matrix, 2, 4, 0, Stopping(4), checkpoints=resumed)
    assert [line.loss for line in lines] == [line.loss for line in history]
    np.testing.assert_array_equal(comp.U, result.U)


class Resumed(Checkpoints):
    """Checkpoints that have found a state."""

    def __init__(self, state, lines):
        super().__init__(None)
        self.state, self.lines = state, lines

    def resume(self, state):
        state.restore(self.state.parts())
        return self.lines


def test_progress_is_told_by_verbose_a_terminal_or_a_logger_that_is_on(caplog):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    assert pace(True) == 0.0 and pace(False) is None and pace(False, Terminal()) is None
    assert pace(None, Terminal()) == 0.0 and pace(None, io.StringIO()) is None
    with caplog.at_level(logging.INFO, LOGGER.name):
        assert pace(None, io.StringIO()) == PATIENCE
        tell = reporter(3, 0.0, "ALS")
        tell(Iteration(1, 10.0, 9.0, 1.0, None, 2.0), None)
    assert caplog.messages == ["ALS  iteration 1/3  loss 10  4 s left"]


def test_a_log_gets_one_line_in_ten_seconds(monkeypatch):
    now, out = [100.0], io.StringIO()
    monkeypatch.setattr("mfspark.training.progress.time.monotonic", lambda: now[0])
    tell = reporter(30, PATIENCE, "SGD", out)
    for number in range(1, 26):
        now[0] += 1.0
        tell(Iteration(number, 1.0, 1.0, 0.0, None, 1.0), None)
    assert [line.split()[2] for line in out.getvalue().splitlines()] == ["10/30", "20/30"]


def test_where_a_loop_runs(spark):
    assert (
        choose(spark, "jobs", 2).tasks == 0 == choose(spark, "auto", 3).tasks == choose(spark, "auto", 2, False).tasks
    )
    assert choose(spark, "auto", 2).tasks == 2 == choose(spark, "barrier", 2, False).tasks
    assert all(choose(spark, old, 2) == choose(spark, new, 2) for old, new in OLD_LOOPS.items())
    with pytest.raises(ParameterError, match="runs all 3 blocks at once, but there are 2 slots"):
        choose(spark, "gang", 3)


def test_a_task_keeps_its_rows_where_it_is_restored():
    from test_sgd_training import worker_of

    worker = worker_of(Recipe(rank=4, reg_param=(0.0, 0.0), step=0.02, epochs=2, std=0.5, seed=7, mean=3.0), 2, 2)
    worker.train()
    before = worker.snapshot()
    kept = copy.deepcopy(before)
    worker.epoch(2)
    assert not np.array_equal(worker.users[0].rows.factors, kept.users[0].factors)
    worker.restore(before)
    np.testing.assert_array_equal(worker.users[0].rows.factors, kept.users[0].factors)


SGD_WAYS = {
    "adagrad": dict(bias=(True, True), schedule="adagrad", step=0.1),
    "bold_driver": dict(schedule="bold_driver"),
    "negatives": dict(implicit=True, negatives=2, loss="logistic", mean=0.0),
}


@pytest.mark.parametrize("how", SGD_WAYS.values(), ids=SGD_WAYS)
def test_a_stage_of_sgd_goes_on_where_the_one_before_ended(how):
    from test_sgd_training import factors, worker_of

    settings = dict(reg_param=(0.0, 0.1), step=0.02, mean=3.0) | how
    recipe = Recipe(rank=4, epochs=5, std=0.5, seed=7, **settings)
    whole, first, again = (worker_of(recipe, 4, 2) for _ in range(3))
    ref = whole.train()
    first.job = dataclasses.replace(first.job, until=2)
    lines = first.train()
    blocks = [user.rows for user in first.users], [first.items[number] for number in sorted(first.items)]
    sides = [np.concatenate([sgd_state.table(rows, recipe, whole=True) for rows in side]) for side in blocks]
    state = sgd_state.State(sides, stored(first.course.numbers()))
    job = dataclasses.replace(again.job, earlier=tuple(lines))
    again = Worker(job, again.users, Alone(), state)
    assert [line.loss for line in again.train()] == [line.loss for line in ref] and len(ref) == 5
    for comp, other in zip(factors(again), factors(whole), strict=True):
        np.testing.assert_array_equal(comp, other)
