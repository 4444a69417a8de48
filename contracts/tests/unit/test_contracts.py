"""The envelope, the registry, the field types and the golden schema files."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from moviemetric_contracts import (
    REGISTRY,
    Event,
    Exchange,
    MalformedEventError,
    MovieViewed,
    RateMovie,
    RatingAggregated,
    RegisterMovie,
    UndecodableEventError,
    UnknownTypeError,
    UnknownVersionError,
    binding_key,
    decode,
    decode_fields,
    key_rank,
    movie_id_from_title,
    parse_movie_id,
    tmdb_id_of,
)
from moviemetric_contracts.schemas import schema_files
from pydantic import ValidationError

SCHEMAS = Path(__file__).parents[2] / "schemas"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def view(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "specversion": "1.0",
        "id": "view-1",
        "source": "/test",
        "type": "movie.viewed.v1",
        "time": "2026-03-01T12:00:00Z",
        "datacontenttype": "application/json",
        "data": {"movie_id": "tmdb-603", "viewed_at": "2026-03-01T12:00:00Z"},
    }
    return fields | changes


def test_schemas_are_the_ones_that_were_published() -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in SCHEMAS.glob("*.json")}
    assert written == dict(schema_files()), (
        "the contracts changed: is it a new version? If producers and consumers of the old one "
        "still work, run python -m moviemetric_contracts.schemas contracts/schemas"
    )


def test_every_architecture_type_is_registered_on_its_exchange() -> None:
    commands = {t for t, cls in REGISTRY.items() if cls.EXCHANGE is Exchange.COMMANDS}
    assert commands == {
        "movie.register.v1",
        "movie.refresh.v1",
        "movie.rate.v1",
        "movie.unrate.v1",
        "catalog.ingest.v1",
        "catalog.import.v1",
        "job.cancel.v1",
        "job.retry.v1",
        "compute.run.v1",
        "search.rebuild.v1",
        "search.repair.v1",
    }
    assert set(REGISTRY) - commands == {
        "movie.viewed.v1",
        "movie.upserted.v1",
        "movie.removed.v1",
        "movie.rated.v1",
        "movie.unrated.v1",
        "rating.aggregated.v1",
        "user.erased.v1",
        "trend.updated.v1",
        "artifact.computed.v1",
        "search.rebuilt.v1",
        "search.performed.v1",
        "search.opened.v1",
        "job.changed.v1",
        "admin.acted.v1",
    }


def test_an_event_survives_the_wire_and_fits_its_schema() -> None:
    cause = Event.of(RegisterMovie(tmdb_id=603), source="/test", time=NOON, correlationid="c-1")
    event = Event.of(
        MovieViewed(movie_id="tmdb-603", viewed_at=NOON, user_id="ann"),
        source="/test",
        time=NOON,
        cause=cause,
    )
    body = event.to_bytes()
    assert decode(body, hint="movie.viewed.v1") == event
    assert decode(body) == event
    assert json.loads(body) == {
        "specversion": "1.0",
        "id": event.id,
        "source": "/test",
        "type": "movie.viewed.v1",
        "time": "2026-03-01T12:00:00Z",
        "subject": "tmdb-603",
        "datacontenttype": "application/json",
        "correlationid": "c-1",
        "causationid": cause.id,
        "data": {"movie_id": "tmdb-603", "viewed_at": "2026-03-01T12:00:00Z", "user_id": "ann"},
    }
    schema = json.loads((SCHEMAS / "movie.viewed.v1.json").read_text(encoding="utf-8"))
    jsonschema.validate(json.loads(body), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(view(data={"movie_id": "tmdb-603", "seen": 1}), schema)


def test_extensions_that_are_not_known_are_allowed() -> None:
    assert decode_fields(view(partitionkey="a")).id == "view-1"


def test_the_type_in_the_body_counts_not_the_hint() -> None:
    body = json.dumps(view(type="movie.register.v1", data={"tmdb_id": 603})).encode()
    assert decode(body, hint="movie.viewed.v1").data == RegisterMovie(tmdb_id=603)


DATA = {"movie_id": "tmdb-603", "viewed_at": "2026-03-01T12:00:00Z"}


def raw(**changes: Any) -> bytes:
    return json.dumps(view(**changes)).encode()


@pytest.mark.parametrize(
    ("body", "error", "named"),
    [
        (b"", MalformedEventError, "not JSON"),
        (b"\xff\xfe", MalformedEventError, "not JSON"),
        (b"[" * 100_000, MalformedEventError, "not JSON"),
        (b"[]", MalformedEventError, "object"),
        (b"null", MalformedEventError, "object"),
        (b"{}", MalformedEventError, "type"),
        (b'{"type": 1}', MalformedEventError, "type"),
        (raw(type="film.viewed.v1"), UnknownTypeError, "film.viewed.v1"),
        (raw(type="movie.viewed.v7"), UnknownVersionError, "movie.viewed.v1"),
        (raw(specversion="0.3"), MalformedEventError, "specversion"),
        (raw(id=""), MalformedEventError, "id"),
        (raw(id="x" * 201), MalformedEventError, "id"),
        (raw(id="a\nb"), MalformedEventError, "id"),
        (raw(id=7), MalformedEventError, "id"),
        (raw(time="noon"), MalformedEventError, "time"),
        (raw(data=None), MalformedEventError, "data"),
        (raw(data={}), MalformedEventError, "data.movie_id"),
        (raw(data=DATA | {"seen": 1}), MalformedEventError, "data.seen"),
        (
            raw(data=DATA | {"movie_id": "603"}),
            MalformedEventError,
            "movie_id",
        ),
        (
            raw(data=DATA | {"viewed_at": "2026-03-01T12:00:00"}),
            MalformedEventError,
            "data.viewed_at",
        ),
        (
            raw(data=DATA | {"viewed_at": "9999-12-31T23:59:59-14:00"}),
            MalformedEventError,
            "data.viewed_at",
        ),
        (
            raw(data=DATA | {"user_id": "a\0b"}),
            MalformedEventError,
            "user_id",
        ),
        (
            raw(data=DATA | {"user_id": "\ud800"}),
            MalformedEventError,
            "JSON|surrogate|string",
        ),
    ],
)
def test_what_cannot_be_read_says_what_is_wrong(
    body: bytes, error: type[UndecodableEventError], named: str
) -> None:
    with pytest.raises(error, match=named) as raised:
        decode(body, hint="movie.viewed.v1")
    assert raised.value.reason
    assert len(raised.value.reason) < 2500


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(token: str) -> None:
    body = json.dumps(
        view(type="movie.rate.v1", data={"movie_id": "tmdb-603", "user_id": "ann", "score": 7})
    ).replace('"score": 7', f'"score": {token}')
    with pytest.raises(MalformedEventError, match=r"data\.score"):
        decode(body.encode())


@pytest.mark.parametrize("score", [0, 0.25, 10.5, -1, 7.3])
def test_scores_are_halves_from_one_half_to_ten(score: float) -> None:
    with pytest.raises(ValidationError):
        RateMovie(movie_id="tmdb-603", user_id="ann", score=score)


@pytest.mark.parametrize("score", [0.5, 1, 7.5, 10])
def test_good_scores(score: float) -> None:
    assert RateMovie(movie_id="tmdb-603", user_id="ann", score=score).score == score


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("27205", "tmdb-27205"),
        ("tmdb-27205", "tmdb-27205"),
        ("imdb-tt1375666", "imdb-tt1375666"),
        ("movielens-79132", "movielens-79132"),
        ("title-the-host-2006", "title-the-host-2006"),
    ],
)
def test_movie_ids(text: str, key: str) -> None:
    assert parse_movie_id(text) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-1",
        "027205",
        "99999999999",
        "tmdb-0",
        "tmdb-9999999999",
        "imdb-1375666",
        "title-x",
        "title--2006",
        "title-a-",
        "٢٧",
        "tmdb-1\n",
        "27205\n",
        "title-a-2006\n",
        "a" * 300,
    ],
)
def test_no_movie_ids(text: str) -> None:
    with pytest.raises(ValueError, match="is no movie id"):
        parse_movie_id(text)


def test_tmdb_id_of() -> None:
    assert tmdb_id_of("tmdb-27205") == 27205
    assert tmdb_id_of("imdb-tt1375666") is None


def test_binding_key_covers_all_versions() -> None:
    assert binding_key("movie.viewed.v1") == "movie.viewed.*"


@pytest.mark.parametrize(
    ("title", "year", "key"),
    [
        ("Toy Story", 1995, "title-toy-story-1995"),
        ("AMÉLIE!", 2001, "title-amelie-2001"),
        ("8½", 1963, "title-812-1963"),
        ("  --  It's --", None, "title-it-s-0000"),
    ],
)
def test_a_title_makes_a_key(title: str, year: int | None, key: str) -> None:
    assert movie_id_from_title(title, year) == key
    assert parse_movie_id(key) == key


def test_titles_that_differ_only_in_what_latin_cannot_say_have_keys_of_their_own() -> None:
    titles = ["千と千尋の神隠し", "もののけ姫", "Москва 2000", "Киев 2000", "2000", "!!!", "???"]
    titles += ["x" * 300, "x" * 299 + "y"]
    keys = [movie_id_from_title(title, 2000) for title in titles]
    assert len(set(keys)) == len(titles)
    assert all(parse_movie_id(key) == key for key in keys)


def test_keys_have_ranks() -> None:
    keys = ["tmdb-1", "imdb-tt0000001", "movielens-1", "title-a-2000"]
    assert [key_rank(key) for key in keys] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="other"):
        key_rank("other-1")


def test_an_aggregate_without_ratings_can_be_read_again() -> None:
    empty = RatingAggregated(movie_id="tmdb-603", count=0, histogram=(0,) * 20, revision=2)
    written = Event.of(empty, source="/test", time=datetime(2026, 3, 1, tzinfo=UTC))
    assert decode(written.to_bytes()).data == empty
