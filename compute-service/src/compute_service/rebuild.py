"""Computes all trends again from their inputs: activity and aggregates of ratings, each under the
key with which it came, films, and the keys that they claim.

The result equals what the events built up one by one, to within floating point. It is needed when
the formula changes, because sums that were made with different half-lives or weights cannot be
compared; the service does it by itself when it starts with another formula than the stored trends
were made with. While it runs, other changes wait; it is one transaction, so readers see either
the old or the new.
"""

import logging
from typing import Final

from service_kit import Database
from sqlalchemy.ext.asyncio import AsyncConnection

from compute_service import repository
from compute_service.aliases import films_by_key
from compute_service.projection import TrendState, settle
from compute_service.trend import Kind, TrendFormula, forward_seconds

log = logging.getLogger(__name__)

_CHUNK: Final = 1000


async def rebuild(connection: AsyncConnection, formula: TrendFormula) -> int:
    """Recompute and store every trend; answers how many. Memory grows with the number of films."""
    await repository.stop_changes(connection)
    states = {
        movie_id: TrendState(movie_id) for movie_id in await repository.all_trend_keys(connection)
    }
    async for piece in repository.stream_activity(connection):
        seconds: dict[tuple[str, Kind], list[float]] = {}
        for movie_id, kind, moment in piece:
            seconds.setdefault((movie_id, kind), []).append(forward_seconds(moment))
        for (movie_id, kind), moments in seconds.items():
            states[movie_id].add(formula, kind, moments)
    claims = await repository.all_claims(connection)
    claimed = sorted({key for claim in claims for key in (claim.alias, claim.movie_id)})
    alone = set(states).difference(claimed)
    keys = list(states)
    for start in range(0, len(keys), _CHUNK):
        chunk = keys[start : start + _CHUNK]
        stored = await repository.read_trends(connection, chunk)
        films = await repository.films_in_catalogue(connection, chunk)
        for movie_id in chunk:
            state = states[movie_id]
            state.ratings = stored[movie_id].ratings
            state.ratings_revision = stored[movie_id].ratings_revision
            state.register(formula, films.get(movie_id))
        await repository.save_locked(connection, [states[key] for key in chunk if key in alone])
    films = await repository.films_in_catalogue(connection, claimed)
    settle(formula, states, films_by_key(claims, films), films)
    for start in range(0, len(claimed), _CHUNK):
        chunk = claimed[start : start + _CHUNK]
        await repository.save_locked(connection, [states[key] for key in chunk])
    return len(keys)


class FormulaKeeper:
    """Sees to it that all stored trends are made with the formula that this process uses."""

    def __init__(self, database: Database, formula: TrendFormula) -> None:
        self._database = database
        self._formula = formula
        self._done = False

    async def apply_once(self) -> None:
        """Rebuild if the stored trends are of another formula. Does nothing after a success.

        Only once in a process, so that during a rolling update the old replicas do not undo what
        the new ones did.
        """
        if self._done:
            return
        fingerprint = self._formula.fingerprint()
        async with self._database.transaction() as connection:
            applied = await repository.applied_formula(connection)
            if applied != fingerprint:
                films = await rebuild(connection, self._formula)
                await repository.record_applied_formula(connection, fingerprint)
                log.info("trends rebuilt for a changed formula", extra={"films": films})
        self._done = True
