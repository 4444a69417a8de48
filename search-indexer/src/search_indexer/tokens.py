"""What films are found by in PostgreSQL, and how words become queries for it. Pure.

A film has one set of tokens: words of titles (`t/knight`), people (`p/nolan`) and keywords
(`g/heist`), its titles written without spaces (`k/darkknight`), and English stems of everything
that is prose, bare. One index over them answers "in the title", "in any name", "anywhere".

Nothing in a query text comes from outside but folded words, which are letters, digits and marks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

TITLE: Final = "t/"
PERSON: Final = "p/"
KEYWORD: Final = "g/"
KEY: Final = "k/"
_NAMES: Final = (TITLE, PERSON, KEYWORD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A word of a query and what may stand in for it.

    Attributes:
        unfinished: it may be the beginning of a word.
        stem: None of a word that English prose leaves out, such as `of`.
        corrections: known words that it may have been meant for; as unfinished as it is itself.
    """

    word: str
    unfinished: bool
    stem: str | None
    corrections: tuple[str, ...] = ()


def quoted(tokens: Iterable[str]) -> str:
    """Tokens as a tsvector is written."""
    # Folded words are letters, digits and marks, so nothing in them can end the quotes.
    return " ".join(f"'{token}'" for token in dict.fromkeys(tokens))


def tokens_of(
    *, titles: Sequence[str], keys: Sequence[str], people: Sequence[str], keywords: Sequence[str]
) -> str:
    """The tokens of a film but for its stems, from folded words."""
    return quoted(
        (
            *(TITLE + word for word in titles),
            *(KEY + key for key in keys if key),
            *(PERSON + word for word in people),
            *(KEYWORD + word for word in keywords),
        )
    )


def exact_title(key: str) -> str:
    """A title is this, spaces aside; matches nothing without a key."""
    return f"'{KEY}{key}'" if key else ""


def title_begins(key: str) -> str:
    """A title begins with this, spaces aside."""
    return f"'{KEY}{key}':*" if key else ""


def in_title(terms: Sequence[Term], *, finished: bool = False) -> str:
    """All words in titles; `finished`: as whole words."""
    return _all((TITLE,), terms, finished=finished)


def in_people(terms: Sequence[Term]) -> str:
    """All words in names of people."""
    return _all((PERSON,), terms, finished=False)


def in_names(terms: Sequence[Term], *, finished: bool = False) -> str:
    """All words in titles, people and keywords together."""
    return _all(_NAMES, terms, finished=finished)


def anywhere(terms: Sequence[Term], key: str) -> str:
    """All words in names or, by their stem, in prose; or the beginning of a title.

    Words that prose leaves out need not be there, unless there are no others.
    """
    needed = [term for term in terms if term.stem is not None] or list(terms)
    words = " & ".join(_any(_NAMES, term, finished=False, stems=True) for term in needed)
    return " | ".join(part for part in (f"({words})", title_begins(key)) if part)


def _all(places: Sequence[str], terms: Sequence[Term], *, finished: bool) -> str:
    return " & ".join(_any(places, term, finished=finished, stems=False) for term in terms)


def _any(places: Sequence[str], term: Term, *, finished: bool, stems: bool) -> str:
    mark = ":*" if term.unfinished and not finished else ""
    options = [
        f"'{place}{word}'{mark}" for word in (term.word, *term.corrections) for place in places
    ]
    if stems and term.stem is not None:
        options.append(f"'{term.stem}'")
    return f"({' | '.join(options)})"
