"""The chart of a day, against the live one and against a chart computed event by event."""

import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import httpx
import pytest
from compute_service.artifacts import TrendingDaily
from compute_service.projection import TrendState
from compute_service.rebuild import rebuild
from compute_service.trend import Film, Kind, Ratings, TrendFormula, Window, forward_seconds
from moviemetric_contracts import Event, MovieRated, MovieUpserted, MovieViewed, Rating
from service_kit import Database, Outcome
from sqlalchemy import text

Deliver = Callable[[Sequence[Event[Any]]], Awaitable[list[Outcome]]]
Places = dict[str, list[tuple[str, float]]]
"""Of each window the films in order, and their scores."""


async def rows(database: Database, statement: str, **parameters: Any) -> list[Any]:
    async with database.reading() as connection:
        return [tuple(row) for row in await connection.execute(text(statement), parameters)]


async def places(database: Database, day: date) -> Places:
    found: Places = {"day": [], "week": []}
    statement = """
        SELECT chart_window, movie_id, score, rank FROM movie_trending_daily
        WHERE date = :day ORDER BY chart_window, rank
    """
    for window, movie_id, score, rank in await rows(database, statement, day=day):
        found[window].append((movie_id, score))
        assert rank == len(found[window])
    return found


def nearly(expected: Places) -> dict[str, list[tuple[str, Any]]]:
    return {
        window: [(movie_id, pytest.approx(score, rel=1e-8)) for movie_id, score in films]
        for window, films in expected.items()
    }


def random_events(make: Any, seed: int) -> list[Event[Any]]:
    """Sixty films, a third of them under several keys; events from 20 years ago until now."""
    draw = random.Random(seed)
    events: list[Event[Any]] = []
    for n in range(1, 61):
        aliases = (f"imdb-tt{n:07}", f"movielens-{n}") if n % 3 == 0 else ()
        keys = (f"tmdb-{n}", *aliases)
        fetched = make.now - timedelta(days=draw.choice((0.1, 3.0, 900.0)))
        popularity = draw.choice((0.0, 0.4, 35.0))
        fields = {"popularity": popularity, "vote_count": draw.randint(0, 90)}
        events.append(make.upserted(keys[0], 1, aliases=aliases, fetched_at=fetched, **fields))
        for _ in range(draw.randint(0, 12)):
            # most of them recent, some thousands of half-lives ago
            ago = timedelta(days=draw.choice((0.2, 2.0, 9.0, 400.0, 7300.0)) * draw.random())
            if draw.random() < 0.8:
                events.append(make.viewed(draw.choice(keys), ago=ago + timedelta(seconds=1)))
            else:
                rating = Rating(score=8.0, rated_at=make.now - ago - timedelta(seconds=1))
                key = draw.choice(keys)
                events.append(make.of(MovieRated(movie_id=key, user_id="ada", rating=rating)))
        if draw.random() < 0.3:
            events.append(make.aggregated(draw.choice(keys), [9.5, 3.0], 1))
    events += [make.removed(f"tmdb-{n}", 2) for n in (5, 6)]
    draw.shuffle(events)
    return events


async def live(database: Database, formula: TrendFormula, at: datetime, size: int) -> Places:
    """What the incremental state says."""
    charts: Places = {}
    for window in Window:
        states = await rows(database, "SELECT movie_id, rank_key_day, rank_key_week FROM trends")
        ranked = [
            (movie_id, day if window is Window.DAY else week)
            for movie_id, day, week in states
            if day is not None
        ]
        ranked.sort(key=lambda row: (-round(row[1], 9), row[0]))
        charts[window.value] = [
            (movie_id, formula.score(window, rank_key, at)) for movie_id, rank_key in ranked[:size]
        ]
    return charts


def is_version(event: Event[Any]) -> bool:
    return isinstance(event.data, MovieUpserted)


def event_by_event(formula: TrendFormula, events: Sequence[Event[Any]], until: datetime) -> Places:
    """The chart at `until`, by the pure projection: only what happened before counts."""
    films = {e.data.movie.movie_id: e.data.movie for e in events if is_version(e)}
    owner = {key: own for own, film in films.items() for key in (own, *film.aliases)}
    states = {own: TrendState(own) for own in films}
    ratings: dict[str, list[Ratings]] = {}
    for event in events:
        match event.data:
            case MovieViewed(movie_id=key, viewed_at=moment) if moment < until:
                states[owner[key]].add(formula, Kind.VIEW, [forward_seconds(moment)])
            case MovieRated(movie_id=key, rating=rating) if rating.rated_at < until:
                states[owner[key]].add(formula, Kind.RATING, [forward_seconds(rating.rated_at)])
            case data if event.type == "rating.aggregated.v1":
                total = sum(n * (step + 1) / 2 for step, n in enumerate(data.histogram))
                ratings.setdefault(owner[data.movie_id], []).append(
                    Ratings(count=data.count, total=total)
                )
            case _:
                pass
    removed = {event.data.movie_id for event in events if event.type == "movie.removed.v1"}
    charts: Places = {}
    for own in films.keys() - removed:
        movie = films[own]
        states[own].ratings = sum(ratings.get(own, []), start=Ratings())
        states[own].register(
            formula,
            Film(
                vote_average=movie.vote_average,
                vote_count=movie.vote_count,
                popularity=movie.popularity,
                fetched_at=min(movie.fetched_at, until),
            ),
        )
    for window in Window:
        ranked = [
            (own, key)
            for own, state in states.items()
            if own not in removed and (key := state.of(window).rank_key) is not None
        ]
        ranked.sort(key=lambda pair: (-round(pair[1], 9), pair[0]))
        charts[window.value] = [(own, formula.score(window, key, until)) for own, key in ranked]
    return charts


@pytest.mark.parametrize(
    "formula",
    [
        TrendFormula(),
        TrendFormula(
            half_life_day_hours=0.5, half_life_week_hours=3, view_weight=0, activity_exponent=0.8
        ),
    ],
    ids=["as usual", "short-lived and without views"],
)
async def test_a_days_chart_is_what_the_events_say_live_past_and_rebuilt(
    database: Database, formula: TrendFormula, deliver_all: Deliver, make: Any, compute: Any
) -> None:
    events = random_events(make, seed=4)
    await deliver_all(events)
    job = await compute("trending")
    assert job.state == "succeeded", job.error
    today = date.fromisoformat(job.result["as_of"])
    at = datetime.fromisoformat(job.result["artifacts"]["trending"]["until"])
    present = await places(database, today)
    assert len(present["day"]) == len(present["week"]) > 40
    assert present == nearly(await live(database, formula, at, 1000))
    assert present == nearly(event_by_event(formula, events, at))

    past = today - timedelta(days=4)
    assert (await compute("trending", past)).state == "succeeded"
    midnight = datetime.combine(past + timedelta(days=1), time(tzinfo=UTC))
    computed = await places(database, past)
    assert computed == nearly(event_by_event(formula, events, midnight))
    assert [film for film, _ in computed["day"]] != [film for film, _ in present["day"]]

    # rebuilt from the stored events, the state and both charts are the same
    everything = "SELECT * FROM movie_trending_daily ORDER BY chart_window, date, rank"
    before = await rows(database, everything)
    async with database.transaction() as connection:
        await rebuild(connection, formula)
        await connection.execute(text("TRUNCATE movie_trending_daily, artifact_runs"))
    assert await live(database, formula, at, 1000) == nearly(present)
    assert (await compute("trending", past)).state == "succeeded"
    assert (await compute("trending", today)).state == "succeeded"
    again = await rows(database, everything)
    # all but the scores, which are those of a moment later on the present day
    assert [row[:4] + row[5:] for row in again] == [row[:4] + row[5:] for row in before]


async def test_a_chart_is_cut_off(
    database: Database, formula: TrendFormula, deliver_all: Deliver, make: Any, compute: Any
) -> None:
    await deliver_all([make.upserted(f"tmdb-{n}", popularity=5.0) for n in range(1, 13)])
    await deliver_all([make.viewed("tmdb-9")])
    artifact = TrendingDaily(database, formula, size=3)
    job = await compute("trending", make.now.date(), artifacts=[artifact])
    assert job.result["artifacts"]["trending"]["rows"] == 6
    chart = await places(database, make.now.date())
    # ties by key, compared as text
    assert [film for film, _ in chart["week"]] == ["tmdb-9", "tmdb-1", "tmdb-10"]


def on(day: date, hour: int = 12) -> datetime:
    return datetime.combine(day, time(hour, tzinfo=UTC))


async def follow(database: Database) -> dict[date, list[tuple[Any, ...]]]:
    found: dict[date, list[tuple[Any, ...]]] = {}
    statement = """
        SELECT date, movie_id, movement, days_on_chart, peak_rank FROM movie_trending_daily
        WHERE chart_window = 'day' ORDER BY date, rank
    """
    for day, *place in await rows(database, statement):
        found.setdefault(day, []).append(tuple(place))
    return found


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0, 0, 1)])
async def test_where_a_film_stood_follows_whatever_day_is_computed(
    database: Database,
    formula: TrendFormula,
    deliver_all: Deliver,
    make: Any,
    compute: Any,
    order: tuple[int, ...],
) -> None:
    first = make.now.date() - timedelta(days=5)
    days = [first + timedelta(days=n) for n in range(3)]
    artifacts = [TrendingDaily(database, formula, size=2)]

    def views(key: str, day: date, count: int) -> list[Event[Any]]:
        return [make.of(MovieViewed(movie_id=key, viewed_at=on(day))) for _ in range(count)]

    await deliver_all([make.upserted(f"tmdb-{n}", popularity=0.0) for n in (1, 2, 3)])
    await deliver_all(
        [
            *(*views("tmdb-1", days[0], 3), *views("tmdb-2", days[0], 2)),
            *(*views("tmdb-3", days[0], 1), *views("tmdb-3", days[1], 10)),
            *views("tmdb-2", days[2], 30),
        ]
    )
    for n in order:
        await compute("trending", days[n], artifacts=artifacts)
    assert await follow(database) == {
        days[0]: [("tmdb-1", None, 1, 1), ("tmdb-2", None, 1, 2)],
        days[1]: [("tmdb-3", None, 1, 1), ("tmdb-1", -1, 2, 1)],
        days[2]: [("tmdb-2", None, 2, 1), ("tmdb-3", -1, 2, 1)],
    }

    # views of the second day that come late: its chart changes, and what follows from it
    await deliver_all(views("tmdb-2", days[1], 50))
    await compute("trending", days[1], artifacts=artifacts)
    assert await follow(database) == {
        days[0]: [("tmdb-1", None, 1, 1), ("tmdb-2", None, 1, 2)],
        days[1]: [("tmdb-2", 1, 2, 1), ("tmdb-3", None, 1, 2)],
        days[2]: [("tmdb-2", 0, 3, 1), ("tmdb-3", 0, 2, 2)],
    }


async def test_the_days_under_another_key_are_the_films(
    database: Database, deliver_all: Deliver, make: Any, compute: Any, api: httpx.AsyncClient
) -> None:
    days = [make.now.date() - timedelta(days=n) for n in (3, 2, 1)]
    await deliver_all(
        [
            make.upserted("imdb-tt0000007", 1, popularity=0.0),
            make.upserted("tmdb-8", 1, popularity=0.0),
            make.of(MovieViewed(movie_id="imdb-tt0000007", viewed_at=on(days[0]))),
            *(make.of(MovieViewed(movie_id="tmdb-8", viewed_at=on(days[0]))) for _ in range(2)),
            *(make.of(MovieViewed(movie_id="tmdb-7", viewed_at=on(days[1]))) for _ in range(5)),
        ]
    )
    await compute("trending", days[0])
    await deliver_all([make.upserted("tmdb-7", 1, popularity=0.0, aliases=("imdb-tt0000007",))])
    await deliver_all([make.removed("imdb-tt0000007", 2)])
    await compute("trending", days[1])
    assert await follow(database) == {
        days[0]: [("tmdb-8", None, 1, 1), ("imdb-tt0000007", None, 1, 2)],
        days[1]: [("tmdb-7", 1, 2, 1), ("tmdb-8", -1, 2, 1)],
    }
    for key in ("7", "tmdb-7", "imdb-tt0000007"):
        history = (await api.get(f"/trends/{key}/history")).json()
        assert (history["movie_id"], history["total"]) == ("tmdb-7", 2)
        assert [(day["date"], day["rank"], day["movement"]) for day in history["items"]] == [
            (str(days[1]), 1, 1),
            (str(days[0]), 2, None),
        ]
    chart = (await api.get("/trending", params={"as_of": str(days[0])})).json()
    assert [(film["rank"], film["movie_id"]) for film in chart["items"]] == [
        (1, "tmdb-8"),
        (2, "tmdb-7"),
    ]
    await deliver_all([make.removed("tmdb-8", 2)])
    chart = (await api.get("/trending", params={"as_of": str(days[0])})).json()
    assert [(film["rank"], film["movie_id"]) for film in chart["items"]] == [(2, "tmdb-7")]
