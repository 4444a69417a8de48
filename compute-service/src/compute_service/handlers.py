"""What each event does to the trends. Every handler takes a whole batch in a handful of statements.

All of them commute: impulses are added up, versions of a film and aggregates of its ratings are
compared by revision, and to which film a key belongs follows from the versions that are stored.
The runtime hands over only events that were never seen before, and commits.

A user who asked to be forgotten has done what they did before, but nobody can tell any more that
it was they; what comes of theirs afterwards has no effect.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

from moviemetric_contracts import (
    CancelJob,
    Event,
    Movie,
    MovieRated,
    MovieRemoved,
    MovieUnrated,
    MovieUpserted,
    MovieViewed,
    RatingAggregated,
    RunCompute,
    UserErased,
)
from service_kit import Park, UnitOfWork
from service_kit.erasure import erased_among, remember_erased
from service_kit.jobs import enqueue, request_cancel

from compute_service import repository
from compute_service.aliases import Claim, films_by_key
from compute_service.artifacts import KIND
from compute_service.facets import Facets
from compute_service.projection import TrendState, settle
from compute_service.recommendation import inputs
from compute_service.recommendation.inputs import UserRating
from compute_service.repository import Impulse, Version
from compute_service.trend import Film, Kind, Ratings, TrendFormula, clamp, forward_seconds


class _Revised(Protocol):
    @property
    def revision(self) -> int: ...


R = TypeVar("R", bound=_Revised)


class TrendHandlers:
    """The handlers of all subscriptions, for one formula."""

    def __init__(self, formula: TrendFormula) -> None:
        self._formula = formula

    async def count_views(self, events: Sequence[Event[MovieViewed]], work: UnitOfWork) -> None:
        """Each view is counted and adds to the film's activity, in the catalogue or not."""
        erased = await _erased((event.data.user_id for event in events), work)
        impulses = [
            Impulse(
                event.data.movie_id,
                Kind.VIEW,
                clamp(event.data.viewed_at, work.now),
                event.data.user_id,
                event.data.session_id,
            )
            for event in events
            if event.data.user_id not in erased
        ]
        await self._add_impulses(impulses, work)

    async def follow_catalogue(
        self, events: Sequence[Event[MovieUpserted] | Event[MovieRemoved]], work: UnitOfWork
    ) -> None:
        """The newest version of each film decides; a removed film leaves the charts.

        What was counted stays: a film that comes back goes on where it was. What was and will be
        counted under the film's other keys is the film's.
        """
        versions = _versions([event.data for event in events], work.now)
        initial = self._initial_states(versions)
        states, claims = await self._lock_connected(versions, initial, work)
        created = {key for key, state in initial.items() if states[key] is state}
        changed, claiming = await repository.write_newer_movies(work.connection, versions)
        if not (changed or claiming or created):
            return
        newest = {version.movie_id: version.aliases for version in claiming}
        now_claimed = {claim for claim in claims if claim.movie_id not in newest} | {
            Claim(alias, movie_id) for movie_id, aliases in newest.items() for alias in aliases
        }
        await repository.change_claims(work.connection, before=claims, after=now_claimed)

        # A key that was created for a claim may be none's, if the claim is an old one.
        connected = _keys_of(claims | now_claimed) | {key for key in created if states[key].film}
        films = {
            version.movie_id: version.film
            for version in versions
            if version.film is not None and version.movie_id in changed
        }
        if elsewhere := connected - changed:
            films |= await repository.films_in_catalogue(work.connection, elsewhere)
        # those that were created as they have to be are done
        changed -= created - connected
        before = {key: states[key].copy() for key in changed | connected}
        owned = {key: key for key in connected} | films_by_key(now_claimed, films)
        settle(self._formula, states, owned, films)
        for movie_id in changed - connected:
            states[movie_id].register(self._formula, films.get(movie_id))
        differing = [states[key] for key, state in before.items() if states[key] != state]
        await repository.save_locked(work.connection, differing)

    def _initial_states(self, versions: Sequence[Version]) -> dict[str, TrendState]:
        """Of keys of which most likely nothing is known yet, as of nearly all in a bulk import."""
        initial: dict[str, TrendState] = {}
        for version in versions:
            if version.revision == 1:
                state = initial[version.movie_id] = TrendState(version.movie_id)
                state.register(self._formula, version.film)
        for version in versions:
            for alias in version.aliases:
                initial.setdefault(alias, TrendState(alias, film=version.movie_id))
        return initial

    async def _lock_connected(
        self, versions: Sequence[Version], initial: Mapping[str, TrendState], work: UnitOfWork
    ) -> tuple[dict[str, TrendState], set[Claim]]:
        """The states of all keys that are connected with these films by claims, and the claims.

        The states are locked, and so complete: nobody else can connect any of these keys.
        """
        keys = {key for version in versions for key in (version.movie_id, *version.aliases)}
        known: set[Claim] = set()
        if len(keys) > len(versions):  # to lock all of them in the order of their keys
            known = await repository.connected_claims(work.connection, keys)
        states = await repository.lock_trends(
            work.connection, _keys_of(known).union(keys), initial=initial
        )
        claims = await repository.connected_claims(work.connection, keys)
        while missing := _keys_of(claims) - states.keys():
            states |= await repository.lock_trends(work.connection, missing)
            claims = await repository.connected_claims(work.connection, keys)
        return states, claims

    async def follow_ratings(self, events: Sequence[Event[Any]], work: UnitOfWork) -> None:
        """A rating is activity; the aggregate of a film's ratings is a part of its quality.

        A rating that was taken back changes the aggregate only: somebody did deal with the film.
        The newest word of each user on a film is kept for recommendations.
        """
        said_by = (
            event.data.user_id
            for event in events
            if isinstance(event.data, MovieRated | MovieUnrated)
        )
        erased = await _erased(said_by, work)
        impulses: list[Impulse] = []
        ratings: list[UserRating] = []
        aggregates: dict[str, RatingAggregated] = {}
        for event in events:
            match event.data:
                case MovieRated(user_id=user_id) | MovieUnrated(user_id=user_id) if (
                    user_id in erased
                ):
                    pass
                case MovieRated(movie_id=movie_id, user_id=user_id, rating=rating):
                    moment = clamp(rating.rated_at, work.now)
                    impulses.append(Impulse(movie_id, Kind.RATING, moment, user_id))
                    half_steps = round(rating.score * 2)
                    ratings.append(UserRating(user_id, movie_id, half_steps, moment))
                case MovieUnrated(movie_id=movie_id, user_id=user_id) as unrated:
                    moment = clamp(unrated.unrated_at, work.now)
                    ratings.append(UserRating(user_id, movie_id, None, moment))
                case RatingAggregated() as aggregated:
                    _keep_newest(aggregates, aggregated.movie_id, aggregated)
                case _:
                    pass
        await inputs.keep_newest_ratings(work.connection, ratings)
        await self._add_impulses(impulses, work, aggregates)

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
        states = await repository.lock_trends(work.connection, touched)
        for (key, kind), moments in seconds.items():
            state = states[key]
            state.add(self._formula, kind, moments)
            if state.film is not None:
                states[state.film].add(self._formula, kind, moments, under_alias=True)
        if aggregates:
            await self._aggregate(aggregates, states, work)
        await repository.save_locked(work.connection, list(states.values()))

    async def _aggregate(
        self,
        aggregates: Mapping[str, RatingAggregated],
        states: Mapping[str, TrendState],
        work: UnitOfWork,
    ) -> None:
        own_keys = {states[key].film or key for key in aggregates}
        films = await repository.films_in_catalogue(work.connection, own_keys)
        for key, aggregated in aggregates.items():
            state = states[key]
            before = state.ratings
            film = None if state.film else films.get(key)
            state.aggregate(self._formula, _ratings(aggregated), aggregated.revision, film)
            if state.film is not None:
                states[state.film].aggregate_alias(
                    self._formula, before, state.ratings, films.get(state.film)
                )


async def forget_users(events: Sequence[Event[UserErased]], work: UnitOfWork) -> None:
    """Their activity loses its user and session, and keeps its impulses: scores do not change.

    Their ratings are deleted. A model of recommendations holds sums over users, without any of
    their ids; what they added to them is gone with the next model.
    """
    user_ids = {event.data.user_id for event in events}
    await remember_erased(work.connection, user_ids)
    await repository.forget_users(work.connection, user_ids)
    await inputs.forget_ratings(work.connection, user_ids)


async def take_job_commands(events: Sequence[Event[Any]], work: UnitOfWork) -> None:
    """Jobs are written down for the runner, or asked to stop."""
    for event in events:
        match event.data:
            case RunCompute(job_id=job_id) as command:
                request = command.model_dump(mode="json", exclude={"job_id"}, exclude_none=True)
                await enqueue(work, job_id=job_id, kind=KIND, request=request, cause=event)
            case CancelJob(job_id=job_id):
                # Other services have jobs too, and get the command as well.
                if job_id.partition("-")[0] == KIND:
                    await request_cancel(work, job_id, cause=event)
            case _:
                msg = f"{event.type} is no command about a job"
                raise Park(msg)


async def _erased(user_ids: Iterable[str | None], work: UnitOfWork) -> set[str]:
    named = {user_id for user_id in user_ids if user_id is not None}
    return await erased_among(work.connection, named)


def _versions(messages: Sequence[MovieUpserted | MovieRemoved], now: datetime) -> list[Version]:
    """One for each film, by key: the newest, with the claims of its newest that was no removal."""
    newest: dict[str, MovieUpserted | MovieRemoved] = {}
    claiming: dict[str, MovieUpserted] = {}
    for message in messages:
        if isinstance(message, MovieUpserted):
            movie_id = message.movie.movie_id
            _keep_newest(claiming, movie_id, message)
        else:
            movie_id = message.movie_id
        _keep_newest(newest, movie_id, message)
    versions: list[Version] = []
    for movie_id, message in sorted(newest.items()):
        movie = message.movie if isinstance(message, MovieUpserted) else None
        claimed = claiming.get(movie_id)
        aliases = () if claimed is None else claimed.movie.aliases
        versions.append(
            Version(
                movie_id=movie_id,
                revision=message.revision,
                movie=movie,
                film=None if movie is None else _film(movie, now),
                aliases=tuple(alias for alias in aliases if alias != movie_id),
                aliases_revision=0 if claimed is None else claimed.revision,
            )
        )
    return versions


def _film(movie: Movie, now: datetime) -> Film:
    return Film(
        vote_average=movie.vote_average,
        vote_count=movie.vote_count,
        popularity=movie.popularity,
        fetched_at=clamp(movie.fetched_at, now),
        facets=Facets.of(
            release_date=movie.release_date,
            original_language=movie.original_language,
            vote_count=movie.vote_count,
            genre_keys=map(repository.genre_key, movie.genres),
        ),
    )


def _keep_newest(newest: dict[str, R], movie_id: str, message: R) -> None:
    known = newest.get(movie_id)
    if known is None or message.revision > known.revision:
        newest[movie_id] = message


def _keys_of(claims: Iterable[Claim]) -> set[str]:
    return {key for claim in claims for key in (claim.alias, claim.movie_id)}


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
