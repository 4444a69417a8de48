"""A private PostgreSQL server: TCP on 127.0.0.1 only, scram passwords, no Unix socket.

The role `moviemetric` owns the database `moviemetric` and may create databases, but is no
superuser. The superuser has no password, so nobody can log in as it; `postgres --single` is left
for repairs.
"""

import os
import re
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from local_stack.accounts import private_file, private_folder, server_account
from local_stack.ports import free_port
from local_stack.processes import ManagedProcess, StartError, run_to_end
from local_stack.procfs import ProcessId
from local_stack.servers.base import MissingProgramError, Server, find_program

_ROLE = "moviemetric"
_DATABASE = "moviemetric"
_PACKAGE = "postgresql"
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_DROP_TRIES = 20
_MAINTENANCE = "postgres"
# of pg_dump and pg_restore
_COPY_SECONDS = 6 * 3600.0


class SqlError(RuntimeError):
    """PostgreSQL refused a statement; the message holds both."""


def _programs() -> Path:
    """The folder with the programs of the newest PostgreSQL that is installed."""
    versions = [
        path.parent
        for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")
        if path.parent.parent.name.isdecimal()
    ]
    if versions:
        return max(versions, key=lambda folder: int(folder.parent.name))
    # the name on PATH may be a link into the folder that holds its siblings
    return find_program("postgres", _PACKAGE).resolve().parent


class PostgresServer(Server):
    """A PostgreSQL server with one role and one database."""

    name = "postgresql"
    stop_signal = signal.SIGINT  # fast shutdown: ends the sessions, keeps what was committed

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        password: str | None = None,
        durable: bool = True,
        shared_buffers: str = "256MB",
        owned: bool = True,
        log: Path | None = None,
        pid_file: Path | None = None,
        remove: Path | None = None,
    ) -> None:
        """Describe the server; `start()` makes and starts it.

        A `port` or `password` that is not given is chosen. Without `durable`, commits survive a
        crash of the server but not one of the machine. `shared_buffers`: how much of the database
        it holds in memory of its own, for a large one a quarter of the machine's. `remove`: a
        folder to delete when the owner is gone.
        """
        super().__init__(folder, owned=owned, log=log, pid_file=pid_file)
        self.port = port or free_port()
        self.user = _ROLE
        self.password = password or secrets.token_hex(16)
        self._durable = durable
        self._account = server_account("postgres")
        if os.geteuid() == 0 and self._account is None:
            raise MissingProgramError("the account postgres", _PACKAGE)
        self._bin = _programs()
        self._data = self.folder / "data"
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "shared_buffers": shared_buffers,
            # a large import would otherwise force a checkpoint every few seconds, after each of
            # which whole pages are written to the log again
            "max_wal_size": "4GB",
            "checkpoint_timeout": "15min",
            "wal_compression": "lz4",
            "max_connections": "100",
            "password_encryption": "scram-sha-256",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "logging_collector": "off",
            "log_destination": "stderr",
        }
        if not durable:
            # synchronous_commit stays on: without it a killed server loses what it confirmed
            settings |= {"fsync": "off", "full_page_writes": "off"}
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        self._managed = ManagedProcess(
            self.name,
            [str(self._bin / "postgres"), "-D", str(self._data), *options],
            pid_file=self.pid_file,
            log=self.log,
            cwd=self.folder,
            account=self._account,
            owned=owned,
            grace_signal=signal.SIGINT,  # lets it return its shared memory to the system
            remove=remove,
        )

    @property
    def managed(self) -> ManagedProcess:
        """The postmaster."""
        return self._managed

    @property
    def url(self) -> str:
        """`postgresql://` URL of the database `moviemetric`."""
        return self.url_of(_DATABASE)

    def url_of(self, database: str) -> str:
        """`postgresql://` URL of a database of this server."""
        return f"postgresql://{self.user}:{self.password}@127.0.0.1:{self.port}/{database}"

    def prepare(self) -> None:
        """Make the cluster on the first start; clear what a crash left behind."""
        if self._data.exists():
            self._drop_stale_lock()
        else:
            self._create_cluster()

    def ready(self) -> bool:
        """Whether the postmaster says in its lock file that it takes connections."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        process = self._managed.process
        return (
            process is not None
            and len(lines) >= 8  # the eighth is the state, which pg_ctl reads, too
            and lines[0] == str(process.pid)
            and lines[7].strip() == "ready"
        )

    @property
    def major(self) -> int:
        """Major version of the programs, such as 15."""
        answer = subprocess.run(  # noqa: S603 - no shell
            [str(self._bin / "postgres"), "--version"], capture_output=True, text=True, check=True
        )
        return int(re.findall(r"\d+", answer.stdout)[0])

    def execute(self, sql: str, database: str = _DATABASE, seconds: float = 60.0) -> str:
        """Run SQL through psql; returns its unaligned output. Raises SqlError."""
        result = subprocess.run(  # noqa: S603 - no shell
            [
                str(self._bin / "psql"),
                "--no-psqlrc",
                "--quiet",
                "--no-align",
                "--tuples-only",
                "--set=ON_ERROR_STOP=1",
                *self._connection(database),
                f"--command={sql}",
            ],
            env=self._client_environment(),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if result.returncode != 0:
            raise SqlError(f"{sql!r} failed: {result.stderr.strip()}")
        return result.stdout.strip()

    def dump(self, file: Path) -> None:
        """Write the whole database as of one moment, uncompressed, in pg_dump's custom format.

        Raises StartError.
        """
        options = ["--format=custom", "--compress=0", "--no-owner", "--no-privileges"]
        self._client("pg_dump", *options, f"--file={file}", *self._connection(_DATABASE))

    def restore(self, file: Path) -> None:
        """Drop the database and make it anew from what `dump` wrote: all of it or, when that fails,
        an empty one. Raises StartError."""
        self.drop_database(_DATABASE)
        self.create_database(_DATABASE)
        options = ["--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction"]
        self._client("pg_restore", *options, *self._connection(_DATABASE), str(file))

    def _connection(self, database: str) -> list[str]:
        return [
            "--no-password",
            "--host=127.0.0.1",
            f"--port={self.port}",
            f"--username={self.user}",
            f"--dbname={database}",
        ]

    def _client_environment(self) -> dict[str, str]:
        # the user's own PGOPTIONS, PGSSLMODE and so on are meant for other servers
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        return {**inherited, "PGPASSWORD": self.password, "PGCONNECT_TIMEOUT": "10"}

    def _client(self, program: str, *arguments: str) -> None:
        run_to_end(
            f"{self.name}: {program}",
            [str(self._bin / program), *arguments],
            seconds=_COPY_SECONDS,
            log=self.log,
            cwd=Path("/"),
            env=self._client_environment(),
        )

    def create_database(self, name: str) -> str:
        """Create an empty database; returns its URL."""
        self.execute(f"CREATE DATABASE {_checked(name)}", _MAINTENANCE)
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, ending the sessions that use it."""
        # Not WITH (FORCE), which gives up at an autovacuum worker: that belongs to a superuser,
        # whose sessions our role may not end. A plain DROP asks such workers to go away.
        end = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"  # noqa: S608 - checked
            f" WHERE datname = '{_checked(name)}' AND usename = current_user"
        )
        drop = f"DROP DATABASE IF EXISTS {_checked(name)}"
        for attempt in range(_DROP_TRIES):
            self.execute(end, _MAINTENANCE)
            try:
                self.execute(drop, _MAINTENANCE)
            except SqlError:
                if attempt == _DROP_TRIES - 1:
                    raise
                time.sleep(0.5)
            else:
                return

    def _create_cluster(self) -> None:
        # made under another name, so that an interrupt leaves nothing that looks complete
        unfinished = self.folder / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        private_folder(unfinished, self._account)
        sync = [] if self._durable else ["--no-sync"]
        self._run(
            [
                "initdb",
                f"--pgdata={unfinished}",
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                *sync,
            ]
        )
        self._run(
            ["postgres", "--single", "-D", str(unfinished), "-c", "log_statement=none", "postgres"],
            f"CREATE ROLE {_ROLE} LOGIN CREATEDB PASSWORD '{self.password}'\n"
            f"CREATE DATABASE {_DATABASE} OWNER {_ROLE}\n",
        )
        private_file(
            unfinished / "pg_hba.conf",
            "host all all 127.0.0.1/32 scram-sha-256\n",
            self._account,
        )
        unfinished.rename(self._data)

    def _run(self, command: Sequence[str], stdin: str = "") -> None:
        output = run_to_end(
            f"{self.name}: {command[0]}",
            [str(self._bin / command[0]), *command[1:]],
            seconds=120.0,
            log=self.log,
            cwd=self.folder,
            stdin=stdin,
            account=self._account,
        )
        # in single-user mode a failed statement is only reported
        if "ERROR:" in output or "FATAL:" in output:
            raise StartError(self.name, f"could not be set up ({command[0]} failed)", self.log)

    def _drop_stale_lock(self) -> None:
        """Remove the lock file of a killed postmaster.

        PostgreSQL takes any process with the recorded pid for the postmaster, even a zombie that
        nobody reaps, as in a container without an init process.
        """
        lock = self._data / "postmaster.pid"
        try:
            holder = ProcessId.of(int(lock.read_text().split("\n", 1)[0]))
        except (FileNotFoundError, ValueError):
            return
        if holder is None:
            lock.unlink()


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"not a plain lower-case SQL name: {name!r}")
    return name
