"""`python -m compute_service` runs the service; `python -m compute_service migrate` prepares it."""

from service_kit import main

from compute_service.bootstrap import NAME, bootstrap
from compute_service.settings import Settings

if __name__ == "__main__":
    main(NAME, Settings, bootstrap)
