"""Which film a key belongs to follows from the claims and the catalogue alone."""

import itertools
import random

import pytest
from compute_service.aliases import Claim, films_by_key

TMDB, OTHER, IMDB, LENS, TITLE = (
    "tmdb-862",
    "tmdb-863",
    "imdb-tt0114709",
    "movielens-1",
    "title-a-1",
)


@pytest.mark.parametrize(
    ("claims", "in_catalogue", "expected"),
    [
        pytest.param([], [TMDB], {}, id="nothing claimed"),
        pytest.param(
            [(IMDB, TMDB), (LENS, TMDB)],
            [TMDB],
            {TMDB: TMDB, IMDB: TMDB, LENS: TMDB},
            id="two other keys",
        ),
        pytest.param(
            [(TITLE, IMDB), (IMDB, TMDB)],
            [TMDB],
            {TMDB: TMDB, IMDB: TMDB, TITLE: TMDB},
            id="a chain",
        ),
        pytest.param(
            [(IMDB, TMDB)],
            [TMDB, IMDB],
            {TMDB: TMDB, IMDB: TMDB},
            id="the removal of the worse key is still to come",
        ),
        pytest.param(
            [(IMDB, TMDB)],
            [IMDB],
            {TMDB: TMDB, IMDB: IMDB},
            id="the better film is gone, the other one came back",
        ),
        pytest.param([(IMDB, TMDB)], [], {TMDB: TMDB, IMDB: TMDB}, id="both are gone"),
        pytest.param(
            [(TMDB, OTHER)],
            [TMDB, OTHER],
            {TMDB: TMDB, OTHER: OTHER},
            id="two films of the same source until one is removed",
        ),
        pytest.param(
            [(TMDB, OTHER)], [OTHER], {TMDB: OTHER, OTHER: OTHER}, id="... and when it is removed"
        ),
        pytest.param(
            [(LENS, TMDB), (LENS, OTHER)],
            [TMDB, OTHER],
            {LENS: TMDB, TMDB: TMDB, OTHER: OTHER},
            id="two claim one key: the lower number has it, and both stay films",
        ),
        pytest.param(
            [(LENS, TMDB), (LENS, OTHER)],
            [OTHER],
            {LENS: OTHER, TMDB: TMDB, OTHER: OTHER},
            id="... rather than the one that is gone",
        ),
        pytest.param(
            [(TMDB, OTHER), (OTHER, TMDB), (LENS, OTHER)],
            [],
            {TMDB: TMDB, OTHER: TMDB, LENS: TMDB},
            id="films that claim each other",
        ),
        pytest.param(
            [("tmdb-10", IMDB), ("tmdb-9", IMDB), (LENS, "tmdb-10"), (LENS, "tmdb-9")],
            [],
            {"tmdb-10": IMDB, "tmdb-9": IMDB, IMDB: IMDB, LENS: IMDB},
            id="any key follows while none is in the catalogue",
        ),
    ],
)
def test_the_film_of_each_key(
    claims: list[tuple[str, str]], in_catalogue: list[str], expected: dict[str, str]
) -> None:
    for order in itertools.permutations([Claim(*claim) for claim in claims]):
        assert films_by_key(order, in_catalogue) == expected


def test_whatever_is_claimed_every_key_has_one_film_that_has_none() -> None:
    keys = [
        f"{source}{n}" for source in ("tmdb-", "imdb-tt000000", "movielens-") for n in (1, 2, 3)
    ]
    chance = random.Random(4)
    for _ in range(2000):
        claims = {Claim(*chance.sample(keys, 2)) for _ in range(chance.randint(1, 12))}
        films = films_by_key(claims, chance.sample(keys, chance.randint(0, 9)))
        assert films.keys() == {key for claim in claims for key in (claim.alias, claim.movie_id)}
        assert all(films[film] == film for film in films.values())
