"""Titles as MovieLens writes them, and the key of a film that has only a title."""

import re
from typing import Final, NamedTuple

from moviemetric_contracts import movie_id_from_title

_LONGEST_FAST: Final = 120  # longer slugs are cut and told apart by a digest

# Letters and digits in lower case, everything else a blank.
_TO_SLUG: Final = bytes(
    ord(chr(code).lower()) if code < 128 and chr(code).isalnum() else ord(" ")
    for code in range(256)
)

_YEAR: Final = re.compile(
    r"\((?P<year>[0-9]{4})(?:[-\u2013][0-9]{0,4})?\)(?:\s*\(T?V\))?$"  # (V): IMDb's "video"
)
_LAST_BRACKET: Final = re.compile(r"^(?P<head>.*\S)\s*\((?P<inside>[^()]*)\)$", re.DOTALL)
_ARTICLE: Final = re.compile(
    r"^(?P<rest>[^(]*\S), (?P<article>The|A|An|La|Le|Les|L'|Un|Une|Der|Die|Das|Den|De|Det|"
    r"Il|Lo|I|Gli|El|Los|Las|Una|O)(?P<tail> \(.*)?$",
    re.DOTALL,
)


class MovieLensTitle(NamedTuple):
    """The parts of "City of Lost Children, The (Cité des enfants perdus, La) (1995)"."""

    title: str
    original_title: str | None
    year: int | None


def title_key(title: str, year: int | None) -> str:
    """What `movie_id_from_title` gives, sooner for the titles that are plain ASCII."""
    if title.isascii():
        slug = b"-".join(title.encode("ascii").translate(_TO_SLUG).split()).decode("ascii")
        if slug and len(slug) <= _LONGEST_FAST:
            return f"title-{slug}-{year or 0:04d}"
    return movie_id_from_title(title, year)


def movielens_title(text: str) -> MovieLensTitle:
    """Takes the year off, turns articles round, and parts a title from the one in brackets.

    What begins with "a.k.a." is one more title and not the original one: it stays in the title.
    """
    text = text.strip()
    year: int | None = None
    found = _YEAR.search(text)
    if found and found.start() > 0:
        year = int(found["year"])
        text = text[: found.start()].rstrip()
    original: str | None = None
    bracket = _LAST_BRACKET.match(text)
    if bracket and bracket["inside"].strip() and not _is_alias(bracket["inside"]):
        text = bracket["head"]
        original = _article_first(bracket["inside"].strip())
    return MovieLensTitle(_article_first(text), original, year)


def _is_alias(inside: str) -> bool:
    return inside.casefold().lstrip().startswith(("a.k.a", "aka "))


def _article_first(text: str) -> str:
    found = _ARTICLE.match(text)
    if not found:
        return text
    article = found["article"]
    space = "" if article.endswith("'") else " "
    return f"{article}{space}{found['rest']}{found['tail'] or ''}"
