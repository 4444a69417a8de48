"""What can be set from the environment; each variable is a field's name in upper case."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator
from pydantic_settings import NoDecode
from service_kit import BlobSettings, ProcessSettings

from gateway.quotas import parse_limits


def _limits(value: object) -> object:
    if isinstance(value, str):
        parse_limits(value)
    return value


Limits = Annotated[
    str,
    BeforeValidator(_limits),
    Field(description="such as 120/minute or 10/second;1000/hour; `none` for no limit"),
]
Network = IPv4Network | IPv6Network


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
    analytics_ttl: float = Field(default=60.0, ge=0)
    rising_ttl: float = Field(default=1.0, ge=0)
    recommendations_ttl: float = Field(default=30.0, ge=0)

    upload_max_bytes: int = Field(default=1024**3, ge=1, description="of a file")
    upload_concurrency: int = Field(default=4, ge=1, description="uploads at the same time")
    upload_idle_seconds: float = Field(default=60.0, gt=0, description="without a byte arriving")

    max_streams: int = Field(default=500, ge=1, description="live streams at the same time")

    views_open: bool = Field(default=True, description="whether anybody may send views")
    commands_open: bool = Field(default=True, description="whether anybody may register films")
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode] = Field(
        default=(), description="networks whose X-Forwarded-For is believed, separated by commas"
    )

    # Views are counted by each replica for itself, all else by all replicas together.
    limit_views_per_address: Limits = "1200/minute"
    limit_views_per_key: Limits = ""
    limit_reads_per_address: Limits = ""
    limit_commands_per_address: Limits = "120/minute"
    limit_ratings_per_user: Limits = "600/minute"
    limit_events_per_key: Limits = "1200/minute"
    limit_signups_per_address: Limits = "20/hour"
    limit_logins_per_address: Limits = "60/15minutes"
    limit_logins_per_account: Limits = "100/15minutes"
    limit_logins_per_account_and_address: Limits = "10/15minutes"
    limit_admin_per_user: Limits = "600/minute"

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, value: object) -> object:
        if isinstance(value, str):
            parts = (part.strip() for part in value.split(","))
            return tuple(ip_network(part) for part in parts if part)
        return value
