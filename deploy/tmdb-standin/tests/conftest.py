import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from tmdb_standin import Catalogue, Settings, create_app, load_catalogue

DEPLOY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def sample_folder() -> Path:
    return DEPLOY / "sample-catalogue"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of recorded TMDB bodies and public data sets, which is not in the repository."""
    beside = DEPLOY.parent.parent / "shared" / "data"
    folder = Path(os.environ.get("MOVIEMETRIC_SHARED_DATA", beside))
    if not (folder / "tmdb_api" / "INDEX.tsv").is_file():
        pytest.skip(f"no recorded TMDB bodies in {folder}; set MOVIEMETRIC_SHARED_DATA")
    return folder


@pytest.fixture(scope="session")
def sample(sample_folder: Path) -> Catalogue:
    return load_catalogue(sample_folder / "movies.jsonl")


@pytest.fixture
async def client(sample: Catalogue) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a good key, of a stand-in that serves the sample catalogue."""
    transport = httpx.ASGITransport(app=create_app(Settings(), sample))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://tmdb", headers={"Authorization": "Bearer some-key"}
    ) as client:
        yield client
