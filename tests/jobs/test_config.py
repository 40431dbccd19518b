"""The configuration: what is read, and one line for each thing that is wrong."""

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from jobs import train
from mfspark.config import ESTIMATORS, SECTIONS, Config, load, parse
from mfspark.config.listing import listed_keys
from mfspark.config.parameters import NO_KEYS
from mfspark.errors import ConfigError
from mfspark.estimators.options import supports
from mfspark.pipeline.ratings import source_at

ROOT = Path(__file__).resolve().parents[2]

MINIMAL = {"store": {"location": "out/x"}}


def merged(change):
    return MINIMAL | change


def test_defaults_are_filled_in():
    comp = parse(MINIMAL)
    assert (comp.split.method, comp.split.fraction, comp.predict.n, comp.run_id) == ("random", 0.1, 10, None)
    assert comp.als == {}
    with pytest.raises(ValidationError, match="frozen"):
        comp.split.fraction = 0.5


def test_overrides_win_over_the_file_and_keep_their_type(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(merged({"als": {"rank": 8}, "source": {"user": "u"}})))
    overrides = [
        "als.rank=16",
        "als.regParam=1e-3",
        "als.implicitPrefs=true",
        "source.user=123",
        "source.path=a=b.csv",
        "source.timestamp=null",
        "spark.conf.spark.sql.shuffle.partitions=8",
        "source.options.multiLine=true",
        "als.rank=32",
    ]
    comp = load(path, overrides, run_id="run-1")
    assert comp.als == {"rank": 32, "regParam": 0.001, "implicitPrefs": True}
    assert (comp.source.user, comp.source.path, comp.source.timestamp) == ("123", "a=b.csv", None)
    assert comp.spark.conf == {"spark.sql.shuffle.partitions": 8}
    assert comp.source.options == {"multiLine": True}
    assert comp.run_id == "run-1"


@pytest.mark.parametrize(("text", "value"), [("1e-3", 0.001), ("5", 5.0), ("0.5", 0.5)])
def test_yaml_texts_that_look_like_numbers_are_numbers(text, value):
    comp = parse(yaml.safe_load(f"{{store: {{location: x}}, als: {{regParam: {text}}}}}"))
    assert comp.als["regParam"] == value


BAD = {
    "unknown section": ({"storee": {}}, r"^storee: unknown key; did you mean store\? allowed: run_id, als, sgd, "),
    "unknown key": ({"als": {"rnk": 8}}, r"^als.rnk: unknown key; did you mean als.rank\? allowed: rank, maxIter"),
    "unknown key, nothing close": (
        {"split": {"zzz": 1}},
        r"^split.zzz: unknown key; allowed: method, fraction, k, seed",
    ),
    "section is no mapping": ({"als": 5}, r"^als: 5 is not allowed; give a mapping with the keys rank"),
    "text for a number": (
        {"als": {"rank": "many"}},
        r"^als.rank: 'many' is not allowed; give a whole number \(number of factors, > 0",
    ),
    "fraction for a whole number": ({"als": {"rank": 8.5}}, r"^als.rank: 8.5 is not allowed; give a whole number"),
    "bool for a number": ({"als": {"rank": True}}, r"^als.rank: True is not allowed"),
    "number for a text": ({"source": {"user": 7}}, r"^source.user: 7 is not allowed; give a text"),
    "number for a bool": ({"als": {"nonnegative": 1}}, r"^als.nonnegative: 1 is not allowed; give true or false"),
    "list for a mapping": ({"spark": {"conf": [1]}}, r"^spark.conf: \[1\] is not allowed; give a mapping"),
    "null where there is no null": ({"als": {"rank": None}}, r"^als.rank: None is not allowed; give a whole number"),
    "rank 0": ({"als": {"rank": 0}}, r"^als.rank: 0 is not allowed; give a whole number >= 1"),
    "negative regParam": ({"als": {"regParam": -1}}, r"^als.regParam: -1 is not allowed; give a number >= 0"),
    "infinite regParam": ({"als": {"regParam": float("inf")}}, r"^als.regParam: inf is not allowed"),
    "fraction 1": ({"split": {"fraction": 1}}, r"^split.fraction: 1 is not allowed; give a number > 0 and < 1"),
    "scale 0": ({"source": {"format": "synthetic", "scale": 0}}, r"^source.scale: 0 .* > 0 \(or null\)"),
    "unknown choice": ({"quality": {"duplicates": "first"}}, r"'first' .* give one of last, mean, sum, error"),
    "unknown confidence": ({"als": {"confidence": "x"}}, r"^als.confidence: 'x' .* one of mllib, linear, log, ials"),
    "no store": ({"store": {}}, r"^store.location: missing; give a directory or catalog.schema"),
    "a column of the jobs": ({"als": {"userCol": "u"}}, r"^als.userCol: set by the jobs; name the columns .* source"),
    "run id": ({"run_id": "a/b"}, r"^run_id: 'a/b' is not allowed; give 1 to 200 letters"),
    "synthetic with a path": ({"source": {"format": "synthetic", "path": "x"}}, r"^source.path: contradicts"),
    "scale without synthetic": ({"source": {"path": "x", "scale": 1}}, r"^source.scale, source.seed: only allowed"),
    "empty range": ({"quality": {"min_rating": 5, "max_rating": 1}}, r"^quality.min_rating: must be below"),
    "fraction of no split": ({"split": {"method": "none", "fraction": 0.2}}, r"^split.fraction: only allowed with"),
    "seed of a time split": ({"split": {"method": "time", "seed": 2}}, r"^split.seed: only allowed with"),
    "probe without a file": ({"split": {"method": "probe"}}, r"^split.probe: give the path"),
    "alpha without implicit": ({"als": {"alpha": 2}}, r"^als.alpha: takes effect only with implicitPrefs=True"),
    "two models": ({"model": {"version": 1, "run_id": "a"}}, r"^model.version: contradicts model.run_id"),
    "two inputs": ({"train": {"path": "x", "ratings_version": 1}}, r"^train.ratings_version: contradicts train.path"),
    "pairs without a path": ({"predict": {"mode": "pairs"}}, r"^predict.pairs: give the path"),
    "a path without pairs": ({"predict": {"pairs": "x"}}, r"^predict.pairs: give the path"),
    "n with pairs": (
        {"predict": {"mode": "pairs", "pairs": "x", "n": 3}},
        r"^predict.n.*contradict predict.mode pairs",
    ),
    "rules for pairs": (
        {"predict": {"mode": "pairs", "pairs": "x", "deny": "y"}},
        r"^predict.n, users, filter_seen, seen, allow, deny, min_score: contradict predict.mode pairs",
    ),
    "nobody is unknown": ({"predict": {"unknown_users": "popular"}}, r"^predict.unknown_users: needs predict.users"),
    "scores of counts": (
        {"predict": {"users": "x", "unknown_users": "popular", "min_score": 3}},
        r"^predict.min_score: contradicts predict.unknown_users",
    ),
    "k of one": ({"split": {"method": "leave_one_out", "k": 2}}, r"^split.k: only allowed with split.method leave_k"),
    "no file": ({"split": {"method": "file"}}, r"^split.held_out: give the path of the ratings to hold out"),
    "clip of a ranking": ({"predict": {"clip": True}}, r"^predict.clip: contradicts predict.mode top_n"),
    "no time": ({"source": {"since": "May"}}, r"^source.since: 'May' is not allowed; give an ISO time, as 2026-01-31"),
    "times turned round": (
        {"source": {"since": "2026-01-02", "until": "2026-01-01T23:00:00-01:00"}},
        r"^source.since: must be before source.until",
    ),
    "times of no column": (
        {"source": {"timestamp": None, "until": "2026-01-01"}},
        r"^source.since, source.until: need source.timestamp",
    ),
    "until of a path": ({"train": {"path": "x", "until": "2026-01-01"}}, r"^train.until: contradicts train.path"),
    "more than all": ({"quality": {"max_rejected": 1.5}}, r"^quality.max_rejected: 1.5 .* number >= 0 and <= 1"),
    "relevant without k": ({"evaluate": {"relevant": 3}}, r"^evaluate.relevant: only allowed with evaluate.k"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_one_line_with_the_key_and_the_allowed_values(name):
    change, message = BAD[name]
    with pytest.raises(ConfigError, match=message) as caught:
        parse(merged(change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        (None, [], r"--config .*job.yaml: cannot be read \(No such file"),
        ("a: [1", [], r"--config .*job.yaml: not valid YAML: "),
        ("- a", [], "the configuration must be a mapping of sections, not list"),
        ("store: {location: x}", ["als.rank"], "--set als.rank: give section.key=value, for example als.rank=64"),
        ("store: {location: x}", ["als.rank=[1"], r"als.rank: '\[1' is not allowed; give a whole number"),
        ("store: {location: x}", ["als=5"], "als: '5' is not allowed; give a mapping"),
        ("store: {location: x}", ["als.a.b=5"], "als.a.b: unknown key"),
        ("als: {rank: 3}", ["sgd.rank=4"], "als, sgd: a model has one estimator; leave one of these sections"),
        ("store: {location: x}", ["bpmf=4"], "bpmf: '4' is not allowed; give a mapping with the keys rank"),
        ("store: {location: x}", ["sgd.userCol=u"], "sgd.userCol: set by the jobs; name the columns"),
    ],
)
def test_a_file_or_override_that_cannot_be_used(tmp_path, text, overrides, message):
    path = tmp_path / "job.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load(path, overrides)
    assert "\n" not in str(caught.value)


def test_the_section_that_is_given_chooses_the_estimator(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text("store: {location: x}\n")
    assert load(path).estimator == ("als", {})
    comp = load(path, ["sgd.loss=logistic", "sgd.stepSize=1e-3", "sgd.rank=4"])
    assert comp.estimator == ("sgd", {"loss": "logistic", "stepSize": 0.001, "rank": 4})
    path.write_text("store: {location: x}\nsgd: {loss: logistic, stepSize: 1e-3, rank: 4}\n")
    assert load(path).estimator == comp.estimator


def test_several_mistakes_are_one_line_of_the_first_three():
    raw = {"als": {"rnk": 1, "seed": "x"}, "split": {"fraction": 2}, "stor": {}}
    with pytest.raises(ConfigError) as caught:
        parse(raw)
    lines = str(caught.value).split(" | ")
    assert len(lines) == 3 and "\n" not in str(caught.value)
    assert lines[-1].endswith("(and 1 more)")
    keys = {"als.rnk", "als.seed", "split.fraction", "stor"}
    assert {line.split(":")[0] for line in lines} < keys


def test_a_key_of_another_estimator_names_those_that_have_it():
    with pytest.raises(ConfigError, match=r"^svdplusplus.alpha: unknown key; ALS has it; allowed: rank"):
        parse(merged({"svdplusplus": {"alpha": 2.0}}))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_estimators_section_is_its_signature(name):
    kind = ESTIMATORS[name]
    wanted = {param.name for param in kind().params if supports(kind, param.name)} - set(NO_KEYS)
    assert set(SECTIONS[name].model_fields) == wanted
    for key, info in SECTIONS[name].model_fields.items():
        assert info.default == (kind().getOrDefault(key) if kind().isDefined(key) else None)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_an_estimator_refuses_is_refused_before_spark_starts(name):
    with pytest.raises(ConfigError, match=rf"^{name}.rank: 0 is not allowed; give a whole number >= 1"):
        parse(merged({name: {"rank": 0}}))


def test_help_lists_every_key_with_its_meaning_and_starts_no_spark(capsys, monkeypatch):
    monkeypatch.setattr("mfspark.pipeline.command.spark_session", None)  # calling it would fail
    with pytest.raises(SystemExit) as caught:
        train.main(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert "\n".join(listed_keys()) in shown
    for name, section in SECTIONS.items():
        for key, info in section.model_fields.items():
            assert f"  {name}.{key}: " in shown
            assert info.description and info.description in shown
    assert "  split.fraction: a number > 0 and < 1; default 0.1. " in shown
    assert "  als.rank: a whole number; default 10. number of factors" in shown
    assert '  als.coldStartStrategy: a text; default "nan". ' in shown
    assert {*SECTIONS, "run_id"} == set(Config.model_fields)


PATH_OVERRIDES = {
    "a path": (["source.path=r.parquet"], ("auto", "r.parquet", None)),
    "a path and a format": (["source.path=r.txt", "source.format=csv"], ("csv", "r.txt", None)),
    "no path": (["source.scale=0.5"], ("synthetic", "", 0.5)),
}


@pytest.mark.parametrize("case", PATH_OVERRIDES)
def test_a_path_on_the_command_line_takes_the_place_of_a_synthetic_source(case):
    overrides, ref = PATH_OVERRIDES[case]
    source = load(ROOT / "conf" / "local.yaml", overrides).source
    assert (source.format, source.path, source.scale) == ref


def test_a_path_to_train_on_takes_its_place_too():
    source = source_at(load(ROOT / "conf" / "local.yaml").source, "r.parquet")
    assert (source.format, source.path, source.scale, source.seed) == ("auto", "r.parquet", None, None)
    assert source_at(load(ROOT / "conf" / "netflix.yaml").source, "r").format == "parquet"


def test_a_path_and_synthetic_both_on_the_command_line_contradict():
    with pytest.raises(ConfigError, match=r"^source.path: contradicts source.format synthetic"):
        load(ROOT / "conf" / "local.yaml", ["source.path=r.parquet", "source.format=synthetic"])
