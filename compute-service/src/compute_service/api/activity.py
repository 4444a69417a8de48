"""What is kept of a user."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query
from moviemetric_contracts import ActorId
from pydantic import BaseModel
from service_kit import Database

from compute_service import repository
from compute_service.api.common import refuse
from compute_service.repository import ActivityPlace
from compute_service.trend import Kind

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PLACE: Final = re.compile(r"(-?[0-9]{1,18})\.([0-9]{1,9})\.([0-9]{1,4})")
_NO_PAGE: Final = "expected what `next` of the page before says"


class ActivityItem(BaseModel):
    """Something that a user did: looked at a film, or rated it."""

    movie_id: str
    kind: Kind
    occurred_at: datetime
    session_id: str | None


class ActivityPage(BaseModel):
    """What a user did, oldest first; `next` is the `after` of the next page, None at the end."""

    items: list[ActivityItem]
    next: str | None


def activity_routes(database: Database) -> APIRouter:
    """`GET /users/{user_id}/activity`."""
    router = APIRouter()

    # Producers choose the ids of their users, and may have put slashes into them.
    @router.get("/users/{user_id:path}/activity")
    async def activity(
        user_id: Annotated[ActorId, Path()],
        limit: Annotated[int, Query(ge=1, le=5000)] = 1000,
        after: Annotated[str | None, Query(description="`next` of the page before")] = None,
    ) -> ActivityPage:
        """Everything that this service holds of a user."""
        place = None if after is None else _place(after)
        async with database.reading() as connection:
            found = await repository.activity_of(connection, user_id, after=place, limit=limit + 1)
        items = [
            ActivityItem(
                movie_id=done.movie_id,
                kind=done.kind,
                occurred_at=done.at.occurred_at,
                session_id=done.session_id,
            )
            for done in found[:limit]
        ]
        more = len(found) > limit
        return ActivityPage(items=items, next=_next(found[limit - 1].at) if more else None)

    return router


def _next(place: ActivityPlace) -> str:
    microseconds = (place.occurred_at - _EPOCH) // timedelta(microseconds=1)
    return f"{microseconds}.{place.place[1:-1].replace(',', '.')}"


def _place(after: str) -> ActivityPlace:
    found = _PLACE.fullmatch(after)
    if found is None:
        refuse("after", _NO_PAGE)
    try:
        moment = _EPOCH + timedelta(microseconds=int(found[1]))
    except OverflowError:
        refuse("after", _NO_PAGE)
    return ActivityPlace(moment, f"({found[2]},{found[3]})")
