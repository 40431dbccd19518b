"""Side: users and items as an index, and as the stem of names."""

import pickle

from mfspark.kernels.csr import Side


def test_sides_index_pairs_and_name_columns():
    assert [("p", "q")[side] for side in Side] == ["p", "q"]
    assert [side.stem for side in Side] == ["user", "item"]
    assert Side.USER.other is Side.ITEM and Side.ITEM.other is Side.USER
    assert pickle.loads(pickle.dumps(Side.ITEM)) is Side.ITEM
