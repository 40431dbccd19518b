"""One pass over one side's blocks with data of the driver: a row of results per block, and sums by row and column."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from mfspark.blocks.build import Layout, read_block
from mfspark.kernels.csr import Block, Side
from mfspark.transport.arrow import kinds_of, row_batch
from mfspark.transport.carriers import carry

Visit = Callable[[Block, int, slice, Any], tuple[Any, ...]]


def visit_blocks(
    blocks: DataFrame,
    layout: Layout,
    side: Side,
    data: Any,
    visit: Visit,
    results: dict[str, str],
    carrier: str = "auto",
) -> list[dict[str, Any]]:
    """Call a function on every block of a side, on the workers.

    Parameters
    ----------
    blocks, layout
        The frame of blocks and how both sides are cut.
    side : Side
        Whose blocks.
    data : object
        What the function gets beside the block.
    visit : callable
        ``visit(block, number, rows, data)`` returns the results; ``rows`` are the block's rows among the side's.
    results : dict
        The results' names and SQL types, such as ``kinds_of`` takes.
    carrier : str
        How the data reach the workers.

    Returns
    -------
    list of dict
        The results and "block", in the order of the blocks (floating sums depend on their order).
    """
    bounds = layout.bounds[side]
    own = replace(layout, bounds=(bounds, bounds))
    columns = [column for column in blocks.columns if column == "block" or column.startswith(f"{side.stem}_")]
    schema = ", ".join(["block int", *(f"{result} {kind}" for result, kind in results.items())])
    kinds = kinds_of(schema)

    def run(batches: Iterator[pa.RecordBatch], data: Any) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for row in range(batch.num_rows):
                number = batch.column("block")[row].as_py()
                if number + 1 >= len(bounds):  # the frame may have more rows than a side has blocks
                    continue
                rows = slice(int(bounds[number]), int(bounds[number + 1]))
                yield row_batch(kinds, (number, *visit(read_block(batch, row, side, own), number, rows, data)))

    table = carry(blocks.select(columns), data, run, schema, packed=True, carrier=carrier).collect()
    return sorted(table.to_pylist(), key=lambda row: row["block"])


def joined(results: list[dict[str, Any]], name: str, like: NDArray[Any]) -> NDArray[Any]:
    """Return the blocks' rows, which ``visit`` returned as bytes, as one array of the shape and type of ``like``."""
    return np.concatenate([np.frombuffer(row[name], like.dtype) for row in results]).reshape(like.shape)


def summed(results: list[dict[str, Any]], name: str, like: NDArray[Any]) -> NDArray[Any]:
    """Return the sum over the blocks of arrays that ``visit`` returned as bytes, in double precision."""
    total = np.zeros(like.shape)
    for row in results:
        total += np.frombuffer(row[name], like.dtype).reshape(like.shape)
    return total


def side_sums(
    blocks: DataFrame, layout: Layout, sizes: tuple[int, int], amounts: Callable[[Block], NDArray[Any]]
) -> list[NDArray[np.float64]]:
    """Return the sums over every user's and every item's ratings of what ``amounts`` says of each rating."""
    n = sizes[1]

    def add(block: Block, _number: int, _rows: slice, _data: Any) -> tuple[bytes, bytes]:
        of_row, added = np.repeat(np.arange(block.rows), np.diff(block.indptr)), amounts(block)
        return tuple(np.bincount(at, added, size).tobytes() for at, size in ((of_row, block.rows), (block.indices, n)))  # type: ignore[return-value]

    sums = visit_blocks(blocks, layout, Side.USER, None, add, {"own": "binary", "other": "binary"})
    return [joined(sums, "own", np.zeros(sizes[0])), summed(sums, "other", np.zeros(sizes[1]))]
