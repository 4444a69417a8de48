"""How text is made comparable: what a person types and what a title says must meet.

Folding happens here and not in the database, so that it does not depend on the locale the database
was created with, and so that whatever reaches a query language is made of letters and digits only:
no operator, quote or wildcard survives it.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

MAX_WORD: Final = 64
ARTICLES: Final = frozenset({"a", "an", "the"})

# Letters that no Unicode decomposition takes apart.
_PLAIN_LETTERS: Final = str.maketrans(
    {
        "ø": "o",
        "ł": "l",
        "đ": "d",
        "ð": "d",
        "þ": "th",
        "æ": "ae",
        "œ": "oe",
        "\u0131": "i",
        "ħ": "h",
    }
)
_APOSTROPHES: Final = re.compile(r"['\u2019\u02bc`\u00b4]")
# Scripts written without spaces: every character counts as a word.
_IDEOGRAPH: Final = re.compile(r"[\u3041-\u3096\u30a1-\u30fa\u30fc\u3400-\u4dbf\u4e00-\u9fff]")


# A letter or digit and what follows it within a word: marks, and apostrophes before a letter.
_WORD: Final = re.compile(
    r"[\u3041-\u3096\u30a1-\u30fa\u30fc\u3400-\u4dbf\u4e00-\u9fff]"
    r"|(?:(?![\u3041-\u3096\u30a1-\u30fa\u30fc\u3400-\u4dbf\u4e00-\u9fff])[^\W_]"
    r"(?:['\u2019\u02bc`\u00b4](?=[^\W_]))?[\u0300-\u036f\u0900-\u0dff]*)+"
)
_INITIALS: Final = re.compile(r"(?<!\w)(?:[^\W\d_]\.){2,}(?:[^\W\d_](?!\w))?")
_UNSTORABLE: Final = re.compile(r"[\x00\ud800-\udfff]")

# The same for text of nothing but ASCII, which most words are, without looking at every letter.
_ASCII: Final = str.maketrans(
    {chr(code): chr(code) if chr(code).isalnum() else " " for code in range(128)}
    | {"'": None, "`": None}
)


def is_word_character(character: str) -> bool:
    """Letters, digits, and marks that belong to a letter."""
    # Vowel signs of the Indic scripts are marks (M), and part of the word.
    return character.isalnum() or unicodedata.category(character)[0] == "M"


def fold(text: str) -> str:
    """Lower case, without accents and punctuation, words parted by one space.

    `Amélie!` → `amelie`, `Fast & Furious` → `fast and furious`, `Ocean's Eleven` → `oceans eleven`,
    `千と` → `千 と`. Text without any letter or digit gives an empty string.
    """
    text = text.replace("&", " and ")
    if text.isascii():
        return " ".join(text.lower().translate(_ASCII).split())
    folded = (
        word.lower().translate(_ASCII) if word.isascii() else _fold_any(word)
        for word in text.split()
    )
    return " ".join(" ".join(folded).split())


def _fold_any(text: str) -> str:
    text = _APOSTROPHES.sub("", text).casefold()
    decomposed = unicodedata.normalize("NFKD", text)
    bare = "".join(character for character in decomposed if not unicodedata.combining(character))
    bare = unicodedata.normalize("NFC", bare).casefold().translate(_PLAIN_LETTERS)
    spaced = "".join(character if is_word_character(character) else " " for character in bare)
    return _IDEOGRAPH.sub(r" \g<0> ", spaced)


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where the words of a text as it was written begin and end: `Ocean's 11` → (0, 7), (8, 10)."""
    return [match.span() for match in _WORD.finditer(text)]


def storable(text: str) -> str:
    """The text with what no database or JSON document can hold replaced: NUL, half surrogates."""
    return _UNSTORABLE.sub("\ufffd", text)


def words(text: str) -> list[str]:
    """The folded words of a text, each at most `MAX_WORD` characters, in order."""
    return [word[:MAX_WORD] for word in fold(text).split(" ") if word]


def query_words(text: str, *, limit: int = 10) -> list[str]:
    """The words a search must find: without articles unless there is nothing else."""
    distinct = list(dict.fromkeys(words(text)))
    return [word for word in distinct if word not in ARTICLES][:limit] or distinct[:limit]


def title_key(title: str) -> str:
    """What two ways of writing one title share: `The Spider-Man` and `spiderman` → `spiderman`."""
    return key_of_words(words(title))


def key_of_words(parts: Sequence[str]) -> str:
    """`title_key` of a title whose words are known."""
    if len(parts) > 1 and parts[0] in ARTICLES:
        parts = parts[1:]
    return "".join(parts)[:200]


def without_article(title: str) -> str:
    """`The Terminator` → `Terminator`; a title that is nothing but an article stays."""
    first, _, rest = title.partition(" ")
    return rest.lstrip() or title if first.casefold() in ARTICLES else title


def bare_title(title: str) -> str:
    """The title as others may write it: without its article, and initials as one word.

    `The Man from U.N.C.L.E.` → `Man from UNCLE`.
    """
    return without_article(_INITIALS.sub(lambda found: found[0].replace(".", ""), title))


def initials(text: str) -> list[str]:
    """What is written letter by letter, as a word: `The Man from U.N.C.L.E.` → `uncle`."""
    return [fold(found.replace(".", "")) for found in _INITIALS.findall(text)]


def typo_budget(word: str) -> int:
    """How many typing errors a word may have: 1 from four letters, 2 from eight, 0 in numbers."""
    if any(character.isdigit() for character in word):
        return 0
    return 2 if len(word) >= 8 else 1 if len(word) >= 4 else 0


def typing_errors(a: str, b: str) -> int:
    """Letters added, left out, replaced or swapped with their neighbour to get from `a` to `b`.

    Optimal string alignment distance, O(len(a)·len(b)).
    """
    before_last: list[int] = []
    last = list(range(len(b) + 1))
    for i, letter in enumerate(a, start=1):
        current = [i]
        for j, other in enumerate(b, start=1):
            cost = min(last[j] + 1, current[j - 1] + 1, last[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == b[j - 2] and a[i - 2] == other:
                cost = min(cost, before_last[j - 2] + 1)
            current.append(cost)
        before_last, last = last, current
    return last[-1]
