"""A service's own PostgreSQL schema: connections, transactions, and which errors will pass.

Every transaction runs with bounded waits. Errors of a server that is away, restarting or out of
connections come out as `Outage`; conflicts between transactions as `Conflict`, which the runtime
repeats at once.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Generator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from io import BytesIO
from typing import IO, Final, Protocol, cast

from sqlalchemy import event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection
from sqlalchemy.util import await_only

from service_kit.outcomes import Outage, Park

STATEMENT_TIMEOUT_MS: Final = 30_000
LOCK_TIMEOUT_MS: Final = 10_000
IDLE_IN_TRANSACTION_TIMEOUT_MS: Final = 60_000
CONNECT_TIMEOUT: Final = 3.0
COMMAND_TIMEOUT: Final = 40.0
# A connection that lay in the pool for longer is tried before it is used.
TRUSTED_SECONDS: Final = 5.0
PING_TIMEOUT: Final = 2.0

_DEPENDENCY: Final = "PostgreSQL"
# Connection exceptions, wrong credentials or database, insufficient resources, operator
# intervention, system errors; and a server that is read-only because another one took over.
_OUTAGE_CLASSES: Final = ("08", "28", "3D", "53", "57P", "58")
_OUTAGE_STATES: Final = frozenset({"25006"})
# Values that no column can hold, however often they are offered.
_DATA_CLASS: Final = "22"
_UNIQUE_VIOLATION: Final = "23505"
_CONFLICT_STATES: Final = frozenset({"40001", "40P01", "55P03"})


_LOST_CONNECTION: Final = frozenset(
    {"ConnectionDoesNotExistError", "ConnectionFailureError", "InternalClientError"}
)


class Conflict(Exception):  # noqa: N818 -- what happened between two transactions
    """Another transaction was in the way; the same unit of work succeeds when it is repeated."""


def async_url(url: str) -> str:
    """`postgresql://…` as SQLAlchemy's asyncpg dialect wants it."""
    _, separator, rest = url.partition("://")
    return f"postgresql+asyncpg{separator}{rest}"


def translate(error: BaseException) -> BaseException:
    """The `Outage`, `Conflict` or `Park` that an error of the driver stands for, or itself."""
    if isinstance(error, PoolTimeoutError):
        return Outage(_DEPENDENCY, "no free connection in the pool")
    state = next((state for state in map(_sqlstate, _chain(error)) if state), "")
    if state in _CONFLICT_STATES:
        return Conflict(f"{_root(error)}")
    if state.startswith(_OUTAGE_CLASSES) or state in _OUTAGE_STATES:
        return Outage(_DEPENDENCY, f"{_root(error)}")
    if state.startswith(_DATA_CLASS):
        return Park(f"the database cannot hold it: {_root(error)}")
    if isinstance(_root(error), TimeoutError):
        # The driver's own limit, which is longer than any that the server keeps.
        return Outage(_DEPENDENCY, "no answer in time")
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    if lost or (not state and _is_driver_interface_error(error)):
        return Outage(_DEPENDENCY, f"the connection was lost: {_root(error)!r}")
    return error


def _chain(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.orig if isinstance(cause, DBAPIError) else cause.__cause__


def _root(error: BaseException) -> BaseException:
    *_, root = _chain(error)
    return root


def _sqlstate(error: BaseException) -> str | None:
    state = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) else None


def _is_driver_interface_error(error: BaseException) -> bool:
    # What asyncpg raises on a connection that went away under it carries no SQLSTATE.
    is_driver = isinstance(error, DBAPIError) or type(error).__module__.startswith("asyncpg")
    return is_driver and (
        isinstance(_root(error), OSError) or type(_root(error)).__name__ in _LOST_CONNECTION
    )


class _Driver(Protocol):
    def is_closed(self) -> bool: ...

    def execute(self, query: str, *, timeout: float) -> Awaitable[str]: ...


class _Copying(Protocol):
    async def copy_to_table(
        self, table_name: str, *, source: IO[bytes], columns: Sequence[str]
    ) -> object: ...


async def copy_block(
    connection: AsyncConnection, table: str, *, columns: Sequence[str], block: bytes
) -> None:
    """COPY into a table, the fastest way to add many rows. A transaction has to be under way.

    Args:
        block: rows in COPY's text format, each ended by a newline.

    Raises:
        Conflict: another transaction has added one of the rows' keys.
    """
    raw = await connection.get_raw_connection()
    # Closed at once: the driver leaves a cycle of references behind that holds on to it.
    with unique_as_conflict(), BytesIO(block) as source:
        await cast("_Copying", raw.driver_connection).copy_to_table(
            table, source=source, columns=columns
        )


@contextmanager
def unique_as_conflict() -> Generator[None]:
    """For keys that were looked for and not found: another transaction was first with one.

    Raises:
        Conflict: instead of the violation of a unique constraint.
    """
    try:
        yield
    except Exception as error:
        if any(_sqlstate(cause) == _UNIQUE_VIOLATION for cause in _chain(error)):
            raise Conflict(f"{_root(error)}") from error
        raise


def _try_before_use(engine: AsyncEngine) -> None:
    """Give out no connection that is known to be lost, nor one that may be lost unnoticed.

    As `pool_pre_ping`, which spends three round trips before every transaction. The driver hears of
    a connection that its server closes with the next turn of the event loop; only one that vanishes
    without a word, behind a network that is cut, has to be asked. Whoever gets a connection just
    before that is heard has an `Outage`, once.
    """
    pool = engine.sync_engine.pool

    def remember(connection: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
        del connection
        entry.info["idle_since"] = time.monotonic()

    def check(
        connection: DBAPIConnection, entry: ConnectionPoolEntry, proxy: PoolProxiedConnection
    ) -> None:
        del connection
        driver = cast("_Driver", proxy.driver_connection)
        if driver.is_closed():
            raise InvalidatePoolError
        idle_since: float | None = entry.info.get("idle_since")
        if idle_since is None or time.monotonic() - idle_since < TRUSTED_SECONDS:
            return
        try:
            await_only(driver.execute(";", timeout=PING_TIMEOUT))
        except Exception as error:
            # Whatever it is, this one is not used, nor are those of the same age.
            raise InvalidatePoolError from error

    event.listen(pool, "checkin", remember)
    event.listen(pool, "checkout", check)


class Database:
    """The connections of one process to one schema.

    Args:
        url: `postgresql://user:password@host:port/database`.
        schema: the service's own schema; statements need not name it.
        application_name: shown in `pg_stat_activity`.
        pool_size: connections kept open; as many again may be opened under load.
    """

    def __init__(
        self, url: str, *, schema: str, application_name: str = "moviemetric", pool_size: int = 5
    ) -> None:
        self.schema = schema
        self.outbox_written = asyncio.Event()
        self._engine: AsyncEngine = create_async_engine(
            async_url(url),
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=5,
            pool_recycle=1800,
            # Errors are logged, and parameters hold reviews and hashes of passwords.
            hide_parameters=True,
            connect_args={
                "timeout": CONNECT_TIMEOUT,
                "command_timeout": COMMAND_TIMEOUT,
                "server_settings": {
                    "search_path": f'"{schema}", public',
                    "application_name": application_name,
                    "statement_timeout": str(STATEMENT_TIMEOUT_MS),
                    "lock_timeout": str(LOCK_TIMEOUT_MS),
                    "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_TIMEOUT_MS),
                    # Compiling a plan costs more than any of the services' statements runs for.
                    "jit": "off",
                    # Generic plans made while a table was small outlive its growth.
                    "plan_cache_mode": "force_custom_plan",
                    # The schemas live in memory or on flash: random reads cost little more.
                    "random_page_cost": "1.1",
                },
            },
        )
        _try_before_use(self._engine)
        # The same connections: BEGIN says it, so that no statement of its own has to.
        self._reading = self._engine.execution_options(postgresql_readonly=True)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[AsyncConnection]:
        """BEGIN, and COMMIT unless the block raises.

        Raises:
            Outage: the server is away; whether a COMMIT in flight took effect is unknown.
            Conflict: another transaction was in the way; nothing took effect.
        """
        async with self._translated(self._engine) as connection:
            yield connection

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[AsyncConnection]:
        """A read-only transaction; raises as `transaction`."""
        async with self._translated(self._reading) as connection:
            yield connection

    @asynccontextmanager
    async def _translated(self, engine: AsyncEngine) -> AsyncGenerator[AsyncConnection]:
        try:
            async with AsyncExitStack() as stack:
                yield await self._begin(engine, stack)
        except Exception as error:
            translated = translate(error)
            if translated is error:
                raise
            raise translated from error

    async def _begin(self, engine: AsyncEngine, stack: AsyncExitStack) -> AsyncConnection:
        try:
            return await stack.enter_async_context(engine.begin())
        except OSError as error:
            # Only here: within the transaction an OSError may be the handler's own.
            raise Outage(
                _DEPENDENCY, f"cannot connect: {str(error) or type(error).__name__}"
            ) from error

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[AsyncConnection]:
        """A connection of the caller's own, in autocommit, that ends with the block.

        For what belongs to a session rather than to a transaction. It counts among the pool's
        connections. What statements raise is not translated.

        Raises:
            Outage: the server is away.
        """
        # Autocommit: a transaction left open would be ended by the server, and the session with it.
        connection = self._engine.execution_options(isolation_level="AUTOCOMMIT").connect()
        try:
            try:
                await connection.start()
            except OSError as error:
                raise Outage(_DEPENDENCY, f"cannot connect: {error}") from error
            except Exception as error:
                raise translate(error) from error
            yield connection
        finally:
            # Never back into the pool: what the session holds must end here.
            with suppress(Exception):
                await connection.invalidate()
            with suppress(Exception):
                await connection.close()

    async def ping(self) -> float:
        """Seconds that a round trip takes; raises `Outage`."""
        started = time.perf_counter()
        async with self.transaction() as connection:
            await connection.execute(text("SELECT 1"))
        return time.perf_counter() - started

    async def dispose(self) -> None:
        """Close all connections."""
        await self._engine.dispose()
