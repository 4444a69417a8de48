"""What administrators did: records of `admin.acted`, readable by administrators.

A record outlives its actor: of one who was erased it says `erased`, and not from where they acted.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from moviemetric_contracts import AdminActed, Event
from service_kit import UnitOfWork
from service_kit.erasure import erased_among
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from rating_service.accounts_repository import ERASED

_ADD: Final = text("""
    INSERT INTO audit (event_id, actor, action, acted_at, address)
    SELECT * FROM unnest(
        CAST(:event_ids AS text[]), CAST(:actors AS text[]), CAST(:actions AS text[]),
        CAST(:moments AS timestamptz[]), CAST(:addresses AS text[])) AS new (event_id)
    ORDER BY event_id
    ON CONFLICT DO NOTHING
""")
# An actor is asked for by name, or as stored.
_SELECTED: Final = """
    FROM audit LEFT JOIN users ON users.user_id = actor
    WHERE CAST(:actor AS text) IS NULL OR actor = :actor
        OR actor = (SELECT user_id FROM users WHERE name_key = :name_key)
"""
_LIST: Final = text(f"""
    SELECT COALESCE(users.name, actor) AS actor, action, acted_at, address {_SELECTED}
    ORDER BY acted_at DESC, event_id LIMIT :limit OFFSET :offset
""")
_COUNT: Final = text(f"SELECT count(*) {_SELECTED}")
_OF: Final = text("""
    SELECT actor, action, acted_at, address FROM audit
    WHERE actor = :user_id ORDER BY acted_at, event_id
""")
_FORGET_ACTORS: Final = text("""
    UPDATE audit SET actor = :erased, address = NULL
    WHERE actor = ANY(CAST(:user_ids AS text[]))
""")


@dataclass(frozen=True, slots=True)
class Record:
    """Somebody did something; `actor` is a name, `key:<key id>` or `erased`."""

    actor: str
    action: str
    acted_at: datetime
    address: str | None


async def record_actions(events: Sequence[Event[AdminActed]], work: UnitOfWork) -> None:
    """Keep a record of each."""
    actions = {event.id: event.data for event in events}
    erased = await erased_among(work.connection, {action.actor for action in actions.values()})
    rows = [
        (event_id, ERASED, action.action, action.acted_at, None)
        if action.actor in erased
        else (event_id, action.actor, action.action, action.acted_at, action.address)
        for event_id, action in actions.items()
    ]
    event_ids, actors, descriptions, moments, addresses = map(list, zip(*rows, strict=True))
    await work.connection.execute(
        _ADD,
        {
            "event_ids": event_ids,
            "actors": actors,
            "actions": descriptions,
            "moments": moments,
            "addresses": addresses,
        },
    )


async def list_records(
    connection: AsyncConnection,
    *,
    actor: str | None,
    name_key: str | None,
    limit: int,
    offset: int,
) -> tuple[list[Record], int]:
    """A page of the records, newest first, and how many there are.

    Args:
        actor: only theirs, as stored; or those of the user with `name_key`.
    """
    wanted = {"actor": actor, "name_key": name_key}
    rows = await connection.execute(_LIST, {**wanted, "limit": limit, "offset": offset})
    total = (await connection.execute(_COUNT, wanted)).scalar_one()
    return [Record(**row) for row in rows.mappings()], total


async def records_of(connection: AsyncConnection, user_id: str) -> Sequence[Record]:
    """What a user did as an administrator, oldest first."""
    rows = await connection.execute(_OF, {"user_id": user_id})
    return [Record(**row) for row in rows.mappings()]


async def forget_actors(connection: AsyncConnection, user_ids: Collection[str]) -> None:
    """The records stay, but do not say any more who acted."""
    await connection.execute(_FORGET_ACTORS, {"erased": ERASED, "user_ids": list(user_ids)})
