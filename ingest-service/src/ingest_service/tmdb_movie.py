"""TMDB's `/movie/{id}` body → the normalised `Movie`. Pure: no I/O, no clock.

TMDB writes an unknown number as 0, an unknown text as "" or null, and its bodies differ with their
age: any field may be missing, and fields that are not named here are ignored. A single value that
makes no sense (a negative budget, the date 2004-02-31) becomes None and the film is kept. Only a
document that cannot be this film at all is refused, with the field named.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime
from typing import Final, cast

from moviemetric_contracts import CastMember, CrewMember, Movie, movie_id_from_tmdb

MAX_CAST: Final = 30
MAX_CREW: Final = 30
# In this order: when a film credits more people than are kept, its directors stay.
KEY_JOBS: Final = (
    "Director",
    "Co-Director",
    "Writer",
    "Screenplay",
    "Story",
    "Novel",
    "Producer",
    "Executive Producer",
    "Original Music Composer",
    "Director of Photography",
    "Editor",
    "Production Design",
    "Costume Design",
)

_JOB_RANK: Final = {job: rank for rank, job in enumerate(KEY_JOBS)}
_IMDB_ID: Final = re.compile(r"tt[0-9]{7,10}")
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_COUNTRY: Final = re.compile(r"[A-Za-z]{2}")
_ISO_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# U+0000 cannot be stored by PostgreSQL and a lone surrogate cannot be written as UTF-8.
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")

_FIRST_FILM_YEAR: Final = 1870
_LAST_PLAUSIBLE_YEAR: Final = 2200
_MAX_RUNTIME_MINUTES: Final = 100_000  # the longest film known runs for 51,420
_MAX_MONEY: Final = 10**12
_MAX_VOTES: Final = 10**9
_MAX_POPULARITY: Final = 1e6
_MAX_PERSON_ID: Final = 2**31 - 1
_LAST_IN_BILLING: Final = 1_000_000

_NAME: Final = 200  # the limits of the contract; longer texts are cut
_SHORT: Final = 1_000
_LONG: Final = 20_000
_LONGEST_ADDRESS: Final = 2_000


class MovieDocumentError(ValueError):
    """A body that is not the film which was asked for. `field` is what is wrong in it."""

    def __init__(self, tmdb_id: int, field: str, problem: str) -> None:
        self.tmdb_id = tmdb_id
        self.field = field
        super().__init__(f"TMDB's document for film {tmdb_id}: {field}: {problem}")


def movie_from_tmdb(body: object, *, tmdb_id: int, fetched_at: datetime) -> Movie:
    """Normalise one body.

    Args:
        body: the parsed JSON of `/movie/{id}`, with or without appended responses.
        tmdb_id: the film that was asked for.
        fetched_at: when it was asked for; aware.

    Raises:
        MovieDocumentError: not a JSON object, another film's id, or no title.
    """
    if not isinstance(body, dict):
        raise MovieDocumentError(tmdb_id, "(body)", f"a JSON object, not {type(body).__name__}")
    document = cast("dict[str, object]", body)
    if _whole(document.get("id"), most=_MAX_PERSON_ID) != tmdb_id:
        shown = repr(document.get("id"))[:80]
        raise MovieDocumentError(tmdb_id, "id", f"expected {tmdb_id}, got {shown}")
    original_title = _text(document.get("original_title"), _SHORT)
    title = _text(document.get("title"), _SHORT) or original_title
    if title is None:
        raise MovieDocumentError(tmdb_id, "title", "is missing or empty")
    credit_lists = _object(document.get("credits"))
    return Movie(
        movie_id=movie_id_from_tmdb(tmdb_id),
        tmdb_id=tmdb_id,
        imdb_id=_imdb_id(document),
        title=title,
        original_title=original_title,
        original_language=_code(document.get("original_language"), _LANGUAGE),
        overview=_text(document.get("overview"), _LONG),
        tagline=_text(document.get("tagline"), _SHORT),
        status=_text(document.get("status"), _SHORT),
        release_date=_date(document.get("release_date")),
        runtime=_whole(document.get("runtime"), most=_MAX_RUNTIME_MINUTES),
        budget=_whole(document.get("budget"), most=_MAX_MONEY),
        revenue=_whole(document.get("revenue"), most=_MAX_MONEY),
        genres=_names(document.get("genres")),
        keywords=_names(_inner_list(document.get("keywords"), "keywords", "results")),
        cast=_cast(credit_lists.get("cast")),
        crew=_crew(credit_lists.get("crew")),
        spoken_languages=_codes(document.get("spoken_languages"), "iso_639_1", _LANGUAGE),
        production_countries=_countries(document),
        production_companies=_names(document.get("production_companies")),
        collection=_text(_object(document.get("belongs_to_collection")).get("name"), _SHORT),
        homepage=_web_address(document.get("homepage")),
        poster_path=_image_path(document.get("poster_path")),
        backdrop_path=_image_path(document.get("backdrop_path")),
        adult=document.get("adult") is True,
        vote_average=_vote_average(document.get("vote_average")),
        vote_count=_whole(document.get("vote_count"), most=_MAX_VOTES) or 0,
        popularity=min(max(_finite(document.get("popularity")) or 0.0, 0.0), _MAX_POPULARITY),
        fetched_at=fetched_at,
    )


def _object(value: object) -> Mapping[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _objects(value: object) -> Iterator[Mapping[str, object]]:
    if isinstance(value, list):
        yield from (_object(item) for item in cast("list[object]", value))


def _inner_list(value: object, *keys: str) -> object:
    """An appended list is wrapped in an object, under a key that depends on the endpoint."""
    if isinstance(value, list):
        return cast("list[object]", value)
    wrapper = _object(value)
    return next((wrapper[key] for key in keys if key in wrapper), None)


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _whole(value: object, *, most: int) -> int | None:
    """A whole number in 1..`most`; None for 0, which is how TMDB writes "unknown"."""
    number = _finite(value)
    if number is None or not number.is_integer() or not 1 <= number <= most:
        return None
    return int(number)


def _vote_average(value: object) -> float | None:
    number = _finite(value)
    return min(number, 10.0) if number is not None and number > 0 else None


def _text(value: object, longest: int) -> str | None:
    if not isinstance(value, str):
        return None
    return _UNSTORABLE.sub("", value).strip()[:longest].rstrip() or None


def _date(value: object) -> date | None:
    text = _text(value, 20)
    if text is None or not _ISO_DATE.fullmatch(text):
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if _FIRST_FILM_YEAR <= day.year <= _LAST_PLAUSIBLE_YEAR else None


def _code(value: object, pattern: re.Pattern[str]) -> str | None:
    text = _text(value, 20)
    return text if text is not None and pattern.fullmatch(text) else None


def _distinct(values: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value is not None))


def _names(value: object) -> tuple[str, ...]:
    return _distinct(_text(item.get("name"), _NAME) for item in _objects(value))


def _codes(value: object, key: str, pattern: re.Pattern[str]) -> tuple[str, ...]:
    return _distinct(_code(item.get(key), pattern) for item in _objects(value))


def _countries(document: Mapping[str, object]) -> tuple[str, ...]:
    produced_in = _codes(document.get("production_countries"), "iso_3166_1", _COUNTRY)
    origin = document.get("origin_country")
    if produced_in or not isinstance(origin, list):
        return produced_in
    return _distinct(_code(item, _COUNTRY) for item in cast("list[object]", origin))


def _imdb_id(document: Mapping[str, object]) -> str | None:
    external_ids = _object(document.get("external_ids"))
    candidates = (_text(source.get("imdb_id"), 20) for source in (document, external_ids))
    return next((text for text in candidates if text and _IMDB_ID.fullmatch(text)), None)


def _web_address(value: object) -> str | None:
    text = _text(value, _LONG)
    if text is None or len(text) > _LONGEST_ADDRESS:
        return None
    return text if text.lower().startswith(("http://", "https://")) else None


def _image_path(value: object) -> str | None:
    text = _text(value, _LONG)
    return text if text is not None and text.startswith("/") and len(text) <= _NAME else None


def _person_id(value: object) -> int | None:
    return _whole(value, most=_MAX_PERSON_ID)


def _cast(value: object) -> tuple[CastMember, ...]:
    members: list[CastMember] = []
    for item in _objects(value):
        name = _text(item.get("name"), _NAME)
        if name is None:
            continue
        order = item.get("order")
        first = not isinstance(order, bool) and order == 0
        members.append(
            CastMember(
                name=name,
                character=_text(item.get("character"), _SHORT) or "",
                order=0 if first else _whole(order, most=_LAST_IN_BILLING) or _LAST_IN_BILLING,
                tmdb_person_id=_person_id(item.get("id")),
            )
        )
    return tuple(sorted(members, key=lambda member: member.order)[:MAX_CAST])


def _crew(value: object) -> tuple[CrewMember, ...]:
    members: list[CrewMember] = []
    for item in _objects(value):
        name, job = _text(item.get("name"), _NAME), _text(item.get("job"), _SHORT)
        if name is None or job not in _JOB_RANK:
            continue
        members.append(
            CrewMember(
                name=name,
                job=job,
                department=_text(item.get("department"), _SHORT) or "",
                tmdb_person_id=_person_id(item.get("id")),
            )
        )
    ranked = sorted(dict.fromkeys(members), key=lambda member: _JOB_RANK[member.job])
    return tuple(ranked[:MAX_CREW])
