"""`python -m rating_service` runs the service; with `migrate` it prepares its schema."""

from service_kit import main

from rating_service.bootstrap import NAME, bootstrap
from rating_service.settings import Settings

if __name__ == "__main__":
    main(NAME, Settings, bootstrap)
