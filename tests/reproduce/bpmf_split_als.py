"""RMSE of ALS on ml-1m, bpmf_train -> bpmf_probe (the split shipped with the demonstration code of PMF and BPMF).

    python -m tests.reproduce.bpmf_split_als             fit on the 900,000 ratings, measure on the 100,209
    python -m tests.reproduce.bpmf_split_als --search    how the settings were found

The settings come from a split of the training part only: a tenth of it is held out (seed 1), every combination of the
grids is trained on the rest, and the best number of iterations is read from the same held-out tenth. Three things
matter: a ridge that grows a little slower than the number of ratings (regExponent below 1), more factors, and stopping
after few iterations from a small start.
"""

from __future__ import annotations

import sys
from typing import Any

from mfspark import ALS
from mfspark.kernels.objective import Settings
from tests.reproduce.protocol import Indexed, local_als
from tests.reproduce.published import bpmf_split

TARGET = 0.842
SETTINGS: dict[str, Any] = dict(rank=128, regParam=0.12, regExponent=0.9, initStd=0.1, initMode="positive", maxIter=5)
GRIDS: list[dict[str, list[Any]]] = [
    dict(rank=[64, 128], reg=[0.06, 0.07, 0.08], exponent=[1.0], std=[0.3, 1.0]),
    dict(rank=[128], reg=[0.12, 0.135, 0.15], exponent=[0.9], std=[0.1, 0.3]),
    dict(rank=[64, 128], reg=[0.2, 0.25, 0.3], exponent=[0.8], std=[0.3, 1.0]),
    dict(rank=[128], reg=[0.6, 1.0, 1.4], exponent=[0.6], std=[0.3]),
    dict(rank=[64], reg=[0.05, 0.07], biased=[True], center=[True, False]),
    dict(rank=[128], reg=[0.25], exponent=[0.8], std=[0.3], biased=[True], center=[True, False]),
]


def held_out_curve(
    fold: Indexed,
    rank: int,
    reg: float,
    exponent: float = 1.0,
    std: float = 1.0,
    biased: bool = False,
    center: bool = False,
    sweeps: int = 15,
) -> list[float]:
    """Return the held-out RMSE after each sweep, on the kernels alone (the estimator's numbers without Spark)."""
    settings = Settings(rank=rank, reg_param=(reg, reg), exponent=exponent, bias=(biased, biased))
    return local_als(fold, settings, sweeps, center=center, std=std)


if __name__ == "__main__":
    sys.exit(bpmf_split("ALS", ALS(seed=0, clip=True, **SETTINGS), TARGET, GRIDS, held_out_curve))
