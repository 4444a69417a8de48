"""Folding: what a person types and what a title says must meet."""

import pytest
from search_indexer.folding import (
    bare_title,
    fold,
    initials,
    query_words,
    storable,
    title_key,
    typing_errors,
    typo_budget,
    without_article,
    word_spans,
    words,
)


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Amélie", "amelie"),
        ("Le Fabuleux Destin d'Amélie Poulain", "le fabuleux destin damelie poulain"),
        ("Fast & Furious", "fast and furious"),
        ("WALL·E", "wall e"),
        ("  Spider-Man:\tNo Way Home ", "spider man no way home"),
        ("Æon Flux, Smørrebrød, Łódź", "aeon flux smorrebrod lodz"),
        ("STRASSE Straße", "strasse strasse"),
        ("İstanbul ISTANBUL", "istanbul istanbul"),
        ("千と千尋", "千 と 千 尋"),
        ("Бригада Ёлки", "бригада елки"),
        ("शोले", "शोले"),
        ("2001: A Space Odyssey", "2001 a space odyssey"),
        ("' OR 1=1; -- \\ % _ \x00 💥 :*&|!<->()", "or 1 1 and"),
        ("", ""),
        ("!?…", ""),
    ],
)
def test_folding(text: str, folded: str) -> None:
    """Case, accents, punctuation and script do not matter."""
    assert fold(text) == folded
    assert fold(folded) == folded


@pytest.mark.parametrize("code", range(128))
def test_every_ascii_character_in_a_word(code: int) -> None:
    """Alone and beside letters of other alphabets, which are folded in another way."""
    character = chr(code)
    if character in "'`":
        expected = "xy"
    elif character == "&":
        expected = "x and y"
    elif character.isalnum():
        expected = f"x{character}y".lower()
    else:
        expected = "x y"
    assert fold(f"X{character}Y") == expected
    assert fold(f"É{character}Y") == expected.replace("x", "e", 1)
    assert fold(f"X{character}Y Ø") == f"{expected} o"


def test_folded_words_have_no_character_with_a_meaning_in_a_query_language() -> None:
    """Over all of the first plane: nothing but letters, digits and marks survives."""
    everything = "".join(chr(code) for code in range(0x10000) if not 0xD800 <= code <= 0xDFFF)
    survived = set(fold(everything))
    assert not survived & set("'\"\\%_:*&|!<>()-;,.\x00\n\t`$")


def test_long_words_are_cut() -> None:
    """Engines limit the length of a word."""
    assert words("x" * 5000) == ["x" * 64]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("the dark knight", ["dark", "knight"]),
        ("The", ["the"]),
        ("an the a", ["an", "the", "a"]),
        ("no no no", ["no"]),
        (" ".join(f"w{n}" for n in range(30)), [f"w{n}" for n in range(10)]),
    ],
)
def test_query_words(query: str, expected: list[str]) -> None:
    """Articles only matter when there is nothing else, and ten words are enough."""
    assert query_words(query) == expected


@pytest.mark.parametrize(
    "spelling", ["Spider-Man", "spiderman", "SPIDER MAN", "The Spider-Man", "spíder man!"]
)
def test_one_title_has_one_key(spelling: str) -> None:
    """However it is spelled."""
    assert title_key(spelling) == "spiderman"


@pytest.mark.parametrize(
    ("title", "bare"),
    [("The Terminator", "Terminator"), ("A  Man", "Man"), ("The", "The"), ("Thelma", "Thelma")],
)
def test_a_title_without_its_article(title: str, bare: str) -> None:
    """Only whole words, and only where something is left."""
    assert without_article(title) == bare


@pytest.mark.parametrize(
    ("title", "words", "bare"),
    [
        ("The Man from U.N.C.L.E.", ["uncle"], "Man from UNCLE"),
        ("E.T. the Extra-Terrestrial", ["et"], "ET the Extra-Terrestrial"),
        ("S.W.A.T", ["swat"], "SWAT"),
        ("Dr. No", [], "Dr. No"),
        ("J.J. Abrams", ["jj"], "JJ Abrams"),
        ("3.5.7", [], "3.5.7"),
    ],
)
def test_initials_are_a_word_as_well(title: str, words: list[str], bare: str) -> None:
    """As people type them."""
    assert initials(title) == words
    assert bare_title(title) == bare


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Ocean's 11", ["Ocean's", "11"]),
        ("l\u2019\u00e9t\u00e9, WALL\u00b7E!", ["l\u2019\u00e9t\u00e9", "WALL", "E"]),
        ("'quoted' a_b", ["quoted", "a", "b"]),
        ("Cafe\u0301", ["Cafe\u0301"]),
        ("???", []),
    ],
)
def test_words_where_they_stand(text: str, found: list[str]) -> None:
    """With what belongs to them, and nothing around it."""
    assert [text[slice(*span)] for span in word_spans(text)] == found


def test_what_nothing_can_store_is_replaced() -> None:
    """NUL and halves of surrogate pairs."""
    assert storable("a\x00b\ud800c\U0001f600") == "a\ufffdb\ufffdc\U0001f600"


@pytest.mark.parametrize(
    ("a", "b", "errors"),
    [
        ("incepton", "inception", 1),
        ("inceptoin", "inception", 1),
        ("inxeption", "inception", 1),
        ("knigt", "knight", 1),
        ("kitten", "sitting", 3),
        ("", "abc", 3),
        ("same", "same", 0),
        ("ca", "abc", 3),
    ],
)
def test_typing_errors(a: str, b: str, errors: int) -> None:
    """Additions, omissions, replacements and swaps count one each."""
    assert typing_errors(a, b) == typing_errors(b, a) == errors


@pytest.mark.parametrize(
    ("word", "budget"),
    [("cat", 0), ("jaws", 1), ("matrix", 1), ("inception", 2), ("2001", 0), ("1917s", 0)],
)
def test_typo_budget(word: str, budget: int) -> None:
    """Short words and numbers must be right."""
    assert typo_budget(word) == budget
