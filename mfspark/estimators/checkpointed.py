"""Where the state of a fit's loop is stored while it runs, and what tells one fit from another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyspark.ml import Estimator
from pyspark.sql import DataFrame

from mfspark.blocks.build import Layout
from mfspark.blocks.digest import digest
from mfspark.blocks.profile import Totals
from mfspark.estimators.options import SAME_NUMBERS
from mfspark.estimators.params import FactorizationParams
from mfspark.store.checkpoints import StateTable
from mfspark.store.tables import Location
from mfspark.training.checkpoint import NEVER, Checkpoints, key_of
from mfspark.training.placement import task_count

SHORT = 1e11
"""Fused operations of a fit that is sooner begun anew than stored half-way: a few seconds on one core."""
ITERATION = 1e9
"""What an iteration costs on the least of data, in such operations."""


class CheckpointedEstimator(Estimator, FactorizationParams):
    """An estimator whose killed fit goes on where it was."""

    _checkpoints_at: str | None = None
    """Where a job keeps its run's checkpoints, and removes them itself; without it they are in workPath."""

    def _checkpoints(self, encoded: DataFrame, found: Totals, cut: Mapping[str, str]) -> Checkpoints:
        """Return where the loop's state is stored (see checkpointInterval); ``cut`` is what else tells fits apart."""
        spark, path = encoded.sparkSession, self._optional("workPath")
        interval = self.getOrDefault("checkpointInterval")
        given = None if self._checkpoints_at is None else StateTable(spark, self._checkpoints_at)
        due = self._checkpoints_due() and (self.isSet("checkpointInterval") or not self._short(found))
        if interval < 1 or not ((due and (path or given)) or (given and given.exists())):
            return NEVER
        ratings = f"{found.rows} ratings, {found.held_out} of them held out ({digest(encoded)})"
        marks = {**self._fingerprint(), "ratings": ratings, **cut}
        storage = given or StateTable(spark, Location(path).table(f"mfspark_checkpoint_{key_of(marks)}"))
        return Checkpoints(storage, interval, marks, type(self).__name__)

    def _finish(self, checkpoints: Checkpoints) -> None:
        """Remove what a fit that has ended stored; a job does so itself, once the model is published."""
        if self._checkpoints_at is None:
            checkpoints.remove()

    def _cut(self, layout: Layout, slots: int) -> str:
        """Return how the ratings are cut, where the numbers depend on it."""
        users, items = (len(bounds) - 1 for bounds in layout.bounds)
        return f"{users} x {items} in {task_count(layout.blocks, slots)} tasks"

    def _fingerprint(self) -> dict[str, Any]:
        """Return the estimator and those of its parameters that a fit's numbers depend on."""
        values = {p.name: self.getOrDefault(p) for p in self.params if self.isDefined(p) and p.name not in SAME_NUMBERS}
        return {"estimator": type(self).__name__} | values

    def _checkpoints_due(self) -> bool:
        """Return whether a checkpoint is due before the fit ends."""
        return 0 < self.getOrDefault("checkpointInterval") < self.getOrDefault("maxIter")

    def _short(self, found: Totals) -> bool:
        """Return whether the whole fit takes a few seconds: then, unless asked for, no checkpoint is worth its time."""
        rank = float(self.getOrDefault("rank"))
        sweep = found.rows * rank**2 + sum(found.listed) * rank**3 / 3.0 + ITERATION
        return self.getOrDefault("maxIter") * sweep < SHORT
