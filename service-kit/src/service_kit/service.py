"""The running whole of a service, and its command line.

Shutdown, bounded in time: readiness turns to 503; the consumers take no more and finish the batch
in hand; the periodic jobs end; the outbox is published as far as it goes; the HTTP server finishes
its requests; connections close. What is cut off by the bound is delivered again or found in the
outbox at the next start.
"""

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar

import uvicorn
import uvloop
from fastapi import APIRouter, FastAPI
from pydantic import ValidationError

from service_kit.broker import Broker
from service_kit.consumer import Consumer
from service_kit.database import Database
from service_kit.health import Check, Health, health_router
from service_kit.http import install_problem_handlers
from service_kit.inbox import InboxWatch, inbox_router
from service_kit.logs import configure_logging
from service_kit.outcomes import Outage
from service_kit.processor import BatchProcessor
from service_kit.rabbit import RabbitBroker
from service_kit.relay import OutboxRelay
from service_kit.settings import ProcessSettings, Role, ServiceSettings
from service_kit.store import PostgresStore, StatelessStore, Store
from service_kit.subscriptions import Subscription

log = logging.getLogger(__name__)

START_TIMEOUT: Final = 60.0
# What consumes and what runs by the clock emits events, and publishes them.
_EMITTING: Final[frozenset[Role]] = frozenset({"consumers", "scheduler"})
S = TypeVar("S", bound=ProcessSettings)


@dataclass(frozen=True, kw_only=True)
class Periodic:
    """A job that runs every `every` seconds in a process that plays `role`.

    What it raises is only logged.
    """

    name: str
    every: float
    run: Callable[[], Awaitable[object]]
    role: Role = "consumers"


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the service decides when to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class Service:
    """Consumers, outbox relay, periodic jobs and HTTP in one process, as its roles say.

    Args:
        name: such as `compute-service`; the source of what it emits.
        database: None for a process without a schema; its handlers must then be idempotent.
        subscriptions: the queues to consume.
        periodics: background jobs, each where its role is played.
        router: the read API.
        always: routes that every process of the service answers, whatever its roles are.
        configure_app: for whatever a router cannot bring along, such as middleware.
        broker: given by a process that publishes on its own; made from the settings if None.
        store: where units of work begin; made from `database` if None.
        health_checks: dependencies beyond broker and database, none of them required.
        on_migrate: called by `migrate` once the schema is up to date.
        on_close: called last.
    """

    def __init__(
        self,
        *,
        name: str,
        settings: ProcessSettings,
        database: Database | None,
        subscriptions: Sequence[Subscription[Any]] = (),
        periodics: Sequence[Periodic] = (),
        router: APIRouter | None = None,
        always: APIRouter | None = None,
        configure_app: Callable[[FastAPI], None] | None = None,
        broker: Broker | None = None,
        store: Store | None = None,
        health_checks: Mapping[str, Check] | None = None,
        on_migrate: Sequence[Callable[[], Awaitable[None]]] = (),
        on_close: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        self.name = name
        self.settings = settings
        self.database = database
        self.subscriptions = tuple(subscriptions)
        self._periodics = [periodic for periodic in periodics if periodic.role in settings.roles]
        self._relays = database is not None and not settings.roles.isdisjoint(_EMITTING)
        self.on_migrate = on_migrate
        self._on_close = on_close
        self.broker: Broker = broker or RabbitBroker(settings.amqp_url, name=name)
        self._store = store or (PostgresStore(database) if database else StatelessStore())
        consumes = "consumers" in settings.roles
        self._consumers = (
            [
                Consumer(
                    subscription,
                    self.broker,
                    BatchProcessor(subscription, self._store, source=name),
                )
                for subscription in self.subscriptions
            ]
            if consumes
            else []
        )
        required: dict[str, Check] = {"rabbitmq": self.broker.ping}
        if database is not None:
            required["postgresql"] = database.ping
        self._health = Health(
            name,
            required=required,
            optional=health_checks or {},
            consumers=lambda: [consumer.status for consumer in self._consumers],
        )
        self.app = self._make_app(router, always, configure_app)
        self._stop = asyncio.Event()

    def _make_app(
        self,
        router: APIRouter | None,
        always: APIRouter | None,
        configure_app: Callable[[FastAPI], None] | None,
    ) -> FastAPI:
        app = FastAPI(title=self.name, openapi_url=None)
        if router is not None and "api" in self.settings.roles:
            app = FastAPI(title=self.name, docs_url="/docs", redoc_url=None)
        install_problem_handlers(app)
        app.include_router(health_router(self._health))
        if always is not None:
            app.include_router(always)
        if router is not None and "api" in self.settings.roles:
            # Not included but taken over: an included router is matched again at every level, which
            # costs as much as a short handler does.
            app.router.routes.extend(router.routes)
            if self.database is not None:
                queues = [subscription.queue for subscription in self.subscriptions]
                app.router.routes.extend(inbox_router(InboxWatch(self.database, queues)).routes)
            if configure_app is not None:
                configure_app(app)
        return app

    async def declare(self) -> None:
        """Declare the shared exchanges and this service's queues."""
        await self.broker.declare(
            [spec for subscription in self.subscriptions for spec in subscription.queues()]
        )

    def request_stop(self) -> None:
        """Begin the shutdown; `run` returns when it is done."""
        self._stop.set()

    async def run(self) -> None:
        """Run until SIGTERM, SIGINT or `request_stop`."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self.request_stop)
        server = _Server(
            uvicorn.Config(
                self.app,
                host=self.settings.http_host,
                port=self.settings.http_port,
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=5,
                backlog=2048,
            )
        )
        serving = asyncio.create_task(server.serve(), name="http")
        jobs: list[asyncio.Task[None]] = []
        try:
            consuming = await self._start_consumers()
            jobs = self._start_jobs()
            stopped = asyncio.create_task(self._stop.wait(), name="stop")
            await asyncio.wait({stopped, serving}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            log.info("stopping")
            self._health.stopping = True
            await self._finish(consuming, jobs)
        finally:
            server.should_exit = True
            await asyncio.wait({serving}, timeout=self.settings.shutdown_seconds)
            await self._end([*jobs, serving])
            await self.close()
        # A server that could not bind has ended on its own, and says why in the log.
        if not self._stop.is_set():
            msg = f"the HTTP server ended: is port {self.settings.http_port} taken?"
            raise RuntimeError(msg)

    async def _start_consumers(self) -> list[asyncio.Task[None]]:
        if not self._consumers:
            return []
        await self.declare_when_possible()
        return [
            asyncio.create_task(consumer.run(), name=consumer.status.queue)
            for consumer in self._consumers
        ]

    async def declare_when_possible(self) -> None:
        """Declare, waiting for a broker that is not there yet; returns early on a stop."""
        while not self._stop.is_set():
            try:
                await self.declare()
            except (ConnectionError, TimeoutError, OSError) as error:
                log.warning("waiting for the broker", extra={"reason": str(error)})
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), 1.0)
            else:
                return

    def _start_jobs(self) -> list[asyncio.Task[None]]:
        jobs = [
            asyncio.create_task(_repeat(periodic), name=periodic.name)
            for periodic in self._periodics
        ]
        if self.database is not None and self._relays:
            relay = OutboxRelay(self._store, self.broker, self.database.outbox_written)
            jobs.append(asyncio.create_task(relay.run(), name="outbox relay"))
        return jobs

    async def _finish(
        self, consuming: Sequence[asyncio.Task[None]], jobs: Sequence[asyncio.Task[None]]
    ) -> None:
        await asyncio.gather(
            *(consumer.stop() for consumer in self._consumers), return_exceptions=True
        )
        if consuming:
            _, late = await asyncio.wait(consuming, timeout=self.settings.shutdown_seconds)
            for task in late:
                log.warning(
                    "gave up on a batch; it will be delivered again",
                    extra={"queue": task.get_name()},
                )
                task.cancel()
        for job in jobs:
            job.cancel()
        if jobs:
            await asyncio.wait(jobs, timeout=5)
        if self.database is not None and self._relays:
            relay = OutboxRelay(self._store, self.broker, self.database.outbox_written)
            try:
                await asyncio.wait_for(relay.drain(), 3)
            except Exception as error:  # noqa: BLE001 -- what is left is published at the next start
                log.warning("left follow-on events in the outbox", extra={"reason": str(error)})

    async def _end(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Close all connections."""
        for close in (
            *self._on_close,
            self.broker.close,
            *([self.database.dispose] if self.database else []),
        ):
            try:
                await asyncio.wait_for(close(), 5)
            except Exception as error:  # noqa: BLE001 -- the process ends either way
                log.warning("could not close cleanly", extra={"reason": repr(error)})


async def _repeat(periodic: Periodic) -> None:
    while True:
        await asyncio.sleep(periodic.every)
        try:
            await periodic.run()
        except Outage as outage:
            log.warning("periodic job waits", extra={"job": periodic.name, "reason": str(outage)})
            await asyncio.sleep(1)
        except Exception:
            log.exception("periodic job failed", extra={"job": periodic.name})
            await asyncio.sleep(1)


def main(name: str, settings_class: type[S], bootstrap: Callable[[S], Service]) -> None:
    """`python -m <service>` runs it; `python -m <service> migrate` prepares schema and queues."""
    try:
        settings = settings_class()  # pyright: ignore[reportCallIssue] -- the environment fills it
    except ValidationError as error:
        _refuse_settings(name, error)
    configure_logging(name, settings.log_level)
    match sys.argv[1:]:
        case []:
            _run(_serve(bootstrap, settings))
        case ["migrate"]:
            _run(_migrate(name, bootstrap, settings))
        case _:
            sys.exit(f"usage: python -m {name.replace('-', '_')} [migrate]")


def _run(coroutine: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(coroutine)


async def _serve(bootstrap: Callable[[S], Service], settings: S) -> None:
    service = bootstrap(settings)
    # What was made so far lives as long as the process: going through it in every full garbage
    # collection would hold up requests for tens of milliseconds.
    gc.collect()
    gc.freeze()
    # Batches make objects by the ten thousand, hardly any of them in cycles: looking for cycles
    # every 700 objects took a quarter of the time of an import.
    gc.set_threshold(50_000, 20, 20)
    await service.run()


async def _migrate(
    name: str, bootstrap: Callable[[Any], Service], settings: ProcessSettings
) -> None:
    # Alembic is a tenth of a process's memory, and of no use to one that serves.
    from service_kit.migrations import upgrade

    service = bootstrap(settings)
    try:
        if service.database is not None and isinstance(settings, ServiceSettings):
            await asyncio.to_thread(
                upgrade,
                settings.database_url,
                package=name.replace("-", "_"),
                schema=service.database.schema,
            )
        for prepare in service.on_migrate:
            await prepare()
        async with asyncio.timeout(START_TIMEOUT):
            await service.declare_when_possible()
    except TimeoutError:
        sys.exit(f"{name}: RabbitMQ did not answer within {START_TIMEOUT:g} s")
    finally:
        await service.close()


def _refuse_settings(name: str, error: ValidationError) -> NoReturn:
    problems = "\n".join(
        f"  {'.'.join(str(part) for part in item['loc']).upper()}: {item['msg']}"
        for item in error.errors(include_url=False, include_input=False)
    )
    sys.exit(f"{name} cannot start; set these environment variables right:\n{problems}")
