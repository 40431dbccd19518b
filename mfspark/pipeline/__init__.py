"""The jobs as functions: ingest, tune, train, fold in, predict, evaluate. Each reads and writes tables of one store."""

from mfspark.pipeline.evaluating import EvaluateReport, evaluate
from mfspark.pipeline.folding_in import FoldInReport, fold_in
from mfspark.pipeline.ingesting import IngestReport, ingest
from mfspark.pipeline.predicting import PredictReport, predict
from mfspark.pipeline.training import TrainReport, train
from mfspark.pipeline.tuning import TuneReport, tune

__all__ = [
    "EvaluateReport",
    "FoldInReport",
    "IngestReport",
    "PredictReport",
    "TrainReport",
    "TuneReport",
    "evaluate",
    "fold_in",
    "ingest",
    "predict",
    "train",
    "tune",
]
