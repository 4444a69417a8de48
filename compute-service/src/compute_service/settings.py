"""The service's settings, read from environment variables of the same name in upper case."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator
from service_kit import ServiceSettings

from compute_service.recommendation.orders import ModelSettings
from compute_service.scheduling import DEFAULTS, Schedule, cron_of, schedule_table
from compute_service.trend import TrendFormula

_DEFAULTS = TrendFormula()
_MODEL = ModelSettings()


def _checked(setting: str) -> str:
    cron_of(setting)
    return setting


CronSetting = Annotated[str, AfterValidator(_checked)]


class Settings(ServiceSettings):
    """Every parameter of the trend formula, how often its changes are announced, how large the
    models of recommendations are, and when what is published by the clock is due.

    `TrendFormula` says what the parameters mean and checks them, and `ModelSettings` says what its
    own do. A schedule is a cron expression in UTC, or `off`.
    """

    http_port: int = 8103

    trend_announce_seconds: float = Field(default=1.0, gt=0, le=3600)
    trend_activity_exponent: float = _DEFAULTS.activity_exponent
    trend_half_life_day_hours: float = _DEFAULTS.half_life_day_hours
    trend_half_life_week_hours: float = _DEFAULTS.half_life_week_hours
    trend_view_weight: float = _DEFAULTS.view_weight
    trend_rating_weight: float = _DEFAULTS.rating_weight
    trend_prior_weight: float = _DEFAULTS.prior_weight
    trend_global_mean: float = _DEFAULTS.global_mean
    trend_global_weight: float = _DEFAULTS.global_weight
    trend_vote_cap: int = _DEFAULTS.vote_cap
    trend_reference: float = _DEFAULTS.reference

    recommend_films: int = Field(default=_MODEL.films, ge=100, le=200_000)
    recommend_dense_films: int = Field(default=_MODEL.dense_films, ge=10, le=20_000)
    recommend_threads: int = Field(default=_MODEL.threads, ge=1, le=64)
    recommend_view_weight: float = Field(default=_MODEL.view_weight, gt=0, le=1)

    schedule_ingest: CronSetting = DEFAULTS["ingest"]
    schedule_trending: CronSetting = DEFAULTS["trending"]
    schedule_genre_stats: CronSetting = DEFAULTS["genre-stats"]
    schedule_ratings_by_decade: CronSetting = DEFAULTS["ratings-by-decade"]
    schedule_index_rebuild: CronSetting = DEFAULTS["index-rebuild"]
    schedule_recommendations: CronSetting = DEFAULTS["recommendations"]

    @model_validator(mode="after")
    def _formula_makes_sense(self) -> Self:
        self.trend_formula()
        return self

    def model_settings(self) -> ModelSettings:
        """How recommendations are fitted."""
        return ModelSettings(
            films=self.recommend_films,
            dense_films=self.recommend_dense_films,
            threads=self.recommend_threads,
            view_weight=self.recommend_view_weight,
        )

    def trend_formula(self) -> TrendFormula:
        """The formula these settings describe.

        Raises:
            ValueError: a parameter is out of its range; the message names it.
        """
        return TrendFormula(
            activity_exponent=self.trend_activity_exponent,
            half_life_day_hours=self.trend_half_life_day_hours,
            half_life_week_hours=self.trend_half_life_week_hours,
            view_weight=self.trend_view_weight,
            rating_weight=self.trend_rating_weight,
            prior_weight=self.trend_prior_weight,
            global_mean=self.trend_global_mean,
            global_weight=self.trend_global_weight,
            vote_cap=self.trend_vote_cap,
            reference=self.trend_reference,
        )

    def schedules(self) -> tuple[Schedule, ...]:
        """The schedules these settings describe."""
        return schedule_table(
            {
                "ingest": self.schedule_ingest,
                "trending": self.schedule_trending,
                "genre-stats": self.schedule_genre_stats,
                "ratings-by-decade": self.schedule_ratings_by_decade,
                "index-rebuild": self.schedule_index_rebuild,
                "recommendations": self.schedule_recommendations,
            }
        )
