"""Where the gateway is wired."""

from typing import Any

from fastapi import APIRouter, FastAPI
from service_kit import BlobStore, Periodic, Publisher, RabbitBroker, Service

from gateway.access import Access
from gateway.addresses import ClientAddresses
from gateway.api import operations
from gateway.api.accounts import Accounts
from gateway.api.administration import Administration
from gateway.api.analytics import Analytics
from gateway.api.answers import method_not_allowed
from gateway.api.charts import Charts
from gateway.api.commands import Commands, PlainRoute
from gateway.api.computing import Computing
from gateway.api.event_status import EventStatus
from gateway.api.events import Events
from gateway.api.jobs import JobReads, Jobs
from gateway.api.movies import Movies
from gateway.api.ratings import FilmRatings, RatingCommands
from gateway.api.recommendations import Recommendations
from gateway.api.search import Search
from gateway.api.stream import Stream
from gateway.api.upload import Upload
from gateway.cache import Cache, connect
from gateway.inboxes import Inboxes
from gateway.keys import ApiKeys, TokenKeys, key_client
from gateway.limits import BodyLimitMiddleware
from gateway.live import LiveNews
from gateway.metrics import MetricsMiddleware
from gateway.openapi import describe
from gateway.outbound import EventPublisher, Outbound
from gateway.policies import Policies
from gateway.prefixes import API_PREFIX, PrefixMiddleware
from gateway.readers import ServiceReader
from gateway.reads import CachedReads
from gateway.sending import CommandSender
from gateway.settings import Settings
from gateway.subscriptions import subscriptions
from gateway.throttle import RateLimitMiddleware, Throttle

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
    # Routes are tried one after the other, which the one that has to be fast need not wait for.
    app.router.routes.sort(key=lambda route: not isinstance(route, PlainRoute))
    app.add_exception_handler(405, method_not_allowed)
    app.add_middleware(BodyLimitMiddleware)
    app.add_middleware(RateLimitMiddleware)
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

    inboxes = Inboxes(urls, timeout=settings.read_timeout)

    key_source = key_client(settings.rating_url, timeout=settings.read_timeout)
    tokens, api_keys = TokenKeys(key_source), ApiKeys(key_source)
    access = Access(tokens, api_keys, ClientAddresses(settings.trusted_proxies))
    throttle = Throttle(settings)
    policies = Policies(settings, access, throttle, outbound)

    ingest, rating = services["ingest-service"], services["rating-service"]
    compute, search = services["compute-service"], services["search-indexer"]
    router = APIRouter(prefix=API_PREFIX)
    Commands(sender, policies).add_to(router)
    Events(outbound, policies).add_to(router)
    EventStatus(inboxes, policies).add_to(router)
    RatingCommands(sender, inboxes, rating, cache, policies).add_to(router)
    FilmRatings(reads, rating, policies, ttl=settings.movies_ttl).add_to(router)
    Charts(settings, reads, compute, policies).add_to(router)
    Movies(settings, reads, ingest, compute, policies).add_to(router)
    Recommendations(settings, reads, compute, policies).add_to(router)
    Analytics(settings, reads, compute, policies).add_to(router)
    Search(settings, reads, search, policies).add_to(router)
    Stream(news, jobs, policies).add_to(router)
    Accounts(reads, rating, compute, policies).add_to(router)
    Administration(rating, policies).add_to(router)
    Upload(settings, store, sender, cache, policies).add_to(router)
    Jobs(sender, jobs, cache, policies).add_to(router)
    Computing(sender, cache, compute, policies).add_to(router)
    operations.add_to(router, policies)

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
            inboxes.close,
            tokens.close,
            api_keys.close,
            key_source.aclose,
            throttle.close,
            cache.close,
            *(service.close for service in services.values()),
        ],
    )
