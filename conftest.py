"""Fixtures with private PostgreSQL, RabbitMQ and Redis servers, for all packages."""

from collections.abc import Generator

import pytest

# The folder of the gateway has the name of its package: imported here, so that pytest does not take
# the folder for it.
import gateway as gateway

pytest_plugins = ["local_stack.pytest_plugin"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make reports that can be sent: tests log lone surrogates on purpose."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report
