"""Where ratings come from, and how Spark's errors about it become one clear sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from mfspark.errors import DataError, ParameterError

ID_TYPES = ("long", "string")
_CONDITION = re.compile(r"\[([A-Z][A-Z0-9_.]+)\]\s*([^\n]*)")


@dataclass(frozen=True)
class Source:
    """One input of ratings.

    Parameters
    ----------
    path : str
        A file, a folder, a glob, or the name of a table (``catalog.schema.table``). Not used by ``synthetic``.
    format : str
        ``auto`` (default), a key of `mfspark.data.readers.FORMATS`, or any other format this Spark session can load.
    user, item, rating : str
        Column names (defaults ``user``, ``item``, ``rating``).
    timestamp : str or None
        Column of the time of a rating: whole seconds since 1970-01-01 UTC, or a date or timestamp. The default
        ``timestamp`` may be absent; another name must exist. None: do not read it.
    weight : str, optional
        Column of a weight per rating; becomes the column ``weight`` (double).
    delimiter : str, optional
        Between the fields of a text line. Default: found from the first lines.
    header : bool, optional
        Whether the first line of each text file names the columns. Default: found from the first lines for
        ``movielens``, True for ``csv``. A csv without header has user, item, rating[, timestamp[, weight]].
    version_as_of : int, optional
        Version of a versioned table to read.
    id_type : str, optional
        ``long`` or ``string``, for text formats. Default: long for movielens and netflix, string for csv. A long id
        that does not parse makes the line unparsable.
    options : mapping
        Handed to Spark's reader; for ``synthetic`` the arguments of `mfspark.data.synthetic.netflix_like`.
    """

    path: str = ""
    format: str = "auto"
    user: str = "user"
    item: str = "item"
    rating: str = "rating"
    timestamp: str | None = "timestamp"
    weight: str | None = None
    delimiter: str | None = None
    header: bool | None = None
    version_as_of: int | None = None
    id_type: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse values that could not take effect."""
        if self.id_type is not None and self.id_type not in ID_TYPES:
            raise ParameterError(f"id_type is {self.id_type!r}; allowed: {', '.join(ID_TYPES)}")
        if self.delimiter == "":
            raise ParameterError("delimiter is empty; leave it out to have it found from the first lines")
        if self.version_as_of is not None and self.version_as_of < 0:
            raise ParameterError(f"version_as_of is {self.version_as_of}; a version is 0 or more")
        names = [name for name in (self.user, self.item, self.rating, self.timestamp, self.weight) if name is not None]
        if len(set(names)) < len(names):
            raise ParameterError(f"one column is named twice among user, item, rating, timestamp, weight: {names}")


@contextmanager
def clear_errors(what: str) -> Iterator[None]:
    """Turn what Spark raises inside the block into one `DataError` that names `what`, without the stack trace."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, PySparkException) and type(error).__name__ != "Py4JJavaError":
            raise
        raise DataError(f"{what}: {_sentence(error)}") from None


def _sentence(error: Exception) -> str:
    found = _CONDITION.search(str(error))
    if found is None:
        skipped = ("at ", "An error occurred while calling")
        lines = [line.strip() for line in str(error).splitlines() if not line.strip().startswith(skipped)]
        texts = [re.sub(r"^[:\s]*([\w.$]+(Exception|Error): )?", "", line) for line in lines if line]
        return texts[0] if texts else type(error).__name__
    deeper = re.search(r"Caused by: [\w.$]*?(\w+): ([^\n]*)", str(error))
    cause = f" ({deeper[1]}: {deeper[2]})" if deeper and found[1].startswith("FAILED_READ_FILE") else ""
    return f"{found[2].split(' SQLSTATE')[0]}{cause}"


def files_of(spark: SparkSession, path: str) -> list[str]:
    """Return the files Spark would read at a path (file, folder or glob), sorted; none when nothing is there."""
    try:
        return sorted(spark.read.text(path).inputFiles())
    except PySparkException as error:
        if "PATH_NOT_FOUND" in str(error):
            return []
        raise DataError(f"{path}: {_sentence(error)}") from None


def existing_files(spark: SparkSession, path: str) -> list[str]:
    """Return the files at a path, or raise `DataError` when there are none."""
    files = files_of(spark, path)
    if not files:
        raise DataError(f"{path!r} does not exist or holds no files; check the path")
    return files


def logged_format(spark: SparkSession, path: str) -> str | None:
    """Return the table format whose log lies in a folder (``_<format>_log``), or None."""
    logs = files_of(spark, f"{path.rstrip('/')}/_*_log")
    found = re.search(r"/_(\w+)_log/", logs[0]) if logs else None
    return found[1] if found else None


def text_lines(spark: SparkSession, source: Source, path: str | None = None) -> DataFrame:
    """Return the lines of a text source: one column, ``value``."""
    with clear_errors(source.path):
        return spark.read.options(**_spark_options(source)).text(path or source.path)


def _spark_options(source: Source) -> dict[str, str]:
    return {key: str(value) for key, value in source.options.items()}
