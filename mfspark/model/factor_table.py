"""The handle on one side's factors in the driver, as arrays and as a frame, and what they take up there.

Sides that would take up more than the driver may hold stay on the workers: ``model.frames``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession

from mfspark.kernels.csr import Side
from mfspark.kernels.objective import Settings
from mfspark.model.described import side_from
from mfspark.model.factorization import Factorization


@dataclass(frozen=True)
class FactorTable:
    """One side's factors, in the driver.

    Parameters
    ----------
    ids : pa.Array
        The ids in index order.
    array : array (n, columns)
        Factors first; column ``rank`` is the bias where there is one; the rest is padding.
    rank : int
        The number of factors.
    biased : bool
        Whether the side has a bias.
    """

    ids: pa.Array
    array: NDArray[Any]
    rank: int
    biased: bool = False

    @classmethod
    def of(cls, fitted: Factorization, side: Side) -> FactorTable:
        """Return the handle on a side of a fitted model."""
        return cls(fitted.ids[side], fitted.sides[side], fitted.rank, fitted.settings.bias[side])

    @classmethod
    def read(cls, frame: DataFrame, name: str, settings: Settings, side: Side) -> FactorTable:
        """Return the handle on a stored table ``name`` of id, features and bias.

        Raises
        ------
        StoreError
            The table is empty, or not every row has the model's number of factors.
        """
        ids, array = side_from(frame.select("id", "features", "bias").toArrow(), name, settings, side)
        return cls(ids, array, settings.rank, settings.bias[side])

    def __len__(self) -> int:
        """Return the number of ids."""
        return len(self.ids)

    def arrays(self) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Return the factors (n x rank) and the biases (n,), None where there are none."""
        return self.array[:, : self.rank], self.array[:, self.rank] if self.biased else None

    def frame(self, spark: SparkSession, kind: str) -> DataFrame:
        """Return the frame id (of the SQL type ``kind``), features array<float>, bias float (null without biases)."""
        features, bias = self.arrays()
        n, rank = features.shape
        flat = pa.array(np.ascontiguousarray(features, np.float32).ravel())
        wide = n * rank >= 2**31  # more than the offsets of an ordinary list column can tell
        offsets = pa.array(np.arange(n + 1, dtype=np.int64 if wide else np.int32) * rank)
        lists = (pa.LargeListArray if wide else pa.ListArray).from_arrays(offsets, flat)
        biases = pa.nulls(n, pa.float32()) if bias is None else pa.array(np.asarray(bias, np.float32))
        table = pa.table({"id": self.ids, "features": lists, "bias": biases})
        return spark.createDataFrame(table, schema=f"id {kind}, features array<float>, bias float")


def index_frame(spark: SparkSession, ids: pa.Array, kind: str) -> DataFrame:
    """Return the frame id (of the SQL type ``kind``), index bigint: 0, 1, ... in the order of the ids."""
    table = pa.table({"id": ids, "index": pa.array(np.arange(len(ids)))})
    return spark.createDataFrame(table, schema=f"id {kind}, index bigint")


TEXT_BYTES, NUMBER_BYTES = 32, 8  # of an id


def sides_bytes(sizes: tuple[int, int], settings: Settings, texts: tuple[bool, bool]) -> int:
    """Return about how many bytes both sides take up in a driver.

    Parameters
    ----------
    sizes : (int, int)
        The numbers of users and items.
    settings : Settings
        The model's.
    texts : (bool, bool)
        Whether the ids are strings.
    """
    row = settings.padded * np.dtype(settings.dtype).itemsize
    return sum(n * (row + (TEXT_BYTES if text else NUMBER_BYTES)) for n, text in zip(sizes, texts, strict=True))
