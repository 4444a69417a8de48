"""The answers about charts, analytics and recommendations, for the OpenAPI page."""

import datetime as dt
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.shapes import AWAY, INVALID, Film, Fresh, Responses, problem


class RankedFilm(Film):
    """A film in the chart; the last three are there in the chart of a day."""

    rank: int
    movement: int | None = Field(
        default=None, description="places won since the day before; null: not in that chart"
    )
    days_on_chart: int | None = Field(default=None, description="so far, this day included")
    peak_rank: int | None = Field(default=None, description="the best rank so far")


class Chart(Fresh):
    """A page of the trending films."""

    items: list[RankedFilm]
    total: int
    limit: int
    offset: int
    window: Literal["day", "week"]
    date: dt.date | None = Field(default=None, description="whose chart it is, if not of now")


class RisingFilm(Film):
    """A film with more activity than it usually has."""

    rank: int
    rise: float = Field(description="standard deviations above what was expected")
    activity: float = Field(description="decayed with a half-life of a day")
    expected: float = Field(description="what the activity of a week leads to expect")


class RisingChart(Fresh):
    """A page of the rising films."""

    items: list[RisingFilm]
    total: int
    limit: int
    offset: int


class ChartDay(BaseModel):
    """Where a film stood on a day."""

    date: dt.date
    rank: int
    score: float = Field(description="0 to 100")
    movement: int | None
    days_on_chart: int
    peak_rank: int


class ChartHistory(Fresh):
    """A film's places in the daily charts."""

    movie_id: str
    window: Literal["day", "week"]
    items: list[ChartDay]
    total: int


class GenreFigures(BaseModel):
    """A genre on a day."""

    genre: str
    volume: int = Field(description="films in the catalogue")
    views: int = Field(description="on that day")
    avg_rating: float | None = Field(description="mean of the source's averages, 0 to 10")
    rated_films: int = Field(description="films that have votes at the source")
    local_ratings: int
    local_avg: float | None


class TopGenres(Fresh):
    """Genres by how many films they have."""

    date: dt.date
    items: list[GenreFigures]
    total: int
    limit: int
    offset: int


class DecadeFigures(BaseModel):
    """The films of a decade."""

    decade: int = Field(description="its first year", examples=[1990])
    movie_count: int
    avg_rating: float | None = Field(description="mean of the source's averages, 0 to 10")
    rated_films: int
    local_ratings: int
    local_avg: float | None


class RatingsByDecade(Fresh):
    """Mean ratings by decade of release."""

    date: dt.date
    items: list[DecadeFigures]
    total: int


class Reason(BaseModel):
    """Why a film is recommended."""

    model_config = ConfigDict(extra="allow")

    kind: Literal["genres", "keywords", "people", "audience", "because"]


class RecommendedFilm(Film):
    """A recommended film."""

    score: float = Field(description="0 to 1, comparable within this list")
    reasons: list[Reason]


class ModelInfo(BaseModel):
    """What the recommendations were learned from."""

    model_config = ConfigDict(extra="allow")

    as_of: dt.date
    computed_at: dt.datetime


class SimilarFilms(Fresh):
    """Films like a film."""

    movie_id: str
    items: list[RecommendedFilm]
    basis: Literal["model", "content"]
    model: ModelInfo | None


class Recommendations(Fresh):
    """Films for somebody."""

    items: list[RecommendedFilm]
    limit: int
    offset: int
    model: ModelInfo | None


class Schedule(BaseModel):
    """Something that is asked for by itself."""

    name: str
    cron: str | None = Field(description="null: switched off")
    command: str
    last_due: dt.datetime | None
    last_published_at: dt.datetime | None
    last_job_id: str | None
    next_due: dt.datetime | None


class Schedules(BaseModel):
    """All that is asked for by itself."""

    model_config = ConfigDict(extra="allow")

    items: list[Schedule]
    as_of: dt.datetime


CHART_RESPONSES: Final[Responses] = {
    404: problem("No chart was computed for that day"),
    422: INVALID,
    503: AWAY,
}
ANALYTICS_RESPONSES: Final[Responses] = {
    404: problem("Nothing was computed, or not for that day"),
    422: INVALID,
    503: AWAY,
}
