"""The jobs as functions: ingest, train, predict, evaluate. Each reads and writes tables of one store."""

from mfspark.pipeline.evaluating import EvaluateReport, evaluate
from mfspark.pipeline.ingesting import IngestReport, ingest
from mfspark.pipeline.predicting import PredictReport, predict
from mfspark.pipeline.training import TrainReport, train

__all__ = [
    "EvaluateReport",
    "IngestReport",
    "PredictReport",
    "TrainReport",
    "evaluate",
    "ingest",
    "predict",
    "train",
]
