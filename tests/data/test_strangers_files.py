"""Files as strangers have them: each is read as it stands, or the error says which option to set; no row is lost."""

import gzip

import pytest

from mfspark.data import Source, check, read_ratings, reconcile
from mfspark.data.source import files_of, literal
from mfspark.errors import DataError

DAY = 1120176000  # 2005-07-01
ROWS = [("u1", "i1", 3.0, None), ("u2", "i2", 4.5, None)]
PLAIN = "user,item,rating\nu1,i1,3\nu2,i2,4.5\n"
NUMBERS = [(1, 10, 3.0, None), (2, 20, 4.5, None)]


def timed(first, second):
    return f"user,item,rating,timestamp\nu1,i1,3,{first}\nu2,i2,4.5,{second}\n"


def rows(first, second=DAY + 1):
    return [("u1", "i1", 3.0, first), ("u2", "i2", 4.5, second)]


# name: (file name, content, options of the source, rows)
READ = {
    "plain": ("r.csv", PLAIN, {}, ROWS),
    "gzip": ("r.csv.gz", gzip.compress(PLAIN.encode()), {}, ROWS),
    "names in capitals, another order": ("r.csv", "Rating,ITEM,User\n3,i1,u1\n4.5,i2,u2\n", {}, ROWS),
    "names of MovieLens, ids of letters": (
        "r.csv", "userId,movieId,Rating\nu1,i1,3\nu2,i2,4.5\n", {"format": "csv"}, ROWS,
    ),
    "more columns": ("r.csv", "n,user,item,x,rating\n1,u1,i1,,3\n2,u2,i2,y,4.5\n", {}, ROWS),
    "no header, ids of letters": ("r.csv", "u1,i1,3\nu2,i2,4.5\n", {}, ROWS),
    "no header, numbers": ("r.csv", "1,10,3\n2,20,4.5\n", {}, NUMBERS),
    "numbers in quotes": ("r.csv", '"1","10","3"\n"2","20","4.5"\n', {}, NUMBERS),
    "semicolons": ("r.csv", PLAIN.replace(",", ";"), {}, ROWS),
    "tabs": ("r.tsv", PLAIN.replace(",", "\t"), {}, ROWS),
    "quoted fields": ("r.csv", 'user,item,rating\n"u1","i1","3"\n"u2","i2","4.5"\n', {}, ROWS),
    "quotes and commas in ids": ("r.csv", 'user,item,rating\n"a,b","c""d",3\n', {}, [("a,b", 'c"d', 3.0, None)]),
    "CRLF": ("r.csv", PLAIN.replace("\n", "\r\n"), {}, ROWS),
    "UTF-8 with a byte order mark": ("r.csv", PLAIN.encode("utf-8-sig"), {}, ROWS),
    "UTF-16 with a byte order mark": ("r.csv", PLAIN.encode("utf-16"), {}, ROWS),
    "UTF-16, big endian, CRLF": ("r.csv", ("\ufeff" + PLAIN.replace("\n", "\r\n")).encode("utf-16-be"), {}, ROWS),
    "UTF-16 without a mark, told": ("r.csv", PLAIN.encode("utf-16-le"), {"encoding": "utf-16le"}, ROWS),
    "Latin-1, told": (
        "r.csv", "user,item,rating\né,ü,3\n".encode("latin-1"), {"encoding": "latin-1"}, [("é", "ü", 3.0, None)],
    ),
    "decimal commas, told": (
        "r.csv", "user;item;rating\nu1;i1;3\nu2;i2;4,5\n", {"decimal": ","}, ROWS,
    ),
    "thousands, told": (
        "r.csv", 'user,item,rating\nu1,i1,"1,234,567.5"\nu2,i2,999\n', {"thousands": ","},
        [("u1", "i1", 1234567.5, None), ("u2", "i2", 999.0, None)],
    ),
    "thousands and decimal comma, told": (
        "r.csv", "user;item;rating\nu1;i1;1.234,5\nu2;i2;7\n", {"thousands": ".", "decimal": ","},
        [("u1", "i1", 1234.5, None), ("u2", "i2", 7.0, None)],
    ),
    "ISO dates": ("r.csv", timed("2005-07-01", "2005-07-01T00:00:01Z"), {}, rows(DAY)),
    "milliseconds": ("r.csv", timed(DAY * 1000, DAY * 1000 + 1999), {}, rows(DAY)),
    "microseconds": ("r.csv", timed(DAY * 10**6, DAY * 10**6 + 10**6), {}, rows(DAY)),
    "nanoseconds": ("r.csv", timed(DAY * 10**9, DAY * 10**9 + 10**9), {}, rows(DAY)),
    "seconds with a fraction": ("r.csv", timed(f"{DAY}.0", f"{DAY + 1}.75"), {}, rows(DAY)),
    "US dates, told": (
        "r.csv", timed("7/1/2005", "07/02/2005"), {"timestamp_format": "M/d/yyyy"}, rows(DAY, DAY + 86400),
    ),
    "times with a zone, told": (
        "r.csv", timed("01.07.2005 02:00 +0200", "01.07.2005 00:01 +0000"), {"timestamp_format": "dd.MM.yyyy HH:mm xx"},
        rows(DAY, DAY + 60),
    ),
    "US dates, not wanted": ("r.csv", timed("7/1/2005", "7/2/2005"), {"timestamp": None}, ROWS),
    "0 to 10": ("r.dat", "1::10::0\n2::20::10\n", {}, [(1, 10, 0.0, None), (2, 20, 10.0, None)]),
    "-10 to 10": ("r.csv", "1,10,-9.75\n2,20,10\n", {}, [(1, 10, -9.75, None), (2, 20, 10.0, None)]),
    "1 to 100": ("r.csv", "1;10;1\n2;20;100\n", {}, [(1, 10, 1.0, None), (2, 20, 100.0, None)]),
}  # fmt: skip
# name: (file name, content, what the error says)
REFUSED = {
    "empty": ("r.csv", "", "is empty"),
    "header only": ("r.csv", "user,item,rating\n", "no rows"),
    "US dates": ("r.csv", timed("7/1/2005", "7/2/2005"), r"'7/1/2005': set timestamp_format, for example to M/d/yyyy"),
    "decimal commas": ("r.csv", "user;item;rating\nu1;i1;3,5\nu2;i2;4,5\n", "'3,5': set decimal to ','"),
    "thousands": ("r.csv", 'user,item,rating\nu1,i1,"1,234"\nu2,i2,"5,678"\n', r"'1,234': set .* thousands to ','"),
    "MovieLens with ids of letters": ("r.csv", "userId,movieId,rating\nu1,i1,3\nu2,i2,4\n", "set id_type to string"),
    "UTF-16 without a mark": ("r.csv", PLAIN.encode("utf-16-le"), "set encoding to utf-16le or utf-16be"),
    "Latin-1": ("r.csv", "user,item,rating\né,ü,3\n".encode("latin-1"), r"no UTF-8 text: set encoding \(to latin-1"),
    "other names": (
        "r.csv",
        "who,item,rating\nu1,i1,3\n",
        "no column 'user'; the columns are who, item, rating; set user",
    ),
}


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.mark.parametrize("name", READ)
def test_a_strangers_file_is_read_as_it_stands(name, spark, tmp_path):
    file, content, options, ref = READ[name]
    ratings = read_ratings(spark, Source(write(tmp_path, file, content), **options)).persist()
    checked = check(ratings)
    comp = [tuple(row) for row in ratings.select("user", "item", "rating", "timestamp").orderBy("user").collect()]
    assert comp == ref
    assert (checked.low, checked.high) == (min(row[2] for row in ref), max(row[2] for row in ref))
    reconcile(len(ref), checked.accepted_count, checked.rejected_count)
    ratings.unpersist()


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_guessed_is_an_error_that_names_the_option(name, spark, tmp_path):
    file, content, words = REFUSED[name]
    with pytest.raises(DataError, match=words) as caught:
        check(read_ratings(spark, Source(write(tmp_path, file, content))))
    assert "\n" not in str(caught.value)


def test_a_few_bad_fields_are_rejected_and_one_is_shown(spark, tmp_path):
    path = write(tmp_path, "r.csv", PLAIN + 'u3,i3,"1,234"\n')
    checked = check(read_ratings(spark, Source(path)))
    reconcile(3, checked.accepted_count, checked.rejected_count)
    assert (checked.accepted_count, checked.example) == (2, 'u3,i3,"1,234"')


NAMES = ("two words.csv", "a[1].csv", "a{x,y}.csv", "a*.csv", "q?.csv", "50%20.csv", "[b] {c}/r.csv", "d*/e f/r.csv")


@pytest.mark.parametrize("kind", ["csv", "parquet", "delta"])
def test_a_path_that_exists_by_that_very_name_is_no_glob(kind, spark, tmp_path):
    for number, name in enumerate(NAMES):
        path = tmp_path / name.replace("csv", kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "csv":
            path.write_text(f"user,item,rating\nu{number},i,3\n")
        else:
            frame = spark.createDataFrame([(f"u{number}", "i", 3.0)], "user string, item string, rating double")
            plain = tmp_path / f"plain{number}"
            frame.coalesce(1).write.format(kind).save(str(plain))
            plain.rename(path)
    for number, name in enumerate(NAMES):
        path = str(tmp_path / name.replace("csv", kind))
        assert [row["user"] for row in read_ratings(spark, Source(path)).collect()] == [f"u{number}"], path


def test_any_other_path_is_a_glob(spark, tmp_path):
    for name in ("a1", "a2", "b1"):
        (tmp_path / f"{name}.csv").write_text(f"user,item,rating\n{name},i,3\n")
    found = {"a*.csv": ["a1", "a2"], "{a,b}1.csv": ["a1", "b1"], "a[2-9].csv": ["a2"]}
    for pattern, ref in found.items():
        ratings = read_ratings(spark, Source(str(tmp_path / pattern)))
        assert sorted(row["user"] for row in ratings.collect()) == ref
    assert files_of(spark, literal(str(tmp_path / "a*.csv"))) == []


def test_a_relative_path_of_a_file_format_is_no_table(spark):
    with pytest.raises(DataError, match="(?i)path does not exist: .*ratings.json"):
        read_ratings(spark, Source("ratings.json", format="json"))
    with pytest.raises(DataError, match="'ratings.parquet' does not exist"):
        read_ratings(spark, Source("ratings.parquet"))


@pytest.mark.parametrize("value", [DAY, DAY * 1000, DAY * 10**6, DAY * 10**9])
def test_whole_numbers_in_tables_are_told_apart_by_size_too(value, spark, tmp_path):
    path = str(tmp_path / "r.parquet")
    spark.createDataFrame([(1, 2, 3.0, value)], "user long, item long, rating double, timestamp long").write.parquet(
        path
    )
    assert read_ratings(spark, Source(path)).first()["timestamp"] == DAY
