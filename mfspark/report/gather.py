"""The facts of a model and its ratings, by Spark: aggregates and bounded samples, whatever the sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyspark.sql.functions as F
from pyspark.sql import DataFrame

from mfspark.report import numbers, rows
from mfspark.report.structure import Errors, Facts, Known, Map, Neighbour, Point, Ratings, shortened
from mfspark.transport.persist import Materialiser, Workspace

ITEMS = 2_000  # on the map
KNOWN, NEIGHBOURS = 8, 5


class Described(Protocol):
    """What is asked of a model."""

    coldStartStrategy: Any

    @property
    def rank(self) -> int:
        """The number of factors."""

    @property
    def userFactors(self) -> DataFrame:
        """The factors of the users: id, features."""

    @property
    def itemFactors(self) -> DataFrame:
        """The factors of the items: id, features."""

    @property
    def history(self) -> DataFrame:
        """One row an iteration."""

    def parameters(self) -> dict[str, Any]:
        """Return everything that it was fitted with."""

    def transform(self, dataset: DataFrame, params: Any = None) -> DataFrame:
        """Return a data set with predictions."""

    def similarItems(self, items: Any = None, num: int = 10) -> DataFrame:
        """Return the nearest items."""

    def getOrDefault(self, param: Any) -> Any:
        """Return a parameter."""


class Data(NamedTuple):
    """The data beside a model.

    Parameters
    ----------
    ratings : DataFrame, optional
        What it was trained on: one row a rating, in the model's columns.
    held_out : DataFrame, optional
        What it was not trained on, for the errors; ``ratings`` where there is none.
    titles : DataFrame or mapping, optional
        Titles of items: a frame of the items' column and ``title``, or id to title.
    rating : str
        The column of ratings; empty: every row is a rating of 1.
    """

    ratings: DataFrame | None = None
    held_out: DataFrame | None = None
    titles: DataFrame | Mapping[Any, str] | None = None
    rating: str = "rating"


def facts(model: Described, data: Data | None = None) -> Facts:
    """Return what a report shows of a model, apart from what only a store knows.

    Over all ratings and factors go aggregates of Spark; what is collected is bounded: 50,000 pairs, 2,000 items, the
    neighbours of 8.

    Parameters
    ----------
    model : FactorizationModel
        Fitted or loaded.
    data : Data, optional
        Ratings, held-out ratings and titles; what is not given has no section.

    Returns
    -------
    Facts
    """
    data = data or Data()
    with Workspace(Materialiser()) as work:
        return _facts(model, data, work)


def _facts(model: Described, data: Data, work: Workspace) -> Facts:
    sides = (model.userFactors, model.itemFactors)
    (users, left), (items, right) = (rows.gramian(frame, model.rank) for frame in sides)
    sizes = None
    if data.ratings is not None:
        columns = (model.getOrDefault("userCol"), model.getOrDefault("itemCol"))
        sizes = tuple(work.keep(rows.sizes(data.ratings, column)) for column in columns)
    popular = dict(rows.most_rated(sizes[1], ITEMS)) if sizes else {}
    ids, features = _features(model, popular)
    known = [key for key in ids if popular.get(key) is not None][:KNOWN] if sizes else ids[:KNOWN]
    nearest = _nearest(model, known)
    titles = _titles(model, data.titles, [*ids, *(key for found in nearest.values() for key, _ in found)])
    stored = model.parameters()
    return Facts(
        model=str(stored.get("class", type(model).__name__)),
        rank=model.rank,
        users=users,
        items=items,
        history=[row.asDict() for row in model.history.orderBy("iteration").collect()],
        parameters=flat(stored),
        spectrum=[float(value) for value in numbers.spectrum(left, right)],
        ratings=None if sizes is None else _ratings(data, sizes),
        errors=None if sizes is None or is_implicit(stored) else _errors(model, data, sizes),
        map=_map(ids, features, popular, titles),
        known=[
            Known(_text(key), titles.get(str(key)), popular.get(key), [
                Neighbour(_text(other), titles.get(str(other)), float(cosine)) for other, cosine in nearest.get(key, ())
            ])
            for key in known
        ],
    )  # fmt: skip


def is_implicit(parameters: Mapping[str, Any]) -> bool:
    """Return whether a model predicts preferences, so that its predictions are not on the scale of the ratings."""
    return bool(parameters.get("objective", {}).get("implicit", False))


def flat(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested parameters in one level; a name that is there twice keeps its innermost value once."""
    found: dict[str, Any] = {}
    for name, value in parameters.items():
        found |= flat(value) if isinstance(value, Mapping) else {name: value}
    return found


def _features(model: Described, popular: Mapping[Any, int]) -> tuple[list[Any], np.ndarray]:
    """Return the ids and factors of the most rated items, in that order; without ratings, of some items."""
    frame = model.itemFactors.select("id", "features")
    if popular:
        kind = frame.schema["id"].dataType.simpleString()
        asked = frame.sparkSession.createDataFrame(pa.table({"id": pa.array(list(popular))}))
        frame = frame.join(F.broadcast(asked.select(F.col("id").cast(kind))), "id")
    table = frame.limit(ITEMS).toArrow()
    ids = table.column("id").to_pylist()
    features = table.column("features").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    features = features.reshape(len(ids), -1) if ids else np.zeros((0, model.rank))
    place = {key: n for n, key in enumerate(popular)}
    order = sorted(range(len(ids)), key=lambda n: place.get(ids[n], n))
    return [ids[n] for n in order], features[order]


def _nearest(model: Described, known: list[Any]) -> dict[Any, list[tuple[Any, float]]]:
    if not known:
        return {}
    item = model.getOrDefault("itemCol")
    found = model.similarItems(known, NEIGHBOURS).collect()
    return {row[item]: [(part[item], part["similarity"]) for part in row["recommendations"]] for row in found}


def _titles(model: Described, titles: Any, wanted: Iterable[Any]) -> dict[str, str]:
    texts = list(dict.fromkeys(str(key) for key in wanted))
    if titles is None:
        return {}
    if isinstance(titles, Mapping):
        given = {str(key): shortened(title) or "" for key, title in titles.items()}
        return {text: given[text] for text in texts if text in given}
    return rows.titles_of(titles, model.getOrDefault("itemCol"), texts)


def _map(ids: list[Any], features: np.ndarray, popular: Mapping[Any, int], titles: Mapping[str, str]) -> Map | None:
    if not ids:
        return None
    places, shares = numbers.plane(features)
    points = [
        Point(_text(key), titles.get(str(key)), popular.get(key), float(x), float(y))
        for key, (x, y) in zip(ids, places, strict=True)
    ]
    return Map(points, [float(share) for share in shares])


def _ratings(data: Data, sizes: tuple[DataFrame, ...]) -> Ratings:
    frame, column = _rated(data.ratings, data.rating)
    return Ratings(*rows.value_bins(frame, column), *(rows.size_bins(counted) for counted in sizes))


def _errors(model: Described, data: Data, sizes: tuple[DataFrame, ...]) -> Errors | None:
    of = "ratings held out from training" if data.held_out is not None else "the ratings given"
    frame, rating = _rated(data.ratings if data.held_out is None else data.held_out, data.rating)
    names = [model.getOrDefault("userCol"), model.getOrDefault("itemCol")]
    asked = frame.select(*(F.col(f"`{name}`") for name in names), F.col(f"`{rating}`").alias("__actual"))
    pairs = rows.sampled(asked, asked.count(), names)
    for name, counted, size in zip(names, sizes, ("__user_size", "__item_size"), strict=True):
        pairs = rows.with_sizes(pairs, name, counted, size)
    predicted = model.transform(pairs, {model.coldStartStrategy: "nan"}).select(
        F.col("__actual").cast("double"),
        F.col(f"`{model.getOrDefault('predictionCol')}`").cast("double").alias("__predicted"),
        "__user_size",
        "__item_size",
    )
    columns = [np.asarray(column.to_numpy(), np.float64) for column in predicted.toArrow().columns]
    return numbers.errors(of, columns[0], columns[1], (columns[2], columns[3]))


def _rated(frame: DataFrame | None, rating: str) -> tuple[DataFrame, str]:
    assert frame is not None
    return (frame, rating) if rating else (frame.withColumn("__one", F.lit(1.0)), "__one")


def _text(key: Any) -> str:
    return shortened(key) or ""
