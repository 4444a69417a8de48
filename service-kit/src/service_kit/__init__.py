"""The runtime that every service shares: consuming, publishing, transactions, health, shutdown."""

from service_kit.blobs import Blob, BlobNotFoundError, BlobSettings, BlobStore, ForeignBlobError
from service_kit.broker import Broker, Outgoing, PublishError, Unroutable
from service_kit.consumer import Consumer, ConsumerStatus
from service_kit.database import Conflict, Database
from service_kit.http import FieldProblem, ProblemError, install_problem_handlers
from service_kit.jobs import (
    Job,
    JobCancelled,
    JobFailed,
    JobLost,
    JobRunner,
    RunningJob,
    Step,
    jobs_router,
)
from service_kit.outcomes import Ack, Outage, Outcome, Park, Parked, Retry, RetryLater
from service_kit.processor import BatchProcessor
from service_kit.publisher import Publisher
from service_kit.rabbit import RabbitBroker
from service_kit.relay import OutboxRelay
from service_kit.service import Periodic, Service, main
from service_kit.settings import ProcessSettings, ServiceSettings
from service_kit.store import PostgresStore, StatelessStore, Store, UnitOfWork, unit_of_work
from service_kit.subscriptions import Subscription
from service_kit.topology import Binding

__all__ = [
    "Ack",
    "BatchProcessor",
    "Binding",
    "Blob",
    "BlobNotFoundError",
    "BlobSettings",
    "BlobStore",
    "Broker",
    "Conflict",
    "Consumer",
    "ConsumerStatus",
    "Database",
    "FieldProblem",
    "ForeignBlobError",
    "Job",
    "JobCancelled",
    "JobFailed",
    "JobLost",
    "JobRunner",
    "Outage",
    "OutboxRelay",
    "Outcome",
    "Outgoing",
    "Park",
    "Parked",
    "Periodic",
    "PostgresStore",
    "ProblemError",
    "ProcessSettings",
    "PublishError",
    "Publisher",
    "RabbitBroker",
    "Retry",
    "RetryLater",
    "RunningJob",
    "Service",
    "ServiceSettings",
    "StatelessStore",
    "Step",
    "Store",
    "Subscription",
    "UnitOfWork",
    "Unroutable",
    "install_problem_handlers",
    "jobs_router",
    "main",
    "unit_of_work",
]
