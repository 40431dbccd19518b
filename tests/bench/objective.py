"""The objective of a pyspark model on a data set, summed by the package's own kernels."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mfspark.blocks.build import build, plan, read_block
from mfspark.blocks.columns import Columns
from mfspark.kernels.als.half_step import STATISTICS, objective
from mfspark.kernels.csr import EMPTY, Side
from mfspark.kernels.objective import Settings, expand, fix, row_ridges


def side_of(frame, ids, settings):
    """Return a factor frame as an array in the order of ids."""
    table = pa.table(frame.toArrow())
    features = table.column("features").combine_chunks().flatten().to_numpy().reshape(len(table), -1)
    array = np.zeros((len(ids), settings.padded), np.float32)
    places = pc.index_in(ids, value_set=table.column("id").combine_chunks().cast(ids.type)).to_numpy()
    array[:, : features.shape[1]] = features[places]
    return array


def objective_of(profile, encoded, model, implicit, reg, alpha):
    """Return fit + regularisation of both sides."""
    found = profile(encoded, Columns())
    layout = plan(found, 1, (1, 1), False)
    batch = build(encoded, found, layout)[0].toArrow().combine_chunks().to_batches()[0]
    settings = Settings(model.rank, implicit=implicit, alpha=alpha, reg_param=(reg, reg))
    sides = [
        side_of(frame, side.ids, settings)
        for frame, side in zip((model.userFactors, model.itemFactors), found.sides, strict=True)
    ]
    total = 0.0
    for side in Side:
        block, fixed = read_block(batch, 0, side, layout), fix(sides[side.other], settings)
        a, y = expand(block, slice(None), settings, 0.0)
        ridges, l1 = row_ridges(block, settings, len(fixed.F))
        sums = np.zeros(len(STATISTICS))
        objective(
            block.indptr,
            block.indices,
            a,
            y,
            implicit,
            fixed.F,
            EMPTY,
            fixed.base.astype(np.float32),
            ridges,
            l1,
            sides[side],
            sums,
        )
        total += sums[1] + (sums[0] if side == Side.USER else 0.0)
    return float(total)
