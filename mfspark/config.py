"""The jobs' configuration: YAML and ``--set`` overrides, checked before Spark starts.

Every section is a frozen dataclass, every key has one `Rule`, and every mistake is one line that names the key and
what is allowed there.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from mfspark.config_rules import ALS_RULES, ESTIMATORS, FIXED_COLUMNS, Rule
from mfspark.errors import ConfigError

RUN_ID = r"[\w.:+@=-]{1,200}"


def _key(default: Any, kind: str, **limits: Any) -> Any:
    limits.setdefault("optional", default is None)
    rule = Rule(kind, **limits)
    if kind == "map":
        return field(default_factory=dict, metadata={"rule": rule})
    return field(default=default, metadata={"rule": rule})


@dataclass(frozen=True)
class SparkConfig:
    """The session: its name, its master (default: spark-submit's, else ``local[*]``) and Spark settings."""

    app_name: str = _key("mfspark", "str")
    master: str | None = _key(None, "str")
    conf: dict[str, Any] = _key({}, "map")


@dataclass(frozen=True)
class SourceConfig:
    """Where the ratings come from (see `mfspark.data.Source`); ``scale`` and ``seed`` belong to format synthetic.

    ``mode``: ``overwrite`` makes the ratings table this input; ``append`` replaces only the rows of the same run id, so
    that every run id adds its input once.
    """

    path: str = _key("", "str")
    format: str = _key("auto", "str")
    user: str = _key("user", "str")
    item: str = _key("item", "str")
    rating: str = _key("rating", "str")
    timestamp: str | None = _key("timestamp", "str", optional=True)
    weight: str | None = _key(None, "str")
    delimiter: str | None = _key(None, "str")
    header: bool | None = _key(None, "bool")
    version_as_of: int | None = _key(None, "int", low=0)
    id_type: str | None = _key(None, "str", choices=("long", "string"))
    scale: float | None = _key(None, "float", low=0, above=True)
    seed: int | None = _key(None, "int")
    mode: str = _key("overwrite", "str", choices=("overwrite", "append"))
    options: dict[str, Any] = _key({}, "map")


@dataclass(frozen=True)
class QualityConfig:
    """Which rows are accepted; the rest go to the table ``quarantine``."""

    min_rating: float | None = _key(None, "float")
    max_rating: float | None = _key(None, "float")
    duplicates: str = _key("last", "str", choices=("last", "mean", "sum", "error", "keep"))


@dataclass(frozen=True)
class StoreConfig:
    """Where every table is kept: a directory, or ``catalog.schema``."""

    location: str = _key("", "str")


@dataclass(frozen=True)
class SplitConfig:
    """The hold-out, the same for the same seed.

    ``random``: a ``fraction`` of the ratings; ``leave_one_out``: one rating of each user, the latest where there are
    timestamps; ``time``: the latest ``fraction``; ``probe``: the pairs of a Netflix probe file; ``none``.
    """

    method: str = _key("random", "str", choices=("random", "leave_one_out", "time", "probe", "none"))
    fraction: float = _key(0.1, "float", low=0, high=1, above=True, below=True)
    seed: int = _key(1, "int")
    probe: str | None = _key(None, "str")


@dataclass(frozen=True)
class ModelConfig:
    """Which published model predict and evaluate take: a version or a run id; neither: the latest."""

    version: int | None = _key(None, "int", low=1)
    run_id: str | None = _key(None, "str")


@dataclass(frozen=True)
class TrainConfig:
    """What is trained on: the ratings table that ingest wrote (its newest or one version), or a ``path`` directly.

    A ``path`` is read as the section ``source`` says, its rows are checked, and rejected ones go to ``quarantine``.
    """

    path: str | None = _key(None, "str")
    ratings_version: int | None = _key(None, "int", low=0)


@dataclass(frozen=True)
class PredictConfig:
    """What predict writes: the best ``n`` items of every user (``top_n``), or predictions for given ``pairs``.

    ``filter_seen`` leaves out the items a user has rated in the training data.
    ``pairs``: a table, a Parquet folder or a csv file with the columns user and item. ``clip`` limits their
    predictions to quality.min_rating and max_rating, where those are set.
    """

    mode: str = _key("top_n", "str", choices=("top_n", "pairs"))
    n: int = _key(10, "int", low=1)
    filter_seen: bool = _key(True, "bool")
    pairs: str | None = _key(None, "str")
    clip: bool = _key(True, "bool")


@dataclass(frozen=True)
class EvaluateConfig:
    """What evaluate measures on the hold-out.

    ``clip`` limits predictions to quality.min_rating and max_rating, where those are set. ``damping_user`` and
    ``damping_item`` are the regularisation of the bias-only baseline. ``k`` adds ranking metrics of the best k items a
    user has not rated in training; held-out items rated ``relevant`` or better are the ones to find.
    """

    clip: bool = _key(True, "bool")
    damping_user: float = _key(10.0, "float", low=0)
    damping_item: float = _key(25.0, "float", low=0)
    k: int | None = _key(None, "int", low=1)
    relevant: float = _key(4.0, "float")


@dataclass(frozen=True)
class Config:
    """A job's whole configuration.

    The estimator is the one whose section is given (ALS where there is none). The keys of ``als`` are checked here,
    those of the others by the estimator itself.
    """

    run_id: str | None = None
    spark: SparkConfig = field(default_factory=SparkConfig)
    source: SourceConfig = field(default_factory=SourceConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    als: Mapping[str, Any] = field(default_factory=dict)
    sgd: Mapping[str, Any] | None = None
    gradient_descent: Mapping[str, Any] | None = None
    truncated_svd: Mapping[str, Any] | None = None
    svdplusplus: Mapping[str, Any] | None = None
    bpmf: Mapping[str, Any] | None = None
    model: ModelConfig = field(default_factory=ModelConfig)
    predict: PredictConfig = field(default_factory=PredictConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    @property
    def estimator(self) -> tuple[str, Mapping[str, Any]]:
        """The section of the estimator, and its parameters."""
        given = [(name, getattr(self, name)) for name in ESTIMATORS if getattr(self, name) is not None]
        return given[-1]


SECTIONS: Mapping[str, type] = {
    "spark": SparkConfig,
    "source": SourceConfig,
    "quality": QualityConfig,
    "store": StoreConfig,
    "split": SplitConfig,
    "train": TrainConfig,
    "model": ModelConfig,
    "predict": PredictConfig,
    "evaluate": EvaluateConfig,
}


def load(path: str | Path, overrides: Sequence[str] = (), run_id: str | None = None) -> Config:
    """Read a YAML file, apply ``key=value`` overrides and check everything.

    Parameters
    ----------
    path : str or Path
        The YAML file.
    overrides : sequence of str
        ``section.key=value``; they win over the file, the last one first.
    run_id : str, optional
        The run id; wins over both.

    Raises
    ------
    ConfigError
        In one line: no such file, no YAML, an unknown key, a value that is not allowed, values that contradict.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        raw = yaml.safe_load(text) or {}
    except OSError as error:
        raise ConfigError(f"--config {path}: cannot be read ({error.strerror})") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"--config {path}: not valid YAML: {' '.join(str(error).split())}") from error
    for override in overrides:
        _apply(raw, override)
    if run_id is not None and isinstance(raw, dict):
        raw["run_id"] = run_id
    return parse(raw)


def parse(raw: Any) -> Config:
    """Turn a nested mapping into a checked `Config` (see `load`)."""
    if not isinstance(raw, Mapping):
        raise ConfigError(f"the configuration must be a mapping of sections, not {type(raw).__name__}")
    _known("", raw, ["run_id", *ESTIMATORS, *SECTIONS])
    sections: dict[str, Any] = {}
    for name, section in SECTIONS.items():
        rules = {item.name: item.metadata["rule"] for item in fields(section)}
        sections[name] = section(**_section(name, raw.get(name), rules))
    chosen = [name for name in ESTIMATORS if raw.get(name) is not None]
    if len(chosen) > 1:
        raise ConfigError(f"{', '.join(chosen)}: a model has one estimator; leave one of these sections")
    sections["als"] = _section("als", raw.get("als"), ALS_RULES)
    sections |= {name: _section(name, raw[name], None) for name in chosen if name != "als"}
    run_id = Rule("str", optional=True).check("run_id", raw.get("run_id"))
    if run_id is not None and not re.fullmatch(RUN_ID, run_id):
        raise ConfigError(f"run_id: {run_id!r} is not allowed; give 1 to 200 letters, digits or any of _ . : + @ = -")
    config = Config(run_id=run_id, **sections)
    given = {f"{name}.{key}" for name in raw for key in (raw[name] if isinstance(raw[name], Mapping) else ())}
    for wrong, message in CONTRADICTIONS:
        if wrong(config, given):
            raise ConfigError(message)
    return config


def _section(name: str, raw: Any, rules: Mapping[str, Rule] | None) -> dict[str, Any]:
    """Return a checked section; without rules its keys are left to the estimator."""
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        keys = f"the keys {', '.join(rules)}" if rules else f"parameters of {ESTIMATORS[name]}"
        raise ConfigError(f"{name}: {raw!r} is not allowed; give a mapping with {keys}")
    if name in ESTIMATORS:
        for column in FIXED_COLUMNS:
            if column in raw:
                raise ConfigError(
                    f"{name}.{column}: set by the jobs; name the columns of the input in source.user, source.item, "
                    "source.rating and source.weight"
                )
    if rules is None:
        return {key: _number_or_same(value) for key, value in raw.items()}
    _known(f"{name}.", raw, list(rules))
    return {key: rules[key].check(f"{name}.{key}", value) for key, value in raw.items()}


def _number_or_same(value: Any) -> Any:
    """Return the number that YAML 1.1 took for a text, such as 1e-3, and any other value as it is."""
    looks = isinstance(value, str) and re.fullmatch(r"-?[\d.]+[eE][+-]?\d+", value)
    return float(value) if looks else value


def _known(prefix: str, raw: Mapping[str, Any], allowed: list[str]) -> None:
    for key in raw:
        if key in allowed:
            continue
        close = difflib.get_close_matches(str(key), allowed, n=1)
        hint = f"; did you mean {prefix}{close[0]}?" if close else ";"
        raise ConfigError(f"{prefix}{key}: unknown key{hint} allowed: {', '.join(allowed)}")


def _apply(raw: Any, override: str) -> None:
    key, equals, text = override.partition("=")
    section, dot, rest = key.strip().partition(".")
    if not equals or not section:
        raise ConfigError(f"--set {override}: give section.key=value, for example als.rank=64")
    if not isinstance(raw, dict):
        return
    if not dot:
        raw[section] = text
        return
    # A dotted key within a mapping is one key: spark.conf.spark.sql.shuffle.partitions.
    path = [section, *(rest.split(".", 1) if rest.split(".", 1)[0] in ("conf", "options") else [rest])]
    target = raw
    for step in path[:-1]:
        if not isinstance(target.get(step), dict):
            target[step] = {}
        target = target[step]
    target[path[-1]] = _value(section, rest, text)


def _value(section: str, key: str, text: str) -> Any:
    """Return the value of an override: as written where the key is a text, else as YAML reads it."""
    rules = ALS_RULES if section == "als" else {}
    if section in SECTIONS:
        rules = {item.name: item.metadata["rule"] for item in fields(SECTIONS[section])}
    if key in rules and rules[key].kind == "str" and text not in ("null", "~"):
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


_Contradiction = Callable[[Config, set[str]], bool]
_IMPLICIT_ONLY = {"als.alpha", "als.unobservedWeight", "als.confidence"}
CONTRADICTIONS: Sequence[tuple[_Contradiction, str]] = (
    (lambda c, _: not c.store.location, "store.location: missing; give a directory or catalog.schema"),
    (
        lambda c, _: c.source.format == "synthetic" and bool(c.source.path),
        "source.path: contradicts source.format synthetic, which reads no file; leave one of them out",
    ),
    (
        lambda c, given: c.source.format != "synthetic" and bool({"source.scale", "source.seed"} & given),
        "source.scale, source.seed: only allowed with source.format synthetic",
    ),
    (
        lambda c, _: _not_below(c.quality.min_rating, c.quality.max_rating),
        "quality.min_rating: must be below quality.max_rating",
    ),
    (
        lambda c, given: "split.fraction" in given and c.split.method not in ("random", "time"),
        "split.fraction: only allowed with split.method random or time",
    ),
    (
        lambda c, given: "split.seed" in given and c.split.method not in ("random", "leave_one_out"),
        "split.seed: only allowed with split.method random or leave_one_out",
    ),
    (
        lambda c, _: (c.split.method == "probe") != (c.split.probe is not None),
        "split.probe: give the path of the probe file with split.method probe, and only then",
    ),
    (
        lambda c, given: not c.als.get("implicitPrefs", False) and bool(_IMPLICIT_ONLY & given),
        "als.alpha, als.unobservedWeight, als.confidence: only allowed with als.implicitPrefs true",
    ),
    (
        lambda c, _: c.train.path is not None and c.train.ratings_version is not None,
        "train.ratings_version: contradicts train.path, which is not the ratings table; give one of them",
    ),
    (
        lambda c, _: c.model.version is not None and c.model.run_id is not None,
        "model.version: contradicts model.run_id; give one of them, or neither for the latest model",
    ),
    (
        lambda c, _: (c.predict.mode == "pairs") != (c.predict.pairs is not None),
        "predict.pairs: give the path or table of the pairs with predict.mode pairs, and only then",
    ),
    (
        lambda c, given: c.predict.mode == "pairs" and bool({"predict.n", "predict.filter_seen"} & given),
        "predict.n, predict.filter_seen: contradict predict.mode pairs; allowed only with predict.mode top_n",
    ),
    (
        lambda c, given: c.evaluate.k is None and "evaluate.relevant" in given,
        "evaluate.relevant: only allowed with evaluate.k, which asks for ranking metrics",
    ),
    (
        lambda c, given: c.predict.mode == "top_n" and "predict.clip" in given,
        "predict.clip: contradicts predict.mode top_n, which keeps the scores; allowed only with predict.mode pairs",
    ),
)


def _not_below(low: float | None, high: float | None) -> bool:
    return low is not None and high is not None and low >= high
