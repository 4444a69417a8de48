"""The two keys this service uses with Meilisearch: one that can only search, one for indexing.

Meilisearch derives a key's text from its uid and the master key, so with uids that are fixed the
keys need not be kept anywhere: whoever knows the master key knows them, and whoever is given only
one of them cannot do more than it allows. A uid is a digest of what its key is for; keys cannot be
changed, so other rights are another key.

`python -m search_indexer.meilisearch_keys` prints both for the master key in MEILISEARCH_KEY, so
that a process in production can be started with them and without it.
"""

import hashlib
import hmac
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from meilisearch_python_sdk import AsyncClient
from meilisearch_python_sdk.errors import MeilisearchApiError

from search_indexer.meilisearch_calls import outages

SEARCHING: Final = ("search",)
INDEXING: Final = (
    "documents.add",
    "documents.delete",
    "documents.get",
    "indexes.create",
    "indexes.delete",
    "indexes.get",
    "indexes.swap",
    "settings.get",
    "settings.update",
    "stats.get",
    "tasks.get",
)


@dataclass(frozen=True, slots=True)
class KeySpec:
    """What a key is for: actions, and patterns of the indexes that it may do them to."""

    name: str
    actions: tuple[str, ...]
    indexes: tuple[str, ...]

    @property
    def uid(self) -> str:
        """The same for the same rights, as a UUID of version 4."""
        parts = ("moviemetric", self.name, *self.actions, "on", *self.indexes)
        digest = hashlib.sha256("\n".join(parts).encode()).digest()
        return str(UUID(bytes=digest[:16], version=4))

    def derive(self, master_key: str) -> str:
        """The key's text, as Meilisearch derives it."""
        return hmac.new(master_key.encode(), self.uid.encode(), hashlib.sha256).hexdigest()


def search_key(index: str) -> KeySpec:
    """The right to search one index."""
    return KeySpec("search", SEARCHING, (index,))


def indexing_key(index: str) -> KeySpec:
    """The rights to keep one index, and the one that a rebuild fills beside it."""
    return KeySpec("indexing", INDEXING, (index, f"{index}-next"))


async def ensure_keys(client: AsyncClient, specs: Sequence[KeySpec]) -> None:
    """Makes the keys that the server does not have; `client` uses the master key.

    Raises:
        Outage: the server is away, or the client's key may not manage keys.
    """
    async with outages():
        for spec in specs:
            try:
                await client.get_key(spec.uid)
            except MeilisearchApiError as error:
                if error.code != "api_key_not_found":
                    raise
                await _create(client, spec)


async def _create(client: AsyncClient, spec: KeySpec) -> None:
    # The SDK's request has no uid.
    body = {
        "uid": spec.uid,
        "name": f"moviemetric {spec.name}",
        "description": f"search-indexer's key for {spec.name}: {', '.join(spec.indexes)}",
        "actions": list(spec.actions),
        "indexes": list(spec.indexes),
        "expiresAt": None,
    }
    response = await client.http_client.post("keys", json=body)
    # Another replica may have been first.
    if response.status_code not in {201, 409}:
        raise MeilisearchApiError(f"the key for {spec.name} was refused", response)


if __name__ == "__main__":
    master = os.environ.get("MEILISEARCH_KEY")
    if not master:
        sys.exit("set MEILISEARCH_KEY to the master key")
    uid = os.environ.get("MEILISEARCH_INDEX") or "movies"
    sys.stdout.write(f"MEILISEARCH_SEARCH_KEY={search_key(uid).derive(master)}\n")
    sys.stdout.write(f"MEILISEARCH_INDEX_KEY={indexing_key(uid).derive(master)}\n")
