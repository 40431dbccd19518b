"""The sections of the estimators, made from the estimators themselves: their keywords, types, defaults and checks."""

from __future__ import annotations

import functools
import inspect
import re
from typing import Any

from pydantic import Field, GetCoreSchemaHandler, create_model
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from mfspark.config.values import Flag, Number, Section, Text, Whole, members
from mfspark.errors import ParameterError
from mfspark.estimators.options import supports

SET_BY_THE_JOBS = ("userCol", "itemCol", "ratingCol", "predictionCol", "weightCol", "validationIndicatorCol")
# What predict leaves out is its own key, predict.filter_seen.
NO_KEYS = (*SET_BY_THE_JOBS, "filterSeen")
TYPES: dict[Any, Any] = {int: Whole, float: Number, bool: Flag, str: Text}


class Parameters:
    """Marks a mapping of the configuration as the parameters of one estimator."""

    def __init__(self, estimator: type) -> None:
        self.estimator = estimator

    @functools.cached_property
    def section(self) -> type[Section]:
        """The estimator's keys, in the order of its signature, as a section."""
        fields: dict[str, Any] = {}
        for name, keyword in inspect.signature(self.estimator, eval_str=True).parameters.items():
            if name not in NO_KEYS and supports(self.estimator, name):
                kind = next(TYPES[part] for part in members(keyword.annotation) if part in TYPES)
                meaning = getattr(self.estimator, name).doc
                fields[name] = (kind, Field(default=keyword.default, description=meaning))
        return create_model(self.estimator.__name__, __base__=Section, **fields)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema: a section in, the keys that were given out, when the estimator accepts them."""
        return core_schema.no_info_after_validator_function(self._given, handler.generate_schema(self.section))

    def _given(self, section: Section) -> dict[str, Any]:
        given = section.model_dump(exclude_unset=True)
        try:
            self.estimator(**given)._check()
        except ParameterError as error:
            raise PydanticCustomError("parameters", "{text}", {"text": str(error)}) from None
        return given


def refusal(section: str, given: dict[str, Any], text: str) -> str:
    """Return what an estimator said about its parameters as a line about a key of its section."""
    limit = re.fullmatch(r"(\w+) must be (.*), not (.*)", text)
    if limit and limit[1] in given:
        words = re.sub(r"^at least ", "a whole number >= ", limit[2]).replace("a finite number", "a number")
        return f"{section}.{limit[1]}: {given[limit[1]]!r} is not allowed; give {words}"
    name, _, rest = text.partition(" ")
    return f"{section}.{name}: {rest}" if name in given else f"{section}: {text}"
