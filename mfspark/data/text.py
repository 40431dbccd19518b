"""Text ratings, one line = one row: MovieLens files and csv. No nonblank line is lost: a bad one carries its error."""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass, replace

import pyspark.sql.functions as F
from pyspark.sql import Column, DataFrame, SparkSession

from mfspark.data.fields import check_first_fields, select_parsed
from mfspark.data.source import Source, clear_errors, existing_files, literal, text_lines
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
NO_UTF8 = "\ufffd"  # what Python is shown in place of bytes that are none
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
    return _read_delimited(spark, source, "long")


def read_csv(spark: SparkSession, source: Source) -> DataFrame:
    """Read delimited text with named columns (a header) or in the order user, item, rating[, timestamp[, weight]]."""
    return _read_delimited(spark, source, "string")


def _read_delimited(spark: SparkSession, source: Source, id_type: str) -> DataFrame:
    source, lines = opened(spark, source)
    delimiter = source.delimiter or sniff_delimiter(lines)
    # Without quotes Spark splits twice as fast as its csv parser does; a csv may have one after the first lines.
    quote = '"' if len(delimiter) == 1 and (id_type == "string" or any('"' in line for line in lines)) else ""
    names = split_line(lines[0], delimiter, quote)
    with_header = source.header if source.header is not None else not any(map(_is_number, names))
    if with_header:
        layout = Layout(delimiter, len(names), named_roles(source, names), lines[0], quote)
    else:
        layout = positional_layout(source, lines, delimiter, quote)
    rows = [split_line(line, delimiter, quote) for line in lines if line != layout.header]
    whole = [row for row in rows if len(row) == layout.width]
    fields = {role: [row[position] for row in whole] for role, position in layout.roles.items()}
    id_type = source.id_type or id_type
    check_first_fields(source, fields, id_type)
    return parse_lines(_data_lines(spark, source, layout), layout, source, id_type)


def opened(spark: SparkSession, source: Source) -> tuple[Source, list[str]]:
    """Return the source with its encoding found, and its first lines.

    Raises
    ------
    DataError
        Nothing there, or no text in the encoding.
    """
    lines = first_lines(spark, source)
    if source.encoding is not None:
        return source, lines
    first = lines[0]
    if "\0" in first and first.startswith(NO_UTF8 * 2):  # the byte order mark
        return opened(spark, replace(source, encoding="utf-16"))
    if first.count("\0") > len(first) // 3:
        raise DataError(
            f"{source.path!r} looks like UTF-16 without a byte order mark: set encoding to utf-16le or utf-16be"
        )
    if any(NO_UTF8 in line for line in lines):
        raise DataError(f"{source.path!r} is no UTF-8 text: set encoding (to latin-1, for example), or unpack the file")
    return source, lines


def first_lines(spark: SparkSession, source: Source, count: int = SNIFFED_LINES) -> list[str]:
    """Return the first nonblank lines of the first file that has any; `DataError` where there are none."""
    files = existing_files(spark, source.path)
    for path in (literal(files[0]), source.path):
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
    """Return the position of each role's column; `DataError` names a missing one and those that exist.

    A name fits as it is written, else in letters of either case; a default name also finds those of MovieLens.
    """
    roles, lowered = {}, [name.lower() for name in names]
    for role, wanted in wanted_columns(source).items():
        known = MOVIELENS_NAMES.get(role, ()) if wanted == role else ()
        others = [name for name in (wanted.lower(), *known) if name in lowered]
        if wanted in names:
            roles[role] = names.index(wanted)
        elif others:
            roles[role] = lowered.index(others[0])
        elif (role, wanted) != ("timestamp", "timestamp"):
            raise missing_role(source, role, wanted, names)
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
    return select_parsed(fields, texts, corrupt, id_type, source)


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


def nonblank(column: str) -> Column:
    """Return whether a line has anything but white space."""
    return F.col(column).rlike(r"[^\s\uFEFF]")


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+([.,]\d+)*", text) is not None
