"""What the estimators share that fit another loss than the squared one."""

from __future__ import annotations

import numpy as np
from pyspark.ml.param import TypeConverters

from mfspark.blocks.profile import Totals
from mfspark.errors import DataError, ParameterError
from mfspark.estimators.base import BlockEstimator
from mfspark.kernels.csr import Side
from mfspark.kernels.losses import LOSSES, Loss
from mfspark.model.params import _param


class LossEstimator(BlockEstimator):
    """A descent on the blocks of users, on a loss chosen by name."""

    loss = _param("loss", "one of " + ", ".join(LOSSES), TypeConverters.toString)

    _sides = (Side.USER,)
    _init_modes = ("auto", "normal", "positive")

    def _check(self) -> None:
        """Raise ParameterError for a value or a combination that cannot take effect."""
        super()._check()
        self._check_choice("loss", LOSSES)
        name, nonnegative = self.getOrDefault("loss"), self.getOrDefault("nonnegative")
        if name == "poisson_identity" and not nonnegative:
            raise ParameterError("loss 'poisson_identity' needs nonnegative=True: its mean is the score itself")
        if name in ("logistic", "poisson") and nonnegative:
            raise ParameterError(f"nonnegative is for the losses squared and poisson_identity, not {name!r}")

    def _signed_start(self) -> bool:
        """Return whether the start may be negative; with initMode 'auto' unless uncentred ratings are fitted."""
        if self.getOrDefault("nonnegative"):
            return False
        mode, loss = self.getOrDefault("initMode"), self.getOrDefault("loss")
        return mode == "normal" or (mode == "auto" and (self.getOrDefault("center") or loss != "squared"))

    def _chosen_loss(self) -> Loss:
        """Return the loss."""
        return LOSSES[self.getOrDefault("loss")]

    def _check_ratings(self, found: Totals) -> None:
        """Raise DataError for ratings that the loss is not defined for."""
        loss = self._chosen_loss()
        seen = np.array([found.low, found.high]) if found.values is None else found.values
        wrong = seen[~loss.accepts(seen)]
        if wrong.size or (loss.name == "logistic" and found.values is None):
            example = wrong[0] if wrong.size else "more than 256 different ones"
            column = self.getOrDefault("ratingCol")
            raise DataError(
                f"column {column!r} has ratings such as {example}, but loss {loss.name!r} needs {loss.domain}"
            )
