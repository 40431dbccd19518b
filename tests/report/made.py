"""Facts made by hand, every section filled, texts of the data as hostile as they come."""

import numpy as np

from mfspark.report import numbers
from mfspark.report.structure import (
    Before,
    Bin,
    Facts,
    Known,
    Map,
    Neighbour,
    Point,
    Quality,
    Ratings,
    Rejected,
    Table,
    Version,
)

HOSTILE = '</script><b onclick="x">&amp;\u2028$$x$$ <!--<script>'


def made(n_items=300, seed=3):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n_items, 8)) * np.linspace(2, 0.2, 8)
    counts = np.sort(rng.zipf(1.6, n_items) * 3)[::-1]
    places, shares = numbers.plane(features)
    titles = [HOSTILE, *(f"Item number {n}, the story of it" for n in range(1, n_items))]
    points = [
        Point(str(n), titles[n] if n % 3 == 0 else None, int(counts[n]), *map(float, places[n])) for n in range(n_items)
    ]
    actual = rng.integers(1, 6, 4000).astype(float)
    predicted = np.clip(0.6 * actual + 1.4 + rng.normal(size=4000) * 0.5, 1, 5)
    sizes = rng.zipf(1.5, (2, 4000)).clip(0, 100_000)
    near = [Neighbour(HOSTILE if n == 0 else f"i{n}", None, 0.95 - n / 20) for n in range(5)]
    history = [
        {"iteration": n, "loss": 9e5 / n + 4e5, "fit": 6e5 / n + 3e5, "regularisation": 3e5 / n + 1e5,
         "validationRMSE": 0.9 + 0.3 / n, "seconds": 0.7 + 0.1 * (n % 3), "repaired": 0} for n in range(1, 11)
    ]  # fmt: skip
    return Facts(
        model="FactorizationModel",
        rank=8,
        users=4802,
        items=n_items,
        history=history,
        parameters={"rank": 8, "regParam": 0.1, "userCol": HOSTILE, "clip": True, "limits": [1.0, 5.0]},
        spectrum=[float(v) for v in np.linspace(900, 20, 8)],
        ratings=Ratings(
            count=1_004_805,
            not_finite=2,
            values=[Bin(v, v, 1000 * c) for v, c in zip(range(1, 6), (46, 101, 287, 336, 231), strict=True)],
            users=[Bin(2**n, 2 ** (n + 1) - 1, int(2000 / (1 + abs(n - 6)))) for n in range(12)],
            items=[Bin(2**n, 2 ** (n + 1) - 1, int(5000 / (1 + abs(n - 3)))) for n in range(13)],
        ),
        errors=numbers.errors("ratings held out from training", actual, predicted, (sizes[0], sizes[1])),
        map=Map(points, [float(s) for s in shares]),
        known=[Known(str(n), titles[n], int(counts[n]), near) for n in range(8)],
        version=Version(3, "2024-06-01", "2024-06-01 03:14:15", "/data/" + HOSTILE),
        metrics={"rmse": 0.91, "mae": 0.72, "r2": 0.31, "mean_only_rmse": 1.1, "mean_only_mae": 0.92,
                 "bias_only_rmse": 0.95, "bias_only_mae": 0.75, "ndcgAtK": 0.12,
                 "popular_ndcgAtK": 0.08, "noise_floor": 0.87},
        stages={"check": 10.2, "blocks": 54.1, "iterations": 84.0, "publish": 27.3},
        quality=Quality(1_004_900, 1_004_805, [Rejected("above 5", 60, "1::2::9::3"), Rejected(HOSTILE, 35, HOSTILE)]),
        lineage=[Table("/data/store/ratings", "read", 3), Table("/data/store/item_factors", "written", 7)],
        before=Before(2, "2024-05-31", {"loss": 5.1e5, "rmse": 0.93}, {"rank": 6, "regParam": 0.1}),
    )  # fmt: skip
