"""What the blocks of a side hand on when sides are exchanged: factors, pieces for the other side, sums for the driver.

A side's frame has rows of four kinds: sums (no target, no data), factors (data), pieces for the other side (target >= 0
and data) and what a block keeps for itself (target KEPT and data).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from mfspark.blocks.routes import RoutedBlock, known_held
from mfspark.kernels.als.gibbs import moments
from mfspark.kernels.als.half_step import STATISTICS, blame
from mfspark.kernels.csr import Block, Side
from mfspark.kernels.objective import Settings, gramian
from mfspark.training.als import UnsolvableError
from mfspark.transport.arrow import kinds_of, row_batch
from mfspark.transport.persist import Kept

OUT = "target int, block int, data binary, statistics array<double>, gram binary, unsolved string, cause string"
_KINDS = kinds_of(OUT)
OWN = -1  # the "source" of a piece that carries a block's own previous factors
KEPT = -2  # the target, and then the source, of what a block keeps for itself
Failure = Callable[[Side, str, str], Exception]
"""``failure(side, id, cause)`` returns the error for a row without a solution."""


class Solved(NamedTuple):
    """A solved side: its frame, the summed statistics, its Gramian (of a sample its moments)."""

    frame: DataFrame
    statistics: NDArray[np.float64]
    gram: NDArray[np.float64]
    let_go: Callable[[], None] | None


def unsolvable(side: Side, name: str, cause: str) -> UnsolvableError:
    """Return the error for a row whose equations have no finite solution."""
    return UnsolvableError(side, -1, name, cause)


def pieces_of(solved: Solved) -> DataFrame:
    """Return what a side sends to the other: target int, block int (its source), data binary."""
    return solved.frame.where("target >= 0").select("target", "block", "data")


def own_pieces(rows: DataFrame, source: int) -> DataFrame:
    """Return rows of blocks (block int, data binary) as pieces that these blocks send to themselves."""
    return rows.select(F.col("block").alias("target"), F.lit(source).alias("block"), "data")


def kept_rows(solved: Solved) -> DataFrame:
    """Return what the blocks of a side keep for themselves: block int, data binary."""
    return solved.frame.where(F.col("target") == KEPT).select("block", "data")


def factor_rows(solved: Solved) -> DataFrame:
    """Return a side's factors: block int, data binary (rows x columns in use)."""
    return solved.frame.where("target is null and data is not null").select("block", "data")


def gathered(pieces: pa.Table, block: RoutedBlock, settings: Settings) -> NDArray[Any]:
    """Return the src rows that a block needs (n x padded), in its order."""
    found = np.zeros((int(block.starts[-1]), settings.padded), settings.dtype)
    for row, source in enumerate(pieces.column("block").to_pylist()):
        if source >= 0:
            rows = np.frombuffer(pieces.column("data")[row].as_buffer(), settings.dtype).reshape(-1, settings.width)
            found[block.starts[source] : block.starts[source + 1], : settings.width] = rows
    return found


def own_piece(pieces: pa.Table, source: int) -> pa.Buffer | None:
    """Return what a block sent to itself, OWN or KEPT, or None."""
    sources = pieces.column("block").to_pylist()
    return pieces.column("data")[sources.index(source)].as_buffer() if source in sources else None


def own_factors(pieces: pa.Table, settings: Settings) -> NDArray[Any] | None:
    """Return a block's own previous factors (n x columns in use), or None where it sent none."""
    data = own_piece(pieces, OWN)
    return None if data is None else np.frombuffer(data, settings.dtype).reshape(-1, settings.width)


def with_known_held(block: RoutedBlock, fixed: NDArray[Any]) -> Block:
    """Return the block's ratings without the held-out ones of ids that were never trained on (rows of NaN)."""
    csr = block.csr
    if csr.held_indices.size == 0:
        return csr
    known = ~np.isnan(fixed[:, 0])
    np.nan_to_num(fixed, copy=False)
    return known_held(csr, known)


def failed_row(block: RoutedBlock, csr: Block, unsolved: int) -> tuple[str, str] | tuple[None, None]:
    """Return the id of a block's row that could not be solved, and why; ``unsolved`` is -1 where there is none."""
    return (repr(block.ids[unsolved].as_py()), blame(csr, unsolved)) if unsolved >= 0 else (None, None)


def emitted(
    block: RoutedBlock,
    X: NDArray[Any],
    settings: Settings,
    statistics: Sequence[float] = (),
    failed: tuple[str, str] | tuple[None, None] = (None, None),
    kept: pa.Buffer | bytes | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yield a block's row of sums, its factors, its pieces for the blocks of the other side, and what it keeps."""
    used = np.ascontiguousarray(X[:, : settings.width])
    yield row_batch(_KINDS, [None, block.number, None, list(statistics), _products(X, settings).tobytes(), *failed])
    yield row_batch(_KINDS, [None, block.number, used.tobytes(), *[None] * 4])
    if kept is not None:
        yield row_batch(_KINDS, [KEPT, block.number, bytes(kept), *[None] * 4])
    for target in np.flatnonzero(np.diff(block.route_starts)):
        places = block.routes[block.route_starts[target] : block.route_starts[target + 1]]
        rows = used[places]
        rows[places < 0] = np.nan
        yield row_batch(_KINDS, [int(target), block.number, rows.tobytes(), *[None] * 4])


def _products(X: NDArray[Any], settings: Settings) -> NDArray[np.float64]:
    """Return the square matrix that the driver wants summed over the blocks; without elements where it wants none."""
    if settings.folds == "samples":
        return moments(X, settings.rank)
    return gramian(X) if settings.implicit else np.zeros((0, 0))


def summed(kept: Kept, side: Side, failure: Failure) -> Solved:
    """Add up the blocks' rows of sums, in the order of the blocks, since floating sums depend on it."""
    sums = kept.frame.where("data is null").select("block", "statistics", "gram", "unsolved", "cause")
    total, gram = np.zeros(len(STATISTICS)), np.zeros((0, 0))
    for row in sorted(sums.toArrow().to_pylist(), key=lambda row: row["block"]):
        if row["unsolved"] is not None:
            raise failure(side, row["unsolved"], row["cause"])
        if row["statistics"]:
            total += np.array(row["statistics"])
        part = np.frombuffer(row["gram"])
        if part.size:
            k = int(np.sqrt(part.size))
            gram = part.reshape(k, k) if gram.size == 0 else gram + part.reshape(k, k)
    return Solved(kept.frame, total, gram, kept.let_go)
