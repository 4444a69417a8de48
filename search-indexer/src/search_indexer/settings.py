"""The search service's settings, from environment variables of the same names in upper case."""

from typing import Literal

from pydantic import Field, SecretStr
from service_kit import ServiceSettings


class SearchSettings(ServiceSettings):
    """`SEARCH_BACKEND` picks the engine; `MEILISEARCH_*` matter for `meilisearch` only."""

    http_port: int = 8104
    search_backend: Literal["postgres", "meilisearch"] = "postgres"
    meilisearch_url: str = "http://127.0.0.1:7700"
    meilisearch_key: SecretStr = SecretStr("")
    meilisearch_index: str = Field(default="movies", pattern=r"^[A-Za-z0-9_-]{1,64}$")
