import random
import string

import pytest
from ingest_service.formats.titles import MovieLensTitle, movielens_title, title_key
from moviemetric_contracts import movie_id_from_title


@pytest.mark.parametrize(
    ("text", "title", "original_title", "year"),
    [
        ("Toy Story (1995)", "Toy Story", None, 1995),
        ("American President, The (1995)", "The American President", None, 1995),
        (
            "City of Lost Children, The (Cité des enfants perdus, La) (1995)",
            "The City of Lost Children",
            "La Cité des enfants perdus",
            1995,
        ),
        (
            "Star Maker, The (Uomo delle stelle, L') (1995)",
            "The Star Maker",
            "L'Uomo delle stelle",
            1995,
        ),
        (
            "Twelve Monkeys (a.k.a. 12 Monkeys) (1995)",
            "Twelve Monkeys (a.k.a. 12 Monkeys)",
            None,
            1995,
        ),
        (
            "League of Extraordinary Gentlemen, The (a.k.a. LXG) (2003)",
            "The League of Extraordinary Gentlemen (a.k.a. LXG)",
            None,
            2003,
        ),
        (
            "Léon: The Professional (a.k.a. The Professional) (Léon) (1994)",
            "Léon: The Professional (a.k.a. The Professional)",
            "Léon",
            1994,
        ),
        ("(500) Days of Summer (2009)", "(500) Days of Summer", None, 2009),
        ("Lust, Caution (Se, jie) (2007)", "Lust, Caution", "Se, jie", 2007),
        ("Babylon 5", "Babylon 5", None, None),
        ("2001: A Space Odyssey", "2001: A Space Odyssey", None, None),
        ("Death Note: Desu nôto (2006–2007)", "Death Note: Desu nôto", None, 2006),  # noqa: RUF001
        ("96 Minutes (2011) ", "96 Minutes", None, 2011),
        ("Land Before Time III, The (1995) (V)", "The Land Before Time III", None, 1995),
        ("Paris, Texas (1984)", "Paris, Texas", None, 1984),
        ("(1995)", "(1995)", None, None),
        ("1984 (1984)", "1984", None, 1984),
    ],
)
def test_movielens_titles(
    text: str, title: str, original_title: str | None, year: int | None
) -> None:
    assert movielens_title(text) == MovieLensTitle(title, original_title, year)


@pytest.mark.parametrize(
    ("title", "year", "key"),
    [
        ("Toy Story", 1995, "title-toy-story-1995"),
        ("Toy Story", None, "title-toy-story-0000"),
        ("Amélie", 2001, "title-amelie-2001"),
        ("  M*A*S*H  ", 1970, "title-m-a-s-h-1970"),
        ("9", 2009, "title-9-2009"),
    ],
)
def test_keys_of_titles(title: str, year: int | None, key: str) -> None:
    assert title_key(title, year) == key


def test_the_short_way_gives_the_keys_of_the_contract() -> None:
    rnd = random.Random(20_240_101)
    letters = string.printable + "éÀßøÆ日本\u0130\u00aa\u2460\ufb01\x00\x7f"
    titles = ["".join(rnd.choices(letters, k=rnd.randint(0, 40))) for _ in range(5_000)]
    titles += ["".join(rnd.choices(string.printable, k=rnd.randint(0, 160))) for _ in range(5_000)]
    titles += ["", "-", "???", "a" * 120, "a" * 121, "a-" * 60, "a-" * 61, *map(chr, range(256))]
    for title in titles:
        for year in (None, 1, 1995):
            assert title_key(title, year) == movie_id_from_title(title, year), repr(title)
