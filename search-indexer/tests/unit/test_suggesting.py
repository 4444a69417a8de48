"""Which people are meant by what is being typed."""

import pytest
from search_indexer.suggesting import matching_people

CASTS = [
    ["Christopher Nolan", "Leonardo DiCaprio"],
    ["Leonardo DiCaprio", "Kate Winslet", "Leonardo Nam"],
    ["Kate Winslet", "Kate Hudson", "Christopher Plummer"],
]


@pytest.mark.parametrize(
    ("prefix", "people"),
    [
        ("leo", ["Leonardo DiCaprio", "Leonardo Nam"]),
        ("LEONARDO N", ["Leonardo Nam"]),
        ("dicaprio leo", ["Leonardo DiCaprio"]),
        ("kat", ["Kate Winslet", "Kate Hudson"]),
        ("cristopher", ["Christopher Nolan", "Christopher Plummer"]),
        ("winslt", ["Kate Winslet"]),
        ("kate nolan", []),
        ("kate kate", []),
        ("tom", []),
        ("???", []),
    ],
)
def test_people(prefix: str, people: list[str]) -> None:
    """All words in one name, the last as a beginning; who is in more films first."""
    assert matching_people(prefix, CASTS, 5) == people


def test_no_more_than_asked_for() -> None:
    assert matching_people("k", CASTS, 1) == ["Kate Winslet"]
