"""RMSE of SGD with biases on ml-1m, random 5-fold cross-validation.

    python -m tests.reproduce.sgd_ml1m [--folds 5]

The settings are those published for a tuned biased matrix factorization by SGD on this protocol (RMSE 0.843): rank 80,
100 epochs, step 0.005, lambda 0.05 at every visit (regExponent 1), start N(0, 0.001^2). Nothing was searched here. The
folds are a random permutation of the ratings from seed 0; predictions are clipped to 1..5, and the training mean stands
in for an id without training ratings.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from typing import Any

import numpy as np

from mfspark import SGD
from tests.reproduce.protocol import Ratings, data_folder, model_rmse, session, verdict

TARGET = 0.845
RANK, START = 80, 0.001
SETTINGS: dict[str, Any] = dict(
    rank=RANK, maxIter=100, stepSize=0.005, stepSchedule="constant", regParam=0.05, initStd=START * RANK**0.5,
    userBias=True, itemBias=True, center=True,
)  # fmt: skip


def ratings() -> Ratings:
    """Return ml-1m in the original's order."""
    with gzip.open(data_folder() / "ml-1m" / "ratings_no_timestamp.dat.gz", "rt") as lines:
        table = np.array([line.split("::") for line in lines.read().split()], dtype=np.float32)
    return Ratings(table[:, 0].astype(np.int32), table[:, 1].astype(np.int32), table[:, 2])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folds", type=int, default=5, choices=range(1, 6), help="how many of the five folds to run")
    folds = parser.parse_args().folds
    everything, spark, errors = ratings(), session("ml-1m-sgd"), []
    fold_of = np.random.default_rng(0).permutation(len(everything)) % 5
    for fold in range(folds):
        train, test = everything.where(fold_of != fold), everything.where(fold_of == fold)
        model = SGD(seed=0, **SETTINGS).fit(train.frame(spark))
        errors.append(model_rmse(model, train, test, spark))
        sys.stderr.write(f"fold {fold + 1}: RMSE {errors[-1]:.4f}\n")
    return verdict(f"ml-1m, {folds} of 5 random folds, SGD", {"mean RMSE": (float(np.mean(errors)), "<=", TARGET)})


if __name__ == "__main__":
    sys.exit(main())
