"""Mean RMSE of BPMF on the five published folds of ml-100k, u1..u5.

    python -m tests.reproduce.ml100k_bpmf             fit on each uN.base, measure on uN.test
    python -m tests.reproduce.ml100k_bpmf --search    how the settings were found

The settings are the same for all folds and come from splits of the training parts only, as in ``ml100k_als``.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import Any

import numpy as np

from mfspark import BPMF
from tests.reproduce.bpmf_split_bpmf import held_out_curve
from tests.reproduce.ml100k_als import FOLDS, part
from tests.reproduce.protocol import Indexed, model_rmse, search, session, split, verdict

TARGET = 0.907
SETTINGS: dict[str, Any] = dict(rank=32, maxIter=60, burnIn=15, numSamples=45, ratingPrecision=1.6)
GRIDS: list[dict[str, list[Any]]] = [dict(rank=[8, 16, 32], precision=[1.6, 2.0])]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--search", action="store_true", help="search settings on splits of the training parts")
    if parser.parse_args().search:
        folds = [Indexed(*split(part(fold, "base"), 0.1, seed=fold)) for fold in FOLDS]
        for grid in GRIDS:
            search(folds, grid, partial(held_out_curve, sweeps=60, burn_in=15))
        return 0
    spark, errors = session("ml-100k-bpmf"), []
    for fold in FOLDS:
        train, test = part(fold, "base"), part(fold, "test")
        model = BPMF(seed=0, clip=True, **SETTINGS).fit(train.frame(spark))
        errors.append(model_rmse(model, train, test, spark))
    return verdict("ml-100k u1..u5, BPMF", {"mean RMSE": (float(np.mean(errors)), "<=", TARGET)})


if __name__ == "__main__":
    sys.exit(main())
