"""Runs the ingest-service; `python -m ingest_service migrate` prepares its schema and queues."""

from service_kit import main

from ingest_service.bootstrap import NAME, bootstrap
from ingest_service.settings import IngestSettings

if __name__ == "__main__":
    main(NAME, IngestSettings, bootstrap)
