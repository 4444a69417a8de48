"""Where the gateway is wired."""

from fastapi import APIRouter, FastAPI
from service_kit import Periodic, Publisher, RabbitBroker, Service

from gateway.api import operations
from gateway.api.commands import Commands
from gateway.api.events import Events
from gateway.api.movies import Movies
from gateway.api.search import Search
from gateway.cache import Cache, connect
from gateway.limits import BodyLimitMiddleware
from gateway.metrics import MetricsMiddleware
from gateway.openapi import describe
from gateway.outbound import EventPublisher, Outbound
from gateway.prefixes import API_PREFIX, PrefixMiddleware
from gateway.readers import ServiceReader
from gateway.reads import CachedReads
from gateway.settings import Settings
from gateway.subscriptions import subscriptions

NAME = "gateway"


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

    router = APIRouter(prefix=API_PREFIX)
    Commands(outbound, cache).add_to(router)
    Events(outbound).add_to(router)
    Movies(settings, reads, services["ingest-service"], services["compute-service"]).add_to(router)
    Search(settings, reads, services["search-indexer"]).add_to(router)
    operations.add_to(router)

    return Service(
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
            **{name: service.ping for name, service in services.items()},
        },
        on_close=[reads.close, cache.close, *(service.close for service in services.values())],
    )
