"""Where the gateway is wired."""

from typing import Any

from fastapi import APIRouter, FastAPI
from service_kit import BlobStore, Periodic, Publisher, RabbitBroker, Service

from gateway.api import operations
from gateway.api.admin import operators_router
from gateway.api.commands import Commands
from gateway.api.events import Events
from gateway.api.jobs import JobReads, Jobs
from gateway.api.movies import Movies
from gateway.api.search import Search
from gateway.api.stream import Stream
from gateway.api.upload import Upload
from gateway.cache import Cache, connect
from gateway.limits import BodyLimitMiddleware
from gateway.live import LiveNews
from gateway.metrics import MetricsMiddleware
from gateway.openapi import describe
from gateway.outbound import EventPublisher, Outbound
from gateway.prefixes import API_PREFIX, PrefixMiddleware
from gateway.readers import ServiceReader
from gateway.reads import CachedReads
from gateway.sending import CommandSender
from gateway.settings import Settings
from gateway.subscriptions import subscriptions

NAME = "gateway"


class GatewayService(Service):
    """The gateway, whose live streams end as soon as it is to stop: by themselves they never do."""

    def __init__(self, news: LiveNews, **parts: Any) -> None:
        super().__init__(**parts)
        self._news = news

    def request_stop(self) -> None:
        self._news.end()
        super().request_stop()


def configure_app(app: FastAPI) -> None:
    """Put the middleware around the routes, the last added outermost."""
    describe(app)
    app.add_middleware(BodyLimitMiddleware)
    app.add_middleware(MetricsMiddleware)
    app.add_middleware(PrefixMiddleware)


def bootstrap(settings: Settings, publisher: EventPublisher | None = None) -> Service:
    """The gateway; `publisher` is made from the settings if None."""
    broker = RabbitBroker(settings.amqp_url, name=NAME)
    cache = Cache(connect(settings.redis_url))
    reads = CachedReads(cache)
    urls = {
        "ingest-service": settings.ingest_url,
        "rating-service": settings.rating_url,
        "compute-service": settings.compute_url,
        "search-indexer": settings.search_url,
    }
    services = {
        name: ServiceReader(name, url, timeout=settings.read_timeout) for name, url in urls.items()
    }
    outbound = Outbound(publisher or Publisher(broker))
    sender = CommandSender(outbound, cache)
    store = BlobStore.from_settings(settings) if settings.upload_store_url else None
    jobs = JobReads(services, cache)
    news = LiveNews(settings.redis_url, max_streams=settings.max_streams)

    operators = operators_router()
    Upload(settings, store, sender, cache).add_to(operators)
    Jobs(sender, jobs, cache).add_to(operators)

    router = APIRouter(prefix=API_PREFIX)
    Commands(sender).add_to(router)
    Events(outbound).add_to(router)
    Movies(settings, reads, services["ingest-service"], services["compute-service"]).add_to(router)
    Search(settings, reads, services["search-indexer"]).add_to(router)
    Stream(news, jobs).add_to(router)
    router.routes.extend(operators.routes)
    operations.add_to(router)

    return GatewayService(
        news,
        name=NAME,
        settings=settings,
        database=None,
        broker=broker,
        subscriptions=subscriptions(cache),
        periodics=[Periodic(name="cache catch-up", every=1.0, run=cache.catch_up)],
        router=router,
        configure_app=configure_app,
        health_checks={
            "redis": cache.ping,
            **({"upload-store": store.ping} if store else {}),
            **{name: service.ping for name, service in services.items()},
        },
        on_close=[
            reads.close,
            news.close,
            cache.close,
            *(service.close for service in services.values()),
        ],
    )
