"""Which names are allowed, and which are the same."""

import pytest
from rating_service.names import UserName, search_key


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("ada", "ada"),
        ("Ada_L.1815-x", "Ada_L.1815-x"),
        ("Žofie", "Žofie"),
        ("Z\u030cofie", "Žofie"),  # a composed letter, written apart
        ("\uff21\uff24\uff21", "ADA"),  # full width
        ("ﬁnn", "finn"),  # a ligature
        ("Ольга", "Ольга"),
        ("山田太郎", "山田太郎"),
        ("x" * 30, "x" * 30),
    ],
)
def test_a_name_is_kept_in_nfkc(written: str, shown: str) -> None:
    assert UserName.parse(written).shown == shown


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ada", "ADA"),
        ("strauß", "STRAUSS"),
        ("σίσυφος", "ΣΊΣΥΦΟΣ"),
        ("Žofie", "z\u030cOFIE"),
        ("ada", "\uff21\uff24\uff21"),
        ("\u1e9e123", "ss123"),
    ],
)
def test_spellings_share_a_key(one: str, other: str) -> None:
    assert UserName.parse(one).key == UserName.parse(other).key
    assert search_key(one) == UserName.parse(one).key


def test_other_names_have_other_keys() -> None:
    assert len({UserName.parse(name).key for name in ("ada", "ada1", "a-da", "ad\u00e0")}) == 4


@pytest.mark.parametrize(
    "written",
    ["", "me", "\uff4d\uff45", "x" * 31, "x" * 100_000, "a" + "\u0301" * 400],
)
def test_the_length_counts_what_is_shown(written: str) -> None:
    with pytest.raises(ValueError, match="must have 3 to 30 characters"):
        UserName.parse(written)


@pytest.mark.parametrize(
    "character",
    [
        " ",
        "/",
        "@",
        "%",
        "\x00",
        "\n",
        "\u200b",  # no width
        "\u200d",  # joins
        "\u202e",  # turns the direction round
        "\u2060",
        "\ufeff",
        "\u00ad",  # soft hyphen
        "\u034f",  # a joiner among the marks
        "\ufe0f",  # a variation
        "\u0337",  # a mark that nothing composes with
        "\u3164",  # a letter that shows nothing
        "\u115f",
        "\uffa0",
        "\ud800",  # half a pair
        "🎬",
        "½",  # a fraction is written with a slash
    ],
)
def test_other_characters_are_refused(character: str) -> None:
    with pytest.raises(ValueError, match="may hold letters, digits"):
        UserName.parse(f"ab{character}c")


@pytest.mark.parametrize("written", ["...", "-_-", "___"])
def test_a_name_is_more_than_punctuation(written: str) -> None:
    with pytest.raises(ValueError, match="a letter or a digit"):
        UserName.parse(written)
