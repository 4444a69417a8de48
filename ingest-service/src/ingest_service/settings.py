"""Settings of the ingest-service, from environment variables named as the fields in upper case."""

from typing import Annotated

from pydantic import AnyHttpUrl, Field, SecretStr, field_validator
from pydantic_settings import NoDecode
from service_kit import ServiceSettings
from service_kit.blobs import BlobSettings

from ingest_service.rating_imports import SORTED_TOGETHER


class IngestSettings(BlobSettings, ServiceSettings):
    """Where TMDB is, with which key, how hard it may be asked; where uploads are."""

    http_port: int = 8101

    tmdb_base_url: AnyHttpUrl = AnyHttpUrl("https://api.themoviedb.org/3")
    tmdb_api_key: SecretStr | None = None
    """A v3 key or a v4 read access token. Without one nothing is fetched, and /ready says so."""

    tmdb_requests_per_second: Annotated[float, Field(gt=0, le=1000)] = 40
    """TMDB allows about 40. It counts callers by address: replicas have to share the number."""
    tmdb_max_concurrency: Annotated[int, Field(ge=1, le=20)] = 20
    """Requests at the same time; TMDB is said to take about 20 connections of an address."""
    tmdb_connect_timeout: Annotated[float, Field(gt=0)] = 3
    tmdb_first_read_timeout: Annotated[float, Field(gt=0)] = 1.5
    """Seconds for the first attempt; doubles for each further one, up to the next."""
    tmdb_read_timeout: Annotated[float, Field(gt=0)] = 10
    tmdb_total_timeout: Annotated[float, Field(gt=0)] = 15
    """Seconds for one request from its start to the last byte of the answer."""
    tmdb_max_attempts: Annotated[int, Field(ge=1, le=10)] = 4
    """Requests for one event before it is put back into the queue for later."""
    tmdb_retry_delay: Annotated[float, Field(gt=0)] = 0.25
    """Seconds before the second attempt; doubles for each further one."""
    tmdb_max_body_bytes: Annotated[int, Field(ge=1024)] = 8 * 1024 * 1024

    register_fresh_seconds: Annotated[float, Field(ge=0)] = 3600
    """A film fetched less than this ago is not fetched again when it is registered again."""

    bulk_fresh_seconds: Annotated[float, Field(ge=0)] = 20 * 3600
    """As above, for bulk runs; shorter than a day, so that a nightly run fetches every film."""

    announce_watches: Annotated[tuple[str, ...], NoDecode] = (
        "compute-service.catalogue",
        "rating-service.catalogue",
        "search-indexer.catalogue",
    )
    """Queues, separated by commas: an import's films are published no faster than these drain."""
    announce_most_behind: Annotated[int, Field(ge=1)] = 20_000
    """Messages that may wait in one of them."""

    ratings_most_behind: Annotated[int, Field(ge=1)] = 2_000
    """Ratings that may wait for rating-service before an import publishes more: those of people
    wait behind them."""
    ratings_sorted_together: Annotated[int, Field(ge=1, le=500_000)] = SORTED_TOGETHER
    """Rows of a file whose ratings are published a film after the other. More of them mean fewer
    changed averages to tell of, and more memory: up to three times as many are held, of some 350
    bytes each. An import that is killed publishes as many again."""

    rejects_kept_days: Annotated[int, Field(ge=1)] = 30
    uploads_kept_days: Annotated[int, Field(ge=1)] = 7
    """Uploads of imports that failed; those that succeed are deleted at once."""

    @field_validator("announce_watches", mode="before")
    @classmethod
    def _split_queues(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value
