"""Against a real Meilisearch server, where there is one."""

import os
import uuid

import httpx
import pytest
from local_stack.dump.search_index import delete_index


def test_an_index_is_deleted_and_none_is_fine() -> None:
    url = os.environ.get("MEILISEARCH_TEST_URL")
    if not url:
        pytest.skip("needs Meilisearch: set MEILISEARCH_TEST_URL")
    key = os.environ.get("MEILISEARCH_TEST_KEY", "")
    index = f"test-{uuid.uuid4().hex}"
    settings = {"MEILISEARCH_URL": url, "MEILISEARCH_KEY": key, "MEILISEARCH_INDEX": index}
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(base_url=url, headers=headers, trust_env=False) as client:
        # writes are done in their order, so the deletion comes after this
        client.post("/indexes", json={"uid": index}).raise_for_status()
        delete_index(settings)
        assert client.get(f"/indexes/{index}").status_code == 404
    delete_index(settings)
