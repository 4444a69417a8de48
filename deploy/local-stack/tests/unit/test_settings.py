import os
import shutil
import socket
from collections.abc import Generator
from pathlib import Path

import pytest
from local_stack.accounts import can_enter, server_account
from local_stack.ports import free_port
from local_stack.pytest_plugin import scratch_folder
from local_stack.services import service_table
from local_stack.settings import PREFERRED_PORTS, Home, HomeError, Settings, find_home


def settings_with(ports: dict[str, int]) -> Settings:
    return Settings(
        ports=ports,
        postgres_password="pg",
        rabbitmq_password="mq",
        admin_password="pw",
        tmdb_base_url="",
        tmdb_standin=True,
        search_backend="",
        own_uploads=Path("/home of the stack/uploads"),
        token_keys=Path("/home of the stack/token-keys"),
    )


def free_ports() -> dict[str, int]:
    return {name: free_port() for name in PREFERRED_PORTS}


@pytest.fixture
def open_folder() -> Generator[Path]:
    """A folder that every account can enter; pytest's own are for one account only."""
    folder = scratch_folder()
    yield folder
    shutil.rmtree(folder)


def nobody_runs(_: str) -> bool:
    return False


def test_a_taken_port_is_replaced_and_remembered(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = int(other.getsockname()[1])
        settings = settings_with(free_ports() | {"REDIS": taken})
        before = dict(settings.ports)
        settings.choose({}, nobody_runs)
        settings.save(home)
        remembered = Settings.load(home, {})
    assert settings.moved == {"REDIS": taken}
    assert settings.ports["REDIS"] != taken
    assert {**before, "REDIS": settings.ports["REDIS"]} == settings.ports
    assert remembered.ports == settings.ports
    assert remembered.postgres_password == "pg"


def test_a_port_that_our_own_server_holds_is_kept() -> None:
    with socket.create_server(("127.0.0.1", 0)) as own:
        port = int(own.getsockname()[1])
        settings = settings_with(free_ports() | {"REDIS": port})
        settings.choose({}, lambda name: name == "REDIS")
    assert settings.moved == {}
    assert settings.ports["REDIS"] == port


def test_only_the_owner_can_read_the_passwords(tmp_path: Path) -> None:
    home = Home(tmp_path)
    settings_with(free_ports()).save(home)
    assert home.env_file.stat().st_mode & 0o777 == 0o600


def test_passwords_are_random(tmp_path: Path) -> None:
    first, second = (Settings.load(Home(tmp_path), {}) for _ in range(2))
    assert len(first.rabbitmq_password) >= 32
    passwords = {s.rabbitmq_password for s in (first, second)}
    passwords |= {s.postgres_password for s in (first, second)}
    passwords |= {s.admin_password for s in (first, second)}
    assert len(passwords) == 6


def test_the_administrator_is_remembered(tmp_path: Path) -> None:
    settings_with(free_ports()).save(Home(tmp_path))
    lines = Home(tmp_path).env_file.read_text().splitlines()
    assert {"ADMIN_NAME=admin", "ADMIN_PASSWORD=pw"} <= set(lines)
    edited = [line.replace("ADMIN_NAME=admin", "ADMIN_NAME=ann") for line in lines]
    Home(tmp_path).env_file.write_text("\n".join(edited))
    assert Settings.load(Home(tmp_path), {}).administrator() == {
        "ADMIN_NAME": "ann",
        "ADMIN_PASSWORD": "pw",
    }


@pytest.mark.parametrize(
    ("environ", "standin", "url"),
    [
        ({}, True, "http://127.0.0.1:{port}/3"),
        ({"TMDB_API_KEY": ""}, True, "http://127.0.0.1:{port}/3"),
        ({"TMDB_API_KEY": "key"}, False, "https://api.themoviedb.org/3"),
        ({"TMDB_BASE_URL": "http://elsewhere/3"}, False, "http://elsewhere/3"),
        ({"TMDB_BASE_URL": "http://x/3", "TMDB_API_KEY": "key"}, False, "http://x/3"),
    ],
)
def test_the_stand_in_answers_only_when_nothing_else_does(
    environ: dict[str, str], standin: bool, url: str
) -> None:
    settings = settings_with(free_ports())
    settings.choose(environ, nobody_runs)
    names = [service.name for service in service_table(settings, environ)]
    assert settings.tmdb_standin is standin
    assert ("tmdb-standin" in names) is standin
    assert settings.tmdb_base_url == url.format(port=settings.ports["TMDB_STANDIN"])


def test_services_get_the_users_environment_and_the_stacks_connections() -> None:
    settings = settings_with(dict(PREFERRED_PORTS))
    settings.search_backend = "meilisearch"
    settings.tmdb_standin = False
    environ = {
        "TMDB_API_KEY": "key",
        "LOG_LEVEL": "debug",
        "MEILISEARCH_URL": "http://m",
        "DATABASE_URL": "postgresql://elsewhere/precious",
    }
    gateway = service_table(settings, environ)[-1]
    assert gateway.name == "gateway"
    assert gateway.ready_url == "http://127.0.0.1:8000/ready"
    assert gateway.migrate[1:] == ("-m", "gateway", "migrate")
    expected = {
        "TMDB_API_KEY": "key",
        "LOG_LEVEL": "debug",
        "MEILISEARCH_URL": "http://m",
        "SEARCH_BACKEND": "meilisearch",
        "DATABASE_URL": "postgresql://moviemetric:pg@127.0.0.1:55432/moviemetric",
        "AMQP_URL": "amqp://moviemetric:mq@127.0.0.1:56720/",
        "REDIS_URL": "redis://127.0.0.1:56379/0",
        "HTTP_HOST": "127.0.0.1",
        "HTTP_PORT": "8000",
        "INGEST_URL": "http://127.0.0.1:8101",
        "RATING_URL": "http://127.0.0.1:8102",
        "COMPUTE_URL": "http://127.0.0.1:8103",
        "SEARCH_URL": "http://127.0.0.1:8104",
    }
    assert {key: gateway.env.get(key) for key in expected} == expected


def test_only_rating_service_is_told_where_the_keys_are_and_only_migrate_the_password() -> None:
    settings = settings_with(dict(PREFERRED_PORTS))
    environ = {
        "ADMIN_NAME": "ann",
        "ADMIN_PASSWORD": "of the shell",
        "FIRST_ADMIN_PASSWORD": "of the shell",
        "MOVIEMETRIC_API_KEY": "mm_of_the_shell",
        "TOKEN_KEYS_FOLDER": "/elsewhere",
    }
    for service in service_table(settings, environ):
        told = {key: service.env[key] for key in service.env if key in environ}
        rating = service.name == "rating-service"
        assert told == ({"TOKEN_KEYS_FOLDER": "/home of the stack/token-keys"} if rating else {})
        assert "pw" not in service.env.values()
        assert service.migrate_env == (
            {"FIRST_ADMIN_NAME": "admin", "FIRST_ADMIN_PASSWORD": "pw"} if rating else {}
        )


def test_the_scheduler_is_a_role_of_compute_service_set_by_the_user() -> None:
    settings = settings_with(dict(PREFERRED_PORTS))
    environ = {"SCHEDULE_TRENDING": "0 6 * * *"}
    services = {service.name: service for service in service_table(settings, environ)}
    scheduler, compute = services["scheduler"], services["compute-service"]
    assert scheduler.command == compute.command
    assert (scheduler.migrate, scheduler.schema) == ((), None)
    assert compute.migrate
    assert scheduler.env == {
        **compute.env,
        "ROLES": "scheduler",
        "HTTP_PORT": "8106",
    }
    assert scheduler.env["SCHEDULE_TRENDING"] == "0 6 * * *"


def test_uploads_are_kept_in_the_home() -> None:
    settings = settings_with(free_ports())
    settings.choose({"UPLOAD_S3_REGION": "eu-1"}, nobody_runs)
    services = {service.name: service for service in service_table(settings, {})}
    for name in ("gateway", "ingest-service"):
        environment = services[name].env
        assert environment["UPLOAD_STORE_URL"] == "file:///home%20of%20the%20stack/uploads"
    assert settings.uploads_folder == Path("/home of the stack/uploads")


def test_the_users_upload_store_wins_and_stays_while_a_service_uses_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    environ = {"UPLOAD_STORE_URL": "s3://films/uploads", "UPLOAD_S3_REGION": "eu-1"}
    settings = Settings.load(home, environ)
    settings.save(home)
    gateway = service_table(settings, environ)[-1]
    assert gateway.env["UPLOAD_STORE_URL"] == "s3://films/uploads"
    assert gateway.env["UPLOAD_S3_REGION"] == "eu-1"
    assert settings.uploads_folder is None

    remembered = Settings.load(home, {})
    remembered.choose({}, lambda name: name == "GATEWAY")
    assert remembered.upload_store_url == "s3://films/uploads"
    remembered.choose({}, nobody_runs)
    assert remembered.uploads_folder == home.uploads


def test_others_cannot_read_uploads_or_keys(open_folder: Path) -> None:
    home = Home(open_folder / "home")
    home.create()
    assert home.uploads.stat().st_mode & 0o777 == 0o700
    assert home.token_keys.stat().st_mode & 0o777 == 0o700


def test_reset_deletes_only_what_the_stack_made(open_folder: Path) -> None:
    home = Home(open_folder / "home")
    home.create()
    settings_with(free_ports()).save(home)
    (home.folder / "thesis.txt").write_text("precious")
    (home.uploads / "upload-1").write_text("title")
    (home.token_keys / "key.pem").write_text("secret")
    home.admin_told.touch()
    home.restore_unfinished.touch()
    home.empty()
    assert [path.name for path in home.folder.iterdir()] == ["thesis.txt"]
    (home.folder / "thesis.txt").unlink()
    home.create()
    home.empty()
    assert not home.folder.exists()


def test_the_home_can_be_chosen(tmp_path: Path) -> None:
    home = find_home(tmp_path, {"MOVIEMETRIC_HOME": str(tmp_path / "a place")})
    assert home.folder == tmp_path / "a place"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to care for other accounts")
def test_root_keeps_the_data_where_the_servers_accounts_can_go(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    assert not can_enter(server_account("postgres"), tmp_path)
    home = find_home(tmp_path, {})
    assert Path("/var/lib/moviemetric") in home.folder.parents
    assert find_home(tmp_path, {}).folder == home.folder
    assert find_home(tmp_path / "other", {}).folder != home.folder
    with pytest.raises(HomeError, match="MOVIEMETRIC_HOME"):
        Home(tmp_path / "home").create()
