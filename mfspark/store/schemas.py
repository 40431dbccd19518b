"""The columns of the stored tables: what a model version consists of and what its one published row says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

# Every row of a model table says which run and which attempt of that run wrote it; a whole attempt is one partition.
ATTEMPT_COLUMNS = ("run_id", "attempt")

# Column types; None stands for the type of the ids, which the first model written decides for its store.
FACTORS: Mapping[str, str | None] = {"id": None, "features": "array<float>", "bias": "float"}
IDS: Mapping[str, str | None] = {"id": None, "index": "int"}
HISTORY: Mapping[str, str | None] = {
    "iteration": "int",
    "loss": "double",
    "fit": "double",
    "regularisation": "double",
    "validationRMSE": "double",
    "seconds": "double",
    "repaired": "bigint",
}
POPULAR: Mapping[str, str | None] = {"span": "string", "place": "int", "id": None, "ratings": "bigint"}
PARAMETERS: Mapping[str, str | None] = {"name": "string", "value": "string"}
MODELS: Mapping[str, str] = {
    "version": "bigint",
    "run_id": "string",
    "attempt": "string",
    "created_at": "timestamp",
    "parameters": "string",
    "metrics": "string",
}


@dataclass(frozen=True)
class ModelTable:
    """One table of a model: its name in the store and its columns."""

    stored_as: str
    columns: Mapping[str, str | None]
    open_ended: bool = False  # further columns are kept: a new loss may report more parts
    optional: tuple[str, ...] = ()  # columns that models of older releases do not have
    may_lack: bool = False  # whether there are models without this table


MODEL_TABLES: Mapping[str, ModelTable] = {
    "user_factors": ModelTable("user_factors", FACTORS),
    "item_factors": ModelTable("item_factors", FACTORS),
    # The ingest job's own id maps are called user_ids and item_ids; these are the ones a model was trained with.
    "user_ids": ModelTable("model_user_ids", IDS),
    "item_ids": ModelTable("model_item_ids", IDS),
    "history": ModelTable("history", HISTORY, open_ended=True, optional=("repaired",)),
    "popular": ModelTable("popular", POPULAR, may_lack=True),
    "parameters": ModelTable("parameters", PARAMETERS),
}


@dataclass(frozen=True, order=True)
class ModelVersion:
    """One published model: a row of the ``models`` table.

    Attributes
    ----------
    version : int
        1, 2, 3, ... in the order of publication; a re-run of a run id keeps its number.
    run_id : str
        The run that trained the model.
    attempt : str
        The one attempt of that run whose rows are this model's.
    created_at : datetime
        When the row was published.
    parameters, metrics : dict
        What the model was trained with and what was measured on it.
    """

    version: int
    run_id: str
    attempt: str
    created_at: datetime = field(compare=False)
    parameters: dict[str, Any] = field(compare=False, default_factory=dict)
    metrics: dict[str, Any] = field(compare=False, default_factory=dict)

    @classmethod
    def stored(cls, row: Mapping[str, Any]) -> ModelVersion:
        """Return the model of a row, in which parameters and metrics are JSON."""
        return cls(**{**row, **{name: json.loads(row[name]) for name in ("parameters", "metrics")}})
