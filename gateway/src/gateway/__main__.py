"""`python -m gateway` runs the gateway; `python -m gateway migrate` declares its queue."""

from service_kit import main

from gateway.bootstrap import NAME, bootstrap
from gateway.settings import Settings

if __name__ == "__main__":
    main(NAME, Settings, bootstrap)
