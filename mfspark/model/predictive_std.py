"""Standard deviations of predictions from the samples of a chain, on the workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import types as T

from mfspark.blocks.columns import whole
from mfspark.kernels.als.gibbs import pair_spread
from mfspark.kernels.csr import Side
from mfspark.model.factorization import Factorization
from mfspark.model.predict import require_free
from mfspark.transport.carriers import carry

_PAIR = ("__user", "__item")


def add_deviations(
    dataset: DataFrame, pair: tuple[Column, Column], name: str, fitted: Factorization, samples: int, noise: float
) -> DataFrame:
    """Return the data set with a float column of predictive standard deviations, NaN where an id is null or unknown.

    Parameters
    ----------
    dataset : DataFrame
        The pairs.
    pair : (Column, Column)
        User and item, in the types of the fitted ids.
    name : str
        The new column; DataError where there is one of that name.
    fitted : Factorization
        Whose factors are ``samples`` samples side by side (``Samples.joined``).
    samples : int
        How many.
    noise : float
        The variance of a rating around the score, added to the variance of the score over the samples.
    """
    require_free(dataset, name)
    schema = T.StructType([*dataset.schema.fields, T.StructField(name, T.FloatType())])
    data = (fitted.ids, (fitted.features(Side.USER), fitted.features(Side.ITEM)))

    def spread(batches: Iterator[pa.RecordBatch], carried: Any) -> Iterator[pa.RecordBatch]:
        ids, (left, right) = carried
        for batch in batches:
            rows, columns = (
                pc.fill_null(pc.index_in(whole(batch.column(side)), value_set=known, skip_nulls=True), -1).to_numpy(
                    zero_copy_only=False
                )
                for side, known in zip(_PAIR, ids, strict=True)
            )
            variance = np.empty(batch.num_rows)
            pair_spread(left, right, samples, rows, columns, variance)
            found = pa.array(np.sqrt(variance + noise).astype(np.float32))
            yield pa.RecordBatch.from_arrays([*batch.columns[:-2], found], names=[*batch.schema.names[:-2], name])

    rows = dataset.select("*", *(column.alias(side) for column, side in zip(pair, _PAIR, strict=True)))
    return carry(rows, data, spread, schema).frame
