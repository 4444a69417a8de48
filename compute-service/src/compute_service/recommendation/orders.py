"""How models are fitted: the settings, and what a service and the process that fits say."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from pydantic import BaseModel

from compute_service.recommendation.taste import VIEW_WEIGHT

AWAY: Final = 75
"""How the process ends when the database was away (EX_TEMPFAIL)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """How models are fitted.

    Attributes:
        films: how many films a model has; the others get similar ones by content when asked for.
        dense_films: how many of them the linear model has; memory grows with their square.
        threads: of linear algebra.
        view_weight: what a view counts, where a rating counts 1.
    """

    films: int = 20_000
    dense_films: int = 5_000
    threads: int = 2
    view_weight: float = VIEW_WEIGHT


class Order(BaseModel):
    """What to fit.

    Attributes:
        until: what happened before this moment counts.
        films: how many films the model has; those with interactions first, then by votes.
        dense_films: how many of them the linear model has.
        view_weight: what a view counts, where a rating counts 1.
    """

    as_of: date
    until: datetime
    films: int
    dense_films: int
    view_weight: float


class Fitted(BaseModel):
    """What was fitted; times in seconds, memory in bytes."""

    model_id: int
    films: int
    users: int
    interactions: int
    reading: float
    fitting: float
    writing: float
    peak_memory: int
