"""What the reproduction scripts share: where the data is, how it is read, how a claim is measured and told."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession

from mfspark import spark_session
from mfspark.kernels.als.half_step import solve_block
from mfspark.kernels.csr import Block, counting_order
from mfspark.kernels.objective import Settings, fix
from mfspark.kernels.topk import pair_scores
from mfspark.model.factorization import Factorization
from mfspark.training.starts import Start, initial_factors

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = {"user": pa.int32(), "item": pa.int32(), "rating": pa.float32()}
SCALE = (1.0, 5.0)


@dataclass(frozen=True)
class Ratings:
    """Triples as arrays of equal length."""

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    rating: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.rating)

    def where(self, mask: NDArray[Any]) -> Ratings:
        """Return some of the triples."""
        return Ratings(self.user[mask], self.item[mask], self.rating[mask])

    def frame(self, spark: SparkSession) -> DataFrame:
        """Return the triples as a DataFrame."""
        table = pa.table({name: getattr(self, name) for name in COLUMNS})
        return spark.createDataFrame(table, schema="user int, item int, rating float")


def data_folder() -> Path:
    """Return the folder of the real ratings (MFSPARK_SHARED_DATA, or ../shared/data)."""
    folder = Path(os.environ.get("MFSPARK_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.exists():
        sys.exit(f"the ratings are not in {folder}: set MFSPARK_SHARED_DATA to the folder that has them")
    return folder


def read(name: str, delimiter: str = ",", header: bool = False) -> Ratings:
    """Read user, item, rating from a (gzipped) text file of the data folder; a missing third column means ones."""
    options = pa.csv.ReadOptions(autogenerate_column_names=True, skip_rows=int(header))
    table = pa.csv.read_csv(data_folder() / name, options, pa.csv.ParseOptions(delimiter=delimiter))
    columns = [table.column(n).combine_chunks() for n in range(min(3, table.num_columns))]
    user, item = (column.cast(pa.int32()).to_numpy() for column in columns[:2])
    rating = columns[2].cast(pa.float32()).to_numpy() if len(columns) > 2 else np.ones(len(user), np.float32)
    return Ratings(user, item, rating)


def session(name: str) -> SparkSession:
    """Return a local session with two tasks at a time."""
    spark = spark_session(name, master="local[2]", config={"spark.driver.memory": "2g"})
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def clipped(predicted: NDArray[Any], train: Ratings) -> NDArray[np.float64]:
    """Return predictions within the scale; the training mean stands in for an id without training ratings (NaN)."""
    filled = np.where(np.isnan(predicted), train.rating.mean(dtype=np.float64), predicted)
    return np.clip(filled, *SCALE)


def rmse(predicted: NDArray[Any], test: Ratings) -> float:
    """Return the root mean squared error."""
    return float(np.sqrt(np.mean((predicted - test.rating.astype(np.float64)) ** 2)))


def model_rmse(model: Any, train: Ratings, test: Ratings, spark: SparkSession) -> float:
    """Return a model's RMSE on test triples, predicted by ``transform``."""
    rows = model.transform(test.frame(spark)).select("rating", "prediction").toArrow()
    predicted, rating = (rows.column(name).to_numpy() for name in ("prediction", "rating"))
    return rmse(clipped(predicted, train), Ratings(test.user, test.item, rating))


def verdict(claim: str, figures: dict[str, tuple[float, str, float]]) -> int:
    """Write one line with each figure and its target (``<=`` or ``>=``); return the exit code."""
    parts, missed = [], 0
    for name, (value, sign, target) in figures.items():
        good = value <= target if sign == "<=" else value >= target
        missed += not good
        parts.append(f"{name} {value:.4f} (target {sign} {target:.3f}{'' if good else ', MISSED'})")
    sys.stdout.write(f"{claim}: {', '.join(parts)}\n")
    return int(missed > 0)


def split(ratings: Ratings, share: float, seed: int) -> tuple[Ratings, Ratings]:
    """Hold a share of the ratings out, so that settings are chosen without the test part."""
    held = np.random.default_rng(seed).random(len(ratings)) < share
    return ratings.where(~held), ratings.where(held)


class Indexed:
    """Triples with dense indices, as CSR blocks by user and by item, and held-out triples of known ids."""

    def __init__(self, train: Ratings, test: Ratings) -> None:
        self.train, self.test = train, test
        self.ids = tuple(np.unique(ids) for ids in (train.user, train.item))
        self.index = [
            np.searchsorted(ids, column).astype(np.int32)
            for ids, column in zip(self.ids, (train.user, train.item), strict=True)
        ]  # noqa: E501
        self.places = []
        for ids, column in zip(self.ids, (test.user, test.item), strict=True):
            place = np.minimum(np.searchsorted(ids, column), len(ids) - 1)
            self.places.append(np.where(ids[place] == column, place, -1))
        self.blocks = []
        for side in range(2):
            order, indptr = counting_order(self.index[side], len(self.ids[side]))
            self.blocks.append(Block(indptr, self.index[1 - side][order], train.rating[order]))

    def predict(self, left: NDArray[Any], right: NDArray[Any], clip: bool = True) -> NDArray[np.float64]:
        """Return left[u] . right[i] of the held-out triples, clipped if asked."""
        out = np.empty(len(self.test), left.dtype)
        pair_scores(left, right, self.places[0], self.places[1], out)
        return clipped(out, self.train) if clip else out.astype(np.float64)


def local_als(
    data: Indexed, settings: Settings, sweeps: int, center: bool = False, seed: int = 0, std: float = 1.0
) -> list[float]:
    """Run the estimator's ALS on the kernels alone; return the held-out RMSE after each sweep."""
    profile: Any = SimpleNamespace(sides=[SimpleNamespace(ids=pa.array(ids)) for ids in data.ids])
    sides = initial_factors(profile, settings, Start(seed, std, "normal" if center else "positive")).sides
    mean = float(data.train.rating.mean(dtype=np.float64)) if center else 0.0
    errors = []
    for _ in range(sweeps):
        for side, seen in ((1, settings.swapped()), (0, settings)):
            sides[side] = solve_block(data.blocks[side], fix(sides[1 - side], seen, mean), seen)[0]
        fitted = Factorization(settings, (pa.array([]), pa.array([])), (sides[0], sides[1]), mean)
        errors.append(rmse(data.predict(*fitted.scoring()), data.test))
    return errors


def search(folds: list[Indexed], grid: dict[str, list[Any]], run: Any, keep: int = 10) -> None:
    """Run every combination on folds of the training part, two at a time; write the best by mean held-out RMSE."""

    def one(values: tuple[Any, ...]) -> tuple[float, int, dict[str, Any]]:
        chosen = dict(zip(grid, values, strict=True))
        curve = np.mean([run(fold, **chosen) for fold in folds], axis=0)
        sys.stderr.write(f"{curve.min():.4f} after {int(curve.argmin()) + 1}: {chosen}\n")
        return float(curve.min()), int(curve.argmin()) + 1, chosen

    with ThreadPoolExecutor(2) as pool:
        found = sorted(pool.map(one, product(*grid.values())), key=lambda row: row[0])
    for error, sweeps, chosen in found[:keep]:
        sys.stdout.write(f"held-out RMSE {error:.4f} after {sweeps} iterations: {chosen}\n")
