"""From YAML and overrides to a checked `Config`; every mistake is a line that names the key and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from mfspark.config.parameters import SET_BY_THE_JOBS, refusal
from mfspark.config.sections import ESTIMATORS, SECTIONS, Config
from mfspark.config.values import allowed, is_text
from mfspark.errors import ConfigError
from mfspark.estimators.options import SUPPORT, supporters

SHOWN_ERRORS = 3
MAPPINGS = ("conf", "options", "grid", "random")  # keys that hold mappings
SYNTHETIC_KEYS = ("format", "scale", "seed", "options")


def load(path: str | Path, overrides: Sequence[str] = (), run_id: str | None = None) -> Config:
    """Read a YAML file, apply ``key=value`` overrides and check everything.

    Parameters
    ----------
    path : str or Path
        The YAML file.
    overrides : sequence of str, default ()
        ``section.key=value``; they win over the file, the last one first. A ``source.path`` also wins over a synthetic
        source in the file.
    run_id : str, optional
        The run id; wins over both.

    Raises
    ------
    ConfigError
        In one line: no such file, no YAML, unknown keys, values that are not allowed, values that contradict.
    """
    try:
        raw = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(f"--config {path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path}: not valid YAML: {' '.join(str(error).split())}") from error
    given = {_apply(raw, override) for override in overrides}
    if isinstance(raw, dict):
        _path_before_synthetic(raw.get("source"), given)
        raw |= {} if run_id is None else {"run_id": run_id}
    return parse(raw)


def parse(raw: Any) -> Config:
    """Turn a nested mapping into a checked `Config`.

    Parameters
    ----------
    raw : mapping of str to mapping
        Sections of keys; a section that is None counts as left out.

    Raises
    ------
    ConfigError
        As by `load`.
    """
    if not isinstance(raw, Mapping):
        raise ConfigError(f"the configuration must be a mapping of sections, not {type(raw).__name__}")
    given = {name: value for name, value in raw.items() if value is not None}
    try:
        return Config.model_validate(given)
    except ValidationError as errors:
        lines = list(dict.fromkeys(_line(error, given) for error in errors.errors(include_url=False)))
    more = f" (and {len(lines) - SHOWN_ERRORS} more)" if len(lines) > SHOWN_ERRORS else ""
    raise ConfigError(" | ".join(lines[:SHOWN_ERRORS]) + more)


def _line(error: Any, raw: Mapping[str, Any]) -> str:
    """Return one of pydantic's errors as a line: the key, what it was given, and what is allowed there."""
    section, *rest = (str(part) for part in error["loc"]) if error["loc"] else ("",)
    if error["type"] == "contradiction":
        return error["ctx"]["text"]
    if error["type"] == "parameters":
        return refusal(section, raw[section], error["ctx"]["text"])
    if error["type"] == "extra_forbidden":
        return _unknown(section, rest[0] if rest else None)
    if not rest and section in SECTIONS:
        keys = ", ".join(SECTIONS[section].model_fields)
        return f"{section}: {raw[section]!r} is not allowed; give a mapping with the keys {keys}"
    info = SECTIONS[section].model_fields[rest[0]] if rest else Config.model_fields[section]
    value = raw[section][rest[0]] if rest else raw[section]
    meaning = f" ({info.description})" if section in ESTIMATORS else ""
    return f"{'.'.join([section, *rest[:1]])}: {value!r} is not allowed; give {allowed(info)}{meaning}"


def _unknown(section: str, key: str | None) -> str:
    if key is None:
        name, prefix, known = section, "", list(Config.model_fields)
    else:
        name, prefix, known = key, f"{section}.", list(SECTIONS[section].model_fields)
    if section in ESTIMATORS and key in SET_BY_THE_JOBS:
        columns = "source.user, source.item, source.rating and source.weight"
        return f"{prefix}{key}: set by the jobs; name the columns of the input in {columns}"
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {prefix}{close[0]}?" if close else ";"
    if section in ESTIMATORS and name in SUPPORT:
        hint = f"; {supporters(name)} has it;"
    return f"{prefix}{name}: unknown key{hint} allowed: {', '.join(known)}"


def _apply(raw: Any, override: str) -> str:
    """Put an override into the mapping, and return its key."""
    key, equals, text = override.partition("=")
    section, dot, rest = key.strip().partition(".")
    if not equals or not section:
        raise ConfigError(f"--set {override}: give section.key=value, for example als.rank=64")
    if not isinstance(raw, dict):
        return key.strip()
    if not dot:
        raw[section] = text
        return section
    # A dotted key within a mapping is one key: spark.conf.spark.sql.shuffle.partitions.
    path = [section, *(rest.split(".", 1) if rest.split(".", 1)[0] in MAPPINGS else [rest])]
    target = raw
    for step in path[:-1]:
        if not isinstance(target.get(step), dict):
            target[step] = {}
        target = target[step]
    target[path[-1]] = _value(section, rest, text)
    return f"{section}.{rest}"


def _value(section: str, key: str, text: str) -> Any:
    """Return the value of an override: as written where the key is a text, else as YAML reads it."""
    fields = SECTIONS[section].model_fields if section in SECTIONS else {}
    if key in fields and is_text(fields[key]) and text not in ("null", "~"):
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _path_before_synthetic(source: Any, overridden: set[str]) -> None:
    """Let a path that was given on the command line take the place of the file's synthetic source."""
    if "source.path" not in overridden or not isinstance(source, dict) or not source.get("path"):
        return
    synthetic = bool({"scale", "seed"} & source.keys()) or source.get("format") == "synthetic"
    if not synthetic or (source.get("format") == "synthetic" and "source.format" in overridden):
        return
    for key in SYNTHETIC_KEYS:
        if not any(name.startswith(f"source.{key}") for name in overridden):
            source.pop(key, None)
