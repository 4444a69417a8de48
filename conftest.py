"""Fixtures with private PostgreSQL, RabbitMQ and Redis servers, for all packages."""

import os
from collections.abc import Generator, Sequence

import pytest

# The folder of the gateway has the name of its package: imported here, so that pytest does not take
# the folder for it.
import gateway as gateway

pytest_plugins = ["local_stack.pytest_plugin"]


_THOROUGH = os.environ.get("THOROUGH") == "1"


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Leave out what takes long, unless it was asked for."""
    if not _THOROUGH:
        for item in items:
            if item.get_closest_marker("thorough"):
                item.add_marker(pytest.mark.skip(reason="takes long: make test-thorough"))


@pytest.fixture(scope="session")
def thorough() -> bool:
    """Whether to take whole data sets, instead of so much of them as shows the same."""
    return _THOROUGH


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make reports that can be sent: tests log lone surrogates on purpose."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report
