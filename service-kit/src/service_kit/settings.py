"""Settings that every service reads from its environment."""

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Role = Literal["consumers", "api", "scheduler"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
Port = Annotated[int, Field(ge=1, le=65535)]


class ProcessSettings(BaseSettings):
    """What any process needs: where it listens, what it logs, which part it plays.

    ROLES names the parts of the service that this process plays, separated by commas: `consumers`
    (consumers, outbox relay and periodic jobs), `api` (the read API), `scheduler` (what the service
    does by the clock, with an outbox relay of its own; of all such processes one leads). Health and
    metrics are always served.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    amqp_url: str
    http_host: str = "127.0.0.1"
    http_port: Port = 8000
    log_level: LogLevel = "INFO"
    roles: Annotated[frozenset[Role], NoDecode] = frozenset({"consumers", "api"})
    shutdown_seconds: Annotated[float, Field(gt=0, le=300)] = 15.0

    @field_validator("roles", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return frozenset(part.strip() for part in value.split(",") if part.strip())
        return value


class ServiceSettings(ProcessSettings):
    """What a service with a schema of its own needs."""

    database_url: str
    database_pool_size: Annotated[int, Field(ge=1, le=100)] = 5
