"""RMSE of BPMF on ml-1m, bpmf_train -> bpmf_probe (the split shipped with the demonstration code of PMF and BPMF).

    python -m tests.reproduce.bpmf_split_bpmf             fit on the 900,000 ratings, measure on the 100,209
    python -m tests.reproduce.bpmf_split_bpmf --search    how the settings were found

The settings come from a split of the training part only, as in ``bpmf_split_als``: rank and precision of a rating
there, on short chains; the number of sweeps and of samples is what a minute allows.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pyarrow as pa

from mfspark import BPMF
from mfspark.kernels.als.gibbs import moments, sample_rows
from mfspark.kernels.objective import Settings
from mfspark.model.factorization import Factorization
from mfspark.training.bpmf import draw_prior
from tests.reproduce.protocol import Indexed, clipped, rmse
from tests.reproduce.published import bpmf_split

TARGET = 0.836
SETTINGS: dict[str, Any] = dict(rank=32, maxIter=120, burnIn=20, numSamples=50, ratingPrecision=2.0)
GRIDS: list[dict[str, list[Any]]] = [
    dict(rank=[16], precision=[2.0]),
    dict(rank=[32], precision=[1.6, 2.0, 2.5, 3.0]),
    dict(rank=[64], precision=[2.0, 2.5]),
]


def held_out_curve(fold: Indexed, rank: int, precision: float, sweeps: int = 120, burn_in: int = 20) -> list[float]:
    """Return the held-out RMSE after each sweep, of the mean over all samples from burn_in on, on the kernels alone."""
    generator, settings = np.random.default_rng(0), Settings(rank)
    mean = np.float32(fold.train.rating.mean(dtype=np.float64))
    sides = []
    for ids in fold.ids:
        array = np.zeros((len(ids), settings.padded), np.float32)
        array[:, :rank] = generator.standard_normal((len(ids), rank)) * (0.3 / np.sqrt(rank))
        sides.append(array)
    errors, total = [], np.zeros(len(fold.test))
    for sweep in range(sweeps):
        for side in (1, 0):
            prior = draw_prior(moments(sides[side], rank), generator)
            base, shift = prior.padded(settings.padded, settings.dtype)
            block, a = fold.blocks[side], np.full(len(fold.train), precision, np.float32)
            sample_rows(
                block.indptr, block.indices, a, a * (block.values - mean), sides[1 - side], base, shift, rank,
                np.uint64(0), sweep, side, np.arange(block.rows, dtype=np.uint64), sides[side],
            )  # fmt: skip
        fitted = Factorization(settings, (pa.array([]), pa.array([])), (sides[0], sides[1]), float(mean))
        predicted = fold.predict(*fitted.scoring(), clip=False)
        total += predicted if sweep >= burn_in else 0
        average = total / (sweep - burn_in + 1) if sweep >= burn_in else predicted
        errors.append(rmse(clipped(average, fold.train), fold.test))
    return errors


if __name__ == "__main__":
    sys.exit(bpmf_split("BPMF", BPMF(seed=0, clip=True, **SETTINGS), TARGET, GRIDS, held_out_curve))
