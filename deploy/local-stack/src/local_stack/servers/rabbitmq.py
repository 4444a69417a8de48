"""A private RabbitMQ server with its management API, everything on 127.0.0.1.

It has its own node name, cookie, data and configuration, and its own port mapper (epmd) that starts
and ends with it. Nothing of an installed system-wide RabbitMQ is read or touched. The account
`guest` does not exist.
"""

import os
import secrets
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

import httpx

from local_stack.accounts import private_file, private_folder, server_account
from local_stack.ports import free_port
from local_stack.processes import ManagedProcess, run_to_end
from local_stack.servers.base import Server, find_program

_PACKAGE = "rabbitmq-server"
_NODE = "moviemetric@localhost"
# threads that wait asleep, not spinning; two of them; nothing listens beyond this machine
_ERLANG_ARGUMENTS = (
    "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"
)


@dataclass(frozen=True, slots=True)
class RabbitPorts:
    """The TCP ports of one RabbitMQ server on 127.0.0.1."""

    amqp: int
    management: int
    distribution: int
    epmd: int

    @classmethod
    def free(cls) -> "RabbitPorts":
        """Four free ports."""
        return cls(free_port(), free_port(), free_port(), free_port())


class RabbitServer(Server):
    """A RabbitMQ server with one administrator."""

    name = "rabbitmq"
    start_seconds = 120.0

    def __init__(
        self,
        folder: Path,
        *,
        ports: RabbitPorts | None = None,
        user: str = "moviemetric",
        password: str | None = None,
        statistics_interval: float = 10.0,
        owned: bool = True,
        log: Path | None = None,
        pid_file: Path | None = None,
        remove: Path | None = None,
    ) -> None:
        """Describe the server; `start()` makes and starts it.

        `ports` and `password` that are not given are chosen. `statistics_interval`: seconds between
        two updates of what the management API tells about queues and connections. `remove`: a
        folder to delete when the owner is gone.
        """
        super().__init__(folder, owned=owned, log=log, pid_file=pid_file)
        self.ports = ports or RabbitPorts.free()
        self.user = user
        self.password = password or secrets.token_hex(16)
        self._statistics_interval = statistics_interval
        self._account = server_account("rabbitmq")
        self._home = self.folder / "home"
        self._data = self.folder / "data"
        self._complete = self.folder / "complete"
        environment = self._environment()
        program = find_program("rabbitmq-server", _PACKAGE, Path("/usr/lib/rabbitmq/bin"))
        epmd = find_program("epmd", "erlang-base", Path("/usr/lib/erlang/bin"))
        self._epmd = ManagedProcess(
            "epmd",
            [str(epmd), "-address", "127.0.0.1", "-port", str(self.ports.epmd)],
            pid_file=self.pid_file.with_name(f"{self.pid_file.stem}-epmd.pid"),
            log=self.log,
            cwd=self.folder,
            env=environment,
            account=self._account,
            owned=owned,
        )
        self._managed = ManagedProcess(
            self.name,
            [str(program)],
            pid_file=self.pid_file,
            log=self.log,
            cwd=self.folder,
            env=environment,
            account=self._account,
            owned=owned,
            remove=remove,
        )

    @property
    def managed(self) -> ManagedProcess:
        """The Erlang virtual machine."""
        return self._managed

    @property
    def port(self) -> int:
        """The AMQP port."""
        return self.ports.amqp

    @property
    def url(self) -> str:
        """`amqp://` URL of the default virtual host."""
        return self.url_of("")

    def url_of(self, vhost: str) -> str:
        """`amqp://` URL of a virtual host ("" is the default one, `/`)."""
        return f"amqp://{self.user}:{self.password}@127.0.0.1:{self.port}/{vhost}"

    @property
    def management_url(self) -> str:
        """`http://` URL of the management UI and API, without a slash at the end."""
        return f"http://127.0.0.1:{self.ports.management}"

    def management(self, timeout: float = 10.0) -> httpx.Client:
        """An HTTP client of the management API, logged in."""
        return httpx.Client(
            base_url=self.management_url,
            auth=(self.user, self.password),
            timeout=timeout,
            trust_env=False,
        )

    def create_vhost(self, name: str) -> str:
        """Create an empty virtual host; returns its AMQP URL."""
        rights = {"configure": ".*", "write": ".*", "read": ".*"}
        with self.management() as client:
            client.put(f"/api/vhosts/{name}", json={}).raise_for_status()
            client.put(f"/api/permissions/{name}/{self.user}", json=rights).raise_for_status()
        return self.url_of(name)

    def delete_vhost(self, name: str) -> None:
        """Delete a virtual host with all its queues, closing the connections to it."""
        with self.management() as client:
            client.delete(f"/api/vhosts/{name}").raise_for_status()

    def prepare(self) -> None:
        """Write the configuration and start the port mapper."""
        if not self._complete.exists():
            # a first start that was cut short leaves a node without its account
            shutil.rmtree(self._data, ignore_errors=True)
        for folder in (self._home, self._data):
            private_folder(folder, self._account)
        cookie = self._home / ".erlang.cookie"
        if not cookie.exists():
            private_file(cookie, secrets.token_hex(20), self._account)
        cookie.chmod(0o400)
        private_file(self._home / "rabbitmq.conf", self._configuration(), self._account)
        private_file(self._home / "enabled_plugins", "[rabbitmq_management].\n", self._account)
        private_file(self._home / "rabbitmq-env.conf", "", self._account)
        self._epmd.start()
        self._epmd.wait_until(lambda: _accepts(self.ports.epmd), 10.0)

    def ready(self) -> bool:
        """Whether the management API answers and says that AMQP is served."""
        if not _accepts(self.ports.management):
            return False
        try:
            with self.management(timeout=5.0) as client:
                health = f"/api/health/checks/port-listener/{self.port}"
                served = client.get(health).is_success
        except httpx.TransportError:
            return False
        if served:
            self._complete.touch()
        return served

    def stop(self, seconds: float = 30.0) -> bool:
        """Shut down in an orderly way, and the port mapper after it."""
        if self.running and not self.ready():
            # while it boots it does not listen to signals
            seconds = min(seconds, 10.0) if self._complete.exists() else 0.0
        graceful = super().stop(seconds)
        self._epmd.stop(seconds=5.0)
        return graceful

    def kill(self) -> None:
        """SIGKILL the server and its port mapper."""
        super().kill()
        self._epmd.kill()

    def control(self, *arguments: str) -> str:
        """Run rabbitmqctl against this server; returns what it printed. Raises StartError."""
        program = find_program("rabbitmqctl", _PACKAGE, Path("/usr/lib/rabbitmq/bin"))
        return run_to_end(
            "rabbitmqctl",
            [str(program), *arguments],
            seconds=30.0,
            log=self.log,
            cwd=self.folder,
            env=self._environment(),
            account=self._account,
        )

    def _environment(self) -> dict[str, str]:
        inherited = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("RABBITMQ_", "ERL_", "NOTIFY_SOCKET"))
        }
        return {
            **inherited,
            "HOME": str(self._home),
            "ERL_EPMD_PORT": str(self.ports.epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            # also holds for the short-lived helper nodes that the server starts
            "ERL_AFLAGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_NODENAME": _NODE,
            "RABBITMQ_DIST_PORT": str(self.ports.distribution),
            "RABBITMQ_MNESIA_BASE": str(self._data),
            "RABBITMQ_LOG_BASE": str(self._data),
            "RABBITMQ_CONF_ENV_FILE": str(self._home / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self._home / "rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": str(self._home / "conf.d" / "*.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self._home / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._home / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": self._erlang_arguments(),
            # makes the start script become the server, so that our signals reach it
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _erlang_arguments(self) -> str:
        # Quorum queues report their depths on a tick of their own, which no setting in the
        # configuration file reaches.
        tick = round(self._statistics_interval * 1000)
        return f"{_ERLANG_ARGUMENTS} -rabbit quorum_tick_interval {tick}"

    def _configuration(self) -> str:
        return f"""\
listeners.tcp.default = 127.0.0.1:{self.ports.amqp}
management.tcp.ip = 127.0.0.1
management.tcp.port = {self.ports.management}
default_user = {self.user}
default_pass = {self.password}
default_user_tags.administrator = true
collect_statistics_interval = {round(self._statistics_interval * 1000)}
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 50MB
log.file = false
log.console = true
log.console.level = info
log.console.use_colors = off
log.connection.level = warning
"""


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True
