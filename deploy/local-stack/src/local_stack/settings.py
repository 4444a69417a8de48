"""Where the local stack keeps its things, and what it remembers between runs.

The home folder holds the servers' data, logs, pid files, and `env`: the ports, the random passwords
and the choices of the last start, as `KEY=value` lines that only its owner can read.
"""

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from local_stack.accounts import can_enter, private_file, private_folder, server_account
from local_stack.ports import free_port, is_free

PREFERRED_PORTS: Mapping[str, int] = {
    "GATEWAY": 8000,
    "INGEST": 8101,
    "RATING": 8102,
    "COMPUTE": 8103,
    "SEARCH": 8104,
    "TMDB_STANDIN": 8105,
    "SCHEDULER": 8106,
    "POSTGRES": 55432,
    "AMQP": 56720,
    "RABBITMQ_MANAGEMENT": 56721,
    "RABBITMQ_DISTRIBUTION": 56722,
    "EPMD": 56723,
    "REDIS": 56379,
}

# a stand-in accepts any key; this one says in its logs where a request came from
_STANDIN_KEY = "local-stack"
_DELETE_TRIES = 25
_REAL_TMDB = "https://api.themoviedb.org/3"
# Secrets that are for one of the services at most.
_NOT_FOR_SERVICES = frozenset(
    {
        *("ADMIN_NAME", "ADMIN_PASSWORD", "MOVIEMETRIC_API_KEY"),
        *("FIRST_ADMIN_NAME", "FIRST_ADMIN_PASSWORD", "TOKEN_KEYS_FOLDER"),
    }
)

# this file is <checkout>/deploy/local-stack/src/local_stack/settings.py
CHECKOUT = Path(__file__).resolve().parents[4]


class HomeError(Exception):
    """The home folder cannot be used; the message says why and what to do."""


class Home:
    """The folder of one local stack."""

    _PARTS = (
        *("env", "lock", "logs", "run", "postgresql", "rabbitmq", "redis", "uploads"),
        *("token-keys", "catalogue-loaded", "admin-told", "admin-token"),
        *("restore-unfinished", "exporting", "restoring"),
    )

    def __init__(self, folder: Path) -> None:
        """Name the folder; nothing is created."""
        self.folder = folder.absolute()
        self.env_file = self.folder / "env"
        self.lock_file = self.folder / "lock"
        self.logs = self.folder / "logs"
        self.run = self.folder / "run"
        self.uploads = self.folder / "uploads"
        self.token_keys = self.folder / "token-keys"
        self.catalogue_loaded = self.folder / "catalogue-loaded"
        self.admin_token = self.folder / "admin-token"
        self.admin_told = self.folder / "admin-told"
        self.restore_unfinished = self.folder / "restore-unfinished"
        self.exporting = self.folder / "exporting"
        self.restoring = self.folder / "restoring"

    @property
    def parts(self) -> list[Path]:
        """Everything that a local stack makes in its home."""
        return [self.folder / name for name in self._PARTS]

    def create(self) -> None:
        """Create the folder. Raises HomeError when it is not ours or cannot be entered."""
        for folder in (self.folder, self.logs, self.run):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        owner = self.folder.stat().st_uid
        if owner != os.geteuid():
            raise HomeError(
                f"{self.folder} belongs to the account with uid {owner}. Use that account, "
                "or set MOVIEMETRIC_HOME to another folder."
            )
        account = server_account("postgres")
        if account is not None and not can_enter(account, self.folder):
            raise HomeError(
                f"{self.folder} cannot be entered by the account {account.name}, which PostgreSQL "
                "runs as. Set MOVIEMETRIC_HOME to a folder that every account can enter."
            )
        private_folder(self.uploads, None)
        private_folder(self.token_keys, None)

    def empty(self) -> None:
        """Delete everything that a local stack makes, and nothing else that lies there."""
        for path in self.parts:
            if path.is_dir():
                _delete(path)
            else:
                path.unlink(missing_ok=True)
        if self.folder.exists() and not any(self.folder.iterdir()):
            self.folder.rmdir()


def _delete(folder: Path) -> None:
    # a program that was cut off may still be tidying up after itself in there
    for _ in range(_DELETE_TRIES - 1):
        try:
            shutil.rmtree(folder)
        except OSError:
            if not folder.exists():
                return
            time.sleep(0.2)
        else:
            return
    shutil.rmtree(folder)


def find_home(root: Path, environ: Mapping[str, str]) -> Home:
    """The home of the checkout at `root`.

    `MOVIEMETRIC_HOME` when it is set; else `.local` in the checkout; else, where the servers'
    accounts cannot enter the checkout, a folder under /var that is derived from its path.
    """
    chosen = environ.get("MOVIEMETRIC_HOME")
    if chosen:
        return Home(Path(chosen).expanduser())
    account = server_account("postgres")
    if (account is None and os.access(root, os.W_OK)) or (account and can_enter(account, root)):
        return Home(root / ".local")
    digest = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:12]
    base = "lib/moviemetric" if os.geteuid() == 0 else f"tmp/moviemetric-{os.geteuid()}"
    return Home(Path("/var") / base / digest)


@dataclass
class Settings:
    """Ports, passwords and choices of one local stack."""

    ports: dict[str, int]
    postgres_password: str
    rabbitmq_password: str
    admin_password: str
    """Of the first administrator, who may have changed it since."""
    tmdb_base_url: str
    tmdb_standin: bool
    search_backend: str
    own_uploads: Path
    """The folder for uploads in the stack's home."""
    token_keys: Path
    """The folder of the keys that rating-service signs access tokens with."""
    admin_name: str = "admin"
    upload_store_url: str = ""
    moved: dict[str, int] = field(default_factory=dict[str, int])
    """Ports that were taken by somebody else, with what they were."""

    @classmethod
    def load(cls, home: Home, environ: Mapping[str, str]) -> "Settings":
        """What was remembered, with defaults for the rest."""
        known = _read(home.env_file)
        settings = cls(
            ports={
                name: int(known.get(f"{name}_PORT", preferred))
                for name, preferred in PREFERRED_PORTS.items()
            },
            postgres_password=known.get("POSTGRES_PASSWORD") or secrets.token_hex(16),
            rabbitmq_password=known.get("RABBITMQ_PASSWORD") or secrets.token_hex(16),
            admin_password=known.get("ADMIN_PASSWORD") or secrets.token_hex(16),
            tmdb_base_url=known.get("TMDB_BASE_URL", ""),
            tmdb_standin=known.get("TMDB_STANDIN") != "no",
            search_backend=known.get("SEARCH_BACKEND", ""),
            own_uploads=home.uploads,
            token_keys=home.token_keys,
            admin_name=known.get("ADMIN_NAME") or "admin",
            upload_store_url=known.get("UPLOAD_STORE_URL", ""),
        )
        if not known:
            settings.choose(environ, lambda _: False)
        return settings

    def choose(self, environ: Mapping[str, str], ours: Callable[[str], bool]) -> None:
        """Settle for a start what depends on the machine and on the user's environment.

        A port that somebody else holds is replaced by a free one; `ours(name)` tells whether the
        program that has this port is running already.
        """
        taken = set(self.ports.values())
        for name, port in self.ports.items():
            if ours(name) or is_free(port):
                continue
            replacement = free_port()
            while replacement in taken:
                replacement = free_port()
            self.moved[name] = port
            self.ports[name] = replacement
        if not ours("INGEST"):
            standin = f"http://127.0.0.1:{self.ports['TMDB_STANDIN']}/3"
            elsewhere = environ.get("TMDB_BASE_URL")
            if elsewhere in {standin, self.tmdb_base_url} and self.tmdb_standin:
                elsewhere = None  # what `make env` printed, exported by the user's shell
            self.tmdb_standin = not elsewhere and not environ.get("TMDB_API_KEY")
            self.tmdb_base_url = elsewhere or (standin if self.tmdb_standin else _REAL_TMDB)
        if not ours("SEARCH"):
            self.search_backend = environ.get("SEARCH_BACKEND") or "postgres"
        # two services share the store: as long as one of them runs, it stays where it is
        if not self.upload_store_url or not (ours("INGEST") or ours("GATEWAY")):
            own = self.own_uploads.as_uri()
            self.upload_store_url = environ.get("UPLOAD_STORE_URL") or own

    def save(self, home: Home) -> None:
        """Remember everything."""
        lines = [f"{name}_PORT={port}" for name, port in self.ports.items()]
        lines += [
            f"POSTGRES_PASSWORD={self.postgres_password}",
            f"RABBITMQ_PASSWORD={self.rabbitmq_password}",
            *(f"{key}={value}" for key, value in self.administrator().items()),
            f"TMDB_BASE_URL={self.tmdb_base_url}",
            f"TMDB_STANDIN={'yes' if self.tmdb_standin else 'no'}",
            f"SEARCH_BACKEND={self.search_backend}",
            f"UPLOAD_STORE_URL={self.upload_store_url}",
        ]
        private_file(home.env_file, "\n".join(lines) + "\n", None)

    def http(self, name: str) -> str:
        """Base URL of the HTTP server that has this port."""
        return f"http://127.0.0.1:{self.ports[name]}"

    @property
    def uploads_folder(self) -> Path | None:
        """Where uploads are kept; None when that is no folder of this machine."""
        parts = urlsplit(self.upload_store_url)
        return Path(unquote(parts.path)) if parts.scheme == "file" else None

    def connections(self) -> dict[str, str]:
        """How to reach everything: what `make env` prints, and what the services are told."""
        ports = self.ports
        return {
            "GATEWAY_URL": self.http("GATEWAY"),
            "INGEST_URL": self.http("INGEST"),
            "RATING_URL": self.http("RATING"),
            "COMPUTE_URL": self.http("COMPUTE"),
            "SEARCH_URL": self.http("SEARCH"),
            "AMQP_URL": f"amqp://moviemetric:{self.rabbitmq_password}@127.0.0.1:{ports['AMQP']}/",
            "RABBITMQ_MANAGEMENT_URL": self.http("RABBITMQ_MANAGEMENT"),
            "RABBITMQ_USER": "moviemetric",
            "RABBITMQ_PASSWORD": self.rabbitmq_password,
            "DATABASE_URL": (
                f"postgresql://moviemetric:{self.postgres_password}"
                f"@127.0.0.1:{ports['POSTGRES']}/moviemetric"
            ),
            "REDIS_URL": f"redis://127.0.0.1:{ports['REDIS']}/0",
            "SEARCH_BACKEND": self.search_backend,
            "TMDB_BASE_URL": self.tmdb_base_url,
        }

    def administrator(self) -> dict[str, str]:
        """Who may do everything over HTTP: what `make env` prints and no service is told."""
        return {"ADMIN_NAME": self.admin_name, "ADMIN_PASSWORD": self.admin_password}

    def service_environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The user's environment with this stack's connections over it."""
        defaults = {"LOG_LEVEL": "INFO", "PYTHONUNBUFFERED": "1"}
        own = {
            "HTTP_HOST": "127.0.0.1",
            "TMDB_STANDIN_HOST": "127.0.0.1",
            "UPLOAD_STORE_URL": self.upload_store_url,
        }
        if self.tmdb_standin:
            own["TMDB_API_KEY"] = _STANDIN_KEY
            # TMDB's limit is not the stand-in's.
            defaults["TMDB_REQUESTS_PER_SECOND"] = "400"
        own["TMDB_STANDIN_PORT"] = str(self.ports["TMDB_STANDIN"])
        theirs = {key: value for key, value in environ.items() if key not in _NOT_FOR_SERVICES}
        return {**defaults, **theirs, **self.connections(), **own}


def _read(env_file: Path) -> dict[str, str]:
    try:
        lines = env_file.read_text().splitlines()
    except FileNotFoundError:
        return {}
    return dict(line.split("=", 1) for line in lines if "=" in line)
