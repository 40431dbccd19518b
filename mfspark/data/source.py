"""Where ratings come from, and how Spark's errors about it become one clear sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from urllib.parse import unquote

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from mfspark.errors import DataError, ParameterError

ID_TYPES = ("long", "string")
ENCODINGS = {
    "utf-8": "UTF-8",
    "latin-1": "ISO-8859-1",
    "utf-16": "UTF-16",
    "utf-16le": "UTF-16LE",
    "utf-16be": "UTF-16BE",
}
GLOB_MARKS = re.compile(r"[\\*?\[\]{}]")
_CONDITION = re.compile(r"\[([A-Z][A-Z0-9_.]+)\]\s*([^\n]*)")


@dataclass(frozen=True)
class Source:
    """One input of ratings.

    Parameters
    ----------
    path : str
        A file, a folder, a glob, or the name of a table (``catalog.schema.table``). What exists by that very name is
        meant by it, whatever brackets, braces or stars it has; anything else is a glob. Not used by ``synthetic``.
    format : str
        ``auto`` (default), a key of `mfspark.data.readers.FORMATS`, or any other format this Spark session can load.
    user, item, rating : str
        Column names (defaults ``user``, ``item``, ``rating``). In text, letters of either case fit, and the defaults
        also find MovieLens's names (``userId``, ``movieId``, ``item_id``, ...).
    timestamp : str or None
        Column of the time of a rating: an ISO date or time, or seconds since 1970-01-01 UTC; whole numbers from 1e11 on
        are milliseconds, from 1e14 on micro-, from 1e17 on nanoseconds. The default
        ``timestamp`` may be absent; another name must exist. None: do not read it.
    weight : str, optional
        Column of a weight per rating; becomes the column ``weight`` (double).
    delimiter : str, optional
        Between the fields of a text line. Default: found from the first lines.
    header : bool, optional
        Whether the first line of each text file names the columns. Default: it does unless one of its fields is a
        number. Text without header has user, item, rating[, timestamp[, weight]].
    encoding : str, optional
        Of text: ``utf-8``, ``latin-1``, ``utf-16``, ``utf-16le`` or ``utf-16be``. Default: utf-16 where the first file
        starts with its byte order mark, else utf-8. Each file of the utf-16 kinds is decoded as a whole.
    decimal : str
        The decimal mark of ratings and weights in text, ``.`` (default) or ``,``.
    thousands : str, optional
        What groups the digits of ratings and weights in text, such as ``,`` in 1,234.5. Default: nothing does.
    timestamp_format : str, optional
        How times are written in text, by the letters of Spark's datetime patterns, such as ``M/d/yyyy`` (UTC unless the
        pattern has a zone). Default: as told at ``timestamp``.
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
    encoding: str | None = None
    decimal: str = "."
    thousands: str | None = None
    timestamp_format: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse values that could not take effect."""
        if self.id_type is not None and self.id_type not in ID_TYPES:
            raise ParameterError(f"id_type is {self.id_type!r}; allowed: {', '.join(ID_TYPES)}")
        if self.encoding is not None and self.encoding not in ENCODINGS:
            raise ParameterError(f"encoding is {self.encoding!r}; allowed: {', '.join(ENCODINGS)}")
        if self.decimal not in (".", ",") or self.thousands == self.decimal:
            raise ParameterError(f"decimal is {self.decimal!r}; allowed: . or , and not what thousands is")
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
    # A single glob twice: Spark would look for a folder of that very name first, and warn of it with a stack trace.
    paths = [path, path] if GLOB_MARKS.search(path) else path
    try:
        # Spark names them as URIs: a space is %20 there.
        return sorted({unquote(file) for file in spark.read.text(paths).inputFiles()})
    except PySparkException as error:
        if "PATH_NOT_FOUND" in str(error):
            return []
        raise DataError(f"{path}: {_sentence(error)}") from None


def literal(path: str) -> str:
    """Return a path whose stars, brackets and braces are letters to Spark."""
    return GLOB_MARKS.sub(r"\\\g<0>", path)


def unmarked(path: str) -> str:
    """Return the path that `literal` was given, for sources that know no globs."""
    return re.sub(r"\\([\\*?\[\]{}])", r"\1", path)


def located(spark: SparkSession, source: Source) -> Source:
    """Return the source with its path as Spark must read it: what exists by that very name is no glob."""
    if GLOB_MARKS.search(source.path) and files_of(spark, literal(source.path)):
        return replace(source, path=literal(source.path))
    return source


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
    encoding, path = source.encoding or "utf-8", path or source.path
    with clear_errors(source.path):
        if encoding.startswith("utf-16"):
            # Lines of two-byte letters cannot be cut by bytes: each file is decoded as a whole.
            content = F.decode("content", ENCODINGS[encoding])
            return (
                spark.read.format("binaryFile").load(path).select(F.explode(F.split(content, "\r?\n")).alias("value"))
            )
        lines = spark.read.options(**_spark_options(source)).text(path)
        if encoding == "utf-8":
            return lines
        return lines.select(F.decode(F.col("value").cast("binary"), ENCODINGS[encoding]).alias("value"))


def _spark_options(source: Source) -> dict[str, str]:
    return {key: str(value) for key, value in source.options.items()}
