"""Ratings in: readers, quality rules, ids, splits and the synthetic source."""

from mfspark.data.ids import extend_ids, to_id, to_index
from mfspark.data.netflix import read_probe
from mfspark.data.quality import Checked, Rules, check, reconcile
from mfspark.data.readers import FORMATS, read_ratings
from mfspark.data.source import Source
from mfspark.data.splits import (
    k_fold,
    leave_k_out,
    leave_one_out,
    mark_probe,
    random_split,
    strong_generalisation,
    time_split,
)
from mfspark.data.synthetic import SyntheticSpec, implicit_counts, netflix_like
from mfspark.data.synthetic_truth import noise_floor, true_mean

__all__ = [
    "FORMATS",
    "Checked",
    "Rules",
    "Source",
    "SyntheticSpec",
    "check",
    "extend_ids",
    "implicit_counts",
    "k_fold",
    "leave_k_out",
    "leave_one_out",
    "mark_probe",
    "netflix_like",
    "noise_floor",
    "random_split",
    "read_probe",
    "read_ratings",
    "reconcile",
    "strong_generalisation",
    "time_split",
    "to_id",
    "to_index",
    "true_mean",
]
