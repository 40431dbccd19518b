"""The ids that a model is asked about: one rule for whatever names them.

Strings are asked for as strings, numbers as numbers of any type. A null or a whole number beyond the kept type is an
unknown id; a number that is not whole is an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from mfspark.blocks.columns import id_type, require_frame
from mfspark.errors import DataError, ParameterError
from mfspark.kernels.csr import Side
from mfspark.model.sorted_ids import is_whole


class IdColumns(NamedTuple):
    """The id columns of a model; pairs are in the order user, item.

    Parameters
    ----------
    names : (str, str)
        The columns in which data sets hold the ids.
    kinds : (DataType, DataType)
        The types in which ids are kept and given back.
    """

    names: tuple[str, str]
    kinds: tuple[T.DataType, T.DataType]

    def check(self, dataset: DataFrame, side: Side) -> T.DataType:
        """Return the type of a data set's id column.

        Raises
        ------
        DataError
            What was given is no Spark DataFrame, has no such column, or has one of another type.
        """
        require_frame(dataset)
        name, kept = self.names[side], self.kinds[side]
        if name not in dataset.columns:
            raise DataError(f"column {name!r} is missing; the data has {', '.join(dataset.columns)}")
        given = dataset.schema[name].dataType
        wanted = T.StringType if isinstance(kept, T.StringType) else T.NumericType
        if not isinstance(given, wanted):
            raise DataError(
                f"column {name!r} is {given.simpleString()}, but the model's ids are {kept.simpleString()}: cast it"
            )
        return given

    def column(self, dataset: DataFrame, side: Side) -> Column:
        """Return a data set's id column in the model's type, null where it is null or beyond that type.

        Evaluating it fails at an id that is not a whole number, as in MLlib, and names column and id.
        """
        given, name, kept = self.check(dataset, side), self.names[side], self.kinds[side].simpleString()
        column = F.col(f"`{name}`")
        if isinstance(given, T.StringType):
            return column
        cast = column.try_cast(kept)
        if id_type(given) == given:
            return cast
        wrong = F.concat(
            F.lit(f"column '{name}' has the id "), column.cast("string"), F.lit(", which is not a whole number: ")
        )
        advice = F.lit(f"the model's ids are {kept}, cast or correct it")
        return F.when(column % 1 != 0, F.raise_error(F.concat(wrong, advice))).otherwise(cast)

    def wanted(self, dataset: DataFrame, side: Side) -> DataFrame:
        """Return the distinct ids of a data set's column in the model's type, as the column "id", null among them.

        Raises
        ------
        DataError
            As ``check``; or some ids are not whole numbers.
        """
        name, kept = self.names[side], self.kinds[side]
        given = self.check(dataset, side)
        column = F.col(f"`{name}`")
        if id_type(given) != given:
            fractions = dataset.where(column % 1 != 0).count()
            if fractions:
                raise DataError(
                    f"column {name!r} has {fractions} ids that are not whole numbers, but the model's ids are "
                    f"{kept.simpleString()}: cast or correct them"
                )
        return dataset.select(self.column(dataset, side).alias("id")).distinct()

    def distinct(self, dataset: DataFrame, side: Side) -> pa.Array:
        """Return the same on the driver, without null."""
        return self.wanted(dataset, side).toArrow().column("id").combine_chunks().drop_null()

    def pairs(self, dataset: DataFrame) -> DataFrame:
        """Return both id columns of a data set under their own names, in the model's types."""
        require_frame(dataset)
        return dataset.select(*(self.column(dataset, side).alias(self.names[side]) for side in Side))

    def asked(self, side: Side, ids: Iterable[Any]) -> pa.Array:
        """Return ids given in Python as texts or longs.

        Raises
        ------
        ParameterError
            What was given is one id instead of a list.
        DataError
            Some ids are of another type than the model's, or not whole.
        """
        if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
            raise ParameterError(f"expected a list of ids, such as [{ids!r}], got {ids!r}")
        values = [value.as_py() if isinstance(value, pa.Scalar) else value for value in ids]
        kept = self.kinds[side]
        textual = isinstance(kept, T.StringType)
        wrong = [value for value in values if not (isinstance(value, str) if textual else is_whole(value))]
        if wrong:
            raise DataError(
                f"{len(wrong)} ids, such as {wrong[0]!r}, are no {kept.simpleString()} as the model has: convert them"
            )
        return pa.array(values, pa.string()) if textual else pa.array([int(value) for value in values], pa.int64())


def find(asked: pa.Array, known: pa.Array) -> NDArray[np.int64]:
    """Return the distinct places of ids (texts or longs) among the known ones, sorted; DataError for unknown ones."""
    places = pc.index_in(asked, value_set=known.cast(asked.type))
    if places.null_count:
        raise unknown_ids(asked.filter(places.is_null()).to_pylist())
    return np.unique(places.to_numpy()).astype(np.int64)


def unknown_ids(missing: list[Any]) -> DataError:
    """Return the error for ids that a model does not know."""
    return DataError(f"{len(missing)} ids are unknown to the model, such as {missing[0]!r}")


_ARROW = {"tinyint": pa.int8(), "smallint": pa.int16(), "int": pa.int32(), "bigint": pa.int64()}


def arrow_type(kind: T.DataType) -> pa.DataType:
    """Return the Arrow type of ids of a Spark type."""
    return pa.string() if isinstance(kind, T.StringType) else _ARROW[kind.simpleString()]
