"""The keys of Meilisearch, and which of them the settings give."""

from uuid import UUID

from search_indexer.meilisearch_keys import KeySpec, indexing_key, search_key
from search_indexer.settings import SearchSettings


def test_a_key_is_derived_as_meilisearch_derives_it() -> None:
    """By its documentation: HMAC-SHA256 of the uid under the master key, in hexadecimal.

    The expected text is what `openssl dgst -sha256 -hmac master` says of the uid.
    """
    spec = KeySpec("search", ("search",), ("movies",))
    assert spec.uid == "beb4822e-791f-4b96-b8d9-047918cb80e4"
    assert spec.derive("master") == (
        "47662504c2604f06ece904d428c72f3b644a4fb8ddd28295a76eef8895bba9c2"
    )


def test_other_rights_are_another_key() -> None:
    uids = {
        search_key("movies").uid,
        search_key("films").uid,
        indexing_key("movies").uid,
        KeySpec("search", ("search", "documents.get"), ("movies",)).uid,
    }
    assert len(uids) == 4
    assert {UUID(uid).version for uid in uids} == {4}


def _settings(**values: str) -> SearchSettings:
    return SearchSettings(
        database_url="postgresql://x/x", amqp_url="amqp://x/", search_backend="meilisearch",
        **values,  # pyright: ignore[reportArgumentType]
    )  # fmt: skip


def test_the_service_uses_as_little_as_it_is_given() -> None:
    none, master = _settings(), _settings(meilisearch_key="master")
    ready = _settings(meilisearch_search_key="s", meilisearch_index_key="i")
    both = _settings(meilisearch_key="master", meilisearch_search_key="s")
    assert (none.search_key, none.index_key, none.master_key) == (None, None, None)
    assert master.search_key == search_key("movies").derive("master")
    assert master.index_key == indexing_key("movies").derive("master")
    assert (ready.search_key, ready.index_key, ready.master_key) == ("s", "i", None)
    assert (both.search_key, both.index_key) == ("s", indexing_key("movies").derive("master"))
