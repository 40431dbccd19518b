"""A fit that starts where an earlier model ended: the daily refresh."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import types as T

from mfspark.blocks.columns import id_type, require_frame
from mfspark.blocks.profile import Totals
from mfspark.errors import DataError, ParameterError
from mfspark.estimators.exchange import ExchangeEstimator
from mfspark.kernels.csr import Side
from mfspark.kernels.objective import Settings
from mfspark.model.model import FactorizationModel
from mfspark.model.persistence import ParamsWriter
from mfspark.training.checkpoint import key_of
from mfspark.training.starts import Known, Start


class StartingEstimator(ExchangeEstimator):
    """An estimator whose start is drawn, or taken from an earlier model."""

    _initial: FactorizationModel | None = None

    def setInitialModel(self, model: FactorizationModel | None) -> Self:
        """Let fits start from the factors of an earlier model; ``None``: from drawn ones again.

        Ids that the model has start from its factors (and biases, where both have them); all others next to 0, so that
        the first half step solves new items from known users, the second all users from these items: both are folded
        in. What nothing connects with known ids grows from there as from a drawn start. It is not saved with the
        estimator.

        Parameters
        ----------
        model : FactorizationModel or None
            Of the same rank, whose arrays are in the driver; fitted by any estimator, loaded, or from a registry.

        Raises
        ------
        ParameterError
            It is something else. By ``fit``: it has another rank.
        DataError
            By ``fit``: its ids are strings and the column's are numbers, or the other way round.
        """
        if model is not None and not isinstance(model, FactorizationModel):
            raise ParameterError(f"initialModel must be a FactorizationModel, not {model!r}: see load_model")
        self._initial = model
        return self

    def write(self) -> ParamsWriter:
        """Return a writer of the parameters.

        Raises
        ------
        ParameterError
            There is an initial model, which would not be saved.
        """
        if self._initial is not None:
            raise ParameterError("an estimator is saved without its initial model: setInitialModel(None) first")
        return super().write()

    def _check_fit(self, dataset: DataFrame) -> None:
        """Raise for parameters or an initial model that cannot take effect on a data set."""
        if self._initial is not None:
            self._check_initial(self._initial, dataset)
        super()._check_fit(dataset)

    def _check_initial(self, model: FactorizationModel, dataset: DataFrame) -> None:
        require_frame(dataset)
        if model.rank != self.getOrDefault("rank"):
            raise ParameterError(f"rank is {self.getOrDefault('rank')}, but the initial model has {model.rank}")
        for side, name in zip(Side, map(self.getOrDefault, ("userCol", "itemCol")), strict=True):
            if name not in dataset.columns:
                continue
            asked, known = id_type(dataset.schema[name].dataType), model._kinds[side]
            if isinstance(asked, T.StringType) != isinstance(known, T.StringType):
                raise DataError(
                    f"column {name!r} is {asked.simpleString()}, but the initial model's ids are "
                    f"{known.simpleString()}: cast it"
                )

    def _start(self, found: Totals, settings: Settings) -> tuple[Start, bool]:
        """Return where the fit starts, and whether power steps are to follow."""
        mode, std = self._start_mode(found), self.getOrDefault("initStd")
        known = None if self._initial is None else _known(self._initial, settings)
        drawn = Start(self._seed(), std, "normal" if mode == "power" else mode, known)
        return drawn, mode == "power" and known is None

    def _fingerprint(self) -> dict[str, Any]:
        """Return what a fit's numbers depend on: the initial model, too."""
        marks = super()._fingerprint()
        if self._initial is None:
            return marks
        sums = [[str(side.sum(dtype=np.float64)), len(side)] for side in self._initial.fitted.sides]
        return marks | {"initialModel": key_of({"sides": str(sums)})}


def _known(model: FactorizationModel, settings: Settings) -> tuple[Known, Known]:
    """Return a model's rows in the columns of other settings, of the same rank."""
    fitted, found = model.fitted, []
    for side in Side:
        rows = np.zeros((len(fitted.ids[side]), settings.padded), settings.dtype)
        rows[:, : settings.rank] = fitted.features(side)
        bias = fitted.bias(side)
        if settings.bias[side] and bias is not None:
            rows[:, settings.rank] = bias
        found.append(Known(fitted.ids[side], np.maximum(rows, 0) if settings.nonnegative else rows))
    return found[0], found[1]
