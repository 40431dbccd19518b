"""Choosing parameters: every combination on the same folds of the same ratings, bad ones stopped early if asked.

A fold is a mark on the ratings (``validationIndicatorCol``), not a table of its own: mfspark's estimators make the
blocks of a fold once, and every trial starts from them. Any other `pyspark.ml.Estimator` is fitted on the rows of the
other folds. Unlike with `CrossValidator` the folds are the same whatever the partitioning, and every score is kept.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Self

from pyspark.ml import Estimator
from pyspark.ml.evaluation import Evaluator
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from mfspark.errors import ParameterError
from mfspark.evaluation.trials import TrialTable, key_of, marks_of, rows_digest
from mfspark.evaluation.tuning import Search, Settings, Trial, param_map, with_folds

LOGGER = logging.getLogger("mfspark.evaluation")
FOLD, HELD_OUT = "_mfspark_fold", "_mfspark_held_out"
RMSE = "validation RMSE"


class Trials:
    """Scores combinations of parameters on the same folds: the function that a search of any kind calls.

    Parameters
    ----------
    estimator : Estimator
        Any estimator; its other parameters stay as they are. The parameters of one inside it (``TopK``) count, too.
    df : DataFrame
        The ratings.
    evaluator : Evaluator, optional
        Scores ``model.transform(held-out fold)``; its ``isLargerBetter`` says which score wins. A model that cannot
        predict new users or items needs ``coldStartStrategy="drop"``, or its score is NaN, which raises. Default: the
        validation RMSE that a fit of explicit ratings measures itself, which costs no prediction.
    folds : int, default 5
        Number of folds.
    seed : int, default 0
        Of the assignment to folds.
    table : str, optional
        Address of a Delta table to which scores are added as they come, and in which they are looked up: a search that
        was killed goes on where it was.

    Raises
    ------
    ParameterError
        Fewer than 2 folds, or an estimator that measures no validation RMSE has no evaluator.

    Examples
    --------
    >>> from mfspark import ALS
    >>> with Trials(ALS(maxIter=2), ratings, folds=2) as trials:
    ...     best = min((trials.score({"rank": rank}) for rank in (1, 2)), key=lambda trial: trial.mean)

    With Optuna (``mfspark[tune]``) a study's objective is
    ``lambda trial: trials.score({"rank": trial.suggest_int("rank", 8, 64)}).mean``.
    """

    def __init__(
        self,
        estimator: Estimator,
        df: DataFrame,
        evaluator: Evaluator | None = None,
        folds: int = 5,
        seed: int = 0,
        table: str | None = None,
    ) -> None:
        self.evaluator, self.folds = evaluator, folds
        self.metric = RMSE if evaluator is None else _name(evaluator)
        self.larger = evaluator is not None and evaluator.isLargerBetter()
        inner: Any = getattr(estimator, "estimator", estimator)
        self._shares = hasattr(estimator, "prepare") and not inner.isSet("validationIndicatorCol")
        measures_itself = self._shares and not hasattr(estimator, "estimator") and not inner._implicit()
        if evaluator is None and not measures_itself:
            raise ParameterError(
                f"{type(estimator).__name__} as it is set measures no RMSE of held-out ratings: give an evaluator, "
                "such as RankingEvaluator with the estimator in TopK"
            )
        marked = param_map(estimator, {"validationIndicatorCol": HELD_OUT}) if self._shares else None
        self.estimator: Any = estimator.copy(marked)
        self._rows, self._stack = with_folds(df, folds, seed, FOLD), ExitStack()
        self._prepared: dict[int, Any] = {}
        self._table = None if table is None else TrialTable(df.sparkSession, table)
        self._asked: dict[str, Any] = {}
        if self._table is not None:
            self._asked = {"folds": folds, "seed": seed, "metric": self.metric, "ratings": rows_digest(df)}

    def __enter__(self) -> Self:
        """Return the trials."""
        return self

    def __exit__(self, *error: object) -> None:
        """Let the blocks go, and write what is still to be written."""
        self.close()

    def close(self) -> None:
        """Let the blocks go, and write what is still to be written to the table."""
        self._stack.close()
        self._prepared = {}
        if self._table is not None:
            self._table.flush()

    def score(self, settings: Settings, iterations: int | None = None) -> Trial:
        """Return the trial of one combination of parameters.

        Parameters
        ----------
        settings : dict
            Parameter names and values.
        iterations : int, optional
            In place of the estimator's ``maxIter``.

        Raises
        ------
        ParameterError
            An unknown parameter, or a score that is NaN.
        """
        chosen = param_map(self.estimator, dict(settings) | ({} if iterations is None else {"maxIter": iterations}))
        began, scores = time.perf_counter(), []
        marks = {} if self._table is None else marks_of(self.estimator.copy(chosen)) | self._asked
        for fold in range(self.folds):
            key = key_of(marks | {"fold": fold})
            score = None if self._table is None else self._table.find(key)
            if score is None:
                start = time.perf_counter()
                score = self._measured(fold, chosen, settings)
                if self._table is not None:
                    seconds = time.perf_counter() - start
                    self._table.add(key, settings, fold, iterations, self.metric, score, seconds)
            scores.append(score)
        trial = Trial(dict(settings), tuple(scores), iterations, time.perf_counter() - began)
        LOGGER.info("%s: %s %.5f +- %.5f, %.1f s", settings, self.metric, trial.mean, trial.std, trial.seconds)
        return trial

    def ranked(self, trials: Sequence[Trial]) -> list[Trial]:
        """Return trials with the best first; those of more iterations come before those that ended earlier."""
        return sorted(
            trials,
            key=lambda trial: (-(trial.iterations or math.inf), -trial.mean if self.larger else trial.mean),
        )

    def _measured(self, fold: int, chosen: dict[Any, Any], settings: Settings) -> float:
        if self._shares:
            model = self._fold(fold).fit(chosen)
        else:
            model = self.estimator.fit(self._rows.where(f"{FOLD} != {fold}").drop(FOLD), chosen)
        if self.evaluator is None:
            score = (model.summary.validationHistory or [math.nan])[-1]
        else:
            held_out = self._rows.where(f"{FOLD} = {fold}").drop(FOLD)
            score = self.evaluator.evaluate(model.transform(held_out))
        if math.isnan(score):
            raise ParameterError(
                f"the score of {settings} in fold {fold} is NaN: set coldStartStrategy to 'drop', or look for a fold "
                "without rows"
            )
        return float(score)

    def _fold(self, fold: int) -> Any:
        if fold not in self._prepared:
            marked = self._rows.withColumn(HELD_OUT, F.col(FOLD) == fold).drop(FOLD)
            self._prepared[fold] = self._stack.enter_context(self.estimator.prepare(marked))
        return self._prepared[fold]


def cross_validate(
    estimator: Estimator,
    df: DataFrame,
    settings: Sequence[Settings],
    evaluator: Evaluator | None = None,
    folds: int = 5,
    seed: int = 0,
    halving: int = 1,
    table: str | None = None,
) -> Search:
    """Score every combination of parameters by k-fold cross-validation.

    Parameters
    ----------
    estimator, df
        As for ``Trials``.
    settings : sequence of dict
        Parameter names and values (see `grid` and `random_settings`).
    evaluator, folds, seed
        As for ``Trials``.
    halving : int, default 1
        From 2 on, bad trials are stopped early by successive halving (Jamieson and Talwalkar 2016, section 3): all run
        for a few iterations, the best 1 / ``halving`` of them for ``halving`` times as many, and so on up to the
        estimator's ``maxIter``. 1: every trial runs to its end.
    table
        As for ``Trials``.

    Returns
    -------
    Search
        All trials, best first.

    Raises
    ------
    ParameterError
        No combination, an unknown parameter, fewer than 2 folds, a score that is NaN, or ``halving`` where the
        estimator has no ``maxIter`` or the combinations vary it.
    """
    if not settings:
        raise ParameterError("settings is empty: give at least one combination of parameters")
    for chosen in settings:
        param_map(estimator, chosen)
    rungs = _rungs(estimator, settings, halving)
    with Trials(estimator, df, evaluator, folds, seed, table) as trials:
        left: list[Settings] = list(settings)
        ended: list[Trial] = []
        for iterations in rungs:
            ranked = trials.ranked([trials.score(chosen, iterations) for chosen in left])
            kept = max(1, len(left) // halving)
            ended += ranked[kept:]
            left = [trial.settings for trial in ranked[:kept]]
        whole = [trials.score(chosen) for chosen in left]
        return Search(tuple(trials.ranked([*whole, *ended])), trials.metric)


def _rungs(estimator: Estimator, settings: Sequence[Settings], halving: int) -> list[int]:
    """Return after how many iterations trials are compared before the best of them run on to their end."""
    if halving < 1:
        raise ParameterError(f"halving must be at least 1, not {halving}")
    if halving == 1:
        return []
    inner = getattr(estimator, "estimator", estimator)
    if not inner.hasParam("maxIter") or any("maxIter" in chosen for chosen in settings):
        raise ParameterError("halving stops trials after fewer iterations: leave maxIter out of the settings")
    whole = max(1, inner.getOrDefault("maxIter"))
    steps = min(round(math.log(len(settings), halving) + 1e-9), round(math.log(whole, halving)))
    return list(dict.fromkeys(max(1, whole // halving**step) for step in range(steps, 0, -1)))


def _name(evaluator: Any) -> str:
    named = evaluator.hasParam("metricName") and evaluator.isDefined("metricName")
    return str(evaluator.getOrDefault("metricName")) if named else type(evaluator).__name__
