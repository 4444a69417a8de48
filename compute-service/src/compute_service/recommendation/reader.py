"""Similar films, and films for a user, put together from a stored model and the catalogue.

Nothing of a model is kept in memory: an answer reads the rows of the films in a history, by key,
and adds them up (`scoring`). What no model knows is answered by content (`content`): similar films
of a film that is outside of it, films for whoever likes such films, and everything before the
first model. Whoever nothing is known of gets films that many others found good.

Everything of one answer is read as of one moment, so that a model which is replaced meanwhile does
not come in half.
"""

from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import log1p
from typing import Final, Literal

import numpy as np
from service_kit import Database
from sqlalchemy.ext.asyncio import AsyncConnection

from compute_service.recommendation import repository
from compute_service.recommendation.content import Traits, alike
from compute_service.recommendation.interactions import Float
from compute_service.recommendation.repository import (
    CatalogueFilm,
    Figures,
    FilmFilter,
    StoredModel,
)
from compute_service.recommendation.scoring import RECENT, FilmRow, Mask, best, diverse
from compute_service.recommendation.taste import Liking, Taste

MAX_SIMILAR: Final = 50
MAX_PAGE: Final = 100
# A page this deep costs as many films as lie before it.
MAX_OFFSET: Final = 1000
_POOL: Final = 100  # films among which diversity chooses
_SLACK: Final = 20  # more than are asked for, since some may have left the catalogue
_CANDIDATES: Final = 200  # of each kind, where content decides
_SEEDS: Final = 5  # films of a history that no model knows, and are looked at all the same
_BECAUSE: Final = 3
_WORTH_TELL: Final = 0.05  # a smaller share is no reason


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a film is in a list: `kind` says which of the others are there."""

    kind: Literal["because", "genres", "keywords", "people", "audience"]
    values: tuple[str, ...] = ()
    share: float | None = None
    movie_id: str | None = None
    title: str | None = None


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A film of a list; `score` is relative to the best of the whole list, from 0 to 1."""

    film: CatalogueFilm
    score: float
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Similar:
    """Films like one; `total` is how many were found."""

    movie_id: str
    basis: Literal["model", "content"]
    items: list[Suggestion]
    total: int
    model: Figures | None


@dataclass(frozen=True, slots=True)
class ForUser:
    """Films for a taste; `total` is how many there are, None where that was not counted."""

    items: list[Suggestion]
    total: int | None
    taste: Taste
    unknown_likes: tuple[str, ...]
    model: Figures | None


@dataclass(frozen=True, slots=True)
class _Ranked:
    """Films in their order, before the page is cut out of them.

    Attributes:
        films, scores: best first.
        because: of each film of the page, the films of the history that speak for it, with their
            shares.
    """

    films: list[CatalogueFilm]
    scores: list[float]
    because: list[list[tuple[str, float]]]
    total: int | None = None


class RecommendationReader:
    """Answers, for one database.

    Args:
        view_weight: what a view counts, where a rating counts 1.
    """

    def __init__(self, database: Database, *, view_weight: float) -> None:
        self._database = database
        self._view_weight = view_weight

    @asynccontextmanager
    async def _as_of_now(self) -> AsyncGenerator[AsyncConnection]:
        async with self._database.reading() as connection:
            await repository.unchanging(connection)
            yield connection

    async def similar(
        self, key: str, wanted: FilmFilter, *, limit: int, diversity: float
    ) -> Similar | None:
        """The films most like the one of this key; None where it is not in the catalogue."""
        async with self._as_of_now() as connection:
            film = (await repository.films_by_key(connection, [key])).get(key)
            if film is None:
                return None
            model = await repository.serving_model(connection, with_scorer=False)
            known = (
                None
                if model is None
                else await repository.similar_to(connection, model.model_id, film.movie_id)
            )
            found: dict[str, tuple[CatalogueFilm, float, float]] = {}
            if known is not None:
                films = await repository.films_by_key(connection, known.movie_ids, wanted)
                for asked, score, share in zip(
                    known.movie_ids, known.scores, known.audience, strict=True
                ):
                    if (other := films.get(asked)) is not None:
                        found.setdefault(other.movie_id, (other, score, share))
            found.pop(film.movie_id, None)
            by_model = bool(found)
            if len(found) < limit:
                await self._fill_up(connection, film, wanted, found)
        return _similar(film, found, model, by_model=by_model, limit=limit, diversity=diversity)

    async def _fill_up(
        self,
        connection: AsyncConnection,
        film: CatalogueFilm,
        wanted: FilmFilter,
        found: dict[str, tuple[CatalogueFilm, float, float]],
    ) -> None:
        """Behind what is found already come the films that are close by content."""
        close = await self._close(connection, [film], [1.0], wanted, {film.movie_id, *found})
        least = min((score for _, score, _ in found.values()), default=1.0)
        for other, score, _ in close[: MAX_SIMILAR - len(found)]:
            found[other.movie_id] = (other, least * score, 0.0)

    async def for_user(
        self,
        user_id: str | None,
        likes: Sequence[str],
        wanted: FilmFilter,
        *,
        limit: int,
        offset: int,
        diversity: float,
        include_seen: bool,
    ) -> ForUser:
        """Films for a user, or for whoever likes these films, or both."""
        async with self._as_of_now() as connection:
            liked = await repository.films_by_key(connection, likes) if likes else {}
            unknown = tuple(key for key in dict.fromkeys(likes) if key not in liked)
            taste = Taste.of(
                {} if user_id is None else await repository.ratings_of(connection, user_id),
                {} if user_id is None else await repository.views_of(connection, user_id),
                [liked[key].movie_id for key in likes if key in liked],
                view_weight=self._view_weight,
            )
            model = await repository.serving_model(connection)
            seen = taste.rated.union(taste.likes, () if include_seen else taste.viewed)
            search = _Search(connection, taste, seen, wanted, offset, offset + limit, diversity)
            ranked = await self._ranked(search, model)
            page = slice(offset, offset + limit)
            named = {key for because in ranked.because for key, _ in because}
            titles = await repository.films_by_key(connection, named) if named else {}
        best_score = max(ranked.scores, default=0.0)
        items = [
            Suggestion(film, _relative(score, best_score), _because(film, because, titles))
            for film, score, because in zip(
                ranked.films[page], ranked.scores[page], ranked.because, strict=True
            )
        ]
        figures = None if model is None else model.figures
        return ForUser(items, ranked.total, taste, unknown, figures)

    async def _ranked(self, search: "_Search", model: StoredModel | None) -> _Ranked:
        if not search.taste.films:
            return await self._popular(search)
        if model is not None and model.figures.films:
            ranked = await self._by_model(search, model)
            if ranked is not None:
                return ranked
        return await self._by_content(search)

    async def _by_model(self, search: "_Search", model: StoredModel) -> _Ranked | None:
        """None where neither the model nor the catalogue knows a film of the history."""
        connection, model_id, scorer = search.connection, model.model_id, model.scorer
        history = search.taste.films
        keys = {film.movie_id for film in history} | search.seen
        numbers = await repository.numbers_of(connection, model_id, keys)
        outside = await self._outside(search, model, numbers)
        known = [film for film in history if film.movie_id in numbers]
        stored = await repository.rows_of(
            connection, model_id, {numbers[film.movie_id][0] for film in known[-RECENT:]}
        )
        rows: list[FilmRow] = []
        films: list[Liking] = []
        for film in history:
            row = outside.get(film.movie_id)
            if film.movie_id in numbers:
                row = stored.get(numbers[film.movie_id][0])
            if row is not None:
                rows.append(row)
                films.append(film)
        if not rows:
            return None
        profile = scorer.profile(rows, [film.weight for film in films])
        films = films[-RECENT:]
        scores = scorer.scores(profile)

        possible = np.ones(model.figures.films, np.bool_)
        if search.wanted != FilmFilter():
            possible[:] = False
            possible[await repository.passing_numbers(connection, model_id, search.wanted)] = True
        possible[[number for key in search.seen for number in numbers.get(key, ())]] = False
        chosen, found = await self._in_catalogue(search, model, scores, possible)
        order = search.arranged(chosen, scores[found])
        page = np.array([found[place] for place in order[search.offset :]], np.int64)
        parts = np.maximum(scorer.contributions(profile, page), 0)
        because = [_speaking_for(part, films) for part in parts.T]
        return _Ranked(
            [chosen[place] for place in order],
            [float(scores[found[place]]) for place in order],
            because,
            int(possible.sum()),
        )

    async def _in_catalogue(
        self, search: "_Search", model: StoredModel, scores: Float, possible: Mask
    ) -> tuple[list[CatalogueFilm], list[int]]:
        """The best films that are still in the catalogue, with their numbers, up to the pool."""
        count = search.pool + _SLACK
        while True:
            numbers: list[int] = best(scores, possible, count).tolist()
            films = await repository.films_by_number(search.connection, model.model_id, numbers)
            # Keys that the model took for two films may have become one, or a seen one.
            told = set(search.seen)
            kept: list[int] = []
            for number in numbers:
                if number in films and films[number].movie_id not in told:
                    told.add(films[number].movie_id)
                    kept.append(number)
            if len(kept) >= search.pool or len(numbers) < count:
                kept = kept[: search.pool]
                return [films[number] for number in kept], kept
            count *= 4

    async def _outside(
        self, search: "_Search", model: StoredModel, numbers: Mapping[str, Sequence[int]]
    ) -> dict[str, FilmRow]:
        """Rows for the newest films of a history that the model does not know, by content."""
        unknown = [
            film.movie_id
            for film in search.taste.films
            if film.liked and film.movie_id not in numbers
        ][-_SEEDS:]
        if not unknown:
            return {}
        seeds = await repository.films_by_key(search.connection, unknown)
        rows: dict[str, FilmRow] = {}
        for key, seed in seeds.items():
            close = await self._close(search.connection, [seed], [1.0], FilmFilter(), {key})
            places = await repository.numbers_of(
                search.connection, model.model_id, [film.movie_id for film, _, _ in close]
            )
            near = [
                (places[film.movie_id][0], score * model.scorer.scale)
                for film, score, _ in close
                if film.movie_id in places
            ]
            rows[key] = FilmRow(
                number=-1,
                linear=False,
                targets=np.empty(0, np.int32),
                short=np.empty(0, np.float32),
                long=np.empty(0, np.float32),
                near=np.array([number for number, _ in near], np.int32),
                closeness=np.array([score for _, score in near], np.float32),
            )
        return rows

    async def _by_content(self, search: "_Search") -> _Ranked:
        """By what the newest films that the user liked are about."""
        liked = [film for film in search.taste.films if film.liked][-2 * _SEEDS :]
        films = await repository.films_by_key(search.connection, [film.movie_id for film in liked])
        liked = [film for film in liked if film.movie_id in films]
        if not liked:
            return await self._popular(search)
        close = await self._close(
            search.connection,
            [films[film.movie_id] for film in liked],
            [film.weight for film in liked],
            search.wanted,
            search.seen,
        )
        close = close[: search.pool]
        order = search.arranged(
            [film for film, _, _ in close], np.array([score for _, score, _ in close], np.float32)
        )
        return _Ranked(
            [close[place][0] for place in order],
            [close[place][1] for place in order],
            [_speaking_for(close[place][2], liked) for place in order[search.offset :]],
        )

    async def _close(
        self,
        connection: AsyncConnection,
        seeds: Sequence[CatalogueFilm],
        weights: Sequence[float],
        wanted: FilmFilter,
        without: Collection[str],
    ) -> list[tuple[CatalogueFilm, float, Float]]:
        """Films by their closeness to these and how good they are, best first.

        Each with its score from 0 to 1 and what every one of `seeds` gave of it.
        """
        keys = await repository.candidates(connection, seeds, wanted, _CANDIDATES)
        films = await repository.films_by_key(connection, keys)
        traits = [Traits.of(seed) for seed in seeds]
        own = {seed.movie_id for seed in seeds}
        total = sum(weights)
        found: list[tuple[CatalogueFilm, float, Float]] = []
        for film in {film.movie_id: film for film in films.values()}.values():
            if film.movie_id in without or film.movie_id in own:
                continue
            theirs = Traits.of(film)
            good = 0.5 + 0.05 * _quality(film)
            parts = np.array(
                [
                    good * weight * trait.closeness(theirs) / total
                    for trait, weight in zip(traits, weights, strict=True)
                ],
                np.float32,
            )
            found.append((film, float(parts.sum()), parts))
        found.sort(key=lambda entry: (-entry[1], -entry[0].vote_count, entry[0].movie_id))
        return found

    async def _popular(self, search: "_Search") -> _Ranked:
        """What many found good: quality times the logarithm of how many there were."""
        keys = await repository.popular_films(
            search.connection, search.wanted, search.pool + len(search.seen)
        )
        films = await repository.films_by_key(search.connection, keys)
        unique = {film.movie_id: film for film in films.values()}
        scored = sorted(
            (
                (film, _quality(film) * log1p(film.vote_count + film.ratings + film.views))
                for film in unique.values()
                if film.movie_id not in search.seen
            ),
            key=lambda entry: (-entry[1], entry[0].movie_id),
        )[: search.pool]
        scores = np.array([score for _, score in scored], np.float32)
        order = search.arranged([film for film, _ in scored], scores)
        return _Ranked(
            [scored[place][0] for place in order],
            [scored[place][1] for place in order],
            [[] for _ in order[search.offset :]],
        )


@dataclass(frozen=True, slots=True)
class _Search:
    """One request for films for a user: the page from `offset` up to `count`, exclusive."""

    connection: AsyncConnection
    taste: Taste
    seen: frozenset[str]
    wanted: FilmFilter
    offset: int
    count: int
    diversity: float

    @property
    def pool(self) -> int:
        """How many of the best are looked at.

        With diversity it is the same for every page of a list: the order depends on it.
        """
        return max(self.count, _POOL) if self.diversity else self.count

    def arranged(self, films: Sequence[CatalogueFilm], scores: Float) -> list[int]:
        """The places of films, best first, in the order of the list."""
        return _arranged(films, scores, self.diversity, self.count)


def _arranged(
    films: Sequence[CatalogueFilm], scores: Float, diversity: float, count: int
) -> list[int]:
    """The places of the first `count` films of the list."""
    if not diversity:
        return list(range(min(count, len(films))))
    head = min(len(films), _POOL)
    likeness = alike([Traits.of(film) for film in films[:head]])
    chosen: list[int] = diverse(scores[:head], likeness, min(head, count), diversity).tolist()
    return [*chosen, *range(head, min(count, len(films)))]


def _similar(
    film: CatalogueFilm,
    found: Mapping[str, tuple[CatalogueFilm, float, float]],
    model: StoredModel | None,
    *,
    by_model: bool,
    limit: int,
    diversity: float,
) -> Similar:
    entries = list(found.values())
    order = _arranged(
        [other for other, _, _ in entries],
        np.array([score for _, score, _ in entries], np.float32),
        diversity,
        limit,
    )
    greatest = max((score for _, score, _ in entries), default=0.0)
    own = Traits.of(film)
    items: list[Suggestion] = []
    for place in order:
        other, score, share = entries[place]
        reasons = _in_common(own, Traits.of(other))
        if share >= _WORTH_TELL:
            reasons.append(Reason("audience", share=round(share, 3)))
        items.append(Suggestion(other, _relative(score, greatest), tuple(reasons)))
    basis = "model" if by_model else "content"
    figures = None if model is None else model.figures
    return Similar(film.movie_id, basis, items, len(entries), figures)


def _in_common(one: Traits, other: Traits) -> list[Reason]:
    found: list[Reason] = []
    shared = one.shared(other)
    if "genres" in shared:
        found.append(Reason("genres", values=tuple(shared["genres"])))
    if "keywords" in shared:
        found.append(Reason("keywords", values=tuple(shared["keywords"])))
    if "people" in shared:
        found.append(Reason("people", values=tuple(shared["people"])))
    return found


def _because(
    film: CatalogueFilm,
    because: Iterable[tuple[str, float]],
    films: Mapping[str, CatalogueFilm],
) -> tuple[Reason, ...]:
    """The films that speak for it, and what it has in common with the first of them."""
    reasons: list[Reason] = []
    common: list[Reason] = []
    for key, share in because:
        if (source := films.get(key)) is not None:
            reasons.append(
                Reason("because", movie_id=key, title=source.title, share=round(share, 3))
            )
            common = common or _in_common(Traits.of(source), Traits.of(film))
    return (*reasons, *common)


def _speaking_for(parts: Float, films: Sequence[Liking]) -> list[tuple[str, float]]:
    """The films with the greatest parts in a score, and their shares; none that was disliked."""
    total = float(parts.sum())
    if total <= 0:
        return []
    strongest: list[int] = np.argsort(-parts, kind="stable").tolist()
    shares = [(films[place], float(parts[place]) / total) for place in strongest[: 2 * _BECAUSE]]
    return [
        (film.movie_id, share) for film, share in shares if film.liked and share >= _WORTH_TELL
    ][:_BECAUSE]


def _quality(film: CatalogueFilm) -> float:
    """Q of the trend score: a Bayesian mean, from 0 to 10."""
    return min(2.0**film.log_quality, 10.0)


def _relative(score: float, greatest: float) -> float:
    return max(0.0, min(1.0, score / greatest)) if greatest > 0 else 0.0
