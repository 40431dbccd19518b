"""Checkpoints by themselves: when one is due, which one a fit goes on from, and what is said of the others."""

import dataclasses
import json

import numpy as np
import pytest
from memory_storage import KEPT, MemoryStorage

from mfspark.training.checkpoint import FORMAT, NEVER, Checkpoints, key_of
from mfspark.training.loop import Measures, Stopping, run

NINE = Stopping(9)
MARKS = {"estimator": "Sum", "rank": 2, "ratings": "9 ratings (abc)"}


class Killed(BaseException):
    """What a kill is in a test: nothing of the fit catches it."""


@dataclasses.dataclass
class State:
    """An array that every sweep adds its number to, and the numbers."""

    total: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((2, 3), np.float32))
    numbers: list = dataclasses.field(default_factory=list)

    def parts(self):
        return {"total": self.total, "numbers": self.numbers}

    def restore(self, parts):
        self.total, self.numbers = parts["total"], parts["numbers"]


def fit(dies_in=None, marks=MARKS, interval=2, stopping=NINE, storage=None):
    """Run a fit that goes on from what is stored; return its state, its lines and the sweeps that were run."""
    ran = []

    def sweep(state, number):
        if number == dies_in:
            raise Killed
        ran.append(number)
        state.total += number  # in place: what is restored must be this state's own
        state.numbers.append(number)
        return Measures(100.0 / (number + 1), repaired=number, validation_rmse=None if number % 2 else 0.5)

    checkpoints = Checkpoints(storage or MemoryStorage(), interval, marks, "Sum")
    state = State()
    lines = run(sweep, state, stopping, history=checkpoints.resume(state), keep=checkpoints)
    return state, [dataclasses.replace(line, seconds=0.0) for line in lines], ran


@pytest.fixture(autouse=True)
def nothing_stored():
    KEPT.clear()


@pytest.fixture
def ref():
    state, lines, _ = fit()
    KEPT.clear()
    return state.numbers, lines


def same(result, ref):
    state, lines, _ = result
    return (state.numbers, lines) == ref and (state.total == sum(state.numbers)).all()


def killed(iteration, **how):
    with pytest.raises(Killed):
        fit(iteration, **how)


@pytest.mark.parametrize("dies_in,first", [(0, 0), (1, 0), (2, 2), (3, 2), (8, 8)])
def test_a_killed_fit_goes_on_from_its_last_checkpoint(ref, dies_in, first):
    killed(dies_in)
    again = fit()
    assert same(again, ref) and again[2][0] == first


def test_a_fit_may_be_killed_twice(ref, caplog):
    killed(3)
    with caplog.at_level("INFO", "mfspark"):
        killed(7)
        again = fit()
    assert same(again, ref) and again[2] == [6, 7, 8]
    assert caplog.messages == [f"Sum  resumed after iteration {n}, from here" for n in (2, 6)]


def test_the_newest_two_are_kept_and_none_of_the_end():
    fit()
    assert sorted(KEPT["here"]) == [6, 8]
    KEPT.clear()
    fit(stopping=Stopping(4))
    assert sorted(KEPT["here"]) == [2]


def test_a_fit_that_settles_does_so_after_a_kill_too():
    stopping = Stopping(9, tol=0.2)
    ref = fit(stopping=stopping)
    assert len(ref[1]) == 6  # 100/5 to 100/6 is less than a fifth
    for dies_in in range(1, 6):
        KEPT.clear()
        killed(dies_in, stopping=stopping)
        assert fit(stopping=stopping)[1] == ref[1]


@pytest.mark.parametrize(
    "changed,why",
    [
        ({"rank": 3}, "rank was 2 and is 3"),
        ({"ratings": "8 ratings (abd)"}, "ratings was 9 ratings (abc) and is 8 ratings (abd)"),
        ({"estimator": "Other", "alpha": 1.0}, "estimator was Sum and is Other, alpha was None and is 1.0"),
    ],
)
def test_a_checkpoint_of_another_fit_is_never_gone_on_from(ref, caplog, changed, why):
    killed(7)
    again = fit(marks=MARKS | changed)
    assert same(again, ref) and again[2][0] == 0
    assert caplog.messages[0] == f"Sum: the checkpoint of iteration 6 in here is ignored: {why}"
    assert len(caplog.messages) == 2  # and that of iteration 4
    assert all(json.loads(header)["fingerprint"] == MARKS | changed for header, *_ in KEPT["here"].values())


def test_a_start_that_changes_its_mind_at_once_has_not_lost_the_checkpoints(ref):
    killed(7)
    killed(1, marks=MARKS | {"rank": 3})
    again = fit()
    assert same(again, ref) and again[2][0] == 6


@pytest.mark.parametrize("damage", ["array", "header", "lost", "form"])
def test_a_damaged_checkpoint_is_ignored_and_the_one_before_taken(ref, caplog, damage):
    killed(7)
    header, arrays, frames = KEPT["here"][6]
    KEPT["here"][6] = {
        "array": (header, arrays | {"total": arrays["total"][:-1] + b"!"}, frames),
        "header": (header[:-1], arrays, frames),
        "lost": (header, {}, frames),
        "form": (header.replace(f'"format": {FORMAT}', '"format": 0'), arrays, frames),
    }[damage]
    again = fit()
    assert same(again, ref) and again[2][0] == 4
    (line,) = caplog.messages
    assert line.startswith("Sum: the checkpoint of iteration 6 in here is ignored: ")


class Broken(MemoryStorage):
    """A storage of which nothing can be read or written."""

    def headers(self):
        raise OSError("the disk is gone\nand more")

    write = remove = headers


def test_a_fit_goes_on_where_nothing_can_be_read_or_stored_and_says_so(ref, caplog):
    assert same(fit(storage=Broken()), ref)
    assert caplog.messages[0] == "Sum: what is stored in here is ignored: OSError: the disk is gone"
    assert caplog.messages[1] == (
        "Sum: no checkpoint of iteration 2 in here (OSError: the disk is gone): the fit goes on without it"
    )
    assert len(caplog.messages) == 1 + 4


def test_when_a_stage_must_pause():
    checkpoints = Checkpoints(MemoryStorage(), 4)
    assert [checkpoints.pause(done, 10) for done in (0, 3, 4, 7, 8)] == [4, 4, 8, 8, 10]
    assert NEVER.pause(3, 10) == 10 and not NEVER.active and not NEVER.found
    NEVER([], State())
    NEVER.remove()


def test_a_key_depends_on_all_of_a_fingerprint_but_its_order():
    assert key_of({"a": 1, "b": 2.5}) == key_of({"b": 2.5, "a": 1})
    assert len({key_of({"a": 1}), key_of({"a": 2}), key_of({"b": 1}), key_of({"a": "1"})}) == 4
