"""From the text of a field to its value: ids, numbers, times; and which option to set where none of them parses."""

from __future__ import annotations

import re

import pyspark.sql.functions as F
from pyspark.sql import Column, DataFrame

from mfspark.data.reasons import UNPARSABLE
from mfspark.data.source import Source
from mfspark.errors import DataError

# A whole number of this size or more counts so many of its units a second: 1e11 s are the year 5138.
EPOCH_UNITS = ((10**17, 10**9), (10**14, 10**6), (10**11, 10**3))
ZONE_LETTERS = re.compile(r"[XxZzVO]")
FLOAT = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)"
TIME = r"[+-]?\d+(\.\d*)?|\d{4}-\d{1,2}(-\d{1,2}([T ].*)?)?"


def select_parsed(
    fields: DataFrame, texts: dict[str, Column], corrupt: Column, id_type: str, source: Source
) -> DataFrame:
    """Return the reader's columns from the text of each role's field, and an error for a row that does not parse."""
    present = {role: text if role in ("user", "item") else _or_null(text) for role, text in texts.items()}
    if id_type == "long":
        present |= {role: _or_null(texts[role]) for role in ("user", "item")}
    present.setdefault("timestamp", F.lit(None).cast("string"))
    parsed = {role: present[role].try_cast(id_type) for role in ("user", "item")}
    parsed["rating"] = number(present["rating"], source)
    parsed["timestamp"] = seconds(present["timestamp"], source.timestamp_format)
    if "weight" in present:
        parsed["weight"] = number(present["weight"], source)
    bad = corrupt
    for role, text in present.items():
        bad = bad | (text.isNotNull() & parsed[role].isNull())
    error = F.when(bad, UNPARSABLE)
    if "error" in fields.columns:
        error = F.coalesce(F.col("error"), error)
    columns = [column.alias(role) for role, column in parsed.items()]
    return fields.select(*columns, F.col("value").alias("raw"), error.alias("error"))


def number(text: Column, source: Source) -> Column:
    """Return the double a text stands for, by the source's decimal mark and thousands separator; else null."""
    if source.thousands is not None:
        grouped = text.rlike(rf"^\s*{_grouped(source)}\s*$")
        text = F.when(grouped, F.replace(text, F.lit(source.thousands), F.lit(""))).otherwise(text)
    if source.decimal == ",":
        text = F.when(~text.contains("."), F.replace(text, F.lit(","), F.lit(".")))
    return text.try_cast("double")


def seconds(text: Column, pattern: str | None = None) -> Column:
    """Return seconds since 1970-01-01 UTC of a text: by the pattern, or an epoch time or an ISO date (and time).

    What has no time zone is UTC, whatever the session's zone.
    """
    if pattern is not None:
        if ZONE_LETTERS.search(re.sub(r"'[^']*'", "", pattern)):
            return F.unix_seconds(F.try_to_timestamp(text, F.lit(pattern)))
        return F.unix_seconds(F.try_to_timestamp(F.concat(text, F.lit(" +00:00")), F.lit(f"{pattern} XXX")))
    zoned = F.unix_seconds(text.try_cast("timestamp"))
    written_out = F.when(text.rlike(r":\d\d.*(Z|[+-]\d\d:?\d\d)$"), zoned).when(
        text.contains("-"), wall_seconds(text.try_cast("timestamp_ntz"))
    )
    whole = F.coalesce(text.try_cast("long"), text.try_cast("double").try_cast("long"))
    return F.coalesce(epoch_seconds(whole), written_out)


def epoch_seconds(value: Column) -> Column:
    """Return a whole number of seconds, milli-, micro- or nanoseconds since 1970, told apart by size, in seconds."""
    scaled = value
    for least, units in reversed(EPOCH_UNITS):
        scaled = F.when(F.abs(value) >= least, F.call_function("div", value, F.lit(units).cast("long"))).otherwise(
            scaled
        )
    return scaled


def wall_seconds(time: Column) -> Column:
    """Return the seconds from 1970-01-01 to a timestamp without zone, whatever the session's time zone."""
    day = F.unix_date(time.cast("date")).cast("long")
    return ((day * 24 + F.hour(time)) * 60 + F.minute(time)) * 60 + F.floor(F.second(time))


def check_first_fields(source: Source, fields: dict[str, list[str]], id_type: str) -> None:
    """Refuse a source of whose first lines most have a field that does not parse; the error says what to set.

    Parameters
    ----------
    source : Source
        What was read.
    fields : dict of str to list of str
        The texts of each role in the first lines; empty ones do not count.
    id_type : str
        ``long`` or ``string``.

    Raises
    ------
    DataError
        Names the role, an example, and the option.
    """
    for role, texts in fields.items():
        pattern = _pattern(role, source, id_type)
        given = [text.strip() for text in texts if text.strip()]
        bad = [text for text in given if pattern and not re.fullmatch(pattern, text, re.IGNORECASE)]
        if 2 * len(bad) > len(given):
            raise DataError(
                f"{source.path!r}: most {role} fields of the first lines do not parse, for example {bad[0]!r}: "
                f"set {_advice(role, bad[0], source)}"
            )


def _pattern(role: str, source: Source, id_type: str) -> str | None:
    """Return what a field of a role looks like, or None where it may be anything."""
    if role in ("user", "item"):
        return r"[+-]?\d+" if id_type == "long" else None
    if role == "timestamp":
        return None if source.timestamp_format else TIME
    plain = FLOAT if source.decimal == "." else FLOAT.replace(r"\.", ",")
    return plain if source.thousands is None else f"{plain}|{_grouped(source)}"


def _grouped(source: Source) -> str:
    mark, decimal = re.escape(source.thousands or ""), re.escape(source.decimal)
    return rf"[+-]?\d{{1,3}}({mark}\d{{3}})+({decimal}\d*)?"


def _advice(role: str, text: str, source: Source) -> str:
    if role in ("user", "item"):
        return f"id_type to string, or {role} to another column"
    if role == "timestamp":
        return "timestamp_format, for example to M/d/yyyy or d.M.yyyy, or timestamp to null to leave times out"
    if source.decimal == "." and "," in text:
        return "decimal to ',' where it is a decimal comma, or thousands to ',' where it groups digits"
    return f"decimal, thousands, or {role} to another column"


def _or_null(text: Column) -> Column:
    return F.when(F.length(F.trim(text)) > 0, text)
