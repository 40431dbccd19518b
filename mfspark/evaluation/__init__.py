"""Rating and ranking metrics, cross-validation and tuning."""

from mfspark.evaluation.ranking import ranking_metrics
from mfspark.evaluation.ratings import RatingMetrics, bias_baseline, mean_baseline, rating_metrics
from mfspark.evaluation.tuning import Search, Trial, cross_validate, fit_restarts, grid, random_settings

__all__ = [
    "RatingMetrics",
    "Search",
    "Trial",
    "bias_baseline",
    "cross_validate",
    "fit_restarts",
    "grid",
    "mean_baseline",
    "random_settings",
    "ranking_metrics",
    "rating_metrics",
]
