"""Fixtures for all tests of the ingest-service."""

import os
from pathlib import Path

import pytest


def _shared_data() -> Path:
    named = os.environ.get("MOVIEMETRIC_SHARED_DATA")
    return Path(named) if named else Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of recorded TMDB bodies; skips where it is not there."""
    folder = _shared_data()
    if not folder.is_dir():
        pytest.skip(f"no recorded bodies in {folder}; set MOVIEMETRIC_SHARED_DATA to their folder")
    return folder
