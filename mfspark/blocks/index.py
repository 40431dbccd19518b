"""Ids of any type to numbers: within a partition in order of appearance, over all of a side in the order of the ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mfspark.kernels.hashing import hash_longs, hash_texts
from mfspark.transport.arrow import flat, to_ipc


class PartitionIds:
    """One side's ids in one partition, in order of appearance, and the number of training ratings of each.

    Examples
    --------
    >>> ids = PartitionIds()
    >>> ids.codes(pa.array(["b", "a", "b", None]), slice(None)).tolist()
    [0, 1, 0, -1]
    >>> ids.codes(pa.array(["c", "a"]), slice(None)).tolist(), ids.counts.tolist()
    ([2, 1], [2, 2, 1])
    """

    def __init__(self) -> None:
        self.ids: pa.Array | None = None
        self.counts = np.empty(0, np.int64)

    def codes(self, column: pa.Array, trained: NDArray[np.bool_] | slice) -> NDArray[np.int32]:
        """Return the places of a column's ids in ``ids``, -1 for null, adding new ids; count the ``trained`` ones."""
        encoded = column.dictionary_encode()
        distinct = encoded.dictionary
        if self.ids is None:
            self.ids, places = distinct, np.arange(len(distinct), dtype=np.int32)
        else:
            known = pc.index_in(distinct, value_set=self.ids)
            new = known.is_null().to_numpy(zero_copy_only=False)
            places = known.fill_null(0).to_numpy().copy()
            places[new] = len(self.ids) + np.arange(new.sum())
            self.ids = pa.concat_arrays([self.ids, distinct.filter(pa.array(new))])
        codes = np.append(places, np.int32(-1))[encoded.indices.fill_null(-1).to_numpy()].astype(np.int32, copy=False)
        counted = codes[trained]
        counts = np.bincount(counted[counted >= 0], minlength=len(self.ids))
        counts[: len(self.counts)] += self.counts
        self.counts = counts
        return codes

    def to_ipc(self) -> bytes | None:
        """Return the table of ids and counts as an Arrow IPC stream; None where there was no row."""
        return None if self.ids is None else to_ipc(pa.table({"id": self.ids, "count": self.counts}))


def index_of_codes(partition_ids: Any, ids: pa.Array) -> NDArray[np.int32]:
    """Return the index among a side's ids of each code of a partition; -1 where unknown, and last for code -1.

    Parameters
    ----------
    partition_ids : pa.BinaryScalar
        From ``PartitionIds.to_ipc``.
    ids : pa.Array
        The side's ids in index order.
    """
    index = pc.index_in(ids_of(partition_ids), value_set=ids).fill_null(-1)
    return np.append(index.to_numpy(zero_copy_only=False).astype(np.int32, copy=False), np.int32(-1))


def ids_of(partition_ids: Any) -> pa.Array:
    """Return the ids of what ``PartitionIds.to_ipc`` gave, a pa.BinaryScalar."""
    return flat(pa.ipc.open_stream(partition_ids.as_buffer()).read_all().combine_chunks(), "id")


def hash_ids(ids: pa.Array) -> NDArray[np.uint64]:
    """Return the hashes of ids without nulls: whole numbers of any type, or texts."""
    if pa.types.is_integer(ids.type):
        return hash_longs(ids.to_numpy(zero_copy_only=False))
    texts = ids.cast(pa.large_binary())
    _, offsets, data = texts.buffers()
    whole = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return hash_texts(whole, np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8))
