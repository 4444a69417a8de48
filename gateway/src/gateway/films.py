"""How the answers of several services become one. Pure.

A film in the public API always has `views`, `external_score` and `final_trend_score`.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

Film = dict[str, Any]

TREND_AWAY: Final = "trend scores are not available at the moment"


def with_external_score(film: Film) -> Film:
    """The film as it is, with its source's vote average under the name that clients know."""
    film.setdefault("external_score", film.get("vote_average"))
    return film


def with_trend(film: Film, trend: Mapping[str, Any] | None, *, known: bool = True) -> Film:
    """The film with its trend fields.

    Args:
        trend: what compute-service knows of it; None: nothing, so nobody has viewed it.
        known: False when compute-service could not be asked, so that the fields are unknown.
    """
    with_external_score(film)
    nothing = 0 if known else None
    film["views"] = trend.get("views", 0) if trend else nothing
    film["ratings"] = trend.get("ratings", 0) if trend else nothing
    film["final_trend_score"] = trend.get("final_trend_score") if trend else None
    return film


def trends_by_movie(answer: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """`/trends` of compute-service by movie id."""
    return {item["movie_id"]: item for item in answer.get("items", ())}


def movie_ids(films: Iterable[Film]) -> str:
    """The keys as the services take them: separated by commas."""
    return ",".join(film["movie_id"] for film in films)
