"""Accounts: signing up, one's own profile, password, export and erasure; public profiles."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response
from pydantic import BaseModel
from service_kit import Database, FieldProblem, ProblemError
from service_kit.tokens import AccessToken, Role
from sqlalchemy.ext.asyncio import AsyncConnection

from rating_service import accounts_repository as repository
from rating_service import api_keys, audit
from rating_service.accounts import Accounts, NoSuchAccountError
from rating_service.accounts_repository import Account
from rating_service.api.dependencies import (
    INVALID,
    UNAUTHORIZED,
    UNAVAILABLE,
    Bearer,
    problems,
    unauthorized,
)
from rating_service.api.fields import Body, CurrentPassword, NewPassword, WrittenName
from rating_service.api_keys import Scope
from rating_service.names import UserName
from rating_service.ratings.reads import ratings_of, summary_of


class SignUpBody(Body):
    """Who wants to be a user."""

    name: WrittenName
    password: NewPassword


class ErasureBody(Body):
    """Confirms that it is the user who wants to be erased."""

    password: CurrentPassword


class PasswordBody(Body):
    """The password that is to be replaced, and the new one."""

    current_password: CurrentPassword
    new_password: NewPassword


class NewUser(BaseModel):
    """A user who has just signed up."""

    name: str
    created_at: datetime


class RatingsMean(BaseModel):
    """How many films a user has rated, and how on average."""

    count: int
    mean: float | None


class RatingsSummary(RatingsMean):
    """`histogram` counts the user's ratings by score, "0.5" to "10.0"."""

    histogram: dict[str, int]


class OwnProfile(BaseModel):
    """What a user sees of themselves."""

    name: str
    role: Role
    created_at: datetime
    ratings: RatingsMean


class PublicProfile(BaseModel):
    """What everybody sees of a user."""

    name: str
    created_at: datetime
    ratings: RatingsSummary


class ErasureAnswer(BaseModel):
    """The account is gone; the event tells the other services to forget the user, too."""

    event_id: str
    status_url: str


class ExportedAccount(BaseModel):
    """The account itself."""

    user_id: str
    name: str
    role: Role
    created_at: datetime
    password_changed_at: datetime


class ExportedSession(BaseModel, from_attributes=True):
    """Somewhere the user is signed in."""

    created_at: datetime
    last_used_at: datetime
    expires_at: datetime


class ExportedKey(BaseModel, from_attributes=True):
    """An API key that the user made."""

    key_id: str
    name: str
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class ExportedAction(BaseModel, from_attributes=True):
    """Something that the user did as an administrator."""

    action: str
    acted_at: datetime
    address: str | None


class ExportedRating(BaseModel):
    """A rating; `title` is None while the film is not in the catalogue."""

    movie_id: str
    title: str | None
    score: float
    review: str | None
    rated_at: datetime


class Export(BaseModel):
    """Everything that this service holds of a user."""

    account: ExportedAccount
    sessions: list[ExportedSession]
    ratings: list[ExportedRating]
    api_keys: list[ExportedKey]
    audit: list[ExportedAction]
    as_of: datetime


_REFUSED = {**UNAUTHORIZED, **INVALID, **UNAVAILABLE, **problems(s413="The body is too large.")}
_CONFIRMED = {**_REFUSED, **problems(s403="The password is wrong.")}
_LAST_ADMIN = problems(s409="The last administrator cannot leave.")
_NO_STORE = "no-store"


def status_url(event_id: str) -> str:
    """Where the gateway tells which services an event has reached."""
    return f"/api/v1/events/{event_id}"


def router(database: Database, accounts: Accounts, tokens: Bearer) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["accounts"])

    @routes.post(
        "/users",
        status_code=201,
        summary="Sign up",
        responses={**_REFUSED, **problems(s409="The name is taken.")},
    )
    async def sign_up(body: SignUpBody) -> NewUser:
        name = UserName.parse(body.name)
        async with _field("password"):
            created_at = await accounts.sign_up(name, body.password.get_secret_value())
        return NewUser(name=name.shown, created_at=created_at)

    @routes.get("/users/me", summary="Own profile", responses={**UNAUTHORIZED, **UNAVAILABLE})
    async def own_profile(
        token: Annotated[AccessToken, Depends(tokens)], response: Response
    ) -> OwnProfile:
        response.headers["Cache-Control"] = _NO_STORE
        async with database.reading() as connection:
            account = await repository.find_by_id(connection, token.user_id)
            if account is None:
                raise gone()
            summary = await summary_of(connection, account.user_id)
        return OwnProfile(
            name=account.name.shown,
            role=account.role,
            created_at=account.created_at,
            ratings=RatingsMean.model_validate(summary),
        )

    @routes.delete(
        "/users/me",
        status_code=202,
        summary="Erase the own account",
        responses={**_CONFIRMED, **_LAST_ADMIN},
    )
    async def leave(
        token: Annotated[AccessToken, Depends(tokens)], body: ErasureBody
    ) -> ErasureAnswer:
        async with _of_somebody():
            event_id = await accounts.leave(token.user_id, body.password.get_secret_value())
        return ErasureAnswer(event_id=event_id, status_url=status_url(event_id))

    @routes.put(
        "/users/me/password",
        status_code=204,
        summary="Change the password",
        description="Signs the user out everywhere.",
        responses=_CONFIRMED,
    )
    async def change_password(
        token: Annotated[AccessToken, Depends(tokens)], body: PasswordBody
    ) -> None:
        async with _of_somebody(), _field("new_password"):
            await accounts.change_password(
                token.user_id,
                current=body.current_password.get_secret_value(),
                new=body.new_password.get_secret_value(),
            )

    @routes.get(
        "/users/me/export",
        summary="Everything this service holds of the user",
        responses={**UNAUTHORIZED, **UNAVAILABLE},
    )
    async def export(token: Annotated[AccessToken, Depends(tokens)], response: Response) -> Export:
        response.headers["Cache-Control"] = _NO_STORE
        async with database.reading() as connection:
            account = await repository.find_by_id(connection, token.user_id)
            if account is None:
                raise gone()
            sessions = await repository.sessions_of(connection, account.user_id)
            ratings = await ratings_of(connection, account.user_id)
            keys = await api_keys.made_by(connection, account.user_id)
            actions = await audit.records_of(connection, account.user_id)
        return Export(
            account=ExportedAccount(
                user_id=account.user_id,
                name=account.name.shown,
                role=account.role,
                created_at=account.created_at,
                password_changed_at=account.password_changed_at,
            ),
            sessions=[ExportedSession.model_validate(session) for session in sessions],
            ratings=[ExportedRating.model_validate(rating) for rating in ratings],
            api_keys=[ExportedKey.model_validate(key) for key in keys],
            audit=[ExportedAction.model_validate(action) for action in actions],
            as_of=datetime.now(UTC),
        )

    @routes.get(
        "/users/{name}",
        summary="Public profile",
        responses={**problems(s404="There is no such user."), **UNAVAILABLE},
    )
    async def public_profile(name: Annotated[str, Path()]) -> PublicProfile:
        async with database.reading() as connection:
            account = await find_named(connection, name)
            summary = await summary_of(connection, account.user_id)
        return PublicProfile(
            name=account.name.shown,
            created_at=account.created_at,
            ratings=RatingsSummary.model_validate(summary),
        )

    # FastAPI refers to them; nothing else does.
    _ = (sign_up, own_profile, leave, change_password, export, public_profile)
    return routes


def gone() -> ProblemError:
    """The 401 for a token that outlived its user."""
    return unauthorized("the user that the token names does not exist any more")


async def find_named(connection: AsyncConnection, written: str) -> Account:
    """The user with a name from a path.

    Raises:
        ProblemError: 404, also for what could be no name.
    """
    try:
        name = UserName.parse(written)
    except ValueError:
        account = None
    else:
        account = await repository.find_by_name(connection, name)
    if account is None:
        raise ProblemError(404, "Unknown user", "There is no user with this name.")
    return account


@asynccontextmanager
async def _of_somebody() -> AsyncGenerator[None]:
    try:
        yield
    except NoSuchAccountError:
        raise gone() from None


@asynccontextmanager
async def _field(name: str) -> AsyncGenerator[None]:
    try:
        yield
    except ValueError as error:
        wrong: FieldProblem = {"field": name, "message": str(error)}
        detail = f"{name}: {error}"
        raise ProblemError(422, "Invalid request", detail, errors=[wrong]) from None
