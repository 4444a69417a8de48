"""TMDB v3 response bodies, as recorded from the live API, built from a film's detail body.

What a catalogue does not hold is answered as TMDB answers what it does not know: an empty
string, an empty list or null, under the same key.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

Body = dict[str, Any]

PAGE_SIZE: Final = 20
CHANGES_PAGE_SIZE: Final = 100
LAST_PAGE: Final = 500
MAX_APPENDED: Final = 20

_DETAIL_DEFAULTS: Final[Body] = {
    "adult": False,
    "backdrop_path": None,
    "belongs_to_collection": None,
    "budget": 0,
    "genres": [],
    "homepage": "",
    "id": 0,
    "imdb_id": None,
    "origin_country": [],
    "original_language": "",
    "original_title": "",
    "overview": "",
    "popularity": 0.0,
    "poster_path": None,
    "production_companies": [],
    "production_countries": [],
    "release_date": "",
    "revenue": 0,
    "runtime": 0,
    "softcore": False,
    "spoken_languages": [],
    "status": "Released",
    "tagline": "",
    "title": "",
    "video": False,
    "vote_average": 0.0,
    "vote_count": 0,
}
DETAIL_FIELDS: Final = frozenset(_DETAIL_DEFAULTS)

_LIST_FIELDS: Final = (
    "adult",
    "backdrop_path",
    "id",
    "original_language",
    "original_title",
    "overview",
    "popularity",
    "poster_path",
    "release_date",
    "softcore",
    "title",
    "video",
    "vote_average",
    "vote_count",
)


def details(body: Body) -> Body:
    """`/3/movie/{id}` without appended parts."""
    return {field: body.get(field, empty) for field, empty in _DETAIL_DEFAULTS.items()}


def list_item(body: Body) -> Body:
    """A film as lists, discover and search show it: genre ids in place of genres."""
    full = details(body)
    item = {field: full[field] for field in _LIST_FIELDS}
    item["genre_ids"] = [genre["id"] for genre in full["genres"]]
    return item


def trending_item(body: Body) -> Body:
    return {**list_item(body), "media_type": "movie"}


def page(
    results: list[Body],
    number: int,
    total: int,
    *,
    size: int = PAGE_SIZE,
    dates: Body | None = None,
) -> Body:
    """A page of a list. `dates` is the range that now_playing and upcoming show."""
    body: Body = {} if dates is None else {"dates": dates}
    return {
        **body,
        "page": number,
        "results": results,
        "total_pages": max(1, -(-total // size)),
        "total_results": total,
    }


def change_item(film_id: int, body: Body | None) -> Body:
    """An entry of `/3/movie/changes`; a removed film's flags are null."""
    if body is None:
        return {"id": film_id, "adult": None, "softcore": None}
    full = details(body)
    return {"id": film_id, "adult": full["adult"], "softcore": full["softcore"]}


def _empty_page(_: Body) -> Body:
    return page([], 1, 0)


def _external_ids(body: Body) -> Body:
    return {
        "imdb_id": body.get("imdb_id") or None,
        "wikidata_id": None,
        "facebook_id": None,
        "instagram_id": None,
        "twitter_id": None,
    }


def _release_dates(body: Body) -> Body:
    # Bodies collected from TMDB may carry the US certificate under a key of the collector's own.
    certificate, released = body.get("certification"), body.get("release_date")
    if not certificate or not released:
        return {"results": []}
    release: Body = {
        "certification": certificate,
        "descriptors": [],
        "iso_639_1": "",
        "note": "",
        "release_date": f"{released}T00:00:00.000Z",
        "type": 3,
    }
    return {"results": [{"iso_3166_1": "US", "release_dates": [release]}]}


_PARTS: Final[dict[str, Callable[[Body], Body]]] = {
    "alternative_titles": lambda _: {"titles": []},
    "changes": lambda _: {"changes": []},
    "credits": lambda _: {"cast": [], "crew": []},
    "external_ids": _external_ids,
    "images": lambda _: {"backdrops": [], "logos": [], "posters": []},
    "keywords": lambda _: {"keywords": []},
    "lists": _empty_page,
    "recommendations": _empty_page,
    "release_dates": _release_dates,
    "reviews": _empty_page,
    "similar": _empty_page,
    "translations": lambda _: {"translations": []},
    "videos": lambda _: {"results": []},
    "watch/providers": lambda _: {"results": {}},
}
_WITHOUT_ID: Final = frozenset({"changes", "recommendations", "similar"})


def part(name: str, body: Body) -> Body | None:
    """A sub-resource of a film as `append_to_response` shows it; None: TMDB has no such part.

    A detail body that was recorded with the part appended answers with that.
    """
    build = _PARTS.get(name)
    if build is None:
        return None
    recorded: Body | None = body.get(name)
    return build(body) if recorded is None else recorded


def part_alone(name: str, body: Body) -> Body | None:
    """The same at its own address, where most parts also bear the film's id."""
    found = part(name, body)
    if found is None or name in _WITHOUT_ID:
        return found
    return {"id": body["id"], **found}


def with_parts(body: Body, names: Sequence[str]) -> Body:
    """`/3/movie/{id}?append_to_response=…`; names that TMDB does not know are passed over."""
    appended = {name: part(name, body) for name in names}
    return {
        **details(body),
        **{name: found for name, found in appended.items() if found is not None},
    }


def error(status_code: int, message: str) -> Body:
    """TMDB's error body; `status_code` is TMDB's own number, not the HTTP status."""
    return {"success": False, "status_code": status_code, "status_message": message}


INVALID_KEY: Final = error(7, "Invalid API key: You must be granted a valid key.")
NOT_FOUND: Final = error(34, "The resource you requested could not be found.")
INVALID_FORMAT: Final = error(4, "Invalid format: This service doesn't exist in that format.")
INVALID_PARAMETERS: Final = error(5, "Invalid parameters: Your request parameters are incorrect.")
INVALID_DATE_RANGE: Final = error(
    20, "Invalid date range: Should be a range no longer than 14 days."
)
INVALID_PAGE: Final = error(
    22, "Invalid page: Pages start at 1 and max at 500. They are expected to be an integer."
)
TOO_MANY_APPENDED: Final = error(
    27, "Too many append to response objects: The maximum number of remote calls is 20."
)
SERVER_ERRORS: Final[dict[int, Body]] = {
    500: error(11, "Internal error: Something went wrong, contact TMDb."),
    502: error(43, "Couldn't connect to the backend server."),
    503: error(9, "Service offline: This service is temporarily offline, try again later."),
    504: error(24, "Your request to the backend server timed out. Try again."),
}


def over_limit(count: int, limit: int) -> Body:
    return error(25, f"Your request count ({count}) is over the allowed limit of {limit}.")


# fmt: off
CONFIGURATION: Final[Body] = {
    "change_keys": [
        "adult", "air_date", "also_known_as", "alternative_titles", "biography", "birthday",
        "budget", "cast", "certifications", "character_names", "created_by", "crew", "deathday",
        "episode", "episode_number", "episode_run_time", "freebase_id", "freebase_mid", "general",
        "genres", "guest_stars", "homepage", "images", "imdb_id", "languages", "name", "network",
        "origin_country", "original_name", "original_title", "overview", "parts",
        "place_of_birth", "plot_keywords", "production_code", "production_companies",
        "production_countries", "releases", "revenue", "runtime", "season", "season_number",
        "season_regular", "softcore", "spoken_languages", "status", "tagline", "title",
        "translations", "tvdb_id", "tvrage_id", "type", "video", "videos",
    ],
    "images": {
        "base_url": "http://image.tmdb.org/t/p/",
        "secure_base_url": "https://image.tmdb.org/t/p/",
        "backdrop_sizes": ["w300", "w780", "w1280", "original"],
        "logo_sizes": ["w45", "w92", "w154", "w185", "w300", "w500", "original"],
        "poster_sizes": ["w92", "w154", "w185", "w342", "w500", "w780", "original"],
        "profile_sizes": ["w45", "w185", "h632", "original"],
        "still_sizes": ["w92", "w185", "w300", "original"],
    },
}
# fmt: on
