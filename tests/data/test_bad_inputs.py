"""The corpus of bad inputs: one table, one test each. None is lost, none passes silently."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from mfspark.data import Rules, Source, check, extend_ids, read_ratings, reasons, reconcile
from mfspark.errors import DataError, MFSparkError, ParameterError

RULES = Rules(min_rating=0.5, max_rating=5.0)


@dataclass(frozen=True)
class BadRow:
    """A row of one layout that must be quarantined with a reason, its raw text kept."""

    name: str
    layout: str
    row: object
    reason: str


@dataclass(frozen=True)
class BadSource:
    """A whole input that must raise one clear error whose message has the words."""

    name: str
    read: Callable[[SparkSession, Path], object]
    words: str
    error: type[MFSparkError] = DataError


def _text(name: str, content: str | bytes, **source: object) -> Callable[[SparkSession, Path], object]:
    def read(spark: SparkSession, folder: Path) -> object:
        data = content if isinstance(content, bytes) else content.encode()
        (folder / name).write_bytes(data)
        return check(read_ratings(spark, Source(str(folder / name), **source)), RULES)

    return read


def _files(contents: dict[str, str], **source: object) -> Callable[[SparkSession, Path], object]:
    def read(spark: SparkSession, folder: Path) -> object:
        for name, content in contents.items():
            (folder / name).write_text(content)
        return check(read_ratings(spark, Source(str(folder), **source)), RULES)

    return read


def _parquet(schema: str, rows: list, **source: object) -> Callable[[SparkSession, Path], object]:
    def read(spark: SparkSession, folder: Path) -> object:
        path = str(folder / "t.parquet")
        spark.createDataFrame(rows, schema).coalesce(1).write.parquet(path)
        return check(read_ratings(spark, Source(path, **source)), RULES)

    return read


def _missing(path: str, **source: object) -> Callable[[SparkSession, Path], object]:
    return lambda spark, folder: read_ratings(spark, Source(path.format(folder=folder), **source))


def _ids(existing: list, schema: str) -> Callable[[SparkSession, Path], object]:
    def extend(spark: SparkSession, folder: Path) -> object:  # noqa: ARG001
        ratings = spark.createDataFrame([(1,)], "user long")
        return extend_ids(spark.createDataFrame(existing, schema), ratings, "user")

    return extend


def _corrupt_parquet(spark: SparkSession, folder: Path) -> object:
    (folder / "x.parquet").write_text("no parquet")
    return read_ratings(spark, Source(str(folder / "x.parquet")))


NAN, INF = float("nan"), float("inf")
BAD_INPUTS = [
    # Lines of a MovieLens .dat file, user::item::rating::timestamp.
    BadRow("too few fields", "dat", "1::2", reasons.UNPARSABLE),
    BadRow("a field cut off at the end", "dat", "1::2::4", reasons.UNPARSABLE),
    BadRow("too many fields", "dat", "1::2::3::4::5", reasons.UNPARSABLE),
    BadRow("another delimiter", "dat", "1,2,3,4", reasons.UNPARSABLE),
    BadRow("user is a word", "dat", "abc::2::3::4", reasons.UNPARSABLE),
    BadRow("item is a word", "dat", "1::abc::3::4", reasons.UNPARSABLE),
    BadRow("user is a fraction", "dat", "1.5::2::3::4", reasons.UNPARSABLE),
    BadRow("user beyond 64 bits", "dat", "99999999999999999999::2::3::4", reasons.UNPARSABLE),
    BadRow("rating is a word", "dat", "1::2::good::4", reasons.UNPARSABLE),
    BadRow("rating with a decimal comma", "dat", "1::2::3,5::4", reasons.UNPARSABLE),
    BadRow("timestamp is a word", "dat", "1::2::3::noon", reasons.UNPARSABLE),
    BadRow("user field empty", "dat", "::2::3::4", reasons.NULL_USER),
    BadRow("user field of spaces", "dat", "  ::2::3::5", reasons.NULL_USER),
    BadRow("item field empty", "dat", "1::::3::4", reasons.NULL_ITEM),
    BadRow("rating field empty", "dat", "1::2::::4", reasons.NULL_RATING),
    BadRow("rating NaN", "dat", "1::2::NaN::4", reasons.NAN_RATING),
    BadRow("rating infinite", "dat", "1::2::Infinity::4", reasons.INFINITE_RATING),
    BadRow("rating minus infinite", "dat", "1::2::-Infinity::4", reasons.INFINITE_RATING),
    BadRow("rating beyond float", "dat", "1::2::1e300::4", reasons.INFINITE_RATING),
    BadRow("rating below the range", "dat", "1::2::0::4", reasons.OUT_OF_RANGE),
    BadRow("rating above the range", "dat", "1::2::5.5::4", reasons.OUT_OF_RANGE),
    BadRow("an older duplicate", "dat", "7::7::3::100", reasons.DUPLICATE_OLDER),
    BadRow("bytes that are no text", "dat", "\x00\x01\x02", reasons.UNPARSABLE),
    # Lines of a csv with header and string ids.
    BadRow("csv: too few fields", "csv", "u1,i1", reasons.UNPARSABLE),
    BadRow("csv: too many fields", "csv", "u1,i1,3,4,5", reasons.UNPARSABLE),
    BadRow("csv: a quote left open", "csv", 'u1,"i1,3,4', reasons.UNPARSABLE),
    BadRow("csv: rating is a word", "csv", "u1,i1,five,4", reasons.UNPARSABLE),
    BadRow("csv: user empty", "csv", ",i1,3,4", reasons.NULL_USER),
    BadRow("csv: user blank", "csv", "   ,i1,3,4", reasons.BLANK_USER),
    BadRow("csv: user a no-break space", "csv", "\u00a0,i1,3,4", reasons.BLANK_USER),
    BadRow("csv: item empty", "csv", "u1,,3,4", reasons.NULL_ITEM),
    BadRow("csv: item quoted and empty", "csv", 'u1,"",3,4', reasons.NULL_ITEM),
    BadRow("csv: item blank", "csv", "u1,  ,3,4", reasons.BLANK_ITEM),
    BadRow("csv: rating empty", "csv", "u1,i1,,4", reasons.NULL_RATING),
    BadRow("csv: a date that does not exist", "csv", "u1,i1,3,2005-02-31", reasons.UNPARSABLE),
    # Lines of a Netflix file.
    BadRow("netflix: no movie above", "netflix", "5,3,2005-01-01", reasons.NO_MOVIE),
    BadRow("netflix: movie is a word", "netflix", "abc:", reasons.UNPARSABLE),
    BadRow("netflix: below a bad movie line", "netflix", "6,3,2005-01-01", reasons.NO_MOVIE),
    BadRow("netflix: customer is a word", "netflix", "x,3,2005-01-01", reasons.UNPARSABLE),
    BadRow("netflix: no date field", "netflix", "8,3", reasons.UNPARSABLE),
    BadRow("netflix: bad date", "netflix", "9,3,2005-13-01", reasons.UNPARSABLE),
    # Rows of a typed table: user string, item long, rating double, weight double.
    BadRow("table: user null", "table", (None, 1, 3.0, 1.0), reasons.NULL_USER),
    BadRow("table: user blank", "table", ("\t", 2, 3.0, 1.0), reasons.BLANK_USER),
    BadRow("table: item null", "table", ("a", None, 3.0, 1.0), reasons.NULL_ITEM),
    BadRow("table: rating null", "table", ("a", 4, None, 1.0), reasons.NULL_RATING),
    BadRow("table: rating NaN", "table", ("a", 5, NAN, 1.0), reasons.NAN_RATING),
    BadRow("table: rating infinite", "table", ("a", 6, INF, 1.0), reasons.INFINITE_RATING),
    BadRow("table: rating out of range", "table", ("a", 7, -1.0, 1.0), reasons.OUT_OF_RANGE),
    BadRow("table: weight negative", "table", ("a", 8, 3.0, -1.0), reasons.BAD_WEIGHT),
    BadRow("table: weight NaN", "table", ("a", 9, 3.0, NAN), reasons.BAD_WEIGHT),
    BadRow("table: weight null", "table", ("a", 10, 3.0, None), reasons.BAD_WEIGHT),
    # Whole inputs.
    BadSource("no such path", _missing("{folder}/nothing.csv"), "does not exist"),
    BadSource("no path and no format", _missing(""), "set the path"),
    BadSource("no such table", _missing("no_schema.no_table"), "no_table"),
    BadSource("no such table format", _missing("{folder}", format="tabloid"), "unknown format 'tabloid'"),
    BadSource("version of a format without versions", _missing("x.csv", format="csv", version_as_of=1), "no versions"),
    BadSource("negative version", _missing("x", version_as_of=-1), "0 or more", ParameterError),
    BadSource("unknown id type", _missing("x", id_type="uuid"), "allowed: long, string", ParameterError),
    BadSource("one column twice", _missing("x", user="id", item="id"), "named twice", ParameterError),
    BadSource("empty file", _text("a.csv", ""), "is empty"),
    BadSource("blank lines only", _text("a.dat", "\n  \n\n"), "is empty"),
    BadSource("header only", _text("a.csv", "user,item,rating\n"), "no rows"),
    BadSource("not one good row", _text("a.dat", "1::2::9\n1::3::0\n"), "rating out of range: 2"),
    BadSource("no delimiter", _text("a.csv", "nothing here\n"), "no delimiter"),
    BadSource("two fields only", _text("a.dat", "1::2\n1::3\n"), "no delimiter"),
    BadSource("five fields, no header", _text("a.dat", "1::2::3::4::5\n" * 2), "5 field"),
    BadSource("csv without the rating", _text("a.csv", "user,item,stars\nu,i,3\n"), "no column 'rating'"),
    BadSource("csv lists what exists", _text("a.csv", "who,item,rating\nu,i,3\n"), "who, item, rating"),
    BadSource(
        "named timestamp missing", _text("a.csv", "user,item,rating\nu,i,3\n", timestamp="when"), "no column 'when'"
    ),
    BadSource("weight missing", _text("a.csv", "user,item,rating\nu,i,3\n", weight="w"), "no column 'w'"),
    BadSource("not a gzip file", _text("a.dat.gz", "1::2::3\n"), "a.dat.gz"),
    BadSource(
        "files with different headers",
        _files({"a.csv": "user,item,rating\nu,i,3\n", "b.csv": "item,user,rating\ni,v,3\n"}, format="csv"),
        "different headers",
    ),
    BadSource("a probe file is no ratings", _text("probe.txt", "1:\n10\n"), "mark_probe"),
    BadSource("rating of type string", _parquet("user long, item long, rating string", [(1, 2, "3")]), "type string"),
    BadSource("user of type double", _parquet("user double, item long, rating float", [(1.0, 2, 3.0)]), "type double"),
    BadSource(
        "timestamp of type string", _parquet("user long, item long, rating float, timestamp string", []), "string"
    ),
    BadSource("table without the item", _parquet("user long, rating float", [(1, 3.0)]), "no column 'item'"),
    BadSource("table without rows", _parquet("user long, item long, rating float", []), "no rows"),
    BadSource("a Parquet file that is none", _corrupt_parquet, "x.parquet"),
    BadSource(
        "unknown synthetic option", _missing("", format="synthetic", options={"size": 3}), "no option", ParameterError
    ),
    BadSource("ids: another type", _ids([("a", 0)], "id string, index long"), "id is bigint in the ratings but string"),
    BadSource("ids: an id twice", _ids([(5, 0), (5, 1)], "id long, index long"), "repeated or null ids"),
    BadSource("ids: an index twice", _ids([(5, 0), (6, 0)], "id long, index long"), "repeated or null indices"),
    BadSource("ids: a negative index", _ids([(5, -1)], "id long, index long"), "negative index"),
    BadSource("rows lost", lambda spark, folder: reconcile(10, 6, 3), "1 lost"),  # noqa: ARG005
    BadSource("rows too many", lambda spark, folder: reconcile(10, 8, 3), "1 too many"),  # noqa: ARG005
    BadSource("bounds crossed", lambda spark, folder: Rules(5.0, 1.0), "above", ParameterError),  # noqa: ARG005
    BadSource("unknown policy", lambda spark, folder: Rules(duplicates="first"), "allowed", ParameterError),  # noqa: ARG005
]
BAD_ROWS = [case for case in BAD_INPUTS if isinstance(case, BadRow)]
BAD_SOURCES = [case for case in BAD_INPUTS if isinstance(case, BadSource)]


def _lines(layout: str) -> list[str]:
    return [str(case.row) for case in BAD_ROWS if case.layout == layout]


def _raw(row: object) -> str:
    """The raw text a bad row must keep: the line itself, or the table's row as Spark writes JSON."""
    if isinstance(row, str):
        return row
    values = []
    for name, value in zip(("user", "item", "rating", "weight"), row, strict=True):  # type: ignore[call-overload]
        if isinstance(value, str):
            text = '"' + value.replace("\t", "\\t") + '"'
        elif isinstance(value, float) and not math.isfinite(value):
            text = '"NaN"' if math.isnan(value) else '"Infinity"'
        else:
            text = "null" if value is None else str(value)
        values.append(f'"{name}":{text}')
    return "{" + ",".join(values) + "}"


@pytest.fixture(scope="module")
def outcomes(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple]:
    """Every layout's bad rows, read and checked once: raw -> reason, and the counts."""
    folder = tmp_path_factory.mktemp("bad")
    dat = ["10::1::3::5", "10::2::4::5", *_lines("dat"), "7::7::4::200", "10::3::4.5::5"]
    (folder / "bad.dat").write_text("\n".join(dat) + "\n\n")
    csv = ["user,item,rating,timestamp", "g1,i1,3,4", *_lines("csv"), 'g2,"i,2",4.5,2005-02-28']
    (folder / "bad.csv").write_text("\n".join(csv))
    first, bad, below, *rest = _lines("netflix")
    netflix = [first, "1:", "1,3,2005-01-01", bad, below, "2:", *rest, "2,4,2005-01-02"]
    (folder / "combined_data_1.txt").write_text("\n".join(netflix) + "\n")
    table = [case.row for case in BAD_ROWS if case.layout == "table"]
    rows = [("good", 1, 3.0, 1.0), *table]
    schema = "user string, item long, rating double, weight double"
    spark.createDataFrame(rows, schema).coalesce(1).write.parquet(str(folder / "bad.parquet"))
    sources = {
        "dat": (Source(str(folder / "bad.dat")), len(dat)),
        "csv": (Source(str(folder / "bad.csv")), len(csv) - 1),
        "netflix": (Source(str(folder / "combined_data_1.txt")), len(netflix) - 2),
        "table": (Source(str(folder / "bad.parquet"), weight="weight"), len(rows)),
    }
    found = {}
    for layout, (source, rows_in) in sources.items():
        ratings = read_ratings(spark, source)
        checked = check(ratings, RULES)
        rejected = [(row["raw"], row["reason"]) for row in checked.rejected.collect()]
        found[layout] = (rows_in, ratings.count(), checked, rejected)
    return found


@pytest.mark.parametrize("case", BAD_ROWS, ids=[case.name for case in BAD_ROWS])
def test_bad_row_is_quarantined_with_its_reason_and_its_raw_text(case: BadRow, outcomes: dict[str, tuple]) -> None:
    rows_in, rows_read, checked, rejected = outcomes[case.layout]
    assert rows_read == rows_in
    reconcile(rows_in, checked.accepted_count, len(rejected))
    assert [reason for raw, reason in rejected if raw == _raw(case.row)] == [case.reason]


@pytest.mark.parametrize("layout", ["dat", "csv", "netflix", "table"])
def test_the_good_rows_around_them_are_accepted(layout: str, outcomes: dict[str, tuple]) -> None:
    rows_in, _, checked, rejected = outcomes[layout]
    bad = sum(case.layout == layout for case in BAD_ROWS)
    assert len(rejected) == checked.rejected_count == bad
    assert checked.accepted_count == checked.accepted.count() == rows_in - bad


@pytest.mark.parametrize("case", BAD_SOURCES, ids=[case.name for case in BAD_SOURCES])
def test_bad_source_is_one_clear_error(case: BadSource, spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(case.error, match=case.words) as caught:
        case.read(spark, tmp_path)
    assert "\tat " not in str(caught.value) and len(str(caught.value)) < 1000


def test_the_corpus_is_large_and_names_are_unique() -> None:
    names = [case.name for case in BAD_INPUTS]
    assert len(names) >= 40 and len(set(names)) == len(names)
