"""Reading and writing Delta tables by path and by name."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from chispa import assert_df_equality

from mfspark.errors import StoreError
from mfspark.store import Location, tables

RATINGS = "user string, item bigint, rating float"


@pytest.fixture(scope="module")
def schema_name(spark):
    spark.sql("CREATE SCHEMA IF NOT EXISTS store_tests")
    yield "store_tests"
    spark.sql("DROP SCHEMA store_tests CASCADE")


@pytest.mark.parametrize(
    ("root", "address", "sql"),
    [
        ("main.ratings", "main.ratings.models", "`main`.`ratings`.`models`"),
        ("/data/store", "/data/store/models", "delta.`/data/store/models`"),
        ("/data/a.b/", "/data/a.b/models", "delta.`/data/a.b/models`"),
        ("s3://bucket/a.b", "s3://bucket/a.b/models", "delta.`s3://bucket/a.b/models`"),
        ("dbfs:/Volumes/a/b", "dbfs:/Volumes/a/b/models", "delta.`dbfs:/Volumes/a/b/models`"),
    ],
)
def test_a_location_is_a_directory_or_a_schema(root, address, sql):
    comp_address = Location(root).table("models")
    assert (comp_address, tables.sql_name(comp_address)) == (address, sql)


def test_a_relative_directory_is_made_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert Location("out").table("models") == str(tmp_path / "out" / "models")


@pytest.mark.parametrize("text", ["it's", 'a"b', "back\\slash", "${env:HOME}", "ünï", "new\nline"])
def test_a_literal_survives_sql(spark, text):
    assert spark.sql(f"SELECT {tables.literal(text)} AS text").first()["text"] == text


@pytest.mark.parametrize("by_name", [False, True], ids=["path", "name"])
def test_write_read_and_time_travel(spark, tmp_path, schema_name, by_name):
    address = f"{schema_name}.ratings" if by_name else str(tmp_path / "ratings")
    assert not tables.exists(spark, address)
    ref_first = spark.createDataFrame([("a", 1, 3.0)], RATINGS)
    tables.overwrite(ref_first, address)
    tables.append(spark.createDataFrame([("b", 2, 4.0)], RATINGS), address)
    assert tables.current_version(spark, address) == 1
    ref_both = spark.createDataFrame([("a", 1, 3.0), ("b", 2, 4.0)], RATINGS)
    assert_df_equality(tables.read(spark, address), ref_both, ignore_row_order=True)
    assert_df_equality(tables.read(spark, address, version=0), ref_first)
    with pytest.raises(StoreError, match=f"{address} at version 9.*version 9"):
        tables.read(spark, address, version=9)


def test_replacing_a_slice_twice_gives_the_same_table(spark, tmp_path):
    address = str(tmp_path / "predictions")
    columns = "run_id string, user bigint"
    for run_id, users in [("r1", [1, 2]), ("it's", [3]), ("r1", [4])]:
        rows = spark.createDataFrame([(run_id, user) for user in users], columns)
        tables.replace_slice(rows, address, "run_id", run_id)
    comp_rows = sorted(tuple(row) for row in tables.read(spark, address).collect())
    assert comp_rows == [("it's", 3), ("r1", 4)]


def test_a_column_of_another_type_is_named(spark, tmp_path):
    address = str(tmp_path / "ratings")
    tables.append(spark.createDataFrame([("a", 1, 3.0)], RATINGS), address)
    with pytest.raises(StoreError, match="column user is bigint here but string in the table .*ratings: cast it"):
        tables.append(spark.createDataFrame([(1, 1, 3.0)], "user bigint, item bigint, rating float"), address)
    assert tables.read(spark, address).count() == 1


def test_an_append_computed_from_an_old_version_is_dropped(spark, tmp_path):
    address = str(tmp_path / "ids")
    columns = "id string, index int"
    tables.overwrite(spark.createDataFrame([("a", 0)], columns), address)
    version = tables.current_version(spark, address)

    def append(key, index, seen):
        return tables.write_if_unchanged(spark.createDataFrame([(key, index)], columns), address, seen)

    assert append("b", 1, version)
    assert not append("c", 1, version)
    assert append("c", 2, version + 1)
    comp_rows = sorted(tuple(row) for row in tables.read(spark, address).collect())
    assert comp_rows == [("a", 0), ("b", 1), ("c", 2)]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "[TABLE_OR_VIEW_NOT_FOUND] No table `a`. SQLSTATE: 42P01; line 1\n'Project",
            "[TABLE_OR_VIEW_NOT_FOUND] No table `a`.",
        ),
        (
            "An error occurred while calling o1.save.\n: io.delta.X$Y: [DELTA_C] Taken.\n\tat org.a(B.scala:1)",
            "[DELTA_C] Taken.",
        ),
        ("", "RuntimeError"),
    ],
)
def test_an_error_in_one_line(text, line):
    assert tables.one_line(RuntimeError(text)) == line


@pytest.mark.parametrize("kind", ["missing", "empty folder"])
def test_no_table_is_a_store_error(spark, tmp_path, kind):
    address = tmp_path / "nothing"
    if kind == "empty folder":
        address.mkdir()
    with pytest.raises(StoreError, match="cannot read the table .*nothing") as caught:
        tables.read(spark, str(address))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("left_behind", ["nothing", "half a first commit"])
def test_creators_at_once_make_one_table(spark, tmp_path, left_behind):
    address = str(tmp_path / "ids")
    if left_behind != "nothing":
        log = tmp_path / "ids" / "_delta_log"
        log.mkdir(parents=True)
        (log / ".00000000000000000000.json.tmp").write_text("{")
    columns = {"run_id": "string", "id": "bigint"}

    def create(_):
        tables.create(spark, address, columns, ("run_id",), {"delta.isolationLevel": "Serializable"})

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(create, range(3)))
    create(None)
    assert tables.read(spark, address).schema.simpleString() == "struct<run_id:string,id:bigint>"
    assert tables.current_version(spark, address) == 0
    detail = spark.sql(f"DESCRIBE DETAIL {tables.sql_name(address)}").first()
    assert detail["partitionColumns"] == ["run_id"]
    assert detail["properties"]["delta.isolationLevel"] == "Serializable"


def test_appends_at_once_from_one_version_let_one_through(spark, tmp_path):
    address = str(tmp_path / "ids")
    columns = "id string, index int"
    tables.overwrite(spark.createDataFrame([("a", 0)], columns), address)
    version = tables.current_version(spark, address)
    given = [spark.createDataFrame([(key, 1)], columns) for key in "bcd"]
    with ThreadPoolExecutor(3) as pool:
        comp_won = list(pool.map(lambda df: tables.write_if_unchanged(df, address, version), given))
    assert sorted(comp_won) == [False, False, True]
    assert tables.read(spark, address).count() == 2
