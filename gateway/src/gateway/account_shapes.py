"""The shapes of answers about users, ratings and events, as the OpenAPI page shows them.

Answers are not validated against them.
"""

from datetime import date, datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.account_bodies import FORM, JSON, KeyScope, OAuthProblem, Role
from gateway.shapes import AWAY, INVALID, NOT_JSON, TOO_LARGE, Fresh, Responses, problem

_EVENT_ID: Final = "0b6b5f0e-6a0f-5d7e-9f39-6f0f6f1c9f4e"


class RatingAccepted(BaseModel):
    """The event is durable and will have its effect exactly once."""

    event_id: str = Field(examples=[_EVENT_ID])
    movie_id: str = Field(examples=["tmdb-27205"])
    status_url: str = Field(examples=[f"/api/v1/events/{_EVENT_ID}"])
    processed: bool = Field(description="whether it has had its effect; false unless waited for")


class OwnRating(BaseModel):
    """What a user thinks of a film."""

    movie_id: str
    score: float
    review: str | None
    rated_at: datetime


class SourceRating(BaseModel):
    """What the film's source says."""

    vote_average: float | None
    vote_count: int


class FilmRatings(Fresh):
    """What all users think of a film."""

    movie_id: str
    count: int
    mean: float | None = Field(description="0.5 to 10; null without ratings")
    bayesian_mean: float | None = Field(
        description="with the source's votes beside the ratings, so that one 10 does not win"
    )
    histogram: dict[str, int] = Field(examples=[{"0.5": 0, "1.0": 2, "10.0": 5}])
    source: SourceRating


class Review(BaseModel):
    """A rating with its text."""

    user: str | None = Field(description="null for users without an account")
    score: float
    review: str
    rated_at: datetime


class ReviewList(Fresh):
    """A page of reviews."""

    items: list[Review]
    total: int
    limit: int
    offset: int


class AccountCreated(BaseModel):
    """The new account."""

    name: str
    created_at: datetime


class Tokens(BaseModel):
    """What proves who one is. The refresh token is good once, for the next pair."""

    access_token: str
    token_type: Literal["bearer"]
    expires_in: int = Field(description="seconds")
    refresh_token: str
    refresh_expires_in: int = Field(description="seconds")


class JwkSet(BaseModel):
    """The public keys that access tokens are signed with (RFC 7517)."""

    keys: list[dict[str, Any]]


class OwnRatingsSummary(BaseModel):
    """How a user rates."""

    count: int
    mean: float | None


class OwnProfile(BaseModel):
    """One's own account."""

    name: str
    role: Role
    created_at: datetime
    ratings: OwnRatingsSummary


class RatingsSummary(OwnRatingsSummary):
    """How a user rates, as others see it."""

    histogram: dict[str, int]


class Profile(BaseModel):
    """A user, as others see them."""

    name: str
    created_at: datetime
    ratings: RatingsSummary


class RatedFilm(OwnRating):
    """A film that the user has rated; its fields are null while it is not in the catalogue."""

    tmdb_id: int | None
    title: str | None
    release_date: date | None
    genres: list[str]
    poster_path: str | None
    in_catalogue: bool


class EraseAccepted(BaseModel):
    """The account is gone; what other services hold of the user follows."""

    event_id: str = Field(examples=[_EVENT_ID])
    status_url: str = Field(examples=[f"/api/v1/events/{_EVENT_ID}"])


class Activity(BaseModel):
    """Something that the user did."""

    movie_id: str
    kind: str
    occurred_at: datetime
    session_id: str | None


class Export(BaseModel):
    """Everything that the services hold of a user."""

    model_config = ConfigDict(extra="allow")

    account: dict[str, Any]
    sessions: list[dict[str, Any]]
    ratings: list[dict[str, Any]]
    api_keys: list[dict[str, Any]] = Field(description="that the user made")
    audit: list[dict[str, Any]] = Field(description="what the user did as an administrator")
    activity: list[Activity]


class Page(BaseModel):
    """A part of a list."""

    total: int
    limit: int
    offset: int
    as_of: datetime


class Account(BaseModel):
    """An account, as administrators see it."""

    name: str
    role: Role
    created_at: datetime


class RatedFilmList(Page):
    """A page of one's own ratings."""

    items: list[RatedFilm]


class AccountList(Page):
    """A page of accounts."""

    items: list[Account]


class RoleGiven(BaseModel):
    """What the user may do from their next token on."""

    name: str
    role: Role


class ApiKeyMade(BaseModel):
    """A new API key. `key` is shown this once."""

    key_id: str
    key: str
    name: str
    scopes: list[KeyScope]
    created_at: datetime
    expires_at: datetime | None


class ApiKey(BaseModel):
    """An API key, without what proves it."""

    key_id: str
    name: str
    scopes: list[KeyScope]
    created_by: str | None = Field(description="null for a user who was erased")
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class ApiKeyList(Page):
    """A page of API keys, newest first."""

    items: list[ApiKey]


class AuditRecord(BaseModel):
    """Something that an administrator, or a program with a key for that, asked for."""

    actor: str = Field(description="a user's name, `key:` and a key's id, or `erased`")
    action: str = Field(examples=["POST /api/v1/upload"])
    acted_at: datetime
    address: str | None


class AuditList(Page):
    """A page of audit records, newest first."""

    items: list[AuditRecord]


class Effect(BaseModel):
    """An effect that the event has had."""

    service: str
    queue: str
    processed_at: datetime


class EventStatus(BaseModel):
    """Which services have processed an event. Those that have nothing to do with it never do."""

    event_id: str
    processed: bool = Field(description="by any service")
    services: list[Effect]
    away: list[str] = Field(description="services that could not be asked")
    as_of: datetime


def body_docs(body: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    """`openapi_extra` of a route that reads a JSON body for itself, and passes it on."""
    return _body_docs(JSON, {"$ref": f"#/components/schemas/{body.__name__}"}, example)


def form_docs(schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    """As `body_docs` for a form."""
    return _body_docs(FORM, schema, example)


def _body_docs(media_type: str, schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    content = {media_type: {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


NO_SUCH_USER: Final = problem("There is no such user")
NO_SUCH_KEY: Final = problem("There is no such key")
LAST_ADMIN: Final = problem("There must be another administrator first")

RATE_RESPONSES: Final[Responses] = {400: NOT_JSON, 413: TOO_LARGE, 422: INVALID, 503: AWAY}
UNRATE_RESPONSES: Final[Responses] = {422: INVALID, 503: AWAY}
OWN_RATING_RESPONSES: Final[Responses] = {
    404: problem("Not rated"),
    422: INVALID,
    503: AWAY,
}
SIGN_UP_RESPONSES: Final[Responses] = {
    400: NOT_JSON,
    409: problem("The name is taken"),
    413: TOO_LARGE,
    422: INVALID,
    503: AWAY,
}
TOKEN_RESPONSES: Final[Responses] = {
    400: problem("What OAuth 2.0 refuses; `error` says why", OAuthProblem),
    413: TOO_LARGE,
    503: AWAY,
}
ACCOUNT_RESPONSES: Final[Responses] = {422: INVALID, 503: AWAY}
PROFILE_RESPONSES: Final[Responses] = {404: NO_SUCH_USER, 422: INVALID, 503: AWAY}
PASSWORD_RESPONSES: Final[Responses] = {
    400: NOT_JSON,
    403: problem("The password is wrong"),
    413: TOO_LARGE,
    422: INVALID,
    503: AWAY,
}
ROLE_RESPONSES: Final[Responses] = {
    400: NOT_JSON,
    404: NO_SUCH_USER,
    409: LAST_ADMIN,
    413: TOO_LARGE,
    422: INVALID,
    503: AWAY,
}
ERASE_OWN_RESPONSES: Final[Responses] = {**PASSWORD_RESPONSES, 409: LAST_ADMIN}
ERASE_RESPONSES: Final[Responses] = {
    404: NO_SUCH_USER,
    409: LAST_ADMIN,
    422: INVALID,
    503: AWAY,
}
MAKE_KEY_RESPONSES: Final[Responses] = RATE_RESPONSES
REVOKE_KEY_RESPONSES: Final[Responses] = {404: NO_SUCH_KEY, 422: INVALID, 503: AWAY}
EVENT_RESPONSES: Final[Responses] = {422: INVALID}
