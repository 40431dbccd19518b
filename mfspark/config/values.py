"""What one key may hold: the types of values, and how they are put into words."""

from __future__ import annotations

import re
import types
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AllowInfNan, BaseModel, BeforeValidator, ConfigDict, Strict
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError


def number_of(value: Any) -> Any:
    """Return the number a text looks like (YAML 1.1 reads 1e-3 as a text); true and false are none."""
    if isinstance(value, bool):
        raise PydanticCustomError("number", "true and false are no numbers")
    for kind in (int, float):
        try:
            return kind(value) if isinstance(value, str) else value
        except ValueError:
            continue
    return value


def _version(value: Any) -> Any:
    """Return a version number, or the name of an alias."""
    if isinstance(value, str) and (value.isdigit() or re.fullmatch(r"[A-Za-z][\w.-]{0,63}", value)):
        return int(value) if value.isdigit() else value
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise PydanticCustomError("version", "no version and no alias")
    return value


Text = Annotated[str, Strict()]
Flag = Annotated[bool, Strict()]
Whole = Annotated[int, BeforeValidator(number_of)]
Number = Annotated[float, BeforeValidator(number_of), AllowInfNan(False)]
Version = Annotated[int | str, BeforeValidator(_version)]
Pairs = dict[str, Any]
WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    int | str: "a model version >= 1, or an alias such as champion",
    bool: "true or false",
    str: "a text",
    dict: "a mapping of keys to values",
}
LIMITS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def refuse(wrong: bool, message: str) -> None:
    """Raise what makes a configuration contradict itself, as one line that starts with the key."""
    if wrong:
        raise PydanticCustomError("contradiction", "{text}", {"text": message})


class Section(BaseModel):
    """A frozen part of the configuration that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


def kind_of(info: FieldInfo) -> Any:
    """Return the bare type of a key: int, float, bool, str, dict, a `Section`, or a Literal."""
    kind = next(kind for kind in members(info.annotation) if kind is not type(None))
    kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    return dict if get_origin(kind) is dict else kind


def is_text(info: FieldInfo) -> bool:
    """Return whether a key holds a text, which an override gives as it is written."""
    kind = kind_of(info)
    return kind is str or get_origin(kind) is Literal


def allowed(info: FieldInfo) -> str:
    """Return the values a key may hold, in words."""
    kind = kind_of(info)
    words = "one of " + ", ".join(get_args(kind)) if get_origin(kind) is Literal else WORDS[kind]
    limits = [
        f"{sign} {getattr(limit, name):g}"
        for limit in info.metadata
        for name, sign in LIMITS.items()
        if hasattr(limit, name)
    ]
    words += (" " + " and ".join(limits)) if limits else ""
    return words + (" (or null)" if type(None) in members(info.annotation) else "")


def members(annotation: Any) -> tuple[Any, ...]:
    """Return the types of a union, or the one type."""
    union = get_origin(annotation) in (Union, types.UnionType)
    return get_args(annotation) if union else (annotation,)


def instant(key: str, text: str | None) -> int | None:
    """Return an ISO time in seconds since 1970, where it says no zone that of UTC; None for None.

    A part of a second is left out, as in the times of ratings.
    """
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        refuse(True, f"{key}: {text!r} is not allowed; give an ISO time, as 2026-01-31 or 2026-01-31T00:00:00+00:00")
        raise
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() // 1)
