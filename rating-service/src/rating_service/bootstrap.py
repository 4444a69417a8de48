"""The one place where the service is wired."""

import logging
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

from fastapi import APIRouter, FastAPI
from service_kit import Database, Periodic, Service

from rating_service import accounts_repository
from rating_service.accounts import Accounts
from rating_service.admins import FirstAdminError, ensure_admin
from rating_service.api import accounts as accounts_api
from rating_service.api import admin as admin_api
from rating_service.api import internal as internal_api
from rating_service.api import tokens as tokens_api
from rating_service.api.body_limit import BodyLimit
from rating_service.api.dependencies import Bearer
from rating_service.api.ratings import Ratings
from rating_service.passwords import Passwords
from rating_service.ratings.handlers import RatingHandlers
from rating_service.ratings.quality import QualityFormula
from rating_service.settings import Settings
from rating_service.signing_keys import SigningKeys
from rating_service.subscriptions import subscriptions

NAME: Final = "rating-service"
SCHEMA: Final = "rating"
PACKAGE: Final = "rating_service"
MAX_BODY: Final = 65_536

_log = logging.getLogger(__name__)


def bootstrap(settings: Settings) -> Service:
    """Everything that runs, made from the settings."""
    database = Database(
        settings.database_url,
        schema=SCHEMA,
        application_name=NAME,
        pool_size=settings.database_pool_size,
    )
    keys = SigningKeys(settings.token_keys_folder)
    passwords = Passwords(
        memory_kib=settings.password_memory_kib,
        time_cost=settings.password_time_cost,
        parallelism=settings.password_parallelism,
        threads=settings.password_threads,
        queue=settings.password_queue,
    )
    accounts = Accounts(
        database,
        passwords,
        keys,
        access_for=timedelta(seconds=settings.access_token_seconds),
        refresh_for=timedelta(days=settings.refresh_token_days),
        sessions=settings.sessions_per_user,
        source=NAME,
    )
    tokens = Bearer(keys)
    quality = QualityFormula(
        global_mean=settings.rating_global_mean,
        global_weight=settings.rating_global_weight,
        vote_cap=settings.rating_vote_cap,
    )
    router = APIRouter()
    for part in (
        tokens_api.router(accounts, keys),
        accounts_api.router(database, accounts, tokens),
        admin_api.router(database, accounts, tokens),
        internal_api.router(database),
        Ratings(database, authenticated=tokens, quality=quality).router(),
    ):
        router.include_router(part)
    return Service(
        name=NAME,
        settings=settings,
        database=database,
        subscriptions=subscriptions(RatingHandlers()),
        periodics=(
            Periodic(
                name="forget expired sessions", every=3600, run=_forget_expired_sessions(database)
            ),
        ),
        router=router,
        configure_app=_limit_bodies,
        health_checks={"signing-keys": keys.check},
        on_migrate=(keys.create_if_empty, _first_admin(settings, database, passwords)),
        on_close=(passwords.close,),
    )


def _limit_bodies(app: FastAPI) -> None:
    app.add_middleware(BodyLimit, limit=MAX_BODY)


def _first_admin(
    settings: Settings, database: Database, passwords: Passwords
) -> Callable[[], Awaitable[None]]:
    async def make() -> None:
        name, password = settings.first_admin_name, settings.first_admin_password
        if name is None or password is None:
            return
        try:
            await ensure_admin(database, passwords, name=name, password=password.get_secret_value())
        except FirstAdminError as error:
            sys.exit(f"{NAME}: {error}")

    return make


def _forget_expired_sessions(database: Database) -> Callable[[], Awaitable[None]]:
    async def forget() -> None:
        async with database.transaction() as connection:
            forgotten = await accounts_repository.forget_expired_sessions(connection)
        if forgotten:
            _log.info("forgot expired sessions", extra={"sessions": forgotten})

    return forget
