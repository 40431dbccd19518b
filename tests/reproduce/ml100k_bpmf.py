"""Mean RMSE of BPMF on the five published folds of ml-100k, u1..u5.

    python -m tests.reproduce.ml100k_bpmf             fit on each uN.base, measure on uN.test
    python -m tests.reproduce.ml100k_bpmf --search    how the settings were found

The settings are the same for all folds and come from splits of the training parts only, as in ``ml100k_als``.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from mfspark import BPMF
from tests.reproduce.bpmf_split_bpmf import held_out_curve
from tests.reproduce.published import ml100k_folds

TARGET = 0.907
SETTINGS: dict[str, Any] = dict(rank=32, maxIter=60, burnIn=15, numSamples=45, ratingPrecision=1.6)
GRIDS: list[dict[str, list[Any]]] = [dict(rank=[8, 16, 32], precision=[1.6, 2.0])]
CURVE = partial(held_out_curve, sweeps=60, burn_in=15)


if __name__ == "__main__":
    sys.exit(ml100k_folds("BPMF", BPMF(seed=0, clip=True, **SETTINGS), TARGET, GRIDS, CURVE))
