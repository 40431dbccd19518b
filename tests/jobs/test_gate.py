"""The gate between champion and challenger, aliases in the jobs' configuration, and ``mfspark-models``."""

import pytest

from jobs import models
from mfspark import LocalModel
from mfspark.config import parse
from mfspark.config.sections import GateConfig
from mfspark.errors import ConfigError, DataError, StoreError
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
    """A store with a poor model, promoted as the first, a good one and a poor one again, each through the gate."""
    location = str(tmp_path_factory.mktemp("store"))
    good = {"rank": 3, "maxIter": 4, "seed": 1, "center": True, "userBias": True, "itemBias": True, "regParam": 0.05}
    poor = {"rank": 3, "maxIter": 1, "seed": 1, "regParam": 9.0}

    def config(als=poor, **sections):
        gate = {"metric": "rmse", "margin": 0.01}
        return parse({"store": {"location": location}, "source": RATINGS, "als": als, "gate": gate} | sections)

    ingest(spark, config(), "day-0")
    reports = []
    for run, als in (("day-1", poor), ("day-2", good), ("day-3", poor)):
        train(spark, config(als), run)
        reports.append(evaluate(spark, config(als, model={"run_id": run}), run))
    return config, reports


def test_the_better_model_is_promoted_and_a_repeated_run_changes_nothing(spark, store):
    config, reports = store
    assert [report.gate.promoted for report in reports] == [True, True, False]
    assert [report.gate.champion for report in reports] == [None, 1, 2]
    assert reports[1].lines()[-1].startswith("gate         version 2 promoted to champion: rmse 0.")
    assert reports[1].gate.value == pytest.approx(reports[1].ratings[""].rmse, abs=1e-3)
    registry = Registry(spark, config().store.location)
    before = registry.alias("champion")
    rows = sorted(tables.read(spark, f"{config().store.location}/gate").drop("decided_at").collect())
    assert [(row["model_version"], row["promoted"]) for row in rows] == [(1, True), (2, True), (3, False)]
    for number in (2, 3):
        again = evaluate(spark, config(model={"version": number}), f"day-{number}")
        assert again.gate.promoted is reports[number - 1].gate.promoted
    assert registry.alias("champion") == before
    assert sorted(tables.read(spark, f"{config().store.location}/gate").drop("decided_at").collect()) == rows


def test_jobs_take_an_alias(spark, store):
    config, _ = store
    assert predict(spark, config(model={"version": "champion"}, predict={"n": 2}), "asked").version == 2
    with pytest.raises(StoreError, match=r"no alias 'next' in .*; aliases: champion \(version 2\)$"):
        predict(spark, config(model={"version": "next"}), "asked")
    assert LocalModel.load(config().store.location, "champion").version == 2
    registry, asked = Registry(spark, config().store.location), config(train={"start_version": "champion"})
    assert [start_of(registry, asked, run).version for run in ("day-9", "day-2")] == [2, 1]


def test_a_ranking_decides_where_one_is_asked_for(spark, store):
    config, _ = store
    gate = {"metric": "ndcgAtK", "alias": "ranked"}
    first, second = (
        evaluate(spark, config(model={"version": number}, evaluate={"k": 5}, gate=gate), f"rank-{number}")
        for number in (1, 2)
    )
    assert first.gate.promoted and second.gate.champion == 1
    assert second.gate.value == second.rankings[""]["ndcgAtK"]
    assert second.gate.champion_value == pytest.approx(first.rankings[""]["ndcgAtK"])
    assert second.gate.promoted is (second.gate.value > second.gate.champion_value)


def test_the_models_command(store, capsys):
    config, _ = store
    where = ["--store", config().store.location]

    def told(*arguments):
        assert models.main([*arguments, *where]) == 0
        return capsys.readouterr().out.splitlines()

    head, *rows = told("list")
    assert head.split() == "version alias published run class rank users items loss validation RMSE".split()
    assert [row.split()[:2] for row in rows][:2] == [["1", "ranked"], ["2", "champion"]] or "ranked" in rows[1]
    assert any(line.startswith("alias        champion, since 20") for line in told("show", "champion"))
    assert any(line.startswith("parameter    model.params.maxIter: 1 -> 4") for line in told("diff", "1", "champion"))
    assert told("promote", "3", "--alias", "next") == ["alias        next is at version 3; before: none"]
    assert told("retire", "--keep", "3", "--dry-run") == ["to retire    none", "kept         1, 2, 3"]
    for wrong, message in (
        (["rollback", "--alias", "next"], "alias 'next' has no version before 3"),
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


def test_errors_of_ratings_are_no_gate_of_a_ranking(spark, store):
    config, _ = store
    implicit = {"rank": 2, "maxIter": 1, "implicitPrefs": True}
    train(spark, config(implicit), "implicit")
    with pytest.raises(DataError, match="gate.metric: rmse cannot be measured here; take one of a ranking"):
        evaluate(spark, config(implicit, evaluate={"k": 5}), "implicit")
