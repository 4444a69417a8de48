"""What charts are filtered by, beside each film's place in them.

`trends` holds these beside the rank keys, and its indexes of the rank keys carry them along. So a
walk down a chart that leaves most films out need not look them up: it passes some millions of films
a second instead of two hundred thousand. What it lets through is looked up in `movies`, which has
the last word, for of the genres there is only a signature: that of a film has all bits of the
signatures of its genres, and may by chance have those of another one (as in B. Bloom: Space/Time
Trade-offs in Hash Coding with Allowable Errors, CACM 1970).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from hashlib import sha256
from typing import Final

OTHER: Final = "?"
_BITS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Facets:
    """Of one film.

    Attributes:
        year: of its release; None: not known.
        language: the original one, in lower case; None: not known; `OTHER`: not in ASCII.
        votes: the source's.
        genres: the union of the signatures of its genres.
    """

    year: int | None = None
    language: str | None = None
    votes: int = 0
    genres: int = 0

    @classmethod
    def of(
        cls,
        *,
        release_date: date | None,
        original_language: str | None,
        vote_count: int,
        genre_keys: Iterable[str],
    ) -> "Facets":
        """Those of a film with these fields."""
        signature = 0
        for key in genre_keys:
            signature |= genre_signature(key)
        return cls(
            year=None if release_date is None else release_date.year,
            language=_language(original_language),
            votes=vote_count,
            genres=signature,
        )


def _language(text: str | None) -> str | None:
    # What is lower case beyond ASCII PostgreSQL and Python do not agree on.
    return text if text is None else text.lower() if text.isascii() else OTHER


NONE: Final = Facets()
"""Those of a key that is no film in the catalogue."""


@lru_cache(maxsize=1024)
def genre_signature(genre_key: str) -> int:
    """Two bits of 64 (or one, if they are the same), as PostgreSQL's signed `bigint`.

    Stored signatures depend on it: another function needs a migration that makes all of them anew.
    """
    digest = sha256(genre_key.encode()).digest()
    unsigned = (1 << (digest[0] % _BITS)) | (1 << (digest[1] % _BITS))
    return unsigned - (1 << _BITS) if unsigned >> (_BITS - 1) else unsigned
