"""Artifacts: what is computed ahead, for a day, and replaced as a whole."""

from compute_service.artifacts.artifact import Artifact, Day, Write
from compute_service.artifacts.compute_runs import KIND, ComputeRuns
from compute_service.artifacts.genre_stats import GenreStatsDaily
from compute_service.artifacts.ratings_by_decade import RatingsByDecade
from compute_service.artifacts.trending_daily import TrendingDaily

__all__ = [
    "KIND",
    "Artifact",
    "ComputeRuns",
    "Day",
    "GenreStatsDaily",
    "RatingsByDecade",
    "TrendingDaily",
    "Write",
]
