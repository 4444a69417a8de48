"""Settings of the ingest-service, from environment variables named as the fields in upper case."""

from typing import Annotated

from pydantic import AnyHttpUrl, Field, SecretStr
from service_kit import ServiceSettings


class IngestSettings(ServiceSettings):
    """Where TMDB is, with which key, and how hard it may be asked."""

    http_port: int = 8101

    tmdb_base_url: AnyHttpUrl = AnyHttpUrl("https://api.themoviedb.org/3")
    tmdb_api_key: SecretStr | None = None
    """A v3 key or a v4 read access token. Without one nothing is fetched, and /ready says so."""

    tmdb_requests_per_second: Annotated[float, Field(gt=0, le=1000)] = 38
    """TMDB allows about 40. It counts callers by address: replicas have to share the number."""
    tmdb_max_concurrency: Annotated[int, Field(ge=1, le=50)] = 10
    tmdb_connect_timeout: Annotated[float, Field(gt=0)] = 3
    tmdb_read_timeout: Annotated[float, Field(gt=0)] = 10
    tmdb_total_timeout: Annotated[float, Field(gt=0)] = 15
    """Seconds for one request from its start to the last byte of the answer."""
    tmdb_max_attempts: Annotated[int, Field(ge=1, le=10)] = 3
    """Requests for one event before it is put back into the queue for later."""
    tmdb_retry_delay: Annotated[float, Field(gt=0)] = 0.25
    """Seconds before the second attempt; doubles for each further one."""
    tmdb_max_body_bytes: Annotated[int, Field(ge=1024)] = 8 * 1024 * 1024

    register_fresh_seconds: Annotated[float, Field(ge=0)] = 3600
    """A film fetched less than this ago is not fetched again when it is registered again."""
