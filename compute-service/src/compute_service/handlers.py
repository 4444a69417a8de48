"""What each event does to the trends. Every handler takes a whole batch in a handful of statements.

All of them commute: impulses are added up, versions of a film and aggregates of its ratings are
compared by revision. The runtime hands over only events that were never seen before, and commits.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from moviemetric_contracts import (
    Event,
    Movie,
    MovieRated,
    MovieRemoved,
    MovieUpserted,
    MovieViewed,
    RatingAggregated,
)
from service_kit import Park, UnitOfWork

from compute_service import repository
from compute_service.repository import Impulse, Removal
from compute_service.trend import MAX_AHEAD, Kind, Ratings, TrendFormula, clamp, forward_seconds

V = TypeVar("V")


class TrendHandlers:
    """The handlers of all subscriptions, for one formula."""

    def __init__(self, formula: TrendFormula) -> None:
        self._formula = formula

    async def count_views(self, events: Sequence[Event[MovieViewed]], work: UnitOfWork) -> None:
        """Each view is counted and adds to the film's activity, in the catalogue or not."""
        impulses = [
            Impulse(
                event.data.movie_id,
                Kind.VIEW,
                clamp(event.data.viewed_at, work.now),
                event.data.user_id,
                event.data.session_id,
            )
            for event in events
        ]
        await self._add_impulses(impulses, work)

    async def follow_catalogue(
        self, events: Sequence[Event[MovieUpserted] | Event[MovieRemoved]], work: UnitOfWork
    ) -> None:
        """The newest version of each film decides; a removed film leaves the charts.

        What was counted stays: a film that comes back goes on where it was.
        """
        versions = _newest(
            [_version(event.data) for event in events], revision=lambda version: version[0]
        )
        states = await repository.lock_trends(work.connection, list(versions))
        changed = await repository.write_newer_movies(
            work.connection, versions, latest=work.now + MAX_AHEAD
        )
        if not changed:
            return
        films = await repository.films_in_catalogue(work.connection, changed)
        for movie_id in changed:
            states[movie_id].register(self._formula, films.get(movie_id))
        await repository.save_locked(work.connection, [states[movie_id] for movie_id in changed])

    async def follow_ratings(self, events: Sequence[Event[Any]], work: UnitOfWork) -> None:
        """A rating is activity; the aggregate of a film's ratings is a part of its quality.

        A rating that was taken back changes the aggregate only: somebody did deal with the film.
        """
        impulses: list[Impulse] = []
        aggregates: list[tuple[str, RatingAggregated]] = []
        for event in events:
            match event.data:
                case MovieRated() as rated:
                    moment = clamp(rated.rating.rated_at, work.now)
                    impulses.append(Impulse(rated.movie_id, Kind.RATING, moment, rated.user_id))
                case RatingAggregated() as aggregated:
                    aggregates.append((aggregated.movie_id, aggregated))
                case _:
                    pass
        newest = _newest(aggregates, revision=lambda aggregated: aggregated.revision)
        await self._add_impulses(impulses, work, newest)

    async def _add_impulses(
        self,
        impulses: Sequence[Impulse],
        work: UnitOfWork,
        aggregates: dict[str, RatingAggregated] | None = None,
    ) -> None:
        aggregates = aggregates or {}
        if not impulses and not aggregates:
            return
        seconds: dict[tuple[str, Kind], list[float]] = {}
        for impulse in impulses:
            seconds.setdefault((impulse.movie_id, impulse.kind), []).append(
                forward_seconds(impulse.occurred_at)
            )
        if impulses:
            await repository.append_activity(work.connection, impulses)
        touched = {movie_id for movie_id, _ in seconds} | aggregates.keys()
        states = await repository.lock_trends(work.connection, list(touched))
        for (movie_id, kind), moments in seconds.items():
            states[movie_id].add(self._formula, kind, moments)
        if aggregates:
            films = await repository.films_in_catalogue(work.connection, list(aggregates))
            for movie_id, aggregated in aggregates.items():
                states[movie_id].aggregate(
                    self._formula, _ratings(aggregated), aggregated.revision, films.get(movie_id)
                )
        await repository.save_locked(work.connection, list(states.values()))


def _version(data: MovieUpserted | MovieRemoved) -> tuple[str, tuple[int, Movie | Removal]]:
    match data:
        case MovieUpserted(movie=movie, revision=revision):
            return movie.movie_id, (revision, movie)
        case MovieRemoved(movie_id=movie_id, revision=revision):
            return movie_id, (revision, Removal(movie_id))


def _newest(versions: Sequence[tuple[str, V]], *, revision: Callable[[V], int]) -> dict[str, V]:
    newest: dict[str, V] = {}
    for movie_id, version in versions:
        known = newest.get(movie_id)
        if known is None or revision(version) > revision(known):
            newest[movie_id] = version
    return newest


def _ratings(aggregated: RatingAggregated) -> Ratings:
    """The exact sum of the scores, out of the histogram rather than the rounded mean.

    Raises:
        Park: the histogram does not count what `count` says.
    """
    counted = sum(aggregated.histogram)
    if counted != aggregated.count:
        reason = (
            f"rating.aggregated of {aggregated.movie_id}: count is {aggregated.count}, "
            f"but the histogram has {counted} ratings"
        )
        raise Park(reason)
    total = sum(count * (step + 1) / 2 for step, count in enumerate(aggregated.histogram))
    return Ratings(count=counted, total=total)
