"""The handle on one side's factors as blocks on the workers, and the fitted model that has two of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from mfspark.blocks.build import place
from mfspark.errors import ParameterError, StoreError
from mfspark.kernels.csr import Side
from mfspark.kernels.objective import Settings
from mfspark.model.factorization import Constants
from mfspark.model.frames.pieces import ROWS_OUT, combined, home, opened, pieces
from mfspark.transport.arrow import flat, kinds_of, row_batch, to_ipc

BLOCK = "block int, ids binary, data binary"
_SQUARES = "squares array<double>"
BLOCK_BYTES = 32 << 20
"""About how many bytes of factors a block has that is made from a table."""


class Rows(NamedTuple):
    """Some of a side's rows: their ids, and their factors (n x columns in use)."""

    ids: pa.Array
    data: NDArray[Any]


@dataclass(frozen=True)
class FactorBlocks:
    """One side's factors as a frame of one row a block.

    Parameters
    ----------
    frame : DataFrame
        Columns block (int), ids (an Arrow stream of the column "id": the sorted ids, in the model's type), data (rows x
        columns in use in the settings' precision, little endian). An id lives in block ``block_of(ids, blocks)``; a
        block without ids may be missing.
    blocks : int
        How many blocks there are.
    size : int
        How many ids.
    settings : Settings
        The model's, seen from the user side.
    side : Side
        Which side it is.
    """

    frame: DataFrame
    blocks: int
    size: int
    settings: Settings
    side: Side

    def __len__(self) -> int:
        """Return the number of ids."""
        return self.size

    @property
    def row_bytes(self) -> int:
        """The bytes of a row's factors."""
        return self.settings.width * np.dtype(self.settings.dtype).itemsize

    @classmethod
    def pack(cls, frame: DataFrame, blocks: int, size: int, settings: Settings, side: Side) -> FactorBlocks:
        """Return the handle on a table of id, features and bias (lazy).

        A row with another number of factors than the model has fails the job that meets it.
        """

        def key(table: pa.Table) -> NDArray[np.int32]:
            return home(flat(table, "id"), blocks)

        def assemble(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            found: dict[int, list[pa.Table]] = {}
            for batch in batches:
                for target, table in zip(batch.column("target").to_pylist(), opened(batch.column("rows")), strict=True):
                    found.setdefault(target, []).append(table)
            for target in sorted(found):
                yield packed(target, _rows(pa.concat_tables(found.pop(target)), settings, side))

        given = pieces(frame.select("id", "features", "bias"), key, blocks)
        return cls(place(given.mapInArrow(assemble, BLOCK), "block", blocks), blocks, size, settings, side)

    def counts(self) -> DataFrame:
        """Return the number of rows of each block: block int, rows bigint."""
        return self.frame.select("block", (F.length("data") / F.lit(self.row_bytes)).cast("bigint").alias("rows"))

    def table(self, kind: str) -> DataFrame:
        """Return id (of the SQL type ``kind``), features array<float>, bias float (null without biases)."""
        settings, biased = self.settings, self.settings.bias[self.side]

        def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for rows in blocks_of(batches, settings):
                features = np.ascontiguousarray(rows.data[:, : settings.rank], np.float32)
                for start in range(0, len(features), ROWS_OUT):
                    part = features[start : start + ROWS_OUT]
                    offsets = pa.array(np.arange(len(part) + 1, dtype=np.int32) * settings.rank)
                    bias = rows.data[start : start + len(part), settings.rank] if biased else None
                    biases = pa.nulls(len(part), pa.float32()) if bias is None else pa.array(np.float32(bias))
                    lists = pa.ListArray.from_arrays(offsets, pa.array(part.ravel()))
                    ids = rows.ids.slice(start, len(part))
                    yield pa.RecordBatch.from_arrays([ids, lists, biases], ["id", "features", "bias"])

        return self.frame.mapInArrow(run, f"id {kind}, features array<float>, bias float")

    def index(self, kind: str) -> DataFrame:
        """Return id (of the SQL type ``kind``) and index bigint: numbers from 0 in the order of the blocks."""
        starts, start = {}, 0
        for block, count in sorted((row["block"], row["rows"]) for row in self.counts().collect()):
            starts[block], start = start, start + count

        def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                for block, table in zip(batch.column("block").to_pylist(), opened(batch.column("ids")), strict=True):
                    numbers = pa.array(np.arange(starts[block], starts[block] + table.num_rows))
                    yield from table.select(["id"]).append_column("index", numbers).to_batches(ROWS_OUT)

        return self.frame.mapInArrow(run, f"id {kind}, index bigint")

    def norms(self) -> NDArray[np.float64]:
        """Return the norms of the factors' columns (rank,)."""
        settings = self.settings

        def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for rows in blocks_of(batches, settings):
                squares = (rows.data[:, : settings.rank].astype(np.float64) ** 2).sum(axis=0)
                yield row_batch(kinds_of(_SQUARES), [squares.tolist()])

        rows = self.frame.mapInArrow(run, _SQUARES).collect()
        return np.sqrt(np.sum([row["squares"] for row in rows], axis=0))


def packed(block: int, rows: Rows) -> pa.RecordBatch:
    """Return rows as a row of a frame of blocks."""
    ids = to_ipc(pa.table({"id": rows.ids}))
    return row_batch(kinds_of(BLOCK), [block, ids, np.ascontiguousarray(rows.data).tobytes()])


def read_rows(blocks: pa.Table | pa.RecordBatch, settings: Settings) -> Rows | None:
    """Return the rows of one block or several, in the order of the ids; None where there are none."""
    tables = opened(blocks.column("ids"))
    whole = combined(tables)
    if whole is None:
        return None
    ids = flat(whole, "id")
    flats = [np.frombuffer(cell.as_buffer(), settings.dtype) for cell in blocks.column("data")]
    data = [one.reshape(-1, settings.width) for one in flats]
    if len(data) == 1:
        return Rows(ids, data[0])
    order = pc.array_sort_indices(ids)
    return Rows(ids.take(order), np.concatenate(data)[order.to_numpy()])


def blocks_of(batches: Iterator[pa.RecordBatch], settings: Settings) -> Iterator[Rows]:
    """Yield the rows of each block."""
    for batch in batches:
        for row in range(batch.num_rows):
            rows = read_rows(batch.slice(row, 1), settings)
            if rows is not None:
                yield rows


def _rows(table: pa.Table, settings: Settings, side: Side) -> Rows:
    """Return the rows of a table of id, features and bias, sorted by id."""
    table = table.sort_by("id").combine_chunks()
    features = flat(table, "features")
    if len(features.values) != table.num_rows * settings.rank or features.null_count:
        raise StoreError(
            f"{side.stem}_factors has rows without the model's {settings.rank} factors: save the model again"
        )
    data = np.zeros((table.num_rows, settings.width), settings.dtype)
    data[:, : settings.rank] = features.values.to_numpy().reshape(-1, settings.rank)
    if settings.bias[side]:
        data[:, settings.rank] = flat(table, "bias").to_numpy(zero_copy_only=False)
    return Rows(flat(table, "id"), data)


@dataclass(frozen=True)
class FrameFactorization(Constants):
    """A fitted model's numbers with the factors on the workers; pairs are in the order user, item.

    What needs a side as an array raises ParameterError.

    Parameters
    ----------
    settings : Settings
        What it minimises and how it was solved, seen from the user side.
    blocks : (FactorBlocks, FactorBlocks)
        The factors.
    intercept : float
        Added to every score.
    limits : (float, float)
        The range to which predictions are clipped.
    release : callable, optional
        Lets the kept frames go.
    mean : float
        As of ``Factorization``.
    """

    settings: Settings
    blocks: tuple[FactorBlocks, FactorBlocks]
    intercept: float = 0.0
    limits: tuple[float, float] = (-np.inf, np.inf)
    release: Callable[[], None] | None = None
    mean: float = np.nan

    @property
    def sizes(self) -> tuple[int, int]:
        """The numbers of users and items."""
        return self.blocks[0].size, self.blocks[1].size

    @property
    def ids(self) -> NoReturn:
        """Not to be had as arrays."""
        raise on_workers("ids")

    @property
    def sides(self) -> NoReturn:
        """Not to be had as arrays."""
        raise on_workers("factors")

    def features(self, side: Side) -> NoReturn:  # noqa: ARG002
        """Not to be had as arrays."""
        raise on_workers("factors")

    def bias(self, side: Side) -> NoReturn:  # noqa: ARG002
        """Not to be had as arrays."""
        raise on_workers("biases")

    def scoring(self) -> NoReturn:
        """Not to be had as arrays."""
        raise on_workers("factors")

    def __deepcopy__(self, memo: dict[int, Any]) -> FrameFactorization:
        """Return itself: within a session, copies have the same frames."""
        return self

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled: a frame belongs to its session."""
        raise ParameterError("this model's factors are on the workers and cannot be pickled: save or publish the model")


def on_workers(what: str) -> ParameterError:
    """Return the error for what needs arrays."""
    return ParameterError(
        f"this model's {what} are on the workers, since both sides would pass the driver's limit: use userFactors and "
        "itemFactors, or load the saved model with a larger spark.mfspark.driverLimit (bytes)"
    )
