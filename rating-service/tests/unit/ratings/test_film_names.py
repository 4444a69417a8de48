"""Who gets a key that films claim: a minimum, so in any order the same one."""

import itertools

import pytest
from rating_service.ratings.film_keys import film_of, is_better, may_claim

TMDB, IMDB, LENS, TITLE = "tmdb-862", "imdb-tt0114709", "movielens-1", "title-a-1995"


@pytest.mark.parametrize(
    ("movie_id", "alias", "expected"),
    [
        (TMDB, IMDB, True),
        (IMDB, LENS, True),
        (LENS, TITLE, True),
        (TITLE, TMDB, False),
        (IMDB, TMDB, False),
        (TMDB, "tmdb-863", False),
        (TMDB, TMDB, False),
    ],
)
def test_only_better_kinds_of_keys_claim(movie_id: str, alias: str, expected: bool) -> None:
    assert may_claim(movie_id, alias) is expected


@pytest.mark.parametrize(
    ("films", "best"),
    [
        ([LENS, TMDB, IMDB], TMDB),
        (["tmdb-10", "tmdb-9", IMDB], "tmdb-9"),
        ([LENS, IMDB], IMDB),
    ],
)
def test_the_best_film_gets_the_key(films: list[str], best: str) -> None:
    for order in itertools.permutations(films):
        owner: str | None = None
        for film in order:
            if is_better(film, owner):
                owner = film
        assert owner == best
    assert not is_better(best, best)


def test_a_claimed_film_passes_on_what_is_its_own() -> None:
    claimed_by = {TITLE: LENS, LENS: IMDB, IMDB: TMDB, TMDB: None}
    assert [film_of(key, claimed_by) for key in (TITLE, LENS, IMDB, TMDB)] == [TMDB] * 4
    assert film_of("tmdb-5", claimed_by) == "tmdb-5"
