"""Prometheus metrics of the runtime; services add their own to the same registry."""

from prometheus_client import Counter, Gauge, Histogram

EVENTS = Counter("moviemetric_events", "Deliveries by what became of them", ["queue", "outcome"])
BATCH_EVENTS = Histogram(
    "moviemetric_batch_events",
    "Deliveries in a batch",
    ["queue"],
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
)
BATCH_SECONDS = Histogram(
    "moviemetric_batch_seconds",
    "Seconds from taking a batch to its acknowledgement",
    ["queue"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
OUTAGES = Counter(
    "moviemetric_outages", "Times a batch had to wait for a dependency", ["queue", "dependency"]
)
CONSUMING = Gauge("moviemetric_consuming", "1 while the queue is being consumed", ["queue"])
OUTBOX_PUBLISHED = Counter("moviemetric_outbox_published", "Follow-on events confirmed")
OUTBOX_FAILED = Counter(
    "moviemetric_outbox_failed", "Follow-on events that were not confirmed and wait"
)
LEADS = Gauge("moviemetric_leads", "1 while this process leads", ["leadership"])
