"""Predictions of pairs and the best n of a side, on the workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from mfspark.blocks.columns import whole
from mfspark.errors import DataError
from mfspark.kernels.csr import Side
from mfspark.kernels.topk import pair_scores
from mfspark.model.cold_start import Biases, ColdStart
from mfspark.model.factorization import Factorization, respond
from mfspark.session import is_connect
from mfspark.transport.broadcast import send
from mfspark.transport.carriers import carry
from mfspark.transport.garbage import set_modules_apart
from mfspark.transport.workers import check_workers

Unknown = tuple[ColdStart, Biases] | None
PairData = tuple[tuple[pa.Array, pa.Array], tuple[NDArray[Any], NDArray[Any]], tuple[float, float], str, Unknown]


def predict_pairs(users: pa.Array, items: pa.Array, data: PairData) -> NDArray[np.float32]:
    """Return the predictions of pairs of ids; where an id is null or unknown, NaN or that of the ``ColdStart``."""
    ids, (left, right), limits, loss, cold = data
    rows, columns = (
        pc.fill_null(pc.index_in(whole(given), value_set=known, skip_nulls=True), -1).to_numpy(zero_copy_only=False)
        for given, known in zip((users, items), ids, strict=True)
    )
    out = np.empty(len(rows), left.dtype)
    pair_scores(left, right, rows, columns, out)
    found = respond(out, limits, loss)
    return (found if cold is None else cold[0].fill(found, rows, columns, cold[1])).astype(np.float32, copy=False)


def pair_data(fitted: Factorization) -> PairData:
    """Return what ``predict_pairs`` needs."""
    return fitted.ids, fitted.scoring(), fitted.limits, fitted.loss, None


def with_cold_start(data: PairData, fitted: Factorization) -> PairData:
    """Return the same for who predicts pairs of unknown ids, too."""
    return (*data[:-1], (ColdStart.of(fitted), (fitted.bias(Side.USER), fitted.bias(Side.ITEM))))


def require_free(dataset: DataFrame, name: str) -> None:
    """Raise DataError where a data set has a column of the name of one to be added, in letters of either case."""
    if name.lower() in (column.lower() for column in dataset.columns):
        raise DataError(f"column {name!r} already exists: drop it, or choose another name for the new one")


def add_predictions(dataset: DataFrame, user: Column, item: Column, name: str, data: PairData) -> DataFrame:
    """Return the data set with a float column of predictions; ``user`` and ``item`` have the types of the ids.

    An existing column is never replaced (DataError), as in MLlib. In a classic session only the two ids pass through
    Python, by a vectorised UDF; over Connect the rows travel in large packets to the joined factors.
    """
    require_free(dataset, name)
    if not is_connect(dataset.sparkSession):
        return dataset.withColumn(name, _pair_udf(dataset, data)(user, item))
    ids = ("__user", "__item")
    schema = T.StructType([*dataset.schema.fields, T.StructField(name, T.FloatType())])

    def score(batches: Iterator[pa.RecordBatch], carried: Any) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            found = pa.array(predict_pairs(batch.column(ids[0]), batch.column(ids[1]), carried))
            columns = [*batch.columns[:-2], found]
            yield pa.RecordBatch.from_arrays(columns, names=[*batch.schema.names[:-2], name])

    rows = dataset.select("*", user.alias(ids[0]), item.alias(ids[1]))
    return carry(rows, data, score, schema).frame


def _pair_udf(dataset: DataFrame, data: PairData) -> Callable[..., Column]:
    check_workers(dataset.sparkSession)
    sent = send(dataset.sparkSession, data)
    if hasattr(F, "arrow_udf"):

        def score(users: pa.Array, items: pa.Array) -> pa.Array:
            set_modules_apart()
            return pa.array(predict_pairs(users, items, sent.value))

        return F.arrow_udf(score, T.FloatType())  # type: ignore[call-overload]

    whole_ids = [pa.types.is_integer(ids.type) for ids in data[0]]

    def score_series(users, items, lacks_user, lacks_item):  # type: ignore[no-untyped-def]
        import pandas as pd

        given = zip((users, items), (lacks_user, lacks_item), strict=True)
        arrays = [pa.array(ids.to_numpy(), mask=lacking.to_numpy(bool), from_pandas=True) for ids, lacking in given]
        return pd.Series(predict_pairs(arrays[0], arrays[1], sent.value))

    scored = F.pandas_udf(score_series, T.FloatType())  # type: ignore[call-overload]

    def by_pandas(*ids: Column) -> Column:
        """Call it so that pandas neither makes numbers of whole ids where one is null, nor null of NaN."""
        zero = [F.coalesce(one, F.lit(0)) if is_whole else one for one, is_whole in zip(ids, whole_ids, strict=True)]
        return F.coalesce(scored(*zero, *(one.isNull() for one in ids)), F.lit(np.nan).cast("float"))

    return by_pandas
