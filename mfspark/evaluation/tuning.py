"""What a search is made of: settings, folds, trials and their order; and several starts of which the best is kept."""

from __future__ import annotations

import itertools
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyspark.sql.functions as F
from pyspark.ml import Estimator, Model
from pyspark.sql import DataFrame

from mfspark.errors import ParameterError
from mfspark.report import Plot, search_plot

Settings = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """One combination of parameters and its score in every fold."""

    settings: Settings
    scores: tuple[float, ...]
    iterations: int | None = None
    """After how many iterations, where not after all of them."""
    seconds: float = 0.0

    @property
    def mean(self) -> float:
        """The mean score over the folds."""
        return statistics.fmean(self.scores)

    @property
    def std(self) -> float:
        """The standard deviation of the scores (0 for a single fold)."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else 0.0


@dataclass(frozen=True)
class Search:
    """All trials of a search, best first: those of more iterations before those that ended earlier."""

    trials: tuple[Trial, ...]
    metric: str = "score"

    @property
    def best(self) -> Trial:
        """The trial with the best mean score."""
        return self.trials[0]

    def plot(self, path: str | Path | None = None) -> Plot:
        """Return a picture of the search, a chart for every parameter, which a notebook shows inline.

        Parameters
        ----------
        path : str or Path, optional
            An HTML file that is written, with all it needs.

        Raises
        ------
        SetupError
            The plotting library is not installed: ``pip install mfspark[report]``.
        """
        plot = search_plot([(trial.settings, trial.mean) for trial in self.trials], self.metric)
        if path is not None:
            plot.save(path)
        return plot


def grid(values: Mapping[str, Sequence[Any]]) -> list[Settings]:
    """Return every combination of the given values.

    Parameters
    ----------
    values : mapping of str to sequence
        The values of each parameter, at least one.

    Examples
    --------
    >>> grid({"rank": [8, 16], "regParam": [0.1]})
    [{'rank': 8, 'regParam': 0.1}, {'rank': 16, 'regParam': 0.1}]
    """
    for name, choices in values.items():
        if not choices:
            raise ParameterError(f"{name} has no values to search")
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]


def random_settings(draws: Mapping[str, Any], n: int, seed: int) -> list[Settings]:
    """Draw n combinations: from a list of values, or from a function of a `random.Random`.

    Parameters
    ----------
    draws : mapping of str to sequence or callable
        A parameter's values, or a function of a `random.Random` that returns one.
    n : int
        How many combinations, at least 1.
    seed : int
        Of the draws.

    Examples
    --------
    >>> drawn = random_settings({"rank": [8, 16], "regParam": lambda r: 10 ** r.uniform(-3, 0)}, 5, seed=1)
    >>> len(drawn), sorted(drawn[0])
    (5, ['rank', 'regParam'])
    """
    if n < 1:
        raise ParameterError(f"n={n}: a random search needs at least one draw")
    generator = random.Random(seed)
    return [
        {name: draw(generator) if callable(draw) else generator.choice(draw) for name, draw in draws.items()}
        for _ in range(n)
    ]


def with_folds(df: DataFrame, folds: int, seed: int, column: str = "fold") -> DataFrame:
    """Return the rows with a fold number 0 .. folds - 1, a hash of the row and the seed: equal rows share a fold."""
    if folds < 2:
        raise ParameterError(f"folds={folds}: cross-validation needs at least 2")
    hashed = F.xxhash64(F.lit(seed), *(F.col(f"`{name}`") for name in df.columns))
    return df.withColumn(column, F.pmod(hashed, F.lit(folds)).cast("int"))


def param_map(estimator: Estimator, settings: Settings) -> dict[Any, Any]:
    """Return the settings as the parameter map of an estimator; an unknown name raises `ParameterError`.

    The parameters of an estimator inside another one (``TopK``) count as its own.
    """
    inner = getattr(estimator, "estimator", None)
    known = {param.name: param for one in (inner, estimator) if one is not None for param in one.params}
    for name in settings:
        if name not in known:
            raise ParameterError(f"{type(estimator).__name__} has no parameter {name!r}; it has {', '.join(known)}")
    return {known[name]: value for name, value in settings.items()}


def last_loss(model: Any) -> float:
    """Return the loss after the last iteration, from the model's history."""
    row = model.history.orderBy(F.desc("iteration")).select("loss").first()
    return float("nan") if row is None else float(row["loss"])


def fit_restarts(
    estimator: Estimator,
    df: DataFrame,
    seeds: Sequence[int],
    score: Callable[[Model], float] = last_loss,
) -> tuple[Model, dict[int, float]]:
    """Fit from several random starts and keep the best model.

    Parameters
    ----------
    estimator : Estimator
        With a parameter ``seed``.
    df : DataFrame
        The ratings.
    seeds : sequence of int
        One fit each.
    score : callable
        The smaller the better (default: the training loss after the last iteration).

    Returns
    -------
    model, scores
        The model with the smallest score, and every seed's score.
    """
    if not seeds:
        raise ParameterError("seeds is empty: give at least one start")
    models: dict[int, Model] = {}
    scores: dict[int, float] = {}
    for seed in dict.fromkeys(seeds):
        model = estimator.fit(df, param_map(estimator, {"seed": seed}))
        scores[seed] = score(model)
        if scores[seed] <= min(scores.values()):
            models = {seed: model}  # only the best so far is kept alive
    if not models:
        raise ParameterError(f"no start has a score that is a number: {scores}")
    return next(iter(models.values())), scores
