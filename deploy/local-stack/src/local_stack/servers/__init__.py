"""Private PostgreSQL, RabbitMQ and Redis servers on 127.0.0.1, beside whatever else runs here."""

from local_stack.servers.base import MissingProgramError, Server
from local_stack.servers.postgres import PostgresServer
from local_stack.servers.rabbitmq import RabbitPorts, RabbitServer
from local_stack.servers.redis import RedisServer

__all__ = [
    "MissingProgramError",
    "PostgresServer",
    "RabbitPorts",
    "RabbitServer",
    "RedisServer",
    "Server",
]
