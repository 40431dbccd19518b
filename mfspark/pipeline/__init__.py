"""The jobs as functions: ingest, train, fold in, predict, evaluate. Each reads and writes tables of one store."""

from mfspark.pipeline.evaluating import EvaluateReport, evaluate
from mfspark.pipeline.folding_in import FoldInReport, fold_in
from mfspark.pipeline.ingesting import IngestReport, ingest
from mfspark.pipeline.predicting import PredictReport, predict
from mfspark.pipeline.training import TrainReport, train

__all__ = [
    "EvaluateReport",
    "FoldInReport",
    "IngestReport",
    "PredictReport",
    "TrainReport",
    "evaluate",
    "fold_in",
    "ingest",
    "predict",
    "train",
]
