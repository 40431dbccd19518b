"""Every key of the configuration in words, for ``--help``."""

from __future__ import annotations

import json
from typing import Any

from pydantic.fields import FieldInfo

from mfspark.config.sections import ESTIMATORS, SECTIONS, Config
from mfspark.config.values import allowed


def listed_keys() -> list[str]:
    """Return a line for each key: its name, what is allowed, its default, its meaning."""
    lines = ["keys of the configuration (--set KEY=VALUE, or YAML):", ""]
    lines += [_listed("run_id", Config.model_fields["run_id"])]
    for name, section in SECTIONS.items():
        what = f"parameters of {ESTIMATORS[name].__name__}" if name in ESTIMATORS else (section.__doc__ or "").strip()
        lines += ["", f"{name}: {what.splitlines()[0]}"]
        lines += [_listed(f"{name}.{key}", info) for key, info in section.model_fields.items()]
    return lines


def _listed(name: str, info: FieldInfo) -> str:
    return f"  {name}: {allowed(info)}; default {_written(info.default)}. {info.description}"


def _written(default: Any) -> str:
    return "none" if default in (None, "") else json.dumps(default)
