"""The two published protocols with a test part of their own: the bpmf split of ml-1m, and the folds of ml-100k."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from pyspark.ml import Estimator

from tests.reproduce.protocol import Indexed, Ratings, model_rmse, read, search, session, split, verdict

FOLDS = range(1, 6)
Grids = list[dict[str, list[Any]]]
Curve = Callable[..., list[float]]


def bpmf_split(name: str, estimator: Estimator, target: float, grids: Grids, curve: Curve) -> int:
    """Fit on ml-1m's bpmf_train and measure on bpmf_probe, or search settings on a split of bpmf_train."""
    train = read("ml-1m/bpmf_train.csv.gz", header=True)
    if _searching():
        return _search([Indexed(*split(train, 0.1, seed=1))], grids, curve)
    spark, test = session("bpmf-split"), read("ml-1m/bpmf_probe.csv.gz", header=True)
    error = model_rmse(estimator.fit(train.frame(spark)), train, test, spark)
    return verdict(f"ml-1m bpmf split, {name}", {"RMSE": (error, "<=", target)})


def ml100k_folds(name: str, estimator: Estimator, target: float, grids: Grids, curve: Curve) -> int:
    """Fit on each uN.base of ml-100k and measure on uN.test, or search settings on splits of the base parts."""
    if _searching():
        return _search([Indexed(*split(_part(fold, "base"), 0.1, seed=fold)) for fold in FOLDS], grids, curve)
    spark, errors = session("ml-100k"), []
    for fold in FOLDS:
        train, test = _part(fold, "base"), _part(fold, "test")
        errors.append(model_rmse(estimator.fit(train.frame(spark)), train, test, spark))
    return verdict(f"ml-100k u1..u5, {name}", {"mean RMSE": (float(np.mean(errors)), "<=", target)})


def _part(fold: int, kind: str) -> Ratings:
    return read(f"ml-100k/u{fold}.{kind}.gz", "\t")


def _searching() -> bool:
    parser = argparse.ArgumentParser()
    parser.add_argument("--search", action="store_true", help="search settings on a split of the training part")
    return parser.parse_args().search


def _search(folds: list[Indexed], grids: Grids, curve: Curve) -> int:
    for grid in grids:
        search(folds, grid, curve)
    return 0
