"""Ratings from typed tables: Parquet files, and any other table format or table name the Spark session can load."""

from __future__ import annotations

import re

import pyspark.sql.functions as F
from pyspark.sql import Column, DataFrame, DataFrameReader, SparkSession
from pyspark.sql import types as T

from mfspark.data.fields import epoch_seconds, wall_seconds
from mfspark.data.source import Source, clear_errors, existing_files, files_of, logged_format, unmarked
from mfspark.data.text import missing_role, wanted_columns
from mfspark.errors import DataError

FILE_FORMATS = ("avro", "binaryFile", "csv", "json", "orc", "parquet", "text", "xml")
FILE_NAME = re.compile(r"\.(avro|bz2|csv|dat|gz|json|jsonl|orc|parquet|tsv|txt|xml|zip)$", re.IGNORECASE)
TABLE_NAME = re.compile(r"(`[^`]+`|\w+)(\.(`[^`]+`|[\w-]+)){1,2}")
ID_TYPES = (T.StringType, T.ByteType, T.ShortType, T.IntegerType, T.LongType)
TIME_TYPES = (T.ByteType, T.ShortType, T.IntegerType, T.LongType, T.DateType, T.TimestampType, T.TimestampNTZType)
ROLE_TYPES: dict[str, tuple[tuple[type[T.DataType], ...], str]] = {
    "user": (ID_TYPES, "string, int or long"),
    "item": (ID_TYPES, "string, int or long"),
    "rating": ((T.NumericType,), "a number"),
    "timestamp": (TIME_TYPES, "int or long seconds, a date or a timestamp"),
    "weight": ((T.NumericType,), "a number"),
}


def read_parquet(spark: SparkSession, source: Source) -> DataFrame:
    """Read Parquet files; ids keep their type."""
    existing_files(spark, source.path)
    logged = logged_format(spark, source.path)
    if logged:
        raise DataError(
            f"{source.path!r} is a {logged} table: read as bare Parquet it would give removed rows back; "
            f"set format to {logged} or auto"
        )
    return read_table(spark, source)


def read_table(spark: SparkSession, source: Source) -> DataFrame:
    """Read a table by name (``catalog.schema.table``) or any format Spark can load from a path; ids keep their type."""
    options = {key: str(value) for key, value in source.options.items()}
    if source.version_as_of is not None:
        options["versionAsOf"] = str(source.version_as_of)
    with clear_errors(f"{source.format} {source.path!r}"):
        reader = spark.read.options(**options)
        table = reader.table(source.path) if _is_named(spark, source) else _loaded(reader, source)
        columns = table.columns
    return select_typed(table, source, columns)


def is_table_name(path: str) -> bool:
    """Return whether a path reads as schema.table or catalog.schema.table, and not as the name of a file."""
    return TABLE_NAME.fullmatch(path) is not None and not FILE_NAME.search(path)


def _is_named(spark: SparkSession, source: Source) -> bool:
    """Return whether the path is a table's name: a format of files has none, and what exists is a path."""
    if source.format in FILE_FORMATS or TABLE_NAME.fullmatch(source.path) is None:
        return False
    return source.format == "table" or not files_of(spark, source.path)


def _loaded(reader: DataFrameReader, source: Source) -> DataFrame:
    path = source.path if source.format in FILE_FORMATS else unmarked(source.path)
    return reader.format(source.format).load(path or None)


def select_typed(table: DataFrame, source: Source, columns: list[str]) -> DataFrame:
    """Return the reader's columns of a typed table; a missing column or a wrong type is one `DataError`."""
    found: dict[str, Column] = {}
    for role, name in wanted_columns(source).items():
        if name in columns:
            found[role] = _checked(table, source, role, name)
        elif role != "timestamp" or name != "timestamp":
            raise missing_role(source, role, name, columns)
    found["rating"] = found["rating"].cast("double")
    found["timestamp"] = found.get("timestamp", F.lit(None)).cast("long")
    if "weight" in found:
        found["weight"] = found["weight"].cast("double")
    raw = F.to_json(F.struct(*(F.col(_quoted(name)) for name in columns)), {"ignoreNullFields": "false"})
    selected = [column.alias(role) for role, column in found.items()]
    return table.select(*selected, raw.alias("raw"), F.lit(None).cast("string").alias("error"))


def _checked(table: DataFrame, source: Source, role: str, name: str) -> Column:
    data_type = table.schema[name].dataType
    allowed, words = ROLE_TYPES[role]
    if not isinstance(data_type, allowed):
        raise DataError(
            f"{source.path or source.format}: column {name!r} ({role}) has type {data_type.simpleString()}; it must be "
            f"{words}; cast it, or choose another column of {', '.join(table.columns)}"
        )
    column = F.col(_quoted(name))
    if isinstance(data_type, T.DateType):
        return F.unix_date(column).cast("long") * 86400
    if isinstance(data_type, T.TimestampNTZType):
        return wall_seconds(column)
    if isinstance(data_type, T.TimestampType):
        return F.unix_seconds(column)
    return epoch_seconds(column.cast("long")) if role == "timestamp" else column


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
