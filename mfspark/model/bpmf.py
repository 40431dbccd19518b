"""The model of Bayesian matrix factorization: the samples of a chain, and the deviations that they give."""

from __future__ import annotations

from typing import Any

from pyspark.ml.param import TypeConverters
from pyspark.sql import DataFrame

from mfspark.model.answers import Fitted
from mfspark.model.model import FactorizationModel
from mfspark.model.params import Settable, _param
from mfspark.training.history import Iteration


class BPMFParams(Settable):
    """Parameters that the estimator and its model share."""

    numSamples = _param("numSamples", "number of samples that are kept, > 0", TypeConverters.toInt)
    ratingPrecision = _param(
        "ratingPrecision", "alpha: 1 / variance of a rating around its score, > 0", TypeConverters.toFloat
    )
    deviationCol = _param(
        "deviationCol", "column of predictive standard deviations; empty: none", TypeConverters.toString
    )

    def _set_bpmf_defaults(self) -> None:
        self._setDefault(numSamples=20, ratingPrecision=2.0, deviationCol="")


class BPMFModel(FactorizationModel, BPMFParams):
    """The samples of a chain, side by side: an ordinary factorization of rank ``numSamples`` times that of a sample.

    ``transform`` adds the mean prediction and, with ``deviationCol``, its standard deviation: about 95 % of ratings
    lie within 1.96 of them around the prediction, where the model holds. Nothing can be folded in: a new user's samples
    need the priors of the chain, which the model does not keep.
    """

    def __init__(self, fitted: Fitted | None = None) -> None:
        super().__init__(fitted)
        self._set_bpmf_defaults()

    @classmethod
    def _of(cls, estimator: Any, fitted: Fitted, history: list[Iteration], dataset: DataFrame) -> BPMFModel:
        model = super()._of(estimator, fitted, history, dataset)
        assert isinstance(model, BPMFModel)
        # The samples are a part of the model: they do not change with the defaults of a later version.
        model._set(**{name: estimator.getOrDefault(name) for name in ("numSamples", "ratingPrecision")})
        return model

    def _transform(self, dataset: DataFrame) -> DataFrame:
        predicted, name = super()._transform(dataset), self.getOrDefault("deviationCol")
        if not name:
            return predicted
        noise = 1 / self.getOrDefault("ratingPrecision")
        return self._answers.deviate(predicted, self._id_columns(), name, self.getOrDefault("numSamples"), noise)
