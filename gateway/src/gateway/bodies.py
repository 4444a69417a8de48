"""Request bodies: from untrusted bytes to checked values, or a problem that names the field.

400 for what is not JSON at all, 422 for JSON that is not what was asked for.
"""

import json
import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Final, NoReturn, Self, TypeVar, cast

from moviemetric_contracts import (
    MAX_REVIEW,
    MAX_TMDB_ID,
    MOVIE_ID_PATTERN,
    ActorId,
    Moment,
    Review,
    Score,
    TmdbId,
    movie_id_from_tmdb,
    parse_movie_id,
)
from moviemetric_contracts.messages import ListPages
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from service_kit.http import ProblemError

MAX_AHEAD: Final = timedelta(hours=24)
MAX_DEPTH_MESSAGE: Final = "the JSON is nested too deeply"
_RFC3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
MAX_INGEST_IDS: Final = 10_000
# TMDB's own first year: before that it has no changes to tell.
FIRST_CHANGES: Final = date(2008, 1, 1)
_STEP: Final = re.compile(r"[.\[]")

B = TypeVar("B", bound=BaseModel)


def require_timestamp(value: object) -> str:
    """`value` if it is written as RFC 3339 with a zone; numbers and bare dates are not.

    Raises:
        ValueError: saying what is expected.
    """
    if isinstance(value, str) and _RFC3339.fullmatch(value):
        return value
    msg = "must be a time with its zone as in RFC 3339, such as 2025-01-31T20:15:00Z"
    raise ValueError(msg)


def require_not_far_ahead(moment: datetime, now: datetime) -> datetime:
    """`moment` unless it lies more than 24 hours ahead of `now`.

    Raises:
        ValueError: saying so.
    """
    if moment - now > MAX_AHEAD:
        msg = f"{moment.isoformat()} lies more than 24 hours in the future"
        raise ValueError(msg)
    return moment


def _movie_key(value: object) -> str:
    if isinstance(value, str):
        return parse_movie_id(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return parse_movie_id(str(value) if abs(value) < 10**18 else "a number out of range")
    msg = "must be a movie id such as tmdb-27205, imdb-tt1375666 or 27205"
    raise ValueError(msg)


def _written(value: object) -> object:
    return require_timestamp(value)


def _not_far_ahead(moment: datetime) -> datetime:
    return require_not_far_ahead(moment, datetime.now(UTC))


# As `parse_movie_id` reads it, but for numbers that are too large.
MOVIE_KEY_PATTERN: Final = f"^[1-9][0-9]{{0,9}}$|{MOVIE_ID_PATTERN}"
MovieKey = Annotated[
    str,
    BeforeValidator(_movie_key),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": MOVIE_KEY_PATTERN, "maxLength": 200},
                {"type": "integer", "minimum": 1, "maximum": MAX_TMDB_ID},
            ],
            "description": "`tmdb-<id>`, `imdb-tt<id>`, `movielens-<id>`, `title-<slug>-<year>`, "
            "or a TMDB number",
            "examples": ["tmdb-27205"],
        }
    ),
]


class Body(BaseModel):
    """A request body without unknown fields and without NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RegisterBody(Body):
    """Which film to take into the catalogue."""

    tmdb_id: TmdbId


class OneFilm(Body):
    """Exactly one of `movie_id` and `tmdb_id` says which film."""

    # A field that is null is not there.
    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {
                    "required": [name],
                    "properties": {name: {"not": {"type": "null"}}, other: {"type": "null"}},
                }
                for name, other in (("movie_id", "tmdb_id"), ("tmdb_id", "movie_id"))
            ]
        }
    )

    movie_id: MovieKey | None = None
    tmdb_id: TmdbId | None = None

    @model_validator(mode="after")
    def _one_film(self) -> Self:
        if (self.movie_id is None) == (self.tmdb_id is None):
            msg = "give exactly one of movie_id and tmdb_id"
            raise ValueError(msg)
        return self

    @property
    def key(self) -> str:
        """The film's key."""
        if self.movie_id is not None:
            return self.movie_id
        return movie_id_from_tmdb(cast("int", self.tmdb_id))


class ViewBody(OneFilm):
    """One view of a film. Exactly one of `movie_id` and `tmdb_id` says which."""

    user_id: ActorId | None = None
    session_id: ActorId | None = None
    viewed_at: Annotated[
        Annotated[Moment, BeforeValidator(_written), AfterValidator(_not_far_ahead)] | None,
        Field(description="RFC 3339 with a zone; the time of the request when absent"),
    ] = None


def _number(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    msg = "must be a number, 0.5 to 10 in steps of 0.5"
    raise ValueError(msg)


def _none_if_blank(text: str | None) -> str | None:
    return text if text and not text.isspace() else None


class RatingBody(Body):
    """What a user thinks of a film."""

    score: Annotated[Score, BeforeValidator(_number)]
    review: Annotated[
        Review | None,
        AfterValidator(_none_if_blank),
        Field(description=f"{MAX_REVIEW} characters at most; a blank one is none"),
    ] = None


class RateBody(RatingBody, OneFilm):
    """What a user thinks of a film. Exactly one of `movie_id` and `tmdb_id` says which."""


def iso_date(value: object) -> str:
    """`value` if it is written as a date of ISO 8601.

    Raises:
        ValueError: saying what is expected.
    """
    if isinstance(value, str) and _DATE.fullmatch(value):
        return value
    msg = "must be a date such as 2025-01-31"
    raise ValueError(msg)


def _has_changes(day: date) -> date:
    if not FIRST_CHANGES <= day <= datetime.now(UTC).date():
        msg = f"must lie between {FIRST_CHANGES} and today"
        raise ValueError(msg)
    return day


Pages = Annotated[int, Field(ge=0, le=500, strict=True)]


class ListsBody(Body):
    """How many pages (of 20 films) of which of TMDB's lists; those not named are not read."""

    popular: Pages = 0
    top_rated: Pages = 0
    now_playing: Pages = 0
    upcoming: Pages = 0
    trending_week: Pages = 0
    discover_popularity: Pages = 0
    discover_vote_average: Pages = 0


class IngestBody(Body):
    """Which films to read from TMDB; all lists if nothing says which."""

    lists: ListsBody | None = None
    tmdb_ids: Annotated[tuple[TmdbId, ...], Field(max_length=MAX_INGEST_IDS)] = ()
    changed_since: Annotated[
        Annotated[date, BeforeValidator(iso_date), AfterValidator(_has_changes)] | None,
        Field(description="films that TMDB has changed since that day"),
    ] = None
    force: Annotated[
        bool, Field(strict=True, description="fetch films too that were fetched recently")
    ] = False

    @model_validator(mode="after")
    def _something(self) -> Self:
        named = self.lists is not None and any(self.lists.model_dump().values())
        if self.lists is not None and not (named or self.tmdb_ids or self.changed_since):
            msg = "asks for no page, no film and no change"
            raise ValueError(msg)
        return self

    @property
    def pages(self) -> ListPages | None:
        """The lists to read; None for none."""
        if self.lists is not None:
            return ListPages(**self.lists.model_dump())
        return None if self.tmdb_ids or self.changed_since else ListPages()


def _has_begun(day: date) -> date:
    if day > datetime.now(UTC).date():
        msg = "must not lie in the future"
        raise ValueError(msg)
    return day


class ComputeBody(Body):
    """For which day to compute."""

    as_of: Annotated[
        Annotated[date, BeforeValidator(iso_date), AfterValidator(_has_begun)] | None,
        Field(
            description="a day (UTC) that has begun: what happened until its end counts; "
            "today, until now, when absent"
        ),
    ] = None


class DuplicateNameError(ValueError):
    """An object that has the same name twice, so that its meaning depends on the reader."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"the name {name[:80]!r} occurs twice in one object")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise DuplicateNameError(name)
            seen.add(name)
    return fields


def _clipped_int(digits: str) -> int:
    # No accepted number has so many digits; Python refuses to read more than 4300 of them.
    return int(digits if len(digits) <= 30 else digits[:30])


_decoder: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_clipped_int)


def parse_json(raw: bytes) -> object:
    """Strictly read JSON in UTF-8; NaN and lone surrogates are left to the caller to refuse.

    Raises:
        ProblemError: 400 not JSON, 422 nested too deeply or a name twice in one object.
    """
    try:
        return cast("object", _decoder.decode(raw.decode()))
    except DuplicateNameError as error:
        raise invalid([(_shown(error.name), str(error))]) from None
    except RecursionError:
        raise invalid([("(body)", MAX_DEPTH_MESSAGE)]) from None
    except UnicodeDecodeError as error:
        raise ProblemError(
            400, "Not JSON", f"The body is not UTF-8: {error.reason} at byte {error.start}."
        ) from None
    except ValueError as error:
        raise ProblemError(400, "Not JSON", f"The body is not JSON: {error}.") from None


def parse_body(model: type[B], raw: bytes) -> B:
    """The checked body of a command.

    Raises:
        ProblemError: 400 or 422 with `errors` naming each field.
    """
    fields = parse_json(raw)
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        if error.errors(include_url=False)[0]["type"] != "json_invalid":
            raise invalid(problems_of(error)) from None
    return _refuse(model, fields)


def _refuse(model: type[BaseModel], fields: object) -> NoReturn:
    # pydantic's parser is stricter than Python's: lone surrogates, depth, enormous numbers.
    if (where := find_unusable(fields)) is not None:
        raise invalid([where])
    try:
        model.model_validate(fields)
    except ValidationError as error:
        raise invalid(problems_of(error)) from None
    raise invalid([("(body)", "contains a value that cannot be read")])


def find_unusable(value: object, path: str = "", depth: int = 0) -> tuple[str, str] | None:
    """The first (field, message) where `value` holds NaN, an infinity or a lone surrogate."""
    where = _shown(path or "(body)")
    if depth > 100:
        return _shown(_STEP.split(path)[0] or "(body)"), MAX_DEPTH_MESSAGE
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return where, "must be a finite number"
    if isinstance(value, str):
        return None if _encodable(value) else (where, "contains half of a surrogate pair")
    if isinstance(value, dict):
        for name, inner in cast("dict[str, object]", value).items():
            if not _encodable(name):
                return where, "has a name that contains half of a surrogate pair"
            if found := find_unusable(inner, f"{path}.{name}" if path else name, depth + 1):
                return found
    elif isinstance(value, list):
        for index, inner in enumerate(cast("list[object]", value)):
            if found := find_unusable(inner, f"{path}[{index}]", depth + 1):
                return found
    return None


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(text: str) -> str:
    return text.encode(errors="replace").decode()[:200] or '""'


def problems_of(error: ValidationError) -> list[tuple[str, str]]:
    """(field, message) of each thing that is wrong, ten at most."""
    return [
        (
            _shown(".".join(str(part) for part in item["loc"]) or "(body)"),
            item["msg"].removeprefix("Value error, "),
        )
        for item in error.errors(include_url=False, include_context=False, include_input=False)
    ][:10]


def invalid(problems: list[tuple[str, str]]) -> ProblemError:
    """The 422 that names each field."""
    return ProblemError(
        422,
        "Invalid request",
        "; ".join(f"{field}: {message}" for field, message in problems),
        errors=[{"field": field, "message": message} for field, message in problems],
    )
