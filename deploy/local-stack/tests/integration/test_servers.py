"""Each server against its own protocol: start, stop, crash, freeze, side by side."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pika
import psycopg
import pytest
from local_stack.processes import StartError
from local_stack.pytest_plugin import scratch_folder
from local_stack.servers import PostgresServer, RabbitPorts, RabbitServer, RedisServer


@pytest.fixture
def folder() -> Generator[Path]:
    folder = scratch_folder()
    yield folder
    shutil.rmtree(folder)


def listening_addresses(port: int) -> set[str]:
    """The addresses at which somebody listens on this port, as /proc writes them."""
    found: set[str] = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            address, hexadecimal = local.split(":")
            if state == "0A" and int(hexadecimal, 16) == port:
                found.add(address)
    return found


LOOPBACK = {"0100007F", "00000000000000000000000001000000"}


class TestPostgres:
    def test_the_role_owns_its_database_and_nothing_more(self, postgres_database: str) -> None:
        with psycopg.connect(postgres_database) as connection:
            row = connection.execute(
                "SELECT rolsuper, rolcreatedb, current_setting('server_encoding'),"
                " current_setting('TimeZone') FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
            assert row == (False, True, "UTF8", "UTC")
            connection.execute("CREATE EXTENSION pg_trgm")
            assert connection.execute("SELECT lower('ÀÉ')").fetchone() == ("àé",)

    def test_a_password_is_asked_for(self, postgres_server: PostgresServer) -> None:
        for user, password in (("moviemetric", "wrong"), ("postgres", "")):
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(postgres_server.url, user=user, password=password or "x")

    def test_what_was_committed_survives_a_crash_and_a_restart(
        self, postgres_server: PostgresServer, postgres_database: str
    ) -> None:
        with psycopg.connect(postgres_database) as connection:
            connection.execute("CREATE TABLE t AS SELECT 1 AS n")
        pid = postgres_server.managed.process
        postgres_server.kill()
        assert not postgres_server.running
        postgres_server.start()
        assert postgres_server.managed.process != pid
        postgres_server.restart()
        with psycopg.connect(postgres_database) as connection:
            assert connection.execute("SELECT n FROM t").fetchone() == (1,)

    def test_frozen_it_answers_nobody_until_it_goes_on(
        self, postgres_server: PostgresServer, postgres_database: str
    ) -> None:
        with psycopg.connect(postgres_database, autocommit=True) as connection:
            postgres_server.freeze()
            before = time.monotonic()
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(postgres_database, connect_timeout=2)
            assert time.monotonic() - before > 1.5
            postgres_server.resume()
            assert connection.execute("SELECT 1").fetchone() == (1,)

    def test_two_run_side_by_side_on_loopback_only(
        self, postgres_server: PostgresServer, folder: Path
    ) -> None:
        with PostgresServer(folder / "a b", durable=False) as other:
            assert other.execute("SELECT 1") == "1"
            assert postgres_server.execute("SELECT 2") == "2"
            for server in (other, postgres_server):
                assert listening_addresses(server.port) == {"0100007F"}
        assert not other.running
        assert listening_addresses(other.port) == set()

    def test_an_interrupted_first_start_is_made_good(self, folder: Path) -> None:
        (folder / "data.new").mkdir()
        (folder / "data.new" / "half").write_text("done")
        with PostgresServer(folder, durable=False) as server:
            assert server.execute("SELECT 1") == "1"

    def test_a_failure_shows_the_log(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as holder:
            port = int(holder.getsockname()[1])
            server = PostgresServer(folder, port=port, durable=False)
            with pytest.raises(StartError, match="postgresql ended before it was ready") as caught:
                server.start()
            server.kill()
        assert 'could not bind IPv4 address "127.0.0.1"' in str(caught.value)
        assert caught.value.log == folder / "server.log"


class TestRedis:
    def test_it_is_a_cache_that_forgets(
        self, redis_server: RedisServer, redis_database: str
    ) -> None:
        number = redis_database.rpartition("/")[2]
        exists = (f"SELECT {number}", "EXISTS key")
        redis_server.command(f"SELECT {number}", "SET key value")
        assert redis_server.command(*exists) == ":1"
        redis_server.kill()
        redis_server.start()
        assert redis_server.command(*exists) == ":0"
        assert not list(redis_server.folder.glob("*.rdb"))
        assert listening_addresses(redis_server.port) == {"0100007F"}

    def test_frozen_it_answers_nobody_until_it_goes_on(
        self, redis_server: RedisServer, redis_database: str
    ) -> None:
        assert redis_database.startswith(f"redis://127.0.0.1:{redis_server.port}/")
        redis_server.freeze()
        with pytest.raises(TimeoutError):
            redis_server.command("PING", timeout=0.3)
        redis_server.resume()
        assert redis_server.command("PING") == "+PONG"

    def test_a_flushed_database_leaves_the_others_alone(self, redis_server: RedisServer) -> None:
        redis_server.command("SELECT 14", "SET key 1", "SELECT 15", "SET key 2")
        redis_server.flush(14)
        assert redis_server.command("SELECT 14", "EXISTS key") == ":0"
        assert redis_server.command("SELECT 15", "EXISTS key") == ":1"

    def test_a_refusal_is_an_error(self, redis_server: RedisServer) -> None:
        with pytest.raises(OSError, match="Redis refused 'SELECT 16'"):
            redis_server.flush(16)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give rights up")
    def test_started_by_root_it_is_not_root(self, redis_server: RedisServer) -> None:
        process = redis_server.managed.process
        assert process is not None
        assert Path(f"/proc/{process.pid}").stat().st_uid != 0


class TestRabbit:
    def test_messages_survive_a_crash_of_the_broker(
        self, rabbit_server: RabbitServer, rabbit_vhost: str
    ) -> None:
        parameters = pika.URLParameters(rabbit_vhost)
        with pika.BlockingConnection(parameters) as connection:
            channel: Any = connection.channel()
            channel.queue_declare("q", durable=True, arguments={"x-queue-type": "quorum"})
            # RabbitMQ 3.10 forgets a quorum queue that is killed within a second of its making
            time.sleep(1.5)
            channel.confirm_delivery()
            channel.basic_publish("", "q", b"kept", mandatory=True)
        rabbit_server.kill()
        assert listening_addresses(rabbit_server.port) == set()
        assert listening_addresses(rabbit_server.ports.epmd) == set()
        rabbit_server.start()
        with pika.BlockingConnection(parameters) as connection:
            channel = connection.channel()
            assert channel.basic_get("q", auto_ack=True)[2] == b"kept"

    def test_only_its_own_account_gets_in(self, rabbit_server: RabbitServer) -> None:
        url = f"{rabbit_server.management_url}/api/users"
        guest = httpx.get(url, auth=("guest", "guest"), trust_env=False)
        assert guest.status_code == 401
        with rabbit_server.management() as client:
            assert [user["name"] for user in client.get("/api/users").json()] == ["moviemetric"]

    def test_nothing_of_it_listens_beyond_this_machine(self, rabbit_server: RabbitServer) -> None:
        ports = rabbit_server.ports
        for port in (ports.amqp, ports.management, ports.distribution, ports.epmd):
            assert listening_addresses(port)
            assert listening_addresses(port) <= LOOPBACK

    def test_a_second_one_runs_beside_it_and_an_interrupted_first_start_is_made_good(
        self, rabbit_server: RabbitServer, folder: Path
    ) -> None:
        (folder / "a b" / "data" / "moviemetric@localhost").mkdir(parents=True)
        (folder / "a b" / "data" / "moviemetric@localhost" / "half").write_text("done")
        other = RabbitServer(folder / "a b", ports=RabbitPorts.free())
        with other:
            for server in (other, rabbit_server):
                with pika.BlockingConnection(pika.URLParameters(server.url)) as connection:
                    assert connection.is_open
            other.kill()
            assert rabbit_server.ready()
        assert not other.running
        assert listening_addresses(other.ports.epmd) == set()

    def test_at_rest_it_costs_next_to_nothing(self, rabbit_server: RabbitServer) -> None:
        process = rabbit_server.managed.process
        assert process is not None
        # The lowest of some readings: whatever others ask of it now and then is not its rest.
        used: list[float] = []
        for _ in range(4):
            before = process.cpu_seconds()
            time.sleep(1)
            used.append(process.cpu_seconds() - before)
        assert min(used) < 0.1
        assert process.resident_bytes() < 400 * 2**20

    def test_an_installed_command_line_tool_is_not_confused(self) -> None:
        # the private port mapper must not have been registered at the standard one
        names = subprocess.run(
            ["epmd", "-names"],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": os.defpath},
        )
        assert "moviemetric" not in names.stdout
