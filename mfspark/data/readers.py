"""One call for every source of ratings: `read_ratings`. The formats are functions in one dict, `FORMATS`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from pyspark.sql import DataFrame, SparkSession

from mfspark.data.netflix import read_netflix, read_probe_as_ratings
from mfspark.data.source import Source, clear_errors, existing_files, files_of, located, logged_format
from mfspark.data.synthetic import read_synthetic
from mfspark.data.tabular import is_table_name, read_parquet, read_table
from mfspark.data.text import opened, read_csv, read_movielens
from mfspark.errors import DataError

FORMATS: dict[str, Callable[[SparkSession, Source], DataFrame]] = {
    "movielens": read_movielens,
    "netflix": read_netflix,
    "netflix_probe": read_probe_as_ratings,
    "csv": read_csv,
    "parquet": read_parquet,
    "table": read_table,
    "synthetic": read_synthetic,
}
# The file names that say a format by themselves; the first that fits counts.
SUFFIXES = (
    (r"\.parquet$", "parquet"),
    (r"(^|/)(mv_\d+|combined_data_\d+)\.txt(\.gz)?$", "netflix"),
    (r"(^|/)probe\.txt(\.gz)?$", "netflix_probe"),
    (r"\.(dat|data|base|test)(\.gz)?$", "movielens"),
)


def read_ratings(spark: SparkSession, source: Source) -> DataFrame:
    """Read ratings of any known format; every row of the input gives exactly one row.

    Parameters
    ----------
    spark : SparkSession
        Classic or Connect.
    source : Source
        Where, which format, which columns.

    Returns
    -------
    DataFrame
        ``user`` and ``item`` (typed tables: their own type; text: long or string), ``rating`` double, ``timestamp``
        long (seconds since 1970-01-01 UTC, or null), ``weight`` double if the source names one, ``raw`` string (the
        line as it stood, or the row as JSON) and ``error`` string (null, or why the line could not be parsed). In text,
        blank lines and header lines (a csv line equal to the first one, ``MovieID:`` in Netflix files) are no rows.

    Raises
    ------
    DataError
        Nothing at the path, an unknown format, a column that is missing or has a type that cannot be used.
    """
    chosen = located(spark, source)
    chosen = replace(chosen, format=detect_format(spark, chosen)) if source.format == "auto" else chosen
    with clear_errors(f"{chosen.format} {chosen.path!r}"):
        if chosen.version_as_of is not None and chosen.format in FORMATS and chosen.format != "table":
            raise DataError(f"version_as_of is set, but format {chosen.format!r} keeps no versions; leave it out")
        if not chosen.path and chosen.format in FORMATS and chosen.format != "synthetic":
            raise DataError(f"format {chosen.format!r} needs a path")
        if chosen.format in FORMATS:
            return FORMATS[chosen.format](spark, chosen)
        return _read_other(spark, chosen)


def detect_format(spark: SparkSession, source: Source) -> str:
    """Return the format of a path by its table log, its file names, and, for other text, its first line."""
    if not source.path:
        raise DataError("no path and no format; set the path of the ratings, or format synthetic")
    source = located(spark, source)
    files = files_of(spark, source.path)
    if not files and is_table_name(source.path):
        return "table"
    files = files or existing_files(spark, source.path)
    logged = logged_format(spark, source.path)
    if logged:
        return logged
    for pattern, name in SUFFIXES:
        if any(re.search(pattern, file) for file in files):
            return name
    return _text_format(opened(spark, source)[1][0])


def _text_format(line: str) -> str:
    names = {name.strip().strip('"').lower() for name in re.split(r"[,;\t|]|::", line)}
    if {"userid", "movieid"} <= names or not any(re.search(r"[^\W\d]", name) for name in names):
        return "movielens"
    return "csv"


def _read_other(spark: SparkSession, source: Source) -> DataFrame:
    try:
        return read_table(spark, source)
    except DataError as error:
        if "Failed to find the data source" not in str(error):
            raise
        known = ", ".join(sorted(FORMATS))
        raise DataError(
            f"unknown format {source.format!r}; known: auto, {known}, and every format this Spark session can load"
        ) from None
