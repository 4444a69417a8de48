"""What each event does to the ratings. Every handler takes a batch in a handful of statements.

All of them commute: of commands the newest by its own time counts, of versions of a film the one
with the highest revision, of claims of a key the best film's. So any order, repetition and division
of the same events leads to the same ratings. The runtime hands over only events that were never
seen before, and commits.

`movie.rated` and `movie.unrated` follow at once from a command that had an effect; of several in a
batch from the one that counts. `rating.aggregated` goes out once per film and batch when its
histogram has changed, but only while the film is in the catalogue, and when it comes there. When a
key's ratings become another film's, an aggregate without ratings goes out for the key.
"""

from collections.abc import Mapping, Sequence, Set
from typing import Any

from moviemetric_contracts import (
    Event,
    MovieRemoved,
    MovieUpserted,
    RateMovie,
    UnrateMovie,
)
from service_kit import Subscription, UnitOfWork
from service_kit.erasure import erased_among

from rating_service.ratings import repository
from rating_service.ratings.film_keys import film_of, is_better, may_claim
from rating_service.ratings.projection import (
    Aggregate,
    Command,
    RatingKey,
    Stored,
    command_of,
    newest,
)
from rating_service.ratings.repository import KeyState, Version

CatalogueEvent = Event[MovieUpserted] | Event[MovieRemoved]


class RatingHandlers:
    """The handlers of the ratings and of the films they are about."""

    def subscriptions(self) -> tuple[Subscription[Any], ...]:
        """Which queue brings which events to which handler."""
        return (
            Subscription(
                queue="rating-service.ratings",
                accepts=(RateMovie, UnrateMovie),
                handle=self.rate,
                batch_size=500,
            ),
            Subscription(
                queue="rating-service.catalogue",
                accepts=(MovieUpserted, MovieRemoved),
                handle=self.follow_catalogue,
                batch_size=500,
            ),
        )

    async def rate(
        self, events: Sequence[Event[RateMovie] | Event[UnrateMovie]], work: UnitOfWork
    ) -> None:
        """Films may be unknown: what is rated is kept and counted until they are known."""
        connection = work.connection
        erased = await erased_among(connection, {event.data.user_id for event in events})
        commands = [
            command_of(event, work.now) for event in events if event.data.user_id not in erased
        ]
        if not commands:
            return
        own_keys, films = await repository.lock_films(
            connection, {command.movie_id for command in commands}
        )
        last = newest(commands, own_keys)
        before = await repository.read_ratings(connection, last.keys())
        effective = {
            key: command
            for key, command in last.items()
            if (known := before.get(key)) is None or known.is_older_than(command.stored)
        }
        await repository.write_ratings(connection, effective)
        for key, command in effective.items():
            if (fact := command.fact(key[1], before.get(key))) is not None:
                work.emit(fact, cause=command.event)
        await self._correct_sums(effective, before, films, work)

    async def _correct_sums(
        self,
        effective: Mapping[RatingKey, Command],
        before: Mapping[RatingKey, Stored],
        films: Mapping[str, KeyState],
        work: UnitOfWork,
    ) -> None:
        changes = [
            (movie_id, old, command)
            for (user_id, movie_id), command in effective.items()
            if (old := _half_steps(before.get((user_id, movie_id)))) != command.stored.half_steps
        ]
        movie_ids = {movie_id for movie_id, _, _ in changes}
        if not movie_ids:
            return
        aggregates = await repository.read_aggregates(work.connection, movie_ids)
        histograms = {key: list(aggregate.histogram) for key, aggregate in aggregates.items()}
        causes: dict[str, Event[Any]] = {}
        for movie_id, old, command in changes:
            aggregate = aggregates.setdefault(movie_id, Aggregate(movie_id))
            aggregate.replace(old, command.stored.half_steps)
            causes[movie_id] = command.event
        changed = [
            aggregate
            for key, aggregate in aggregates.items()
            if aggregate.histogram != histograms.get(key)
        ]
        await repository.save_aggregates(work.connection, changed)
        for aggregate in changed:
            if films[aggregate.movie_id].present:
                work.emit(aggregate.fact(), cause=causes[aggregate.movie_id])

    async def follow_catalogue(self, events: Sequence[CatalogueEvent], work: UnitOfWork) -> None:
        """The newest version of each film decides; what is rated under its other keys is its own.

        A removed film keeps its ratings, so that one that comes back goes on where it was.
        """
        connection = work.connection
        versions = _newest_versions(events)
        claims = _best_claims(events)
        created = await repository.insert_movies(
            connection,
            [_version(event) for event in versions.values()],
            {alias: movie_id for alias, (movie_id, _) in claims.items()},
        )
        if len(created) == len(versions.keys() | claims.keys()):
            return
        # Nothing was rated under keys that nobody knew; but they may lead to films that are known.
        held = await repository.lock_chains(
            connection, (versions.keys() | claims.keys()) - created.keys()
        )
        newer = {
            key: event
            for key, event in versions.items()
            if key not in created and event.data.revision > held[key].revision
        }
        await repository.update_movies(connection, [_version(event) for event in newer.values()])
        claimed = {
            alias: movie_id
            for alias, (movie_id, _) in claims.items()
            if alias not in created and is_better(movie_id, held[alias].film)
        }
        await repository.claim_keys(connection, claimed)
        claimed_by = {key: state.film for key, state in (held | created).items()} | claimed
        returned = {
            key
            for key, event in newer.items()
            if isinstance(event.data, MovieUpserted) and not held[key].present
        }
        joined = {
            alias: film_of(alias, claimed_by) for alias in claimed if held[alias].film is None
        }
        if not joined and not returned:
            return
        present = {key for key, state in (held | created).items() if state.present}
        present = (present - newer.keys()) | {
            key for key, event in newer.items() if isinstance(event.data, MovieUpserted)
        }
        in_catalogue = {key for key in present if claimed_by[key] is None}
        causes = {
            **{film: claims[alias][1] for alias, film in joined.items()},
            **versions,
            **{alias: event for alias, (_, event) in claims.items()},
        }
        await self._join(joined, returned, in_catalogue, causes, work)

    async def _join(
        self,
        joined: Mapping[str, str],
        returned: Set[str],
        in_catalogue: Set[str],
        causes: Mapping[str, Event[Any]],
        work: UnitOfWork,
    ) -> None:
        """Ratings under the keys `joined` become their films'; sums that others miss go out."""
        connection = work.connection
        aggregates = await repository.read_aggregates(
            connection, joined.keys() | set(joined.values()) | returned
        )
        left = aggregates.keys() & joined.keys()
        counted = {key: Aggregate(key).histogram for key in left}
        moved_to = await repository.move_ratings(connection, joined)
        # Anew rather than by difference: which of the ratings were doubles, only the rows tell.
        counted |= await repository.count_ratings(connection, moved_to)
        changed: dict[str, Aggregate] = {}
        for key, histogram in counted.items():
            aggregate = aggregates.get(key) or Aggregate(key)
            if aggregate.histogram != histogram:
                aggregate.histogram = histogram
                changed[key] = aggregate
        aggregates |= changed
        await repository.save_aggregates(connection, changed.values())
        films = (changed.keys() | returned) & in_catalogue & aggregates.keys()
        for key in (*sorted(left), *sorted(films)):
            work.emit(aggregates[key].fact(), cause=causes[key])


def _half_steps(stored: Stored | None) -> int | None:
    return None if stored is None else stored.half_steps


def _newest_versions(events: Sequence[CatalogueEvent]) -> dict[str, CatalogueEvent]:
    newest_of: dict[str, CatalogueEvent] = {}
    for event in events:
        movie_id = _movie_id(event)
        known = newest_of.get(movie_id)
        if known is None or event.data.revision > known.data.revision:
            newest_of[movie_id] = event
    return newest_of


def _best_claims(events: Sequence[CatalogueEvent]) -> dict[str, tuple[str, CatalogueEvent]]:
    """By claimed key: the best film that claims it, and where it says so. Of all versions."""
    best: dict[str, tuple[str, CatalogueEvent]] = {}
    for event in events:
        if not isinstance(event.data, MovieUpserted):
            continue
        movie_id = event.data.movie.movie_id
        for alias in event.data.movie.aliases:
            known = best.get(alias)
            if may_claim(movie_id, alias) and is_better(movie_id, known[0] if known else None):
                best[alias] = (movie_id, event)
    return best


def _movie_id(event: CatalogueEvent) -> str:
    data = event.data
    return data.movie.movie_id if isinstance(data, MovieUpserted) else data.movie_id


def _version(event: CatalogueEvent) -> Version:
    return Version(
        movie_id=_movie_id(event),
        revision=event.data.revision,
        movie=event.data.movie if isinstance(event.data, MovieUpserted) else None,
    )
