"""Aliases, retirement, comparison: names that move by one commit, versions that go and never while they are needed."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from test_registry import Killed, model_tables, values_of

from mfspark.errors import StoreError
from mfspark.store import Location, Registry, retention, tables
from mfspark.store.aliases import Aliases
from mfspark.store.retention import check_retention, to_retire
from mfspark.store.schemas import ModelVersion
from mfspark.store.standing import ALIASES, Alias, Change, Mark, Standing, missing


def alias(*trail):
    return Alias("champion", trail[-1], trail, (Change(trail[-1], "a", "2026-01-01T00:00:00+00:00", "promote"),))


def model(version, attempt="a"):
    return ModelVersion(version, f"run-{version}", attempt, None)


@pytest.mark.parametrize(
    ("keep", "trails", "ref"),
    [
        (1, [], [1, 2, 3, 4]),
        (5, [], []),
        (2, [(1,)], [2, 3]),
        (1, [(1, 2, 3)], [1, 4]),  # 3 is served, and a rollback goes to 2
        (1, [(3, 1), (4,)], [2]),
        (9, [(1,)], []),
    ],
)
def test_what_is_retired(keep, trails, ref):
    standing = Standing({str(trail): alias(*trail) for trail in trails}, (), 0)
    assert [one.version for one in to_retire([model(n) for n in range(1, 6)], standing, keep)] == ref


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((0, None, False), "keep=0: the newest version is always kept"),
        ((True, None, False), "keep=True"),
        ((1, 24, False), "vacuum_hours=24 is below 168 .* a reader or writer"),
        ((1, float("nan"), False), "vacuum_hours=nan"),
        ((1, -1, True), "vacuum_hours=-1: give a number of hours >= 0"),
    ],
)
def test_numbers_that_would_hurt_somebody_are_refused(given, message):
    with pytest.raises(StoreError, match=message):
        check_retention(*given)
    check_retention(1, 168, False)
    check_retention(1, 0, True)


def test_the_rows_of_the_table_come_back():
    marks = (Mark(1, "a", "run-1", "2026-01-01T00:00:00+00:00", True), Mark(1, "b", "run-1", "2026-01-02", False))
    ref = Standing({"champion": alias(2, 3), "next": alias(4)}, marks, 7)
    named = [one.row() for one in (alias(4), alias(2, 3))]
    rows = [dict(zip(("alias", "version", "attempt", "told"), row, strict=True)) for row in named]
    rows[0]["alias"] = "next"
    rows += [dict(zip(("alias", "version", "attempt", "told"), mark.row(), strict=True)) for mark in marks]
    comp = Standing.stored(rows, 7)
    assert list(comp.aliases) == list(ref.aliases) and comp[1:] == ref[1:]
    assert comp.aliases["champion"] == alias(2, 3)
    assert comp.retired(1).at == "2026-01-02" and comp.retired(None, "run-1") is not None
    assert comp.lives(model(1, "c")) and not comp.lives(model(1, "b"))
    assert "was retired at 2026-01-02; published versions: 2 (run run-2)" in missing(
        "x", [model(2)], comp.retired(1), "s"
    )


class Remembered(Aliases):
    """Aliases of versions 1 to 5, in memory; ``meanwhile`` is what another process does before the next write."""

    def __init__(self, monkeypatch):
        super().__init__(None, Location("/store"))
        self.rows, self.at, self.meanwhile = [], None, []
        monkeypatch.setattr("mfspark.store.aliases.listed", lambda *_: [model(n) for n in range(1, 6)])
        monkeypatch.setattr("mfspark.store.retention.listed", lambda *_: [model(n) for n in range(1, 6)])

    def read(self):
        return Standing.stored(self.rows, self.at)

    def write(self, standing, aliases, marks):
        if self.meanwhile:
            self.meanwhile.pop()()
        if standing.at != self.at:
            return False
        rows = [one.row() for one in (*aliases.values(), *marks)]
        self.rows = [dict(zip(ALIASES, row, strict=True)) for row in rows]
        self.at = (self.at or 0) + 1
        return True


def test_an_alias_goes_forth_and_back(monkeypatch):
    comp = Remembered(monkeypatch)
    with pytest.raises(StoreError, match="no alias 'champion' in /store; no version has been promoted yet"):
        comp.rollback("champion", "rollback")
    for wrong in ("", "7", "a b", "latest", "x" * 65):
        with pytest.raises(StoreError, match="is not usable: take a letter"):
            comp.promote(1, wrong, "promote")
    for version in (1, 3, 3, 4):
        assert comp.promote(version, "champion", "promote").version == version
    assert comp.at == 3  # the second 3 wrote nothing
    assert comp.rollback("champion", "rollback").version == 3
    assert comp.rollback("champion", "no good").version == 1
    with pytest.raises(StoreError, match="alias 'champion' has no version before 1 to go back to"):
        comp.rollback("champion", "rollback")
    changes = [(change.version, change.by) for change in comp.read().aliases["champion"].history]
    assert changes == [(1, "promote"), (3, "promote"), (4, "promote"), (3, "rollback"), (1, "no good")]
    with pytest.raises(StoreError, match=r"no alias 'next' in /store; aliases: champion \(version 1\)$"):
        comp.rollback("next", "rollback")
    with pytest.raises(StoreError, match="no model of version 9 in /store; published versions: 1"):
        comp.promote(9, "champion", "promote")


def test_of_two_at_once_one_looks_again(monkeypatch):
    comp = Remembered(monkeypatch)
    comp.promote(1, "champion", "promote")
    comp.meanwhile = [lambda: comp.promote(2, "champion", "promote")]
    assert comp.promote(3, "champion", "promote").trail == (1, 2, 3)
    comp.meanwhile = [lambda: comp.promote(4, "champion", "promote")]
    assert comp.rollback("champion", "rollback").trail == (1, 2, 3)
    comp.meanwhile = [lambda: setattr(comp, "at", comp.at + 1)] * 20
    with pytest.raises(StoreError, match="other writers kept coming first; try again"):
        comp.promote(1, "champion", "promote")


def test_what_was_forgotten_and_what_was_not(monkeypatch):
    comp = Remembered(monkeypatch)
    for turn in range(1_010):
        last = comp.promote(1 + turn % 2, "champion", "promote")
    assert (len(last.history), len(last.trail)) == (1_000, 100)


def retired(monkeypatch, comp, keep):
    """The versions of a retirement whose deletions are only remembered."""
    deleted = []
    monkeypatch.setattr(retention, "Aliases", lambda *_: comp)
    monkeypatch.setattr(retention, "_delete", lambda *given: deleted.extend(given[-1]))
    return retention.retire(None, Location("/store"), keep, False, None, False).retired, [mark[0] for mark in deleted]


def test_a_promotion_and_a_retirement_at_once_do_not_miss_each_other(monkeypatch):
    comp = Remembered(monkeypatch)
    comp.promote(2, "champion", "promote")
    comp.meanwhile = [lambda: comp.promote(1, "saved", "promote")]
    assert retired(monkeypatch, comp, 2) == ((3,), [3])
    with pytest.raises(StoreError, match=r"^version 3 \(run run-3\) in /store was retired at 20"):
        comp.promote(3, "champion", "promote")
    comp.meanwhile = [lambda: retired(monkeypatch, comp, 1)]
    with pytest.raises(StoreError, match=r"^version 4 \(run run-4\) in /store was retired at 20"):
        comp.promote(4, "champion", "promote")
    assert comp.read().aliases["champion"].version == 2 and all(mark.done for mark in comp.read().marks)


@pytest.fixture(scope="module")
def registry(spark, tmp_path_factory):
    """A store with three versions; the tests that follow tell of its life in order."""
    registry = Registry(spark, str(tmp_path_factory.mktemp("store")))
    for value in (1, 2, 3):
        registry.publish_tables(f"run-{value}", model_tables(spark, value), {"rank": 2, "seed": value}, {"loss": value})
    return registry


def test_two_promotions_at_once_are_both_in_the_history(registry):
    assert registry.aliases() == {}
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(registry.promote, (1, 3)))
    found = registry.alias("champion")
    assert sorted(found.trail) == sorted(change.version for change in found.history) == [1, 3]
    assert registry.promote(found.version) == found
    assert values_of(registry, registry.get("champion")) == {float(found.version)}
    assert (registry.get("latest").version, registry.get("2").version) == (3, 2)
    assert registry.rollback().trail == found.trail[:1]


def test_two_versions_side_by_side(registry):
    comp = registry.compare(1, 2)
    assert comp.metrics == {"loss": (1, 2)} and comp.parameters == {"seed": (1, 2)}
    assert comp.users == comp.items
    assert comp.users[:4] == (2, 0, 0, 2)
    np.testing.assert_allclose(comp.users[4:], (0.5, 1.0), atol=1e-6)  # factors of 1 where there are now 2


def test_a_retirement_goes_on_after_a_kill(registry, monkeypatch, spark):
    registry.promote(1)
    told = registry.retire(1, dry_run=True)
    assert told.lines() == ["to retire    2", "kept         1, 3"]
    old, delete = registry.get(2), tables.delete

    def one_then_die(spark, address, condition):
        if not address.endswith("models"):
            raise Killed
        delete(spark, address, condition)

    monkeypatch.setattr(tables, "delete", one_then_die)
    with pytest.raises(Killed):
        registry.retire(1)
    monkeypatch.undo()
    assert [one.version for one in registry.list()] == [1, 3]
    for ask in (lambda: registry.get(2), lambda: registry.get(run_id="run-2"), lambda: registry.load(old)):
        with pytest.raises(
            StoreError, match=r"^version 2 \(run run-2\) in .* was retired at 20.*; published versions: 1"
        ):
            ask()
    factors = registry.location.table("user_factors")
    assert tables.read(spark, factors).where("run_id = 'run-2'").count() == 2
    assert registry.retire(1).lines() == ["retired      2", "kept         1, 3"]
    assert tables.read(spark, factors).select("run_id").distinct().count() == 2


def test_a_run_that_was_retired_can_run_again_and_vacuum_keeps_what_is_read(spark, registry):
    again = registry.publish_tables("run-2", model_tables(spark, 7, rank=3), {"rank": 3}, {"loss": 7.0})
    assert again.version == 4
    settings = {name: spark.conf.get(name, None) for name in (retention._CHECK, retention._LISTING)}
    done = registry.retire(2, vacuum_hours=0, force=True)
    assert {name: spark.conf.get(name, None) for name in settings} == settings
    assert len(done.vacuumed) == 6 and done.kept == (1, 3, 4)
    for one, value in zip(registry.list(), (1.0, 3.0, 7.0), strict=True):
        assert values_of(registry, one) == {value}
    comp = registry.compare("latest", 1)
    assert comp.ranks == (3, 2) and comp.users.drift is None
    assert comp.lines()[-1] == "drift        not computed: the ranks 3 and 2 differ"
    assert any(line.startswith("parameter    rank: 3 -> 2") for line in comp.lines())
