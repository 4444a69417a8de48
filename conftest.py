"""Fixtures with private PostgreSQL, RabbitMQ and Redis servers, for all packages."""

pytest_plugins = ["local_stack.pytest_plugin"]
