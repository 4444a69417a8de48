"""The search service's settings, from environment variables of the same names in upper case."""

from typing import Literal

from pydantic import Field, SecretStr
from service_kit import ServiceSettings

from search_indexer.meilisearch_keys import KeySpec, indexing_key, search_key


class SearchSettings(ServiceSettings):
    """`SEARCH_BACKEND` picks the engine; `MEILISEARCH_*` matter for `meilisearch` only.

    `MEILISEARCH_KEY` is Meilisearch's master key, of which a key for searching and one for indexing
    are made. Where those two are given ready-made, this service does without the master key.
    """

    http_port: int = 8104
    search_backend: Literal["postgres", "meilisearch"] = "postgres"
    meilisearch_url: str = "http://127.0.0.1:7700"
    meilisearch_key: SecretStr = SecretStr("")
    meilisearch_search_key: SecretStr = SecretStr("")
    meilisearch_index_key: SecretStr = SecretStr("")
    meilisearch_index: str = Field(default="movies", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    search_signals_kept_days: int = Field(default=90, ge=1, le=3660)

    @property
    def master_key(self) -> str | None:
        """Meilisearch's, where it is known."""
        return self.meilisearch_key.get_secret_value() or None

    @property
    def search_key(self) -> str | None:
        """What this service searches with; None for a server without keys."""
        return self._given(self.meilisearch_search_key, search_key(self.meilisearch_index))

    @property
    def index_key(self) -> str | None:
        """What this service keeps the index with; None for a server without keys."""
        return self._given(self.meilisearch_index_key, indexing_key(self.meilisearch_index))

    def _given(self, key: SecretStr, spec: KeySpec) -> str | None:
        given = key.get_secret_value()
        if given or self.master_key is None:
            return given or None
        return spec.derive(self.master_key)
