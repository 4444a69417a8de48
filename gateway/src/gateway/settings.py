"""What can be set from the environment; each variable is a field's name in upper case."""

from pydantic import Field
from service_kit import BlobSettings, ProcessSettings


class Settings(ProcessSettings, BlobSettings):  # pyright: ignore[reportIncompatibleVariableOverride] -- the mix-in configures nothing
    """The gateway's settings. It keeps nothing durable, so it has no database.

    Without UPLOAD_STORE_URL it takes no uploads.
    """

    http_port: int = 8000

    redis_url: str = "redis://127.0.0.1:6379/0"
    ingest_url: str = "http://127.0.0.1:8101"
    rating_url: str = "http://127.0.0.1:8102"
    compute_url: str = "http://127.0.0.1:8103"
    search_url: str = "http://127.0.0.1:8104"

    read_timeout: float = Field(default=2.0, gt=0, description="seconds for a service to answer")

    # How long an answer counts as fresh, in seconds. Events drop answers earlier.
    trending_ttl: float = Field(default=0.05, ge=0)
    trend_ttl: float = Field(default=0.05, ge=0)
    movies_ttl: float = Field(default=5.0, ge=0)
    movie_ttl: float = Field(default=30.0, ge=0)
    search_ttl: float = Field(default=2.0, ge=0)

    upload_max_bytes: int = Field(default=1024**3, ge=1, description="of a file")
    upload_concurrency: int = Field(default=4, ge=1, description="uploads at the same time")
    upload_idle_seconds: float = Field(default=60.0, gt=0, description="without a byte arriving")

    max_streams: int = Field(default=500, ge=1, description="live streams at the same time")
