"""What can be read of ratings, over HTTP."""

from collections.abc import AsyncGenerator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from rating_service.api.ratings import Ratings
from rating_service.ratings.quality import QualityFormula
from rating_service.ratings.reads import ratings_of, summary_of
from service_kit import ProblemError, install_problem_handlers
from service_kit.tokens import AccessToken
from sqlalchemy import text

ADA, BOB = "user-" + "a" * 32, "user-" + "b" * 32
FILM, OTHER, THIRD = "tmdb-862", "tmdb-8844", "tmdb-3"


async def who_asks(request: Request) -> AccessToken:
    """Whom the header names, instead of a token; what tokens prove is tested with the accounts."""
    name = request.headers.get("x-user")
    if name is None:
        raise ProblemError(401, "Not signed in")
    return AccessToken(name, "user", datetime.now(UTC) + timedelta(minutes=1))


@pytest.fixture
async def api(store: Any) -> AsyncGenerator[httpx.AsyncClient]:
    app = FastAPI()
    install_problem_handlers(app)
    routes = Ratings(store.database, authenticated=who_asks, quality=QualityFormula())
    app.include_router(routes.router())
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://rating") as client:
        yield client


def as_user(user_id: str) -> dict[str, str]:
    return {"x-user": user_id}


@pytest.fixture
async def rated(store: Any, make: Any) -> None:
    """Three films, one of which has not come yet; Ada has rated all, and one that she took back."""
    await store.deliver(
        [
            make.upserted(
                FILM,
                title="Toy Story 100%",
                tmdb_id=862,
                release_date=date(1995, 10, 30),
                genres=("Animation", "Comedy"),
                poster_path="/toy.jpg",
                vote_average=7.9,
                vote_count=17000,
                aliases=("imdb-tt0114709", "movielens-1"),
            ),
            make.upserted(OTHER, title="jumanji", release_date=date(1995, 12, 15), vote_count=2),
            make.upserted("tmdb-4", title="Heat"),
            make.rate(ADA, "movielens-1", 8, at=3, review="Still good."),
            make.rate(ADA, OTHER, 5.5, at=1),
            make.rate(ADA, THIRD, 9.5, at=2, review="Not out yet."),
            make.rate(ADA, "tmdb-4", 7, at=1),
            make.unrate(ADA, "tmdb-4", at=4),
            make.rate(BOB, FILM, 8, at=5, review="Yes."),
            make.rate("movielens-9", FILM, 2.5, at=4, review="No."),
            make.rate("movielens-10", FILM, 3, at=4),
        ]
    )
    hashed = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA"
    async with store.database.transaction() as connection:
        for user_id, name in ((ADA, "Ada"), (BOB, "bob")):
            await connection.execute(
                text(
                    "INSERT INTO users (user_id, name, name_key, password_hash, created_at,"
                    " password_changed_at) VALUES (:id, :name, lower(:name), :hash, now(), now())"
                ),
                {"id": user_id, "name": name, "hash": hashed},
            )


@pytest.mark.usefixtures("rated")
async def test_the_ratings_of_a_film(api: httpx.AsyncClient) -> None:
    for key in (FILM, "862", "imdb-tt0114709", "movielens-1"):
        response = await api.get(f"/movies/{key}/ratings")
        assert response.status_code == 200
        body = response.json()
        assert datetime.fromisoformat(body.pop("as_of")).tzinfo is not None
        histogram = body.pop("histogram")
        assert list(histogram) == [f"{step / 2:.1f}" for step in range(1, 21)]
        assert {score: count for score, count in histogram.items() if count} == {
            "2.5": 1,
            "3.0": 1,
            "8.0": 2,
        }
        # (10·6 + 50·7.9 + 21.5) / (10 + 50 + 4)
        assert body.pop("bayesian_mean") == pytest.approx(476.5 / 64)
        assert body == {
            "movie_id": FILM,
            "count": 4,
            "mean": 5.375,
            "source": {"vote_average": 7.9, "vote_count": 17000},
        }


@pytest.mark.usefixtures("rated")
async def test_a_film_that_nobody_rated(api: httpx.AsyncClient) -> None:
    body = (await api.get("/movies/4/ratings")).json()
    assert (body["count"], body["mean"], sum(body["histogram"].values())) == (0, None, 0)
    assert body["bayesian_mean"] == pytest.approx((60 + 350) / 60)


@pytest.mark.usefixtures("rated")
@pytest.mark.parametrize("what", ["ratings", "reviews"])
async def test_only_films_in_the_catalogue_answer(
    api: httpx.AsyncClient, store: Any, make: Any, what: str
) -> None:
    for key in (THIRD, "tmdb-99"):
        response = await api.get(f"/movies/{key}/{what}")
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["detail"] == f"{key} is not in the catalogue"
    before = (await api.get(f"/movies/{FILM}/{what}")).json()
    await store.deliver([make.removed(FILM, 2)])
    for key in (FILM, "movielens-1"):
        assert (await api.get(f"/movies/{key}/{what}")).status_code == 404
    await store.deliver([make.upserted(FILM, 3, vote_average=7.9, vote_count=17000)])
    after = (await api.get(f"/movies/{FILM}/{what}")).json()
    assert {**before, "as_of": None} == {**after, "as_of": None}


@pytest.mark.parametrize("what", ["ratings", "reviews", "rating"])
async def test_what_is_no_key(api: httpx.AsyncClient, what: str) -> None:
    response = await api.get(f"/movies/toy-story/{what}", headers=as_user(ADA))
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "movie_id"


@pytest.mark.usefixtures("rated")
async def test_reviews_are_newest_first_and_name_who_has_an_account(
    api: httpx.AsyncClient, make: Any
) -> None:
    body = (await api.get("/movies/movielens-1/reviews")).json()
    assert body["total"] == 3
    assert [(item["user"], item["score"], item["review"]) for item in body["items"]] == [
        ("bob", 8, "Yes."),
        (None, 2.5, "No."),
        ("Ada", 8, "Still good."),
    ]
    assert datetime.fromisoformat(body["items"][0]["rated_at"]) == make.at(5)
    page = (await api.get(f"/movies/{FILM}/reviews?limit=1&offset=1")).json()
    assert [item["review"] for item in page["items"]] == ["No."]
    assert (page["total"], page["limit"], page["offset"]) == (3, 1, 1)


@pytest.mark.usefixtures("rated")
async def test_ones_own_rating(api: httpx.AsyncClient, make: Any) -> None:
    response = await api.get("/movies/imdb-tt0114709/rating", headers=as_user(ADA))
    assert response.headers["cache-control"] == "no-store"
    body = response.json()
    assert datetime.fromisoformat(body.pop("rated_at")) == make.at(3)
    assert body == {"movie_id": FILM, "score": 8, "review": "Still good."}
    assert (await api.get(f"/movies/{THIRD}/rating", headers=as_user(ADA))).status_code == 200
    for user, key in ((ADA, "tmdb-4"), (ADA, "tmdb-99"), (BOB, OTHER), ("nobody", FILM)):
        assert (await api.get(f"/movies/{key}/rating", headers=as_user(user))).status_code == 404
    assert (await api.get(f"/movies/{FILM}/rating")).status_code == 401


@pytest.mark.usefixtures("rated")
async def test_ones_own_list(api: httpx.AsyncClient, make: Any) -> None:
    response = await api.get("/users/me/ratings", headers=as_user(ADA))
    assert response.headers["cache-control"] == "no-store"
    body = response.json()
    assert (body["total"], body["limit"], body["offset"]) == (3, 20, 0)
    first, second, third = body["items"]
    assert datetime.fromisoformat(first.pop("rated_at")) == make.at(3)
    assert first == {
        "movie_id": FILM,
        "tmdb_id": 862,
        "title": "Toy Story 100%",
        "release_date": "1995-10-30",
        "genres": ["Animation", "Comedy"],
        "poster_path": "/toy.jpg",
        "score": 8,
        "review": "Still good.",
        "in_catalogue": True,
    }
    assert (second["movie_id"], second["in_catalogue"], second["title"]) == (THIRD, False, None)
    assert second["genres"] == []
    assert third["movie_id"] == OTHER
    assert (await api.get("/users/me/ratings")).status_code == 401


@pytest.mark.usefixtures("rated")
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("min_score=8", [FILM, THIRD]),
        ("max_score=8", [FILM, OTHER]),
        ("min_score=5.5&max_score=5.5", [OTHER]),
        ("genre=comedy", [FILM]),
        ("genre=Horror", []),
        ("year=1995", [FILM, OTHER]),
        ("year=1994", []),
        ("q=TOY", [FILM]),
        ("q=100%25", [FILM]),
        ("q=%25", [FILM]),
        ("q=_", []),
        ("q=%5C", []),
        ("sort=score", [THIRD, FILM, OTHER]),
        ("sort=score&order=asc", [OTHER, FILM, THIRD]),
        ("sort=rated_at&order=asc", [OTHER, THIRD, FILM]),
        ("sort=title&order=asc", [OTHER, FILM, THIRD]),
        ("sort=title", [FILM, OTHER, THIRD]),
        ("sort=release_date&order=asc", [FILM, OTHER, THIRD]),
        ("sort=release_date", [OTHER, FILM, THIRD]),
        ("limit=1&offset=1", [THIRD]),
        ("offset=3", []),
        ("sort=title&order=asc&limit=1&offset=1&min_score=1&year=1995", [FILM]),
    ],
)
async def test_ones_own_list_filtered_and_sorted(
    api: httpx.AsyncClient, query: str, expected: list[str]
) -> None:
    response = await api.get(f"/users/me/ratings?{query}", headers=as_user(ADA))
    assert response.status_code == 200
    assert [item["movie_id"] for item in response.json()["items"]] == expected


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("min_score=0", "min_score"),
        ("max_score=7.3", "max_score"),
        ("min_score=nan", "min_score"),
        ("year=0", "year"),
        ("sort=price", "sort"),
        ("order=up", "order"),
        ("limit=101", "limit"),
        ("limit=0", "limit"),
        ("offset=-1", "offset"),
        ("q=%00", "q"),
        ("q=", "q"),
        ("genre=%00", "genre"),
    ],
)
async def test_bad_parameters_are_named(api: httpx.AsyncClient, query: str, field: str) -> None:
    response = await api.get(f"/users/me/ratings?{query}", headers=as_user(ADA))
    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == [field]


@pytest.mark.usefixtures("rated")
async def test_all_of_a_user_and_their_summary(store: Any, make: Any) -> None:
    async with store.database.reading() as connection:
        everything = await ratings_of(connection, ADA)
        summary = await summary_of(connection, ADA)
        nothing = await summary_of(connection, "nobody")
    assert [rating["movie_id"] for rating in everything] == [FILM, THIRD, OTHER]
    assert everything[0] == {
        "movie_id": FILM,
        "title": "Toy Story 100%",
        "score": 8,
        "review": "Still good.",
        "rated_at": make.at(3),
    }
    assert (summary["count"], summary["mean"]) == (3, 23 / 3)
    assert {score for score, count in summary["histogram"].items() if count} == {
        "5.5",
        "8.0",
        "9.5",
    }
    assert (nothing["count"], nothing["mean"]) == (0, None)


async def test_the_list_of_somebody_who_rated_twenty_thousand_films(
    api: httpx.AsyncClient, store: Any
) -> None:
    """The usual order reads a page from the index; every other one still answers at once."""
    await store.execute("""
        INSERT INTO movies (movie_id, revision, present, title, vote_count, release_date)
        SELECT 'tmdb-' || n, 1, true, 'Film ' || n, n, date '1950-01-01' + n
        FROM generate_series(1, 20000) AS n
    """)
    await store.execute("""
        INSERT INTO ratings
        SELECT 'u2', 'tmdb-' || n, n % 20 + 1, NULL, now() - n * interval '1 second', n
        FROM generate_series(1, 20000) AS n
    """)
    await store.execute("""
        INSERT INTO aggregates
        SELECT movie_id, array_agg((step = half_steps)::int::bigint ORDER BY step), 1
        FROM ratings, generate_series(1, 20) AS step GROUP BY movie_id
    """)
    await store.execute("ANALYZE")
    for sort in ("rated_at", "score", "title", "release_date"):
        response = await api.get(f"/users/me/ratings?sort={sort}", headers=as_user("u2"))
        assert response.json()["total"] == 20_000
    plan = await store.rows("""
        EXPLAIN SELECT * FROM ratings WHERE user_id = 'u2' AND half_steps IS NOT NULL
        ORDER BY changed_at DESC, movie_id LIMIT 20
    """)
    assert any("ratings_of_user_by_time" in line for (line,) in plan)
    assert not any("Sort" in line for (line,) in plan)
