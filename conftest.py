"""Fixtures with private PostgreSQL, RabbitMQ and Redis servers, for all packages."""

# The folder of the gateway has the name of its package: imported here, so that pytest does not take
# the folder for it.
import gateway as gateway

pytest_plugins = ["local_stack.pytest_plugin"]
