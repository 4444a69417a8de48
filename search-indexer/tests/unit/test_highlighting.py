"""What was found, marked: whole words as they are written, safe to show."""

from collections.abc import Callable

import pytest
from search_indexer.folding import word_spans
from search_indexer.highlighting import SNIPPET_WORDS, marked, marked_items, snippet


def among(*words: str) -> Callable[[str], bool]:
    return lambda word: word in words


@pytest.mark.parametrize(
    ("text", "words", "html"),
    [
        ("The Dark Knight", ("dark",), "The <mark>Dark</mark> Knight"),
        ("Amélie", ("amelie",), "<mark>Amélie</mark>"),
        ("Ocean's Eleven", ("oceans",), "<mark>Ocean&#x27;s</mark> Eleven"),
        ("WALL·E", ("e",), "WALL·<mark>E</mark>"),
        ("千と千尋", ("千",), "<mark>千</mark>と<mark>千</mark>尋"),
        ("शोले", ("शोले",), "<mark>शोले</mark>"),
        (
            '<b>Fast</b> & "Furious"',
            ("b",),
            "&lt;<mark>b</mark>&gt;Fast&lt;/<mark>b</mark>&gt; &amp; &quot;Furious&quot;",
        ),
        ("<mark>", ("mark",), "&lt;<mark>mark</mark>&gt;"),
        ("nothing of it", ("else",), None),
        ("", ("x",), None),
    ],
)
def test_marking(text: str, words: tuple[str, ...], html: str | None) -> None:
    assert marked(text, among(*words)) == html


def test_only_items_that_match_are_kept() -> None:
    names = ["Kate Winslet", "Leonardo DiCaprio", "Kate Bush"]
    assert marked_items(names, among("kate")) == [
        "<mark>Kate</mark> Winslet",
        "<mark>Kate</mark> Bush",
    ]


def test_a_short_text_is_shown_whole() -> None:
    assert snippet("A thief & more.", among("thief")) == "A <mark>thief</mark> &amp; more."


@pytest.mark.parametrize("place", [0, 5, 50, 95, 99])
def test_of_a_long_text_the_part_around_the_first_match_is_shown(place: int) -> None:
    words = [f"word{n}" for n in range(100)]
    words[place] = "here"
    shown = snippet(" ".join(words), among("here"))
    assert shown is not None
    assert "<mark>here</mark>" in shown
    assert len(word_spans(shown.replace("<mark>", "").replace("</mark>", ""))) == SNIPPET_WORDS
    assert shown.startswith("…") == ("word0" not in shown.split() and place > 0)
    assert shown.endswith("…") == (place < 95)


def test_a_text_without_a_match_is_not_shown() -> None:
    assert snippet("word " * 100, among("here")) is None
