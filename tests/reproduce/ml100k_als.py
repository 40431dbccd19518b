"""Mean RMSE of ALS on the five published folds of ml-100k, u1..u5.

    python -m tests.reproduce.ml100k_als             fit on each uN.base, measure on uN.test
    python -m tests.reproduce.ml100k_als --search    how the settings were found

The settings are the same for all folds. They come from splits of the training parts only: of each uN.base a tenth is
held out (seed N), and the mean of the five held-out errors decides, also on the number of iterations. An item without
ratings in uN.base is predicted by the mean rating of uN.base.
"""

from __future__ import annotations

import sys
from typing import Any

from mfspark import ALS
from tests.reproduce.bpmf_split_als import held_out_curve
from tests.reproduce.published import ml100k_folds

TARGET = 0.915
SETTINGS: dict[str, Any] = dict(rank=128, regParam=0.25, regExponent=0.8, initStd=0.1, initMode="positive", maxIter=3)
GRIDS: list[dict[str, list[Any]]] = [
    dict(rank=[64], reg=[0.1, 0.12, 0.14], std=[0.1, 1.0]),
    dict(rank=[64], reg=[0.15, 0.18], exponent=[0.9], std=[0.3]),
    dict(rank=[64, 128], reg=[0.25, 0.4], exponent=[0.6, 0.8], std=[0.1, 0.3]),
    dict(rank=[32], reg=[0.1, 0.12, 0.14], biased=[True], center=[True]),
]


if __name__ == "__main__":
    sys.exit(ml100k_folds("ALS", ALS(seed=0, clip=True, **SETTINGS), TARGET, GRIDS, held_out_curve))
