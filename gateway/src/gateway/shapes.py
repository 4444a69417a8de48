"""The shapes of answers as the OpenAPI page shows them. Answers are not validated against them."""

from datetime import date, datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field


class Accepted(BaseModel):
    """The event is durable and will have its effect exactly once."""

    event_id: str = Field(examples=["0b6b5f0e-6a0f-5d7e-9f39-6f0f6f1c9f4e"])
    movie_id: str = Field(examples=["tmdb-27205"])
    status_url: str = Field(examples=["/api/v1/movies/tmdb-27205"])


class JobAccepted(BaseModel):
    """The event is durable, and its job will be done."""

    event_id: str = Field(examples=["0b6b5f0e-6a0f-5d7e-9f39-6f0f6f1c9f4e"])
    job_id: str = Field(examples=["import-0b6b5f0e6a0f5d7e9f396f0f6f1c9f4e"])
    status_url: str = Field(examples=["/api/v1/admin/jobs/import-0b6b5f0e6a0f5d7e9f396f0f6f1c9f4e"])


class JobAnswer(BaseModel):
    """A job as it is now."""

    job_id: str
    kind: Literal["import", "ingest", "compute", "search"]
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    done: int
    total: int | None = Field(description="null while it is not known")
    rejected: int = Field(description="rows that could not be taken")
    error: str | None = Field(description="why it failed")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    rate: float | None = Field(description="done per second; null unless it runs")
    estimated_end: datetime | None = Field(description="null unless it runs")
    request: dict[str, Any] = Field(description="what was asked for")
    result: dict[str, Any] = Field(description="counts")
    task_id: str = Field(description="as job_id")
    status: Literal["PENDING", "STARTED", "SUCCESS", "FAILURE", "REVOKED"] = Field(
        description="as state, in the words of older clients"
    )


class JobList(BaseModel):
    """A page of jobs."""

    items: list[JobAnswer]
    total: int
    limit: int
    offset: int
    as_of: datetime
    note: str | None = Field(default=None, description="whose jobs are missing, if any")


class Reject(BaseModel):
    """A row that could not be taken."""

    line: int = Field(description="in the file, from 1")
    column: str | None = Field(description="null where the whole row is wrong")
    reason: str
    text: str = Field(description="the row, cut if it is long")


class RejectList(BaseModel):
    """A page of rejected rows."""

    items: list[Reject]
    total: int
    limit: int
    offset: int
    as_of: datetime


class ItemResult(BaseModel):
    """What became of one item of a batch."""

    index: int
    id: str | None
    status: Literal["accepted", "rejected", "failed"]
    error: str | None = None


class BatchAccepted(BaseModel):
    """At least one item is durable; the others are named."""

    accepted: int
    rejected: int
    results: list[ItemResult]


class FieldError(BaseModel):
    """One field that is wrong."""

    field: str
    message: str


class Problem(BaseModel):
    """An error as RFC 9457 has it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str | None = None
    errors: list[FieldError] | None = None


class BatchProblem(Problem):
    """A batch of which nothing was taken, or not all confirmed. Without `results` it was not looked
    at item by item."""

    results: list[ItemResult] | None = None


class Film(BaseModel):
    """A film in a list."""

    model_config = ConfigDict(extra="allow")

    movie_id: str = Field(examples=["tmdb-27205"])
    tmdb_id: int | None = Field(examples=[27205])
    title: str = Field(examples=["Inception"])
    release_date: date | None
    genres: list[str]
    vote_average: float | None
    vote_count: int
    popularity: float
    views: int | None
    external_score: float | None
    final_trend_score: float | None = Field(description="0 to 100")


class Fresh(BaseModel):
    """How fresh an answer is. `stale` is there only when the owning service is away."""

    as_of: datetime
    stale: bool = False


class FilmList(Fresh):
    """A page of films."""

    items: list[Film]
    total: int
    limit: int
    offset: int
    note: str | None = None


class FilmDetail(Film, Fresh):
    """All that is known of a film."""


class Trend(Fresh):
    """A film's trend score, explained."""

    model_config = ConfigDict(extra="allow")

    movie_id: str
    views: int
    ratings: int
    final_trend_score: float | None
    window: Literal["day", "week"]
    components: dict[str, Any]
    formula: dict[str, Any]


class SearchAnswer(Fresh):
    """A page of hits."""

    query: str
    hits: list[Film]
    total: int
    limit: int
    offset: int
    facets: dict[str, dict[str, int]]


Responses = dict[int | str, dict[str, Any]]


def problem(description: str, model: type[BaseModel] = Problem) -> dict[str, Any]:
    """An answer that is a problem, in OpenAPI; the document must define `model`'s schema."""
    return {
        "description": description,
        "content": {
            "application/problem+json": {
                "schema": {"$ref": f"#/components/schemas/{model.__name__}"}
            }
        },
    }


INVALID: Final = problem("A field is not what it should be; `errors` names it")
NOT_JSON: Final = problem("The body is not JSON")
TOO_LARGE: Final = problem("The body is too large")
NOT_FOUND: Final = problem("No such film")
AWAY: Final = problem("Try again after `Retry-After` seconds")

COMMAND_RESPONSES: Final[Responses] = {400: NOT_JSON, 413: TOO_LARGE, 422: INVALID, 503: AWAY}
BATCH_RESPONSES: Final[Responses] = {
    400: NOT_JSON,
    413: TOO_LARGE,
    415: problem("Not a content type of CloudEvents"),
    422: problem("No item can be taken", BatchProblem),
    503: problem("Some items are not confirmed; send them again with the same ids", BatchProblem),
}
LIST_RESPONSES: Final[Responses] = {422: INVALID, 503: AWAY}
FILM_RESPONSES: Final[Responses] = {404: NOT_FOUND, 422: INVALID, 503: AWAY}

NO_SUCH_JOB: Final = problem("No such job")
JOB_LIST_RESPONSES: Final[Responses] = {422: INVALID, 503: AWAY}
JOB_RESPONSES: Final[Responses] = {404: NO_SUCH_JOB, 422: INVALID, 503: AWAY}
JOB_COMMAND_RESPONSES: Final[Responses] = {
    404: NO_SUCH_JOB,
    409: problem("The job is not in a state for this"),
    422: INVALID,
    503: AWAY,
}
UPLOAD_RESPONSES: Final[Responses] = {
    400: problem("Not one text or gzip file in a multipart form, or cut short"),
    408: problem("Nothing arrived for too long"),
    413: problem("The file is too large"),
    422: INVALID,
    503: problem("Too many uploads, no store or no broker; try again after `Retry-After` seconds"),
}
STREAM_RESPONSES: Final[Responses] = {
    404: NO_SUCH_JOB,
    422: INVALID,
    503: problem("Too many streams; try again after `Retry-After` seconds"),
}
