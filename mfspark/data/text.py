"""Text ratings, one line = one row: MovieLens files and csv. No nonblank line is lost: a bad one carries its error."""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass

import pyspark.sql.functions as F
from pyspark.sql import Column, DataFrame, SparkSession

from mfspark.data.reasons import UNPARSABLE
from mfspark.data.source import Source, clear_errors, existing_files, text_lines
from mfspark.errors import DataError, missing_column

SNIFFED_LINES = 50
DELIMITERS = ("::", "\t", ",", ";", "|", " ")
MOVIELENS_NAMES = {
    "user": ("userid", "user_id", "user"),
    "item": ("movieid", "movie_id", "itemid", "item_id", "item", "movie"),
    "rating": ("rating",),
    "timestamp": ("timestamp",),
}
BYTE_ORDER_MARK = "\ufeff"
_CORRUPT = "_corrupt"
_UNIT_SEPARATOR = "\x1f"


@dataclass(frozen=True)
class Layout:
    """How a line splits: the delimiter, its fields by role (None: absent), how many, the header line, the quote."""

    delimiter: str
    width: int
    roles: dict[str, int]
    header: str | None = None
    quote: str = ""


def read_movielens(spark: SparkSession, source: Source) -> DataFrame:
    """Read MovieLens ratings: ``::`` in .dat, tabs in u.data, csv with or without header; timestamps or not; .gz."""
    lines = first_lines(spark, source)
    delimiter = source.delimiter or sniff_delimiter(lines)
    names = split_line(lines[0], delimiter, "")
    with_header = source.header if source.header is not None else not _is_number(names[0])
    if with_header:
        layout = Layout(delimiter, len(names), _movielens_roles(source, names), lines[0])
    else:
        layout = positional_layout(source, lines, delimiter)
    return parse_lines(_data_lines(spark, source, layout), layout, source, source.id_type or "long")


def read_csv(spark: SparkSession, source: Source) -> DataFrame:
    """Read delimited text with named columns (header, the default) or in the order user, item, rating[, timestamp]."""
    lines = first_lines(spark, source)
    delimiter = source.delimiter or sniff_delimiter(lines)
    if source.header is False:
        layout = positional_layout(source, lines, delimiter, quote='"')
    else:
        names = split_line(lines[0], delimiter, '"')
        layout = Layout(delimiter, len(names), named_roles(source, names), lines[0], '"')
    return parse_lines(_data_lines(spark, source, layout), layout, source, source.id_type or "string")


def first_lines(spark: SparkSession, source: Source, count: int = SNIFFED_LINES) -> list[str]:
    """Return the first nonblank lines of the first file that has any; `DataError` where there are none."""
    files = existing_files(spark, source.path)
    for path in (files[0], source.path):
        with clear_errors(source.path):
            rows = text_lines(spark, source, path).where(nonblank("value")).limit(count).collect()
        if rows:
            return [rows[0][0].removeprefix(BYTE_ORDER_MARK), *(row[0] for row in rows[1:])]
    raise DataError(f"{source.path!r} is empty: {len(files)} file(s) without a single nonblank line")


def sniff_delimiter(lines: list[str]) -> str:
    """Return the delimiter that splits most lines into at least three fields, the longest one first."""
    counts = {mark: sum(line.count(mark) >= 2 for line in lines) for mark in DELIMITERS}
    best = max(DELIMITERS, key=lambda mark: counts[mark])
    if counts[best] == 0:
        raise DataError(
            f"no delimiter found: none of {DELIMITERS} splits a line into user, item, rating "
            f"(first line: {lines[0]!r}); set the delimiter"
        )
    return best


def split_line(line: str, delimiter: str, quote: str) -> list[str]:
    """Split one line on the driver, as Spark will split the others."""
    if len(delimiter) > 1 or not quote:
        return [name.strip() for name in line.split(delimiter)]
    return [name.strip() for name in next(csv.reader([line], delimiter=delimiter, quotechar=quote))]


def named_roles(source: Source, names: list[str]) -> dict[str, int]:
    """Return the position of each role's column; `DataError` names a missing one and those that exist."""
    roles = {}
    for role, name in wanted_columns(source).items():
        if name in names:
            roles[role] = names.index(name)
        elif role != "timestamp" or name != "timestamp":
            raise missing_role(source, role, name, names)
    return roles


def wanted_columns(source: Source) -> dict[str, str]:
    """Return the column name of each role that the source names."""
    named = {role: getattr(source, role) for role in ("user", "item", "rating", "timestamp", "weight")}
    return {role: name for role, name in named.items() if name is not None}


def missing_role(source: Source, role: str, name: str, names: list[str]) -> DataError:
    """Return the error for a column of a role that is not there."""
    where = str(source.path or source.format)
    return missing_column(name, names, where, f"set {role} to one of them")


def positional_layout(source: Source, lines: list[str], delimiter: str, quote: str = "") -> Layout:
    """Return the layout of lines without header; the number of fields is that of most of the first lines."""
    widths = Counter(len(split_line(line, delimiter, quote)) for line in lines)
    width = max(widths, key=lambda fields: (widths[fields], fields))
    order = ["user", "item", "rating", "timestamp"] + (["weight"] if source.weight else [])
    if not 3 <= width <= len(order):
        raise DataError(
            f"{source.path!r}: most lines have {width} field(s) between {delimiter!r}, but without a header the fields "
            f"are {', '.join(order)} (first line: {lines[0]!r}); set the delimiter, or header and the column names"
        )
    if source.weight and width < len(order):
        raise missing_role(source, "weight", source.weight, order[:width])
    roles = {role: position for position, role in enumerate(order[:width])}
    if source.timestamp is None:
        roles.pop("timestamp", None)
    return Layout(delimiter, width, roles, None, quote)


def parse_lines(lines: DataFrame, layout: Layout, source: Source, id_type: str) -> DataFrame:
    """Turn the column ``value`` into user, item, rating, timestamp[, weight], raw, error: one row a nonblank line.

    A line is unparsable when its number of fields differs from the layout's, or a long id, a rating, a timestamp or a
    weight is no number. An empty field is null, not an error. Blank lines (white space only) are no rows.
    """
    split = _split_quoted(layout) if layout.quote else _split_plain(layout)
    fields = lines.where(nonblank("value")).select("*", split.alias("f"))
    if layout.quote:
        texts = {role: F.col(f"f._{position}") for role, position in layout.roles.items()}
        corrupt = F.col(f"f.{_CORRUPT}").isNotNull()
    else:
        texts = {role: F.get("f", F.lit(position)) for role, position in layout.roles.items()}
        corrupt = F.size("f") != layout.width
    return select_parsed(fields, texts, corrupt, id_type, bool(source.weight))


def select_parsed(
    fields: DataFrame, texts: dict[str, Column], corrupt: Column, id_type: str, weighted: bool
) -> DataFrame:
    """Return the reader's columns from the text of each field (see `parse_lines`)."""
    if id_type == "long":
        texts = texts | {role: _or_null(texts[role]) for role in ("user", "item")}
    parsed = {role: texts[role].try_cast(id_type) for role in ("user", "item")}
    parsed["rating"] = _or_null(texts["rating"]).try_cast("double")
    time = _or_null(texts["timestamp"]) if "timestamp" in texts else F.lit(None).cast("string")
    parsed["timestamp"] = seconds(time)
    present = {"rating": _or_null(texts["rating"]), "timestamp": time, "user": texts["user"], "item": texts["item"]}
    if weighted:
        present["weight"] = _or_null(texts["weight"])
        parsed["weight"] = present["weight"].try_cast("double")
    bad = corrupt
    for role, text in present.items():
        bad = bad | (text.isNotNull() & parsed[role].isNull())
    error = F.when(bad, UNPARSABLE)
    if "error" in fields.columns:
        error = F.coalesce(F.col("error"), error)
    columns = [column.alias(role) for role, column in parsed.items()]
    return fields.select(*columns, F.col("value").alias("raw"), error.alias("error"))


def seconds(text: Column) -> Column:
    """Return seconds since 1970-01-01 UTC of a text: whole seconds, or a date (and time; UTC unless it has a zone)."""
    zoned = F.unix_seconds(text.try_cast("timestamp"))
    written_out = F.when(text.rlike(r":\d\d.*(Z|[+-]\d\d:?\d\d)$"), zoned).when(
        text.contains("-"), wall_seconds(text.try_cast("timestamp_ntz"))
    )
    return F.coalesce(text.try_cast("long"), written_out)


def wall_seconds(time: Column) -> Column:
    """Return the seconds from 1970-01-01 to a timestamp without zone, whatever the session's time zone."""
    day = F.unix_date(time.cast("date")).cast("long")
    return ((day * 24 + F.hour(time)) * 60 + F.minute(time)) * 60 + F.floor(F.second(time))


def _split_plain(layout: Layout) -> Column:
    # Spark splits quickly on one character only, and quotes mean nothing here: twice as fast as its csv parser.
    value, mark = F.col("value"), layout.delimiter
    if len(mark) > 1:
        value, mark = F.replace(value, F.lit(mark), F.lit(_UNIT_SEPARATOR)), _UNIT_SEPARATOR
    return F.split(value, re.escape(mark))


def _split_quoted(layout: Layout) -> Column:
    schema = ", ".join([f"_{k} string" for k in range(layout.width)] + [f"{_CORRUPT} string"])
    options = {"sep": layout.delimiter, "quote": layout.quote, "columnNameOfCorruptRecord": _CORRUPT}
    return F.from_csv("value", schema, options | {"mode": "PERMISSIVE", "escape": layout.quote})


def _data_lines(spark: SparkSession, source: Source, layout: Layout) -> DataFrame:
    value = F.col("value")
    unmarked = F.when(value.startswith(BYTE_ORDER_MARK), F.substring(value, 2, 2**31 - 1)).otherwise(value)
    lines = text_lines(spark, source).select(unmarked.alias("value"))
    if layout.header is None:
        return lines
    _one_header(lines, source, layout)
    return lines.where(F.col("value") != layout.header)


def _one_header(lines: DataFrame, source: Source, layout: Layout) -> None:
    """Refuse a folder whose files have different headers: their columns would be mixed up without a sign."""
    if len(lines.inputFiles()) < 2 or layout.header is None:
        return
    names = split_line(layout.header, layout.delimiter, layout.quote)
    like = F.lit(True)
    for role in ("user", "item", "rating"):
        like = like & F.col("value").contains(names[layout.roles[role]])
    with clear_errors(source.path):
        headers = sorted(row[0] for row in lines.where(like).distinct().limit(10).collect())
    if len(headers) > 1:
        raise DataError(f"{source.path!r}: its files have different headers: {headers}; read them one by one")


def _movielens_roles(source: Source, names: list[str]) -> dict[str, int]:
    lowered = [name.lower() for name in names]
    roles = {}
    for role, known in MOVIELENS_NAMES.items():
        wanted = getattr(source, role)
        candidates = [wanted.lower(), *known] if wanted else []
        found = next((lowered.index(name) for name in candidates if name in lowered), None)
        if found is not None:
            roles[role] = found
        elif role != "timestamp":
            raise missing_role(source, role, wanted, names)
    if source.weight:
        roles["weight"] = named_roles(source, names)["weight"] if source.weight in names else -1
        if roles["weight"] < 0:
            raise missing_role(source, "weight", source.weight, names)
    return roles


def nonblank(column: str) -> Column:
    """Return whether a line has anything but white space."""
    return F.col(column).rlike(r"[^\s\uFEFF]")


def _or_null(text: Column) -> Column:
    return F.when(F.length(F.trim(text)) > 0, text)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\s*[+-]?\d+(\.\d+)?\s*", text) is not None
