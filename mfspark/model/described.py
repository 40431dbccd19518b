"""A stored model's description (JSON) and tables (Arrow) as settings and arrays; who reads them, Spark or not."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mfspark.errors import StoreError
from mfspark.kernels.csr import Side
from mfspark.kernels.objective import Settings
from mfspark.model.factorization import Constants


def description(fitted: Constants) -> dict[str, Any]:
    """Return the constants of a fitted model, all JSON-able: the objective, and apart from it how it was solved."""
    objective = asdict(fitted.objective)
    return {
        "objective": objective,
        "settings": {name: value for name, value in asdict(fitted.settings).items() if name not in objective},
        "intercept": float(fitted.intercept),
        "mean": float(fitted.mean) if np.isfinite(fitted.mean) else None,
        "limits": [None if not np.isfinite(limit) else float(limit) for limit in fitted.limits],
    }


def settings_from(parameters: dict[str, Any]) -> Settings:
    """Return the settings that ``parameters`` described, also as models before ``Objective`` did."""
    older = {"loss": parameters.get("loss", "squared"), "folds": "rows" if parameters.get("folds", True) else "svd"}
    stored = older | parameters["settings"] | parameters.get("objective", {})
    known = {part.name for part in fields(Settings)}
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in stored.items() if key in known
    }
    return replace(Settings(rank=1), **values)


def limits_from(parameters: dict[str, Any]) -> tuple[float, float]:
    """Return the range to which predictions are clipped."""
    low, high = parameters["limits"]
    return -np.inf if low is None else low, np.inf if high is None else high


def mean_from(parameters: dict[str, Any]) -> float:
    """Return the mean training rating, NaN where none was stored."""
    mean = parameters.get("mean")
    return np.nan if mean is None else float(mean)


def side_from(table: pa.Table, name: str, settings: Settings, side: Side) -> tuple[pa.Array, NDArray[Any]]:
    """Return a side's ids in their order and its array (n x padded) from a stored table of id, features and bias.

    Parameters
    ----------
    table : pa.Table
        The rows in any order; the chunks of its columns are filled in one by one, and never copied together.
    name : str
        What the table is called, for messages.
    settings : Settings
        The model's.
    side : Side
        Which side it is.

    Raises
    ------
    StoreError
        The table is empty, or not every row has the model's number of factors.
    """
    n, rank = table.num_rows, settings.rank
    features = table.column("features")
    if n == 0 or features.null_count or sum(len(chunk.flatten()) for chunk in features.chunks) != n * rank:
        raise StoreError(f"{name} has {n} rows, not all with the model's {rank} factors: save it again")
    order = pc.sort_indices(table.column("id")).to_numpy()
    place = np.empty(n, np.int64)
    place[order] = np.arange(n)
    array, start = np.zeros((n, settings.padded), settings.dtype), 0
    for chunk in features.chunks:
        array[place[start : start + len(chunk)], :rank] = chunk.flatten().to_numpy().reshape(-1, rank)
        start += len(chunk)
    if settings.bias[side]:
        array[place, rank] = table.column("bias").to_numpy()
    ids = table.column("id").take(pa.array(order))
    return ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids, array
