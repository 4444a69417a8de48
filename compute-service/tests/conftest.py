"""Fixtures for all tests of the compute-service."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets; skips where it is not there."""
    named = os.environ.get("MOVIEMETRIC_SHARED_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no data sets in {folder}; set MOVIEMETRIC_SHARED_DATA to their folder")
    return folder
