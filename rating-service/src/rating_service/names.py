"""Names of users: which are allowed, and when two are the same.

A name is kept in Unicode's form NFKC, in which full-width letters, ligatures and the like are
ordinary ones. It has 3 to 30 letters or digits of any script, `_`, `.` and `-`. Marks that combine
with the letter before are letters' parts only where NFKC composes the two; other marks, and the
letters that show nothing, are refused: names that look the same could be made with them.

Two names are the same if they differ in case alone; `Strauß` and `STRAUSS` are the same.
"""

import unicodedata
from dataclasses import dataclass
from typing import Final, Self

MIN_LENGTH: Final = 3
MAX_LENGTH: Final = 30
# Even decomposed, a name that is allowed is no longer; it bounds the work on longer input.
MAX_RAW_LENGTH: Final = 300

_PUNCTUATION: Final = frozenset("_.-")
# The fillers of Hangul count as letters.
_INVISIBLE: Final = frozenset("\u115f\u1160\u3164\uffa0")


@dataclass(frozen=True, slots=True)
class UserName:
    """A name as it is shown, and the key that all its spellings share."""

    shown: str
    key: str

    @classmethod
    def parse(cls, raw: str) -> Self:
        """The name that somebody wrote.

        Raises:
            ValueError: it is not allowed; the message says why.
        """
        if len(raw) > MAX_RAW_LENGTH:
            raise ValueError(_LENGTH_MESSAGE)
        shown = unicodedata.normalize("NFKC", raw)
        if not MIN_LENGTH <= len(shown) <= MAX_LENGTH:
            raise ValueError(_LENGTH_MESSAGE)
        if not all(map(_is_allowed, shown)):
            msg = "may hold letters, digits, '_', '.' and '-' only"
            raise ValueError(msg)
        if _PUNCTUATION.issuperset(shown):
            msg = "must hold a letter or a digit"
            raise ValueError(msg)
        return cls(shown, _key(shown))


def search_key(raw: str) -> str:
    """What a part of a name is compared as with the keys of names."""
    return _key(unicodedata.normalize("NFKC", raw))


def _is_allowed(character: str) -> bool:
    return (character.isalnum() and character not in _INVISIBLE) or character in _PUNCTUATION


def _key(shown: str) -> str:
    return unicodedata.normalize("NFKC", shown.casefold())


_LENGTH_MESSAGE: Final = f"must have {MIN_LENGTH} to {MAX_LENGTH} characters"
