"""The handle on one side's factors, without Spark: what goes out as a frame comes back as the same arrays."""

import numpy as np
import pyarrow as pa
import pytest

from mfspark.errors import StoreError
from mfspark.kernels.csr import Side
from mfspark.kernels.objective import Settings
from mfspark.model.factor_table import FactorTable
from mfspark.model.factorization import Factorization


class Frame:
    """A frame that is an Arrow table."""

    def __init__(self, table):
        self.table = table

    def select(self, *names):
        return Frame(self.table.select(list(names)))

    def toArrow(self):
        return self.table


class Session:
    def createDataFrame(self, table, schema):
        assert schema == "id string, features array<float>, bias float"
        return Frame(table)


def fitted(bias, ids=("a", "b", "c")):
    settings = Settings(2, bias=bias)
    array = np.zeros((len(ids), settings.padded), np.float32)
    array[:, :2] = np.arange(2 * len(ids)).reshape(-1, 2)
    array[:, 2] = bias[Side.ITEM] * np.arange(len(ids))
    return Factorization(settings, (pa.array(["u"]), pa.array(ids)), (array[:1], array))


@pytest.mark.parametrize("bias", [(False, False), (False, True), (True, False)])
def test_frame_and_back(bias):
    model = fitted(bias)
    ref = FactorTable.of(model, Side.ITEM)
    frame = ref.frame(Session(), "string")
    shuffled = Frame(frame.table.take(pa.array([2, 0, 1])))
    comp = FactorTable.read(shuffled, "item_factors", model.settings, Side.ITEM)
    assert len(comp) == 3 and comp.ids.equals(ref.ids)
    np.testing.assert_array_equal(comp.array, ref.array)
    assert (ref.arrays()[1] is None) == (not bias[Side.ITEM]) == (frame.table.column("bias").null_count == 3)


def test_rows_of_another_rank_are_refused():
    table = FactorTable.of(fitted((False, False)), Side.ITEM).frame(Session(), "string").table
    with pytest.raises(StoreError, match="item_factors has 3 rows, not all with the model's 3 factors"):
        FactorTable.read(Frame(table), "item_factors", Settings(3), Side.ITEM)
