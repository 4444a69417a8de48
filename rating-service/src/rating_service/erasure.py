"""Forgetting a user: account, sessions, ratings and reviews go; what others need stays nameless.

One function for those who leave, for administrators who erase them, and for `user.erased` events
that name users without an account. Doing it again changes nothing.
"""

from collections.abc import Sequence

from moviemetric_contracts import Event, UserErased
from service_kit import UnitOfWork
from service_kit.erasure import remember_erased

from rating_service import accounts_repository, api_keys, audit
from rating_service.admins import require_another_admin
from rating_service.ratings.erasure import erase_ratings


async def erase_users(
    work: UnitOfWork, user_ids: Sequence[str], *, keep_an_admin: bool = False
) -> None:
    """Forget the users; their later ratings have no effect.

    Raises:
        LastAdminError: with `keep_an_admin`, where nobody would be an administrator any more.
    """
    connection = work.connection
    await remember_erased(connection, user_ids)
    if keep_an_admin:
        for user_id in user_ids:
            await require_another_admin(connection, user_id, "erased")
    # Held before the rest, so that nobody goes on making what refers to them.
    await accounts_repository.lock_users(connection, user_ids)
    for user_id in sorted(set(user_ids)):
        await erase_ratings(work, user_id)
    await api_keys.revoke_admin_keys(connection, user_ids)
    await api_keys.forget_makers(connection, user_ids)
    await audit.forget_actors(connection, user_ids)
    await accounts_repository.delete_users(connection, user_ids)


async def follow_erasures(events: Sequence[Event[UserErased]], work: UnitOfWork) -> None:
    """Forget whom the events name."""
    await erase_users(work, sorted({event.data.user_id for event in events}))
