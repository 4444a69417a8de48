"""Makes a local stack from a dump.

    check the whole file ─► refuse what is newer than this code, or a stack that holds data
      ─► mark the stack as unfinished ─► database ─► migrations ─► uploads ─► messages
      ─► take the mark away ─► start the services

As long as the mark is there, no service starts: a stack that was restored in part never looks
whole. What lies elsewhere is made anew: Redis is a cache and begins empty; an index in Meilisearch
is deleted, and search-indexer fills the one that it creates in its place.

Accounts are the dump's, with their passwords. The keys that access tokens are signed with are no
part of it: a stack keeps its own, so tokens that were given out before have to be refreshed.
"""

import shutil
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from alembic.script import ScriptDirectory

from local_stack.accounts import private_folder
from local_stack.dump import archive, database, messages
from local_stack.dump.archive import Manifest
from local_stack.dump.errors import DumpError, server_errors
from local_stack.dump.exporting import store_base
from local_stack.dump.search_index import delete_index
from local_stack.services import Service
from local_stack.settings import Home, Settings
from local_stack.stack import Servers, Stack, UnfinishedRestoreError

_SEARCH: Final = "search-indexer"


def import_dump(
    stack: Stack, file: Path, *, force: bool = False, say: Callable[[str], None]
) -> Manifest:
    """Restore a dump and start the stack.

    With `force`, a stack that holds data is deleted first. Raises DumpError; UpError or StartError
    when a program does not start or fails; UnfinishedRestoreError without `force` after an earlier
    attempt that was cut off.
    """
    home = stack.home
    file = file.absolute()
    if any(part in file.parents for part in home.parts):
        raise DumpError(f"{file} lies within the stack's own data; move it elsewhere first")
    say(f"checking {file}")
    manifest = archive.read(file)
    settings = Settings.load(home, {})
    _refuse_newer(manifest, stack, settings)
    if force and home.folder.exists():
        say(f"deleting all data under {home.folder}, as FORCE=1 asks")
        stack.reset()
    home.create()
    with stack.locked(), server_errors():
        if home.restore_unfinished.exists():
            raise UnfinishedRestoreError
        administrator = settings.admin_name, settings.admin_password
        settings = stack.choose_settings()
        # Often the dump is of this very stack, where this is the password.
        settings.admin_name, settings.admin_password = administrator
        settings.save(home)
        started_servers = stack.start_servers(settings)
        servers = stack.servers(settings)
        try:
            _refuse_data(stack.home, servers, settings, manifest)
        except DumpError:
            if started_servers:
                stack.stop_servers(settings)
            raise
        stack.stop_services()
        home.admin_token.unlink(missing_ok=True)
        home.restore_unfinished.touch()
        private_folder(home.restoring, None)
        try:
            _restore(stack, servers, settings, file, say)
        except BaseException:
            say(str(UnfinishedRestoreError()))
            raise
        finally:
            shutil.rmtree(home.restoring, ignore_errors=True)
        home.catalogue_loaded.touch()
        home.restore_unfinished.unlink()
        stack.start_services(stack.services(settings))
    return manifest


def _restore(
    stack: Stack,
    servers: Servers,
    settings: Settings,
    file: Path,
    say: Callable[[str], None],
) -> None:
    folder = stack.home.restoring
    say("restoring the database")
    manifest = archive.read(file, folder)
    servers.postgres.restore(folder / archive.DATABASE)
    _compare(manifest.schemas, database.describe(servers.postgres))
    services = stack.services(settings)
    say("bringing the schemas up to date")
    stack.migrate(services)
    renamed = (manifest.upload_store_url, store_base(settings.upload_store_url))
    database.move_uploads(servers.postgres, *renamed)
    for name in manifest.uploads:
        target = _uploads_folder(settings)
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.move(folder / archive.UPLOADS / name, target / name)
    if manifest.messages:
        say(f"putting {sum(manifest.messages.values())} messages into their queues")
        for queue in messages.publish_messages(servers.rabbit, folder / archive.MESSAGES, renamed):
            say(f"no service reads {queue} any more; its messages are kept in it")
    servers.redis.flush(0)
    for service in services:
        if service.service.name == _SEARCH and settings.search_backend == "meilisearch":
            say("deleting the search index, which is then made anew")
            delete_index(service.service.env)


def _refuse_newer(manifest: Manifest, stack: Stack, settings: Settings) -> None:
    owners = {
        process.service.schema: process.service
        for process in stack.services(settings)
        if process.service.schema is not None
    }
    for name, schema in manifest.schemas.items():
        if schema.revision is None:
            continue
        owner = owners.get(name)
        if owner is None or schema.revision not in _revisions(owner):
            raise DumpError(
                f"the dump is newer than this code, which does not know revision "
                f"{schema.revision} of the schema {name}. Update the checkout. Nothing was done."
            )


def _revisions(service: Service) -> set[str]:
    spec = find_spec(service.module) if service.module is not None else None
    if spec is None or not spec.submodule_search_locations:
        raise DumpError(f"the package {service.module} is not installed; run `make bootstrap`")
    folder = Path(spec.submodule_search_locations[0]) / "migrations"
    return {script.revision for script in ScriptDirectory(str(folder)).walk_revisions()}


def _refuse_data(home: Home, servers: Servers, settings: Settings, manifest: Manifest) -> None:
    if servers.postgres.major < manifest.postgresql:
        raise DumpError(
            f"the dump is of PostgreSQL {manifest.postgresql}, and {servers.postgres.major} is "
            "installed, which cannot read it. Install the newer one. Nothing was done."
        )
    if manifest.uploads and settings.uploads_folder is None:
        raise DumpError(
            f"the dump holds {len(manifest.uploads)} uploads, and UPLOAD_STORE_URL is no folder "
            "(file:///…) that they could be put into. Unset it. Nothing was done."
        )
    present: list[str] = []
    if database.holds_data(database.describe(servers.postgres).values()):
        present.append("data in the database")
    if any(messages.depths(servers.rabbit).values()):
        present.append("messages in queues")
    if any(home.uploads.iterdir()):
        present.append("uploads")
    if present:
        raise DumpError(
            f"this stack has {' and '.join(present)}. A dump is restored into an empty stack: "
            "FORCE=1 deletes what is there first. Nothing was done."
        )


def _uploads_folder(settings: Settings) -> Path:
    if settings.uploads_folder is None:
        raise AssertionError("checked before anything was restored")
    return settings.uploads_folder


def _compare(
    expected: Mapping[str, archive.Schema], restored: Mapping[str, archive.Schema]
) -> None:
    for name, schema in expected.items():
        if restored.get(name) != schema:
            raise DumpError(
                f"the schema {name} is not what the dump says: expected {schema}, "
                f"got {restored.get(name)}"
            )
