"""Parquet files that the workers read themselves, straight into Arrow, where a data set is nothing but such files.

Spark's own way from a file to a Python worker goes through its row format: 10 M ratings cost 7 s of CPU in the JVM,
more than all that is made of them. Here a data set counts as plain where its plan, as Spark has resolved it, chooses
columns of local Parquet files without partition columns, and every file has them in the types of the data set.
Everything else (a filter, a cast, a cached frame, a table, Connect, files on other machines) is left to Spark, and all
is with ``spark.mfspark.readParquet`` at false.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from mfspark.session import default_parallelism, is_connect
from mfspark.transport.arrow import ROWS_AT_ONCE

MOST_FILES = 2000  # whose footers the driver looks at
PART_BYTES = 128 << 20
_PACKAGE = "org.apache.spark.sql.execution.datasources."
_HARMLESS = {"path", "paths", "mergeschema", "pathglobfilter", "recursivefilelookup"}
_KINDS: dict[type, pa.DataType] = {
    T.IntegerType: pa.int32(), T.LongType: pa.int64(), T.FloatType: pa.float32(), T.DoubleType: pa.float64(),
    T.StringType: pa.string(), T.BooleanType: pa.bool_(),
}  # fmt: skip


class Column(NamedTuple):
    """A column that is wanted: its name in the files, and the type it is cast to (None: as it is)."""

    name: str
    kind: pa.DataType | None = None


class Group(NamedTuple):
    """A row group of a file, its rows, and the bytes of the columns that are wanted."""

    path: str
    number: int
    rows: int
    bytes: int


@dataclass(frozen=True)
class Scan:
    """What the workers are to read: columns by their new names, and the row groups of every part, in order."""

    columns: Mapping[str, Column]
    parts: Sequence[Sequence[Group]]

    def map(self, frame: DataFrame, function: Callable[[Iterator[pa.RecordBatch]], Any], schema: str) -> DataFrame:
        """Return what a function makes of the batches of every part, one part a partition of ``frame``'s session."""
        columns, parts = self.columns, self.parts

        def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                for number in batch.column("id").to_pylist():
                    yield from function(_read(parts[number], columns))

        return frame.sparkSession.range(0, len(parts), 1, len(parts)).mapInArrow(run, schema)


def plain_scan(frame: DataFrame, columns: Mapping[str, Column]) -> Scan | None:
    """Return how the workers can read columns of a data set themselves, or None where it is not plain.

    Parameters
    ----------
    frame : DataFrame
        The data set.
    columns : mapping of str to Column
        What is wanted, by its new name.
    """
    kinds = {field.name: _KINDS.get(type(field.dataType)) for field in frame.schema.fields}
    wanted = {column.name: kinds.get(column.name) for column in columns.values()}
    spark = frame.sparkSession
    if is_connect(spark) or None in wanted.values() or len(kinds) < len(frame.columns):
        return None
    local = str(spark.conf.get("spark.master", "")).startswith("local")
    if not local or str(spark.conf.get("spark.mfspark.readParquet", "true")).lower() == "false":
        return None
    try:
        files = _files(frame, list(wanted))
        groups = None if files is None else _groups(files, wanted)  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001 - whatever is strange about plan or files is Spark's to deal with, or to tell of
        return None
    return Scan(dict(columns), _parts(groups, default_parallelism(spark))) if groups else None


def _files(frame: DataFrame, names: list[str]) -> list[str] | None:
    """Return the files of a data set that is a choice of columns of local Parquet files, else None."""
    plan: Any = frame.select(*(F.col(f"`{name}`") for name in names))._jdf.queryExecution().withCachedData()
    while plan.nodeName() == "Project":
        chosen = plan.projectList()
        for at in range(chosen.size()):
            if not chosen.apply(at).getClass().getName().endswith(".AttributeReference"):
                return None
        plan = plan.child()
    if plan.getClass().getName() != _PACKAGE + "LogicalRelation":
        return None
    relation = plan.relation()
    if relation.getClass().getName() != _PACKAGE + "HadoopFsRelation":
        return None
    if relation.fileFormat().getClass().getName() != _PACKAGE + "parquet.ParquetFileFormat":
        return None
    if not relation.partitionSchema().isEmpty() or relation.bucketSpec().isDefined():
        return None
    if {*relation.options().keySet().mkString("\n").lower().split("\n")} - _HARMLESS:
        return None
    conf = frame.sparkSession.conf
    if any(
        conf.get(f"spark.sql.files.{name}", "false") == "true" for name in ("ignoreCorruptFiles", "ignoreMissingFiles")
    ):
        return None
    places = [urlsplit(file) for file in relation.location().inputFiles()]
    if not 0 < len(places) <= MOST_FILES or any(place.scheme != "file" for place in places):
        return None
    return sorted(unquote(place.path) for place in places)


def _groups(files: Sequence[str], wanted: Mapping[str, pa.DataType]) -> list[Group] | None:
    """Return the row groups of the files, None where one lacks a column or has it in another type."""
    import pyarrow.parquet as pq

    found = []
    for path in files:
        with pq.ParquetFile(path) as file:
            schema, metadata = file.schema_arrow, file.metadata
        if any(schema.names.count(name) != 1 or schema.field(name).type != kind for name, kind in wanted.items()):
            return None
        leaves = [at for at in range(metadata.num_columns) if metadata.schema.column(at).path in wanted]
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            size = sum(group.column(at).total_compressed_size for at in leaves)
            found.append(Group(path, number, group.num_rows, size))
    return found


def _parts(groups: Sequence[Group], slots: int) -> list[list[Group]]:
    """Return the row groups, in order, in as many parts as slots, or a multiple; each of about the same rows."""
    rounds = -(-sum(group.bytes for group in groups) // (PART_BYTES * slots))
    number = min(len(groups), slots * max(1, rounds))
    ends = np.cumsum([group.rows for group in groups])
    middle = ends - np.array([group.rows for group in groups]) / 2
    at = np.minimum(number - 1, (middle * number / max(1, ends[-1])).astype(int))
    parts = [[group for group, place in zip(groups, at, strict=True) if place == part] for part in range(number)]
    return [part for part in parts if part]


def _read(part: Sequence[Group], columns: Mapping[str, Column]) -> Iterator[pa.RecordBatch]:
    """Yield a part's batches, their columns renamed and cast."""
    import pyarrow.parquet as pq

    names = list({column.name for column in columns.values()})
    for path, groups in groupby(part, key=lambda group: group.path):
        numbers = [group.number for group in groups]
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=numbers, columns=names, use_threads=False):
                arrays = [
                    batch.column(column.name) if column.kind is None
                    else batch.column(column.name).cast(column.kind, safe=False)
                    for column in columns.values()
                ]  # fmt: skip
                yield pa.RecordBatch.from_arrays(arrays, list(columns))
