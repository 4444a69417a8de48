"""What charts are filtered by: signatures of genres, and what follows from a film."""

from datetime import date

from compute_service.facets import NONE, Facets, genre_signature

GENRES = [
    "action",
    "adventure",
    "animation",
    "comedy",
    "crime",
    "documentary",
    "drama",
    "family",
    "fantasy",
    "history",
    "horror",
    "music",
    "mystery",
    "romance",
    "thriller",
    "war",
    "western",
]


def facets(**fields: object) -> Facets:
    known = {"release_date": None, "original_language": None, "vote_count": 0, "genre_keys": ()}
    return Facets.of(**(known | fields))  # pyright: ignore[reportArgumentType]


def bits(signature: int) -> int:
    return signature & (2**64 - 1)


def test_a_signature_never_changes() -> None:
    """Those that are stored were made with it."""
    assert genre_signature("drama") == 67_108_992
    assert genre_signature("western") == 8_590_983_168
    assert genre_signature("science fiction") == 576_461_851_815_051_264


def test_a_signature_is_a_bigint_with_one_or_two_bits() -> None:
    for number in range(2000):
        signature = genre_signature(f"genre {number}")
        assert -(2**63) <= signature < 2**63
        assert 1 <= bits(signature).bit_count() <= 2


def test_a_film_has_the_bits_of_its_genres_and_few_others() -> None:
    taken_for = 0
    for n, key in enumerate(GENRES):
        film = facets(genre_keys=(key, GENRES[n - 1]))
        for other in GENRES:
            has = film.genres & genre_signature(other) == genre_signature(other)
            assert has or other not in (key, GENRES[n - 1])
            taken_for += has and other not in (key, GENRES[n - 1])
    assert taken_for <= 0.05 * len(GENRES) ** 2


def test_what_is_not_known() -> None:
    assert facets() == NONE
    assert facets(genre_keys=("",)).genres != 0


def test_of_a_film() -> None:
    film = facets(release_date=date(1999, 3, 30), original_language="EN", vote_count=26_000)
    assert film == Facets(year=1999, language="en", votes=26_000)
