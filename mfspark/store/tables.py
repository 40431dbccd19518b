"""Read and write Delta tables by path or by name; every write can be repeated without doubling a row.

Only SQL and DataFrame readers and writers are used, so that all of it works over Spark Connect too.
"""

from __future__ import annotations

import os
import random
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from mfspark.errors import StoreError

T = TypeVar("T")

_NAME = re.compile(r"^[\w-]+(\.[\w-]+){1,2}\Z")
_MISSING = re.compile(
    r"PATH_NOT_FOUND|TABLE_OR_VIEW_NOT_FOUND|DELTA_TABLE_NOT_FOUND|PATH_DOES_NOT_EXIST|MISSING_DELTA_TABLE"
)
_CONFLICT = re.compile(
    r"DELTA_CONCURRENT_\w+|DELTA_METADATA_CHANGED|DELTA_PROTOCOL_CHANGED|Concurrent\w*Exception|"
    r"(Metadata|Protocol)ChangedException"
)


@dataclass(frozen=True)
class Location:
    """Where a store's tables live: a directory (local, ``s3://``, ``/Volumes/...``) or a ``catalog.schema``.

    Parameters
    ----------
    root : str
        ``catalog.schema`` names a schema; anything else is a directory. A relative directory is made absolute.

    Examples
    --------
    >>> Location("main.ratings").table("models")
    'main.ratings.models'
    >>> Location("/data/store").table("models")
    '/data/store/models'
    """

    root: str

    def table(self, name: str) -> str:
        """Return the address of one table: a path or a dotted name."""
        if is_name(self.root):
            return f"{self.root}.{name}"
        return f"{_absolute(self.root)}/{name}"


def is_name(address: str) -> bool:
    """Return whether an address is a dotted table or schema name, and not a path."""
    return bool(_NAME.match(address))


def sql_name(address: str) -> str:
    """Return the address as it is written in SQL.

    Examples
    --------
    >>> sql_name("main.ratings.models")
    '`main`.`ratings`.`models`'
    >>> sql_name("/data/store/models")
    'delta.`/data/store/models`'

    Raises
    ------
    StoreError
        The address has ``${``, for which Spark would put the value of one of its variables, also within quotes.
    """
    if "${" in address:
        raise StoreError(f"{address}: Spark replaces ${{...}} in names; give the place itself")
    if is_name(address):
        return ".".join(quoted(part) for part in address.split("."))
    return f"delta.{quoted(_absolute(address))}"


def quoted(name: str) -> str:
    """Return one part of a name as it is written in SQL.

    Examples
    --------
    >>> quoted("a`b")
    '`a``b`'
    """
    return "`" + name.replace("`", "``") + "`"


def literal(text: str) -> str:
    """Return a string as a SQL literal (``${`` too, which Spark would take for one of its variables)."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\u0024{") + "'"


def one_line(error: BaseException) -> str:
    """Return what an error says, in one line: without Spark's SQLSTATE, Java class names and stack trace."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    # An exception of the JVM that PySpark does not know: what it says stands in the second line.
    raw = lines[0].startswith("An error occurred while calling") and len(lines) > 1
    text = re.sub(r"^:\s*([\w.$]+:\s*)?", "", lines[1]) if raw else lines[0]
    return re.sub(r"\s*SQLSTATE:.*", "", text)


def read(spark: SparkSession, address: str, version: int | None = None) -> DataFrame:
    """Read a Delta table, as it is now or as it was at one version.

    Parameters
    ----------
    spark : SparkSession
        The session.
    address : str
        A path, or a name ``schema.table`` or ``catalog.schema.table``.
    version : int, optional
        The table version to read (``versionAsOf``). Default: the newest.

    Raises
    ------
    StoreError
        The table or that version of it does not exist.
    """
    reader = spark.read if version is None else spark.read.option("versionAsOf", version)
    at = "" if version is None else f" at version {version}"
    with _store_errors(f"cannot read the table {address}{at}"):
        table = reader.table(address) if is_name(address) else reader.format("delta").load(_absolute(address))
        _ = table.schema  # Connect looks the table up only now
        return table


def find(spark: SparkSession, address: str) -> DataFrame | None:
    """Return the Delta table at an address as it is now, or None where there is none."""
    try:
        return read(spark, address)
    except StoreError as error:
        if _MISSING.search(str(error)):
            return None
        raise


def exists(spark: SparkSession, address: str) -> bool:
    """Return whether there is a Delta table at an address."""
    return find(spark, address) is not None


def current_version(spark: SparkSession, address: str) -> int:
    """Return the number of the newest version of a table."""
    with _store_errors(f"cannot read the history of {address}"):
        row = spark.sql(f"DESCRIBE HISTORY {sql_name(address)} LIMIT 1").select("version").first()
    return int(row["version"]) if row else 0


def create(
    spark: SparkSession,
    address: str,
    columns: Mapping[str, str],
    partition_by: Sequence[str] = (),
    properties: Mapping[str, str] | None = None,
) -> bool:
    """Create an empty table unless it exists, and return whether it did not; several writers may do so at once.

    Parameters
    ----------
    spark : SparkSession
        The session.
    address : str
        A path or a dotted name.
    columns : mapping of str to str
        Column name to SQL type.
    partition_by : sequence of str
        The partition columns, in order.
    properties : mapping of str to str, optional
        Table properties.
    """
    schema = ", ".join(f"{quoted(name)} {kind}" for name, kind in columns.items())
    empty = spark.createDataFrame([], schema)
    # Not CREATE TABLE: at a path, that fails for ever once a writer was killed while it made the table's first commit.
    writer = empty.write.format("delta").mode("append").partitionBy(*partition_by).options(**(properties or {}))
    with _store_errors(f"cannot create the table {address}"):
        return retry_on_conflict(lambda: not exists(spark, address) and _save(writer, address))


def overwrite(df: DataFrame, address: str, partition_by: Sequence[str] = ()) -> None:
    """Replace a whole table, its columns included; readers see the old rows until the new ones are all there."""
    writer = df.write.format("delta").mode("overwrite").option("overwriteSchema", "true").partitionBy(*partition_by)
    with _store_errors(f"cannot write the table {address}"):
        retry_on_conflict(lambda: _save(writer, address))


def append(
    df: DataFrame, address: str, partition_by: Sequence[str] = (), new_columns: bool = False, checked: bool = False
) -> None:
    """Append rows to a table, creating it when it does not exist; several writers may do so at once.

    Parameters
    ----------
    df : DataFrame
        The rows.
    address : str
        A path or a dotted name.
    partition_by : sequence of str
        The partition columns of the table.
    new_columns : bool
        Whether columns the table lacks are added to it (null in the rows already there).
    checked : bool
        Whether ``check_types`` has been called already. (Delta refuses other types as well, in its own words.)

    Raises
    ------
    StoreError
        A column's type differs from the table's.
    """
    if not checked:
        check_types(df, address)
    writer = df.write.format("delta").mode("append").partitionBy(*partition_by)
    if new_columns:
        writer = writer.option("mergeSchema", "true")
    with _store_errors(f"cannot append to the table {address}"):
        retry_on_conflict(lambda: _save(writer, address))


def write_if_unchanged(df: DataFrame, address: str, version: int, mode: str = "append") -> bool:
    """Write rows that were computed from one version of a table, unless another writer did the same first.

    Delta drops a write whose application id has already committed this transaction number, and refuses two at once.

    Parameters
    ----------
    df : DataFrame
        The rows.
    address : str
        An existing table.
    version : int
        The version the rows were computed from.
    mode : str
        "append", or "overwrite": the rows take the place of all others.

    Returns
    -------
    bool
        Whether the rows are in the table now. If not, compute them again from the newest version.
    """
    check_types(df, address)
    mark = uuid.uuid4().hex
    options = {"txnAppId": "mfspark", "txnVersion": str(version + 1), "userMetadata": mark}
    try:
        with _store_errors(f"cannot write the table {address}"):
            _save(df.write.format("delta").mode(mode).options(**options), address)
    except Exception as error:  # Delta's conflicts reach Python as several unrelated classes
        if not is_conflict(error):
            raise
        return False
    history = df.sparkSession.sql(f"DESCRIBE HISTORY {sql_name(address)}")
    return history.where((F.col("version") > version) & (F.col("userMetadata") == mark)).first() is not None


def replace_slice(df: DataFrame, address: str, column: str, value: str) -> None:
    """Replace the rows of a table whose ``column`` is ``value`` by ``df``, all at once.

    The table is partitioned by that column and is created when it does not exist. Writing the same slice again gives
    the same table, so a job keyed by its run id can be repeated.

    Raises
    ------
    StoreError
        A column's type differs from the table's.
    """
    check_types(df, address)
    writer = df.write.format("delta").mode("overwrite").partitionBy(column).option("mergeSchema", "true")
    writer = writer.option("replaceWhere", f"{quoted(column)} = {literal(value)}")
    with _store_errors(f"cannot write {column} = {value!r} into the table {address}"):
        retry_on_conflict(lambda: _save(writer, address))


def delete(spark: SparkSession, address: str, condition: str) -> None:
    """Delete the rows that meet a SQL condition."""
    with _store_errors(f"cannot delete from the table {address}"):
        retry_on_conflict(lambda: spark.sql(f"DELETE FROM {sql_name(address)} WHERE {condition}").collect())


def check_types(df: DataFrame, address: str) -> bool:
    """Compare the column types of ``df`` with those of the table at an address, and return whether there is one.

    Raises
    ------
    StoreError
        A column of both has two types; the message names it.
    """
    table = find(df.sparkSession, address)
    stored = {} if table is None else {field.name: field.dataType for field in table.schema}
    for field in df.schema:
        there = stored.get(field.name)
        if there is not None and there.simpleString() != field.dataType.simpleString():
            raise StoreError(
                f"column {field.name} is {field.dataType.simpleString()} here but {there.simpleString()} in the table "
                f"{address}: cast it, or write to another store location"
            )
    return table is not None


def is_conflict(error: BaseException) -> bool:
    """Return whether a write lost against another writer and may be tried again."""
    return bool(_CONFLICT.search(f"{type(error).__name__}: {error}"))


def retry_on_conflict(action: Callable[[], T], attempts: int = 12) -> T:
    """Run a write and repeat it when another writer came first; the last failure is raised."""
    for attempt in range(attempts):
        try:
            return action()
        except Exception as error:  # Delta's conflicts reach Python as several unrelated classes
            if attempt + 1 == attempts or not is_conflict(error):
                raise
            time.sleep(random.uniform(0.05, 0.2) * (attempt + 1))
    raise AssertionError("unreachable")


def _absolute(path: str) -> str:
    # Delta takes only absolute paths in SQL; a scheme (s3://, abfss://, dbfs:/) is absolute already.
    return path.rstrip("/") if re.match(r"^[A-Za-z][\w+.-]*:", path) else os.path.abspath(os.path.expanduser(path))


def _save(writer, address: str) -> bool:
    if is_name(address):
        writer.saveAsTable(address)
    else:
        writer.save(_absolute(address))
    return True


@contextmanager
def _store_errors(doing: str) -> Iterator[None]:
    try:
        yield
    except AnalysisException as error:
        raise StoreError(f"{doing}: {one_line(error)}") from error
    except Exception as error:  # Delta's conflicts reach Python as several unrelated classes
        if not is_conflict(error):
            raise
        raise StoreError(f"{doing}, other writers kept coming first: {one_line(error)}") from error
