"""Checkpoints in Delta: whole or not there, the newest two, no file left of older ones."""

import os

import numpy as np
import pyarrow as pa
import pytest

from mfspark.errors import StoreError
from mfspark.store import checkpoints, tables
from mfspark.store.checkpoints import StateTable


def arrays(n):
    return {"users": np.full((5, 3), n, np.float32), "held": np.zeros(0), "items": np.arange(n, dtype=np.float64)}


def check(table, n):
    read = table.read(n, list(arrays(n)))
    for name, array in arrays(n).items():
        np.testing.assert_array_equal(np.frombuffer(read[name], array.dtype).reshape(array.shape), array)


def test_the_newest_two_are_there_and_no_file_of_older_ones(spark, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "_PIECE_BYTES", 16)  # arrays of several pieces
    address = str(tmp_path / "st[a]te")

    def beside():
        return sorted(name.split("_")[1] for name in os.listdir(tmp_path) if "arrays" in name)

    table = StateTable(spark, address)
    assert table.headers() == {} and not table.exists()
    table.remove()
    for n in (2, 4):
        table.write(n, f"header {n}", arrays(n), {})
    again = StateTable(spark, address)  # another process
    assert again.headers() == {2: "header 2", 4: "header 4"}
    again.write(6, "header 6", arrays(6), {})
    assert again.headers() == {4: "header 4", 6: "header 6"} == table.headers()
    assert beside() == ["4", "6"]
    check(again, 4)
    check(again, 6)
    again.remove()
    assert os.listdir(tmp_path) == [] and again.headers() == {}
    again.write(8, "anew", arrays(8), {})  # where the session may remember the removed table
    assert StateTable(spark, address).headers() == {8: "anew"}
    check(again, 8)


def test_a_fit_that_went_back_replaces_what_it_left_behind(spark, tmp_path):
    table = StateTable(spark, str(tmp_path / "state"))
    for n in (2, 4):
        table.write(n, f"header {n}", {}, {})
    table.write(4, "header 4, again", arrays(4), {})  # the first one was damaged, and the fit went on from 2
    assert table.headers() == {2: "header 2", 4: "header 4, again"}
    check(table, 4)


def test_what_is_half_written_is_not_there_and_goes_with_the_rest(spark, tmp_path, monkeypatch):
    """A process that dies between the data and the header that names them."""
    table = StateTable(spark, str(tmp_path / "state"))
    table.write(2, "header 2", arrays(2), {})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tables, "overwrite", dies_before(table.address))
        table.write(4, "header 4", arrays(4), {"user_factors": spark.range(3)})
    assert len(os.listdir(tmp_path)) == 4
    assert StateTable(spark, table.address).headers() == {2: "header 2"}
    table.remove()
    assert os.listdir(tmp_path) == []


def dies_before(address, overwrite=tables.overwrite):
    def write(frame, to):
        if to == address:
            raise KeyboardInterrupt
        overwrite(frame, to)

    return write


def test_a_checkpoint_that_lost_a_file_cannot_be_read(spark, tmp_path):
    table = StateTable(spark, str(tmp_path / "state"))
    for n in (2, 4):
        table.write(n, f"header {n}", arrays(n), {})
    for path in tmp_path.glob("state_4_arrays_*/*.parquet"):
        path.unlink()
    with pytest.raises(Exception, match=r"(?i)file|exist"):
        table.read(4, ["users"])
    check(table, 2)
    with pytest.raises(StoreError, match="the array 'other' of iteration 2 has lost a piece"):
        table.read(2, ["other"])


@pytest.mark.parametrize("named", [False, True])
def test_frames_lie_beside_and_go_with_their_checkpoint(spark, tmp_path, named):
    address = "default.checkpoint_test" if named else str(tmp_path / "state")
    table = StateTable(spark, address)
    there = []
    for n in (2, 4, 6):
        frame = spark.createDataFrame(pa.table({"block": [0, 1], "data": [bytes([n]), bytes([n, n])]}))
        table.write(n, "header", {}, {"user_factors": frame})
        there.append(table.addresses(n)["user_factors"])
    assert [tables.exists(spark, one) for one in there] == [False, True, True]
    again = StateTable(spark, address)
    assert sorted(again.headers()) == [4, 6]
    rows = again.frame(4, "user_factors").orderBy("block").collect()
    assert [bytes(row["data"]) for row in rows] == [b"\4", b"\4\4"]
    checkpoints.remove(spark, address)
    assert not any(tables.exists(spark, one) for one in (*there, address))
