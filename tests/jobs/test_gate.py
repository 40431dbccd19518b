"""The gate between champion and challenger, aliases in the jobs' configuration, and ``mfspark-models``."""

import re

import pytest

from jobs import models
from mfspark import LocalModel
from mfspark.config import parse
from mfspark.config.sections import GateConfig
from mfspark.errors import ConfigError, StoreError
from mfspark.pipeline import evaluate, ingest, predict, train
from mfspark.pipeline.command import _parser, _start
from mfspark.pipeline.gating import better, decide
from mfspark.pipeline.managing import table
from mfspark.pipeline.training import start_of
from mfspark.store import Registry, tables
from mfspark.store.schemas import ModelVersion
from mfspark.store.standing import Alias, Change


@pytest.mark.parametrize(
    ("metric", "new", "old", "margin", "ref"),
    [
        ("rmse", 0.89, 0.90, 0.0, True),
        ("rmse", 0.90, 0.90, 0.0, False),
        ("rmse", 0.89, 0.90, 0.02, False),
        ("mae", 0.91, 0.90, 0.0, False),
        ("ndcgAtK", 0.5, 0.4, 0.05, True),
        ("ndcgAtK", 0.4, 0.5, 0.0, False),
        ("areaUnderROC", 0.75, 0.5, 0.25, True),
        ("rmse", float("nan"), 0.9, 0.0, False),
        ("rmse", 0.9, float("nan"), 0.5, True),
        ("rmse", float("inf"), float("nan"), 0.0, False),
    ],
)
def test_what_beats_what(metric, new, old, margin, ref):
    assert better(metric, new, old, margin) is ref


class Known:
    """A registry of versions 1 to 4 with a champion that was at some of them."""

    def __init__(self, *trail, attempt="a"):
        changes = tuple(Change(version, attempt, "2026", "promote") for version in trail)
        self.found = {"champion": Alias("champion", trail[-1], trail, changes)} if trail else {}

    def aliases(self):
        return self.found

    def list(self):
        return [ModelVersion(number, f"run-{number}", "a", None) for number in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("trail", "version", "values", "ref"),
    [
        ((), 2, None, (True, None, "there is no version to beat")),
        ((1,), 2, (0.8, 0.9), (True, 1, "rmse 0.8000, version 1 has 0.9000")),
        ((1,), 2, (0.9, 0.8), (False, 1, "rmse 0.9000, version 1 has 0.8000")),
        ((1, 3), 2, None, (False, 3, "version 3 is newer")),
        ((1, 2), 2, None, (True, None, "decided before, the alias is at version 2")),
        ((1, 2, 3), 2, None, (False, None, "decided before, the alias is at version 3")),
        ((9,), 2, None, (True, None, "there is no version to beat")),  # 9 is no more
    ],
)
def test_who_is_compared_with_whom(trail, version, values, ref):
    def measure(champion):
        assert values is not None and champion.version == ref[1]
        return values

    gate = GateConfig(metric="rmse")
    comp = decide(Known(*trail), gate, ModelVersion(version, "run", "a", None), measure)
    assert (comp.promoted, comp.champion, comp.reason) == ref
    word = "promoted to" if ref[0] else "not promoted to"
    assert comp.line() == f"gate         version {version} {word} champion: {ref[2]}"


def test_a_model_published_anew_is_compared_anew_and_not_with_itself():
    known = Known(1, 2, attempt="before")
    comp = decide(
        known, GateConfig(metric="rmse", margin=0.1), ModelVersion(2, "run", "a", None), lambda _: (0.8, 0.85)
    )
    assert (comp.promoted, comp.champion) == (False, 1)
    assert comp.reason == "rmse 0.8000, version 1 has 0.8500, margin 0.1"


BAD = {
    "unknown": ({"gate": {"metric": "loss"}}, "gate.metric: 'loss' is not allowed; give one of rmse, mae"),
    "alone": ({"gate": {"margin": 0.1}}, "gate.margin, gate.alias: only allowed with gate.metric"),
    "below 0": ({"gate": {"metric": "rmse", "margin": -1}}, "gate.margin: -1 is not allowed; give a number >= 0"),
    "no lists": ({"gate": {"metric": "ndcgAtK"}}, "gate.metric: ranking metrics need evaluate.k"),
    "no version": (
        {"model": {"version": 0}},
        "model.version: 0 is not allowed; give a model version >= 1, or an alias",
    ),
    "no name": ({"train": {"start_version": "a b"}}, "train.start_version: 'a b' is not allowed; give a model version"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_key_is_one_line(case):
    change, message = BAD[case]
    with pytest.raises(ConfigError, match=message):
        parse({"store": {"location": "x"}} | change)


def test_versions_are_numbers_or_names():
    config = parse({"store": {"location": "x"}, "model": {"version": "champion"}, "train": {"start_version": "7"}})
    assert (config.model.version, config.train.start_version) == ("champion", 7)
    assert _start(_parser("train").parse_args(["--config", "c", "--from", "champion"])) == [
        "train.start_version=champion"
    ]


RATINGS = {"format": "synthetic", "seed": 5, "options": {"n_users": 60, "n_items": 40, "n_ratings": 1500, "noise": 0.3}}


@pytest.fixture(scope="module")
def store(spark, tmp_path_factory):
    """A store with a good model, which is promoted as the first, and a poor one, both sent through the gate."""
    location = str(tmp_path_factory.mktemp("store"))
    good = {"rank": 2, "maxIter": 2, "seed": 1, "center": True, "userBias": True, "itemBias": True}
    poor = {"rank": 2, "maxIter": 1, "seed": 1, "regParam": 9.0}

    def config(als=poor, **sections):
        gate = {"metric": "rmse", "margin": 0.01}
        return parse({"store": {"location": location}, "source": RATINGS, "als": als, "gate": gate} | sections)

    ingest(spark, config(), "day-0")
    reports = []
    for run, als in (("day-1", good), ("day-2", poor)):
        train(spark, config(als), run)
        reports.append(evaluate(spark, config(als), run))
    return config, reports


def test_the_better_model_stays_and_a_repeated_run_changes_nothing(spark, store):
    config, reports = store
    assert [(report.gate.promoted, report.gate.champion) for report in reports] == [(True, None), (False, 1)]
    assert reports[1].lines()[-1].startswith("gate         version 2 not promoted to champion: rmse ")
    first, second = (report.ratings[""].rmse for report in reports)
    assert (reports[1].gate.champion_value, reports[1].gate.value) == pytest.approx((first, second), abs=1e-3)
    registry, address = Registry(spark, config().store.location), f"{config().store.location}/gate"
    before, rows = registry.alias("champion"), tables.read(spark, address).orderBy("model_version").collect()
    assert [(row["model_version"], row["promoted"], row["alias"]) for row in rows] == [
        (1, True, "champion"),
        (2, False, "champion"),
    ]
    again = evaluate(spark, config(model={"version": "champion"}), "day-1")
    assert again.gate.promoted and again.gate.reason == "decided before, the alias is at version 1"
    assert registry.alias("champion") == before
    assert tables.read(spark, address).orderBy("model_version").collect() == rows


def test_a_ranking_decides_where_one_is_asked_for(spark, store):
    config, _ = store
    Registry(spark, config().store.location).promote(1, "other")
    gate = {"metric": "ndcgAtK", "alias": "other"}
    found = evaluate(spark, config(model={"run_id": "day-2"}, evaluate={"k": 5}, gate=gate), "ranked").gate
    assert (found.champion, found.promoted) == (1, found.value > found.champion_value)
    assert 0 < found.champion_value < 1


def test_jobs_take_an_alias(spark, store):
    config, _ = store
    assert predict(spark, config(model={"version": "champion"}, predict={"n": 2}), "asked").version == 1
    with pytest.raises(StoreError, match=r"no alias 'next' in .*; aliases: champion \(version 1\)"):
        predict(spark, config(model={"version": "next"}), "asked")
    assert LocalModel.load(config().store.location, "champion").version == 1
    registry = Registry(spark, config().store.location)
    registry.promote(2)
    asked = config(train={"start_version": "champion"})
    assert [start_of(registry, asked, run).version for run in ("day-9", "day-2")] == [2, 1]


def test_the_models_command(store, capsys):
    config, _ = store
    where = ["--store", config().store.location]

    def told(*arguments):
        assert models.main([*arguments, *where]) == 0
        return capsys.readouterr().out.splitlines()

    head, *rows = told("list")
    assert head.split() == "version alias published run class rank users items loss validation RMSE".split()
    assert [row.split()[:2] for row in rows] == [["1", "other"], ["2", "champion"]]
    assert any(line.startswith("alias        champion, since 20") for line in told("show", "champion"))
    differing = told("diff", "1", "champion")
    assert any(re.match(r"users +\d+ in both, 0 gained, 0 lost; drift \d", line) for line in differing)
    assert any(line.startswith("parameter    model.objective.reg_param: [0.1, 0.1] -> [9.0, ") for line in differing)
    assert told("promote", "2", "--alias", "next") == ["alias        next is at version 2; before: none"]
    assert told("retire", "--keep", "3", "--dry-run") == ["to retire    none", "kept         1, 2"]
    for wrong, message in (
        (["rollback", "--alias", "next"], "alias 'next' has no version before 2"),
        (["show", "9"], "no model of version 9"),
        (["retire", "--keep", "0"], "keep=0: the newest version is always kept"),
    ):
        assert models.main([*wrong, *where]) == 2
        shown = capsys.readouterr().err
        assert shown.startswith(f"mfspark-models: {message}") and shown.count("\n") == 1


def test_columns_and_wrong_arguments(capsys, tmp_path):
    rows = table([("version", "run"), ("1", "day-1"), ("12", "day-12")])
    assert rows == ["version  run", "      1  day-1", "     12  day-12"]
    for wrong in (
        [],
        ["list"],
        ["show", "--store", "x"],
        ["retire", "--store", "x"],
        ["list", "--store", "x", "--bogus"],
    ):
        with pytest.raises(SystemExit) as caught:
            models.main(wrong)
        assert caught.value.code == 2 and "usage: mfspark-models" in capsys.readouterr().err
    assert models.main(["list", "--config", str(tmp_path / "none.yaml")]) == 2
    assert capsys.readouterr().err.startswith("mfspark-models: --config")
