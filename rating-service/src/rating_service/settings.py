"""What can be set from the environment; each variable is a field's name in upper case."""

from service_kit import ServiceSettings


class Settings(ServiceSettings):
    """The rating-service's settings."""

    http_port: int = 8102
