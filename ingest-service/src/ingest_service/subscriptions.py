"""Which events the ingest-service takes, and what it does with them."""

from typing import Any

from moviemetric_contracts import (
    CancelJob,
    ImportCatalog,
    IngestCatalog,
    RefreshMovie,
    RegisterMovie,
    RetryJob,
)
from service_kit import Subscription

from ingest_service.handlers import Intake, store, take_job_commands


def subscriptions(intake: Intake) -> list[Subscription[Any]]:
    """The queues of this service.

    Batches are small: a registration waits for the slowest fetch of its batch, and 20 fetches are
    half a second's allowance.
    """
    return [
        Subscription(
            queue="ingest-service.register",
            accepts=(RegisterMovie, RefreshMovie),
            prepare=intake.fetch,
            handle=store,
            batch_size=20,
            linger=0.005,
        ),
        Subscription(
            queue="ingest-service.jobs",
            accepts=(IngestCatalog, ImportCatalog, CancelJob, RetryJob),
            handle=take_job_commands,
            batch_size=20,
            linger=0.005,
        ),
    ]
