"""A private Redis server on 127.0.0.1: a cache of at most 64 MB that is never written to disk."""

import socket
from pathlib import Path

from local_stack.accounts import server_account
from local_stack.ports import free_port
from local_stack.processes import ManagedProcess
from local_stack.servers.base import Server, find_program


class RedisServer(Server):
    """A Redis server with 16 numbered databases."""

    name = "redis"
    databases = 16

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        owned: bool = True,
        log: Path | None = None,
        pid_file: Path | None = None,
        remove: Path | None = None,
    ) -> None:
        """Describe the server; a `port` that is not given is chosen.

        `remove`: a folder to delete when the owner is gone.
        """
        super().__init__(folder, owned=owned, log=log, pid_file=pid_file)
        self.port = port or free_port()
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "save": "",
            "appendonly": "no",
            "maxmemory": "64mb",
            "maxmemory-policy": "allkeys-lru",
            "databases": str(self.databases),
            "daemonize": "no",
        }
        options = [part for key, value in settings.items() for part in (f"--{key}", value)]
        self._managed = ManagedProcess(
            self.name,
            [str(find_program("redis-server", "redis-server")), *options],
            pid_file=self.pid_file,
            log=self.log,
            cwd=self.folder,
            account=server_account("redis"),
            owned=owned,
            remove=remove,
        )

    @property
    def managed(self) -> ManagedProcess:
        """The server process."""
        return self._managed

    @property
    def url(self) -> str:
        """`redis://` URL of database 0."""
        return self.url_of(0)

    def url_of(self, database: int) -> str:
        """`redis://` URL of a numbered database."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def prepare(self) -> None:
        """Nothing to make: the server keeps no files."""

    def ready(self) -> bool:
        """Whether a PING is answered."""
        try:
            return self.command("PING") == "+PONG"
        except OSError:
            return False

    def flush(self, database: int) -> None:
        """Delete every key of a database."""
        self.command(f"SELECT {database}", "FLUSHDB")

    def command(self, *lines: str, timeout: float = 5.0) -> str:
        """Send inline commands on one connection; returns the last answer's first line.

        Raises OSError when Redis refuses one, TimeoutError when it does not answer.
        """
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            connection.sendall("".join(f"{line}\r\n" for line in lines).encode())
            with connection.makefile("rb") as answers:
                answer = ""
                for line in lines:
                    answer = answers.readline().decode().rstrip()
                    if answer.startswith("-"):
                        raise OSError(f"Redis refused {line!r}: {answer[1:]}")
                return answer
