"""Blocks by hash: places and routes found on the workers, whatever the ids, against the ratings they came from."""

import numpy as np
import pyarrow as pa
import pytest

from mfspark.blocks.columns import Columns, select
from mfspark.blocks.encode import encode
from mfspark.blocks.exchange import HashLayout, block_of, side_blocks
from mfspark.blocks.index import hash_ids
from mfspark.blocks.routes import read_routed, route
from mfspark.kernels.csr import Side
from mfspark.kernels.hashing import normal_rows

NO_TABLE = np.empty(0, np.float32)
IDS = {
    "long": lambda x: x * 7919 + 2**40,
    "int": lambda x: x,
    "string": lambda x: f"Ü-{x:06d}",
}


def routed(ratings, blocks, layout=None, columns=None):
    """Both sides' routed blocks, read back."""
    layout = layout or HashLayout(blocks, NO_TABLE, False, False)
    encoded = encode(select(ratings, columns or Columns()))
    raw = [side_blocks(encoded, layout, side).persist() for side in Side]
    sides = []
    for side in Side:
        frame = route(raw[side], raw[side.other], blocks[side], blocks[side.other]).toArrow()
        sides.append({b.number: b for b in (read_routed(frame, row, layout) for row in range(frame.num_rows))})
    for frame in raw:
        frame.unpersist()
    return sides


def pairs_of(side, other):
    """The ratings of a side's blocks as {(own id, other id): rating}, through the routes of the other side."""
    pairs = {}
    for number, block in side.items():
        needed = []
        for one in sorted(other):
            starts = other[one].route_starts
            needed += [
                other[one].ids[int(place)].as_py() for place in other[one].routes[starts[number] : starts[number + 1]]
            ]
        for row in range(block.csr.rows):
            for at in range(block.csr.indptr[row], block.csr.indptr[row + 1]):
                key = (block.ids[row].as_py(), needed[block.csr.indices[at]])
                pairs.setdefault(key, []).append(float(block.csr.values[at]))
    return pairs


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("blocks", [(1, 1), (3, 2), (40, 5)])
def test_every_rating_is_in_one_block_of_each_side_and_reaches_its_row(spark, kind, blocks):
    rng = np.random.default_rng(len(kind) + blocks[0])
    users, items, values = rng.integers(0, 13, 150), rng.integers(0, 9, 150), rng.integers(1, 6, 150)
    rows = [(IDS[kind](int(u)), IDS[kind](int(i)), float(r)) for u, i, r in zip(users, items, values, strict=True)]
    ratings = spark.createDataFrame(rows, f"user {kind}, item {kind}, rating float").repartition(3)
    ref = {}
    for user, item, rating in rows:
        ref.setdefault((user, item), []).append(rating)
    user_side, item_side = routed(ratings, blocks)
    comp = pairs_of(user_side, item_side)
    assert {key: sorted(found) for key, found in comp.items()} == {key: sorted(found) for key, found in ref.items()}
    comp = {key[::-1]: found for key, found in pairs_of(item_side, user_side).items()}
    assert {key: sorted(found) for key, found in comp.items()} == {key: sorted(found) for key, found in ref.items()}
    for side, count in ((user_side, blocks[0]), (item_side, blocks[1])):
        for number, block in side.items():
            assert block.ids.to_pylist() == sorted(block.ids.to_pylist())
            assert set(block_of(block.ids, count).tolist()) == {number}


def test_one_rating_and_one_id_of_many_ratings(spark):
    one = spark.createDataFrame([(5, "x", 2.0)], "user long, item string, rating double")
    user_side, item_side = routed(one, (4, 3))
    assert len(user_side) == len(item_side) == 1
    assert pairs_of(user_side, item_side) == {(5, "x"): [2.0]}
    skew = spark.createDataFrame([(u, 1, float(u % 5)) for u in range(500)], "user int, item int, rating float")
    user_side, item_side = routed(skew, (6, 6))
    assert sum(block.csr.rows for block in user_side.values()) == 500
    assert [block.csr.indptr.tolist() for block in item_side.values()] == [[0, 500]]


def test_held_out_ratings_stay_apart_and_need_no_training_rating_of_the_other_side(spark):
    rows = [(1, 1, 3.0, False), (1, 2, 4.0, True), (2, 1, 5.0, False), (3, 1, 1.0, True)]
    ratings = spark.createDataFrame(rows, "user int, item int, rating float, held boolean")
    layout = HashLayout((2, 2), np.array([3, 5], np.float32), False, True)
    user_side, item_side = routed(ratings, (2, 2), layout, Columns(validation="held"))
    ids = [one for block in user_side.values() for one in block.ids.to_pylist()]
    assert sorted(ids) == [1, 2]  # user 3 has no rating to train on
    assert sum(block.csr.held_indices.size for block in user_side.values()) == 1
    asked = np.concatenate([block.routes for block in item_side.values()])
    assert (asked < 0).sum() == 1  # item 2 is asked for, but was never trained on


def test_hashes_depend_on_the_id_alone():
    for ids in (pa.array([1, 2, 3], pa.int32()), pa.array(["a", "", "ü"])):
        whole = hash_ids(ids)
        assert len(set(whole.tolist())) == 3
        np.testing.assert_array_equal(hash_ids(ids.slice(1)), whole[1:])
    np.testing.assert_array_equal(hash_ids(pa.array([-1, 7], pa.int8())), hash_ids(pa.array([-1, 7], pa.int64())))
    many = block_of(pa.array(np.arange(80_000)), 8)
    assert np.abs(np.bincount(many) - 10_000).max() < 500
    even = block_of(pa.array(np.arange(0, 160_000, 2)), 8)  # a stride of ids does not fill half of the blocks
    assert np.abs(np.bincount(even) - 10_000).max() < 500


@pytest.mark.parametrize("rank", [1, 2, 7])
def test_the_start_is_normal_and_a_function_of_the_id(rank):
    hashes = hash_ids(pa.array(np.arange(20_000)))
    drawn = normal_rows(hashes, 3, 0, rank)
    assert abs(drawn.mean()) < 0.02 and abs(drawn.std() - 1) < 0.02
    assert abs((drawn**4).mean() - 3) < 0.2
    np.testing.assert_array_equal(normal_rows(hashes[100:110], 3, 0, rank), drawn[100:110])
    for seed, side in ((3, 1), (4, 0)):
        assert not np.isclose(normal_rows(hashes[100:110], seed, side, rank), drawn[100:110]).any()
