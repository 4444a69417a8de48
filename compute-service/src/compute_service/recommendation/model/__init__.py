"""Recommendations from ordered interactions and content: pure functions on arrays.

interactions = Interactions.of(user, item, time, weight, users=..., items=...)
recommender = fit(interactions, content_similarity(films))
recommender.recommend(interactions.history(user), 10, diversity=0.2)
"""

from compute_service.recommendation.model.linear import LinearModel, LinearOptions, fit_linear
from compute_service.recommendation.model.neighbours import (
    ContentOptions,
    FilmContent,
    Similarity,
    companions,
    content_similarity,
)
from compute_service.recommendation.model.recommender import (
    Reason,
    Recommendation,
    Recommender,
    RecommenderOptions,
    fit,
)

__all__ = [
    "ContentOptions",
    "FilmContent",
    "LinearModel",
    "LinearOptions",
    "Reason",
    "Recommendation",
    "Recommender",
    "RecommenderOptions",
    "Similarity",
    "companions",
    "content_similarity",
    "fit",
    "fit_linear",
]
