"""Encoding ratings and cutting them into blocks, partition by partition, without Spark."""

import numpy as np
import pyarrow as pa
import pytest

from mfspark.blocks.build import Layout, _cut, assembled, read_block
from mfspark.blocks.encode import _encode
from mfspark.blocks.index import PartitionIds, index_of_codes
from mfspark.errors import DataError
from mfspark.kernels.csr import Side

KINDS = {"int": lambda ids: pa.array(ids, pa.int32()), "string": lambda ids: pa.array([f"id-{n:02}" for n in ids])}


def partitions(kind, held_out=False, weighted=False, seed=0):
    """Three partitions of ratings of 9 users and 7 items, as Spark hands them to Python, and all of them as rows."""
    rng, batches, rows = np.random.default_rng(seed), [], []
    for n in (40, 1, 25):
        users, items = rng.integers(0, 9, n), rng.integers(0, 7, n)
        ratings, weights = rng.integers(1, 6, n).astype(np.float32), rng.random(n).astype(np.float32)
        held = rng.random(n) < 0.3 if held_out else np.zeros(n, bool)
        columns = {"user": KINDS[kind](users), "item": KINDS[kind](items), "rating": pa.array(ratings)}
        columns |= {"weight": pa.array(weights)} if weighted else {}
        columns |= {"held": pa.array(held)} if held_out else {}
        batches.append(pa.record_batch(list(columns.values()), list(columns)))
        rows += list(zip(users, items, ratings, weights if weighted else [1.0] * n, held, strict=True))
    return batches, rows


def pieces_of(batches, ids, layout):
    """The pieces of every partition's ratings."""
    return [piece for batch in batches for piece in _cut(_encode(iter([batch])), (layout, ids, tuple(Side)))]


def rows_of(frame, side, layout):
    """The ratings that one side's blocks hold."""
    rows = []
    for batch in frame:
        number = batch.column("block")[0].as_py()
        if number + 1 >= len(layout.bounds[side]):
            continue
        block, start = read_block(batch, 0, side, layout), layout.bounds[side][number]
        values = block.table[block.values] if block.table.size else block.values
        parts = (
            (block.indptr, block.indices, values, block.weights, False),
            (block.held_indptr, block.held_indices, block.held_values, np.empty(0), True),
        )
        for indptr, indices, ratings, weights, held in parts:
            of_row = start + np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
            weights = weights if weights.size else np.ones(len(indices))
            pairs = (of_row, indices) if side == Side.USER else (indices, of_row)
            rows += list(zip(*pairs, ratings, weights, [held] * len(indices), strict=True))
    return rows


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("held_out", "weighted"), [(False, False), (False, True), (True, False)])
@pytest.mark.parametrize("coded", [True, False])
def test_blocks_hold_every_rating_once_a_side(kind, held_out, weighted, coded):
    batches, rows = partitions(kind, held_out, weighted)
    ids = (KINDS[kind](np.arange(9)), KINDS[kind](np.arange(7)))
    table = np.arange(1, 6, dtype=np.float32) if coded else np.empty(0, np.float32)
    layout = Layout((np.array([0, 4, 4, 9]), np.array([0, 7])), table, weighted, held_out)
    frame = list(assembled(iter(pieces_of(batches, ids, layout)), layout))
    for side in Side:
        assert sorted(rows_of(frame, side, layout)) == pytest.approx(np.array(sorted(rows)))


def test_a_block_s_ratings_are_in_the_order_of_the_partitions():
    batches, rows = partitions("int")
    ids, bounds = (KINDS["int"](np.arange(9)), KINDS["int"](np.arange(7))), (np.array([0, 9]), np.array([0, 7]))
    layout = Layout(bounds, np.empty(0, np.float32), False, False)
    block = read_block(next(assembled(iter(pieces_of(batches, ids, layout)), layout)), 0, Side.USER, layout)
    for user in range(9):
        part = slice(block.indptr[user], block.indptr[user + 1])
        assert block.indices[part].tolist() == [row[1] for row in rows if row[0] == user]


def test_unknown_ids_are_an_error_or_left_out():
    batches, rows = partitions("int")
    ids = (KINDS["int"](np.arange(9)), KINDS["int"](np.arange(5)))
    strict = Layout((np.array([0, 9]), np.array([0, 5])), np.empty(0, np.float32), False, False)
    with pytest.raises(DataError, match="changed between two passes"):
        pieces_of(batches, ids, strict)
    loose = Layout(strict.bounds, strict.table, False, False, known_only=True)
    frame = list(assembled(iter(pieces_of(batches, ids, loose)), loose))
    assert sorted(rows_of(frame, Side.ITEM, loose)) == sorted(row for row in rows if row[1] < 5)


def test_codes_of_a_partition_name_ids_of_the_side():
    own = PartitionIds()
    codes = own.codes(pa.array(["c", "a", None, "c"]), np.array([True, True, True, False]))
    again = own.codes(pa.array(["x", "a"]), slice(None))
    assert (codes.tolist(), again.tolist(), own.counts.tolist()) == ([0, 1, -1, 0], [2, 1], [1, 2, 1])
    index = index_of_codes(pa.scalar(own.to_ipc(), pa.binary()), pa.array(["a", "b", "c"]))
    assert index[codes].tolist() == [2, 0, -1, 2] and index[again].tolist() == [-1, 0]
