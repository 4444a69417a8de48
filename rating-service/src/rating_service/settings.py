"""What can be set from the environment; each variable is a field's name in upper case."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr
from service_kit import ServiceSettings


class Settings(ServiceSettings):
    """The rating-service's settings.

    TOKEN_KEYS_FOLDER holds the private keys that sign access tokens (see `signing_keys`); all
    replicas share it, and nobody else may read it. FIRST_ADMIN_NAME and FIRST_ADMIN_PASSWORD make
    an administrator on `migrate` as long as there is none.

    The three RATING_… values are those of the trend score's quality, and have its defaults.
    """

    http_port: int = 8102

    token_keys_folder: Path
    access_token_seconds: Annotated[int, Field(ge=10, le=86_400)] = 600
    refresh_token_days: Annotated[float, Field(gt=0, le=365)] = 30
    sessions_per_user: Annotated[int, Field(ge=1, le=10_000)] = 50

    password_memory_kib: Annotated[int, Field(ge=8, le=4_194_304)] = 19_456
    password_time_cost: Annotated[int, Field(ge=1, le=100)] = 2
    password_parallelism: Annotated[int, Field(ge=1, le=64)] = 1
    password_threads: Annotated[int, Field(ge=1, le=64)] = 2
    password_queue: Annotated[int, Field(ge=0, le=10_000)] = 32

    first_admin_name: str | None = None
    first_admin_password: SecretStr | None = None

    rating_global_mean: Annotated[float, Field(gt=0, le=10)] = 6.0
    rating_global_weight: Annotated[float, Field(gt=0, le=1e9)] = 10.0
    rating_vote_cap: Annotated[int, Field(ge=0, le=1_000_000_000)] = 50
