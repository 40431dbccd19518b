"""HR@10 and NDCG@10 of SGD with the logistic loss on ncf-ml-1m: leave one out, 99 sampled negatives.

    python -m tests.reproduce.sgd_ncf [--epochs 256]

The settings are those published for matrix factorization on this protocol (Rendle, Krichene, Zhang, Anderson 2020,
"Neural collaborative filtering vs. matrix factorization revisited"): rank 192, 256 epochs, 8 negatives a positive and
epoch, step 0.002, lambda 0.005 at every visit, start N(0, 0.1^2), biases. Data, candidates and ties are as in
``ncf_ials``.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

from mfspark import SGD
from tests.reproduce.ncf_ials import FOLDER, candidates, hit_rate_and_ndcg
from tests.reproduce.protocol import Ratings, read, session, verdict

TARGETS = (0.715, 0.440)
RANK, START = 192, 0.1
SETTINGS: dict[str, Any] = dict(
    rank=RANK, loss="logistic", implicitPrefs=True, numNegatives=8, stepSize=0.002, stepSchedule="constant",
    regParam=0.005, initStd=START * RANK**0.5, userBias=True, itemBias=True,
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=256)
    epochs = parser.parse_args().epochs
    spark = session("ncf-sgd")
    train = read(f"{FOLDER}/ml-1m.train.rebuilt.tsv.gz", "\t")
    train = Ratings(train.user, train.item, np.ones_like(train.rating))
    pairs, starts = candidates()
    model = SGD(maxIter=epochs, seed=0, **SETTINGS).fit(train.frame(spark))
    rows = model.transform(pairs.frame(spark)).select("rating", "prediction").toArrow()
    scores = np.empty(len(pairs))
    scores[rows.column("rating").to_numpy().astype(np.int64)] = np.nan_to_num(
        rows.column("prediction").to_numpy(), nan=-np.inf
    )
    hits, ndcg = hit_rate_and_ndcg(scores, starts)
    figures = {"HR@10": (hits, ">=", TARGETS[0]), "NDCG@10": (ndcg, ">=", TARGETS[1])}
    return verdict(f"ncf-ml-1m, logistic SGD d={RANK}, {epochs} epochs", figures)


if __name__ == "__main__":
    sys.exit(main())
