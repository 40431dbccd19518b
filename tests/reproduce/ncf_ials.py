"""HR@10 and NDCG@10 of iALS on ncf-ml-1m: leave one out, 99 sampled negatives (He et al. 2017, section 4.1).

    python -m tests.reproduce.ncf_ials [--rank 64 128]

The settings are those published for iALS on this data (Rendle et al. 2022, "Revisiting the performance of iALS on item
recommendation benchmarks"): 12 epochs, lambda = 0.007, alpha0 = 0.3, nu = 1, start N(0, (0.1 / sqrt(d))^2). The paper
minimises, over the observed pairs S and then over all pairs,

    sum_S (s - 1)^2 + alpha0 sum s^2 + sum_u lambda (n_u + alpha0 |I|)^nu |w_u|^2 + the same over the items

and so does ``ALS(confidence="ials")`` with alpha = 1 and every rating 1:

    paper                      here
    weight 1 of a pair in S    alpha = 1.0 (confidence "ials" adds alpha r (s - 1)^2 to w0 s^2)
    alpha0                     unobservedWeight = 0.3
    lambda, nu                 regParam = 0.007, regExponent = 1: the ridge is regParam (n + w0 n_fixed)^nu
    start N(0, (0.1/sqrt d)^2) initStd = 0.1: the start is N(0, initStd^2 / rank)
    an epoch: users, items     an iteration: items, users

The last line is the only difference: a fit here ends with the users at their optimum for the final items, the published
code's with the items; both have passed 24 half steps. 156 users have their held-out item among their own negatives:
that copy is not counted, so these users have 98 negatives. Ties count against the held-out item.
"""

from __future__ import annotations

import argparse
import gzip
import sys

import numpy as np

from mfspark import ALS
from tests.reproduce.protocol import Ratings, data_folder, read, session, verdict

FOLDER = "ncf-ml-1m"
TARGETS = {64: (0.720, 0.443), 128: (0.728, 0.450)}


def negatives() -> dict[tuple[int, int], list[int]]:
    """Return the negatives of each (user, held-out item)."""
    found = {}
    with gzip.open(data_folder() / FOLDER / "ml-1m.test.negative.gz", "rt") as lines:
        for line in lines:
            pair, *items = line.split("\t")
            user, item = map(int, pair.strip("()").split(","))
            found[user, item] = [int(other) for other in items]
    return found


def candidates() -> tuple[Ratings, np.ndarray]:
    """Return the pairs to score, a user's held-out item first, and where each user's pairs start."""
    users, items, starts = [], [], [0]
    for (user, held), others in sorted(negatives().items()):
        kept = [held, *(item for item in others if item != held)]
        users += [user] * len(kept)
        items += kept
        starts.append(len(items))
    user, item = np.array(users, np.int32), np.array(items, np.int32)
    return Ratings(user, item, np.arange(len(item), dtype=np.float32)), np.array(starts)


def hit_rate_and_ndcg(scores: np.ndarray, starts: np.ndarray, k: int = 10) -> tuple[float, float]:
    """Return HR@k and NDCG@k where each user's first score is that of the held-out item."""
    lists = zip(starts[:-1], starts[1:], strict=True)
    ranks = np.array([np.count_nonzero(scores[a + 1 : b] >= scores[a]) for a, b in lists])
    return float(np.mean(ranks < k)), float(np.mean(np.where(ranks < k, 1 / np.log2(ranks + 2.0), 0)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rank", type=int, nargs="*", default=list(TARGETS), choices=list(TARGETS))
    ranks = parser.parse_args().rank
    spark = session("ncf-ials")
    train = read(f"{FOLDER}/ml-1m.train.rebuilt.tsv.gz", "\t")
    train = Ratings(train.user, train.item, np.ones_like(train.rating))
    pairs, starts = candidates()
    code = 0
    for rank in ranks:
        als = ALS(
            rank=rank, maxIter=12, implicitPrefs=True, confidence="ials", alpha=1.0, unobservedWeight=0.3,
            regParam=0.007, regExponent=1.0, initStd=0.1, seed=0,
        )  # fmt: skip
        rows = als.fit(train.frame(spark)).transform(pairs.frame(spark)).select("rating", "prediction").toArrow()
        scores = np.empty(len(pairs))
        scores[rows.column("rating").to_numpy().astype(np.int64)] = np.nan_to_num(
            rows.column("prediction").to_numpy(), nan=-np.inf
        )
        hits, ndcg = hit_rate_and_ndcg(scores, starts)
        figures = {"HR@10": (hits, ">=", TARGETS[rank][0]), "NDCG@10": (ndcg, ">=", TARGETS[rank][1])}
        code |= verdict(f"ncf-ml-1m, iALS d={rank}", figures)
    return code


if __name__ == "__main__":
    sys.exit(main())
