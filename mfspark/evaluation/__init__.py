"""Rating and ranking metrics, evaluators of pyspark.ml, baselines, segments, cross-validation and tuning."""

from mfspark.evaluation.baselines import bias_ranking, in_one_order, popularity_ranking
from mfspark.evaluation.evaluators import RankingEvaluator, RatingEvaluator, TopK, TopKModel
from mfspark.evaluation.ranking import ranking_metrics
from mfspark.evaluation.ratings import RatingMetrics, all_rating_metrics, bias_baseline, mean_baseline, rating_metrics
from mfspark.evaluation.search import Trials, cross_validate
from mfspark.evaluation.segments import deciles, ranking_segments, rating_segments
from mfspark.evaluation.tuning import Search, Trial, fit_restarts, grid, random_settings

__all__ = [
    "RankingEvaluator",
    "RatingEvaluator",
    "RatingMetrics",
    "Search",
    "TopK",
    "TopKModel",
    "Trial",
    "Trials",
    "all_rating_metrics",
    "bias_baseline",
    "bias_ranking",
    "cross_validate",
    "deciles",
    "fit_restarts",
    "grid",
    "in_one_order",
    "mean_baseline",
    "popularity_ranking",
    "random_settings",
    "ranking_metrics",
    "ranking_segments",
    "rating_metrics",
    "rating_segments",
]
