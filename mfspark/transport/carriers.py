"""How arrays of the driver reach the workers: named strategies, one interface.

``carry(frame, data, function, schema, packed)`` gives the frame ``function(batches, data)`` of every partition.
``data`` is anything that pickles. ``packed`` says that a partition has few, large rows (blocks), not many small ones.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from mfspark.session import is_connect
from mfspark.transport.arrow import chunks, row_batch, to_ipc
from mfspark.transport.broadcast import destroy, send
from mfspark.transport.workers import check_workers

Batches = Iterator[pa.RecordBatch]
Function = Callable[[Batches, Any], Batches]
Release = Callable[[], None]
_CARRIED = "__carried"


class Carried(NamedTuple):
    """A frame that is computed with data of the driver.

    Parameters
    ----------
    frame : DataFrame
        The lazy result.
    release : callable
        Frees what was sent at once; the frame cannot be evaluated any more. Where it is never called, that is freed
        when Spark has forgotten the frame and all that derives from it.
    """

    frame: DataFrame
    release: Release

    def collect(self) -> pa.Table:
        """Return the result, computed once, and release what was sent."""
        try:
            return self.frame.toArrow()
        finally:
            self.release()


def _broadcast(
    frame: DataFrame,
    data: Any,
    function: Function,
    schema: Any,
    packed: bool,  # noqa: ARG001
    barrier: bool,
) -> Carried:
    """Send the data once to every executor as a broadcast variable (classic Spark only)."""
    sent = send(frame.sparkSession, data)

    def run(batches: Batches) -> Batches:
        return function(batches, sent.value)

    return Carried(frame.mapInArrow(run, schema, barrier=barrier), lambda: destroy(sent))


def _join(frame: DataFrame, data: Any, function: Function, schema: Any, packed: bool, barrier: bool) -> Carried:
    """Send the data as a one-row table, broadcast-joined to few, large rows (Spark Connect and serverless too)."""
    spark = frame.sparkSession
    kept = frame.columns
    rows = frame if packed else frame.mapInArrow(_pack, "packed binary")
    table = pa.table({_CARRIED: pa.array([pickle.dumps(data, protocol=5)], pa.binary())})
    carried = spark.createDataFrame(table, schema=f"{_CARRIED} binary")
    joined = rows.crossJoin(F.broadcast(carried))

    def run(batches: Batches) -> Batches:
        def inner(first: pa.RecordBatch) -> Batches:
            for batch in _chain(first, batches):
                yield from _unpack(batch) if not packed else [batch.select(kept)]

        first = next(batches, None)
        if first is not None:
            yield from function(inner(first), pickle.loads(first.column(_CARRIED)[0].as_buffer()))

    return Carried(joined.mapInArrow(run, schema, barrier=barrier), lambda: None)


CARRIERS: dict[str, Callable[..., Carried]] = {"broadcast": _broadcast, "join": _join}
"""The strategies by name."""


def carry(
    frame: DataFrame,
    data: Any,
    function: Function,
    schema: Any,
    packed: bool = False,
    carrier: str = "auto",
    barrier: bool = False,
) -> Carried:
    """Apply a function of Arrow batches and driver data to every partition.

    Parameters
    ----------
    frame : DataFrame
        The rows.
    data : object
        What the function gets beside the batches; it must pickle.
    function : callable
        ``function(batches, data)`` yields record batches of the schema.
    schema : StructType or str
        The result's schema.
    packed : bool
        Whether the rows are few and large.
    carrier : str
        A key of CARRIERS, or "auto": by the kind of session.
    barrier : bool
        Whether all partitions' tasks start together, in one barrier stage.

    Returns
    -------
    Carried
        The lazy result, and how to free what was sent.

    Raises
    ------
    SetupError
        The session's workers cannot run mfspark (``check_workers``).
    """
    check_workers(frame.sparkSession)
    name = default_carrier(frame.sparkSession) if carrier == "auto" else carrier
    return CARRIERS[name](frame, data, function, schema, packed, barrier)


def default_carrier(spark: SparkSession) -> str:
    """Return the carrier for a kind of session."""
    return "join" if is_connect(spark) else "broadcast"


def _chain(first: pa.RecordBatch, rest: Batches) -> Batches:
    yield first
    yield from rest


def _pack(batches: Batches) -> Batches:
    for table in chunks(batches):
        yield row_batch({"packed": pa.binary()}, [to_ipc(table)])


def _unpack(batch: pa.RecordBatch) -> Batches:
    for row in batch.column("packed"):
        yield from pa.ipc.open_stream(row.as_buffer()).read_all().to_batches()
