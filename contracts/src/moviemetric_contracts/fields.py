"""The field types that several events share, with the limits that make bad values unstorable."""

import re
import unicodedata
from datetime import UTC, date, datetime
from hashlib import sha256
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

MAX_TMDB_ID: Final = 2_147_483_647
# Sums of many counts still fit into 64 bits, and each into the integers of JSON readers.
MAX_COUNT: Final = 2**53 - 1
MOVIE_ID_PATTERN: Final = (
    r"^(tmdb-[1-9][0-9]{0,9}|imdb-tt[0-9]{7,10}|movielens-[1-9][0-9]{0,9}"
    r"|title-[a-z0-9]+(-[a-z0-9]+)*-[0-9]{4})$"
)
# Of several keys of one film the one that stands first here is the film's own.
KEY_SOURCES: Final = ("tmdb", "imdb", "movielens", "title")
_MAX_SLUG: Final = 120
_NOT_SLUG: Final = re.compile(r"[^a-z0-9]+")
_TMDB_ID = re.compile(r"(?:tmdb-)?([1-9][0-9]{0,9})")


class Data(BaseModel):
    """The payload of an event: immutable, without unknown fields, without NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _halves(score: float) -> float:
    if (score * 2) % 1:
        msg = f"{score} is not a multiple of 0.5"
        raise ValueError(msg)
    return score


def _no_nul(text: str) -> str:
    # PostgreSQL's text type cannot hold U+0000; lone surrogates are already refused as JSON.
    if "\x00" in text:
        msg = "must not contain the NUL character"
        raise ValueError(msg)
    return text


def _utc(moment: datetime) -> datetime:
    # The first and last day of the calendar cannot be expressed in every time zone.
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        msg = f"{moment.isoformat()} lies outside the years 1 to 9999 in UTC"
        raise ValueError(msg) from None


MovieId = Annotated[
    str,
    StringConstraints(pattern=MOVIE_ID_PATTERN, max_length=200),
    Field(
        description="`tmdb-<id>`, `imdb-tt<id>`, `movielens-<id>` or `title-<slug>-<year>`",
        examples=["tmdb-27205"],
    ),
]
TmdbId = Annotated[int, Field(ge=1, le=MAX_TMDB_ID, strict=True, examples=[27205])]
ImdbId = Annotated[str, StringConstraints(pattern=r"^tt[0-9]{7,10}$")]
Text = Annotated[str, AfterValidator(_no_nul)]
ShortText = Annotated[str, StringConstraints(max_length=1000), AfterValidator(_no_nul)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_no_nul)]
MAX_QUERY: Final = 200
SearchText = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_QUERY),
    AfterValidator(_no_nul),
    Field(description="what was searched for, as it was typed"),
]
MAX_REVIEW: Final = 10_000
Review = Annotated[str, StringConstraints(max_length=MAX_REVIEW), AfterValidator(_no_nul)]
ActorId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=128),
    AfterValidator(_no_nul),
    Field(description="a user or session identifier of the producer's choosing"),
]
Score = Annotated[
    float,
    Field(ge=0.5, le=10, multiple_of=0.5, description="0.5 to 10 in steps of 0.5"),
    AfterValidator(_halves),
]
Moment = Annotated[AwareDatetime, AfterValidator(_utc)]
Revision = Annotated[
    int,
    Field(ge=1, le=MAX_COUNT, description="only ever grows; the highest one is the newest"),
]
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
JobId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
SearchId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
CalendarDate = date


def movie_id_from_tmdb(tmdb_id: int) -> str:
    """The key of a film that TMDB numbers: 27205 → `tmdb-27205`."""
    return f"tmdb-{tmdb_id}"


def movie_id_from_title(title: str, year: int | None) -> str:
    """The key of a film that has no id at its source: ("Amélie", 2001) → `title-amelie-2001`.

    Case, accents and punctuation make no difference. What the Latin alphabet cannot express is
    told apart by a digest of the title, so that two such films do not share a key. A year that is
    unknown is 0000.
    """
    folded = unicodedata.normalize("NFKD", title.casefold())
    slug = _NOT_SLUG.sub("-", folded.encode("ascii", "ignore").decode()).strip("-")
    lost = any(ord(letter) > 127 and letter.isalnum() for letter in folded)
    if lost or not slug or len(slug) > _MAX_SLUG:
        digest = sha256(unicodedata.normalize("NFKC", title.casefold()).encode()).hexdigest()[:12]
        slug = f"{slug[:_MAX_SLUG].strip('-')}-{digest}".strip("-")
    return f"title-{slug}-{year or 0:04d}"


def tmdb_id_of(movie_id: str) -> int | None:
    """The TMDB number in a `tmdb-` key (or a bare number), None for any other key."""
    match = _TMDB_ID.fullmatch(movie_id)
    number = int(match.group(1)) if match else None
    return number if number is not None and number <= MAX_TMDB_ID else None


def key_rank(movie_id: str) -> int:
    """How good a key is as a film's own: 0 is best. Raises ValueError for another kind."""
    source = movie_id.partition("-")[0]
    if source not in KEY_SOURCES:
        msg = f"{movie_id[:80]!r} begins with none of {', '.join(KEY_SOURCES)}"
        raise ValueError(msg)
    return KEY_SOURCES.index(source)


def parse_movie_id(text: str) -> str:
    """The canonical key for what a caller wrote: a key, or a bare number as a TMDB id.

    Raises:
        ValueError: it is neither; the message says what is accepted.
    """
    if text.isascii() and (number := tmdb_id_of(text)) is not None:
        return movie_id_from_tmdb(number)
    if not text.startswith("tmdb-") and re.fullmatch(MOVIE_ID_PATTERN, text) and len(text) <= 200:
        return text
    msg = (
        f"{text[:80]!r} is no movie id: expected a TMDB number such as 27205, tmdb-27205, "
        "imdb-tt1375666, movielens-79132 or title-<slug>-<year>"
    )
    raise ValueError(msg)
