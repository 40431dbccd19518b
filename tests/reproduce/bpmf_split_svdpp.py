"""RMSE of SVD++ on ml-1m, bpmf_train -> bpmf_probe (the split shipped with the demonstration code of PMF and BPMF).

    python -m tests.reproduce.bpmf_split_svdpp             fit on the 900,000 ratings, measure on the 100,209
    python -m tests.reproduce.bpmf_split_svdpp --search    how the settings were found

The settings come from a split of the training part only, as in ``bpmf_split_als``. Search and fit use two blocks of
users, since the result depends on their number a little.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from mfspark import SVDPlusPlus
from mfspark.kernels.objective import Settings
from mfspark.kernels.svdpp import epoch, whole_users
from mfspark.model.factorization import Factorization
from mfspark.training.svdpp import combine, mean_weights, share_weights, start
from tests.reproduce.protocol import Indexed, rmse
from tests.reproduce.published import bpmf_split

TARGET = 0.838
BLOCKS = 2
SETTINGS: dict[str, Any] = dict(
    rank=64, maxIter=40, stepSize=0.01, stepDecay=0.03, regParam=0.025, regParamImplicit=0.0025, regParamBias=0.01
)
GRIDS: list[dict[str, list[Any]]] = [
    dict(rank=[64], reg=[0.02, 0.025, 0.03], implicit=[0.001, 0.0025, 0.008]),
    dict(rank=[128], reg=[0.025, 0.03, 0.035], implicit=[0.0025]),
    dict(rank=[64], reg=[0.025], implicit=[0.0025], step=[0.01, 0.015]),
]


def held_out_curve(
    fold: Indexed,
    rank: int,
    reg: float,
    implicit: float,
    step: float = 0.007,
    decay: float = 0.03,
    bias: float = 0.01,
    epochs: int = 50,
) -> list[float]:
    """Return the held-out RMSE after each epoch, on the kernels alone."""
    block, sizes = fold.blocks[0], (len(fold.ids[0]), len(fold.ids[1]))
    point = start(sizes, rank, float(fold.train.rating.mean(dtype=np.float64)), 0, 0.1).here
    cuts = np.searchsorted(block.indptr, np.linspace(0, len(block.indices), BLOCKS + 1))
    counts = np.array(
        [
            np.bincount(block.indices[block.indptr[a] : block.indptr[b]], minlength=sizes[1])
            for a, b in zip(cuts[:-1], cuts[1:], strict=True)
        ]
    )  # noqa: E501
    settings, errors, whole = Settings(rank, bias=(True, True)), [], np.empty_like(point.users)
    for t in range(epochs):
        eta, items, hidden = step * float(np.exp(-decay * t)), [], []
        for number, (a, b) in enumerate(zip(cuts[:-1], cuts[1:], strict=True)):
            part = slice(block.indptr[a], block.indptr[b])
            Q, Y = point.items.copy(), point.implicit.copy()
            epoch(
                block.indptr[a : b + 1] - block.indptr[a], block.indices[part], block.values[part], point.users[a:b],
                Q, Y, point.mean, eta, np.array([reg, reg, implicit, bias]), np.uint64(t * BLOCKS + number),
            )  # fmt: skip
            items.append(Q)
            hidden.append(Y)
        together = combine(point.items, iter(items), share_weights(counts, eta))
        point = replace(point, items=together, implicit=combine(point.implicit, iter(hidden), mean_weights(counts)))
        whole_users(block.indptr, block.indices, point.users, point.implicit, whole)
        fitted = Factorization(settings, (pa.array([]), pa.array([])), (whole, point.items), point.mean)
        errors.append(rmse(fold.predict(*fitted.scoring()), fold.test))
    return errors


if __name__ == "__main__":
    sys.exit(
        bpmf_split(
            "SVD++", SVDPlusPlus(seed=0, clip=True, numUserBlocks=BLOCKS, **SETTINGS), TARGET, GRIDS, held_out_curve
        )
    )
