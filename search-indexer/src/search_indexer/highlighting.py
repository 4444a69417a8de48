"""Texts with what was found in them marked, as HTML that can be shown as it is. Pure."""

import html
from collections.abc import Callable, Sequence
from typing import Final

from search_indexer.folding import fold, word_spans

FIELDS: Final = ("title", "original_title", "people", "keywords", "overview")
SNIPPET_WORDS: Final = 30
_WORDS_BEFORE: Final = 8

Matches = Callable[[str], bool]
"""Whether a folded word was looked for."""


def marked(text: str, matches: Matches) -> str | None:
    """The text with `<mark>` around words that match; None when none does."""
    return _marked(text, word_spans(text), matches)


def marked_items(items: Sequence[str], matches: Matches) -> list[str]:
    """Those items in which a word matches, marked."""
    return [found for item in items if (found := marked(item, matches)) is not None]


def snippet(text: str, matches: Matches) -> str | None:
    """The part of the text around the first word that matches, marked; None when none does."""
    spans = word_spans(text)
    first = next((n for n, span in enumerate(spans) if matches(fold(text[slice(*span)]))), None)
    if first is None:
        return None
    start = max(0, min(first - _WORDS_BEFORE, len(spans) - SNIPPET_WORDS))
    shown = spans[start : start + SNIPPET_WORDS]
    begin = shown[0][0] if start else 0
    end = len(text) if shown[-1] == spans[-1] else shown[-1][1]
    part = text[begin:end]
    inside = _marked(part, [(a - begin, b - begin) for a, b in shown], matches)
    return f"{'…' if begin else ''}{inside}{'…' if end < len(text) else ''}"


def _marked(text: str, spans: Sequence[tuple[int, int]], matches: Matches) -> str | None:
    pieces: list[str] = []
    done = 0
    for start, end in spans:
        if matches(fold(text[start:end])):
            word = html.escape(text[start:end])
            pieces += [html.escape(text[done:start]), "<mark>", word, "</mark>"]
            done = end
    if not pieces:
        return None
    return "".join([*pieces, html.escape(text[done:])])
