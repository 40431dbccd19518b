"""The section of a search: what is varied, and how a combination is scored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from mfspark.config.values import Number, Pairs, Section, Whole, allowed, number_of, refuse

RANGE = {"low", "high", "log"}
RATINGS = "rmse"


class TuneConfig(Section):
    """What the tune job varies, and how it scores a combination."""

    grid: Pairs = Field({}, description="the values of each parameter, every combination of which is scored")
    random: Pairs = Field(
        {}, description="what is drawn of each parameter: a list, or low and high, and log: true to draw magnitudes"
    )
    trials: Whole | None = Field(None, ge=1, description="how many combinations are drawn from tune.random")
    folds: Whole = Field(3, ge=2, description="folds of the training ratings")
    seed: Whole = Field(0, description="of the folds and of tune.random")
    halving: Whole = Field(
        1, ge=1, description="from 2 on: only the best 1/halving of the combinations run on, halving times as long"
    )
    metric: Literal[
        "rmse", "ndcgAtK", "precisionAtK", "recallAtK", "meanAveragePrecisionAtK", "meanReciprocalRank", "hitRateAtK"
    ] = Field("rmse", description="of held-out ratings, or of lists, without what was trained on")
    k: Whole = Field(10, ge=1, description="length of the lists that are scored")
    relevant: Number | None = Field(None, description="held-out ratings from here on are the ones to find; null: all")

    @model_validator(mode="after")
    def _agrees(self) -> TuneConfig:
        given = self.model_fields_set
        refuse(bool(self.grid) and bool(self.random), "tune.random: contradicts tune.grid; give one of them")
        refuse(
            (self.trials is None) != (not self.random),
            "tune.trials: give how many combinations are drawn with tune.random, and only then",
        )
        refuse(
            self.metric == RATINGS and bool({"k", "relevant"} & given),
            "tune.k, tune.relevant: only allowed with a tune.metric of lists",
        )
        return self

    def check(self, name: str, section: type[Section]) -> None:
        """Raise pydantic's error for a parameter or a value that the estimator's section would refuse."""
        for key, values in {**self.grid, **self.random}.items():
            what = f"tune.{'grid' if key in self.grid else 'random'}.{key}"
            known = section.model_fields
            refuse(key not in known, f"{what}: {name} has no such key; it has {', '.join(known)}")
            given = _given(values) if key in self.random else values
            refuse(not isinstance(given, list) or not given, f"{what}: give a list of values")
            refuse(
                isinstance(values, Mapping) and not _range(values), f"{what}: give low < high, of numbers; log: low > 0"
            )
            for value in given:
                try:
                    section.model_validate({key: value})
                except ValidationError:
                    refuse(True, f"{what}: {value!r} is not allowed; give {allowed(known[key])}")


def numbers_of(section: type[Section], key: str, values: Any) -> list[Any]:
    """Return the values of a key as its type has them (YAML reads 1e-3 as a text)."""
    return [getattr(section.model_validate({key: value}), key) for value in values]


def _given(values: Any) -> Any:
    """Return what is drawn from as values: the ends of a range."""
    return [values.get("low"), values.get("high")] if isinstance(values, Mapping) else values


def _range(values: Mapping[str, Any]) -> bool:
    low, high = number_of(values.get("low")), number_of(values.get("high"))
    numbers = all(isinstance(end, int | float) for end in (low, high)) and not set(values) - RANGE
    return numbers and low < high and (low > 0 or not values.get("log"))
