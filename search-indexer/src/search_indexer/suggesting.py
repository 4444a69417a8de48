"""Which people of some films are meant by an unfinished name. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence

from search_indexer.folding import typing_errors, typo_budget, words


def matching_people(prefix: str, casts: Iterable[Sequence[str]], limit: int) -> list[str]:
    """The people who have every word of `prefix` in their name, the last as a beginning.

    Those spelled so come before those spelled nearly so, then who is in more of the films, then who
    is in an earlier one.

    Args:
        casts: the people of each film, best film first.
        limit: how many at most.
    """
    asked = words(prefix)
    if not asked:
        return []
    errors: dict[str, int | None] = {}
    films: Counter[str] = Counter()
    for cast in casts:
        for name in dict.fromkeys(cast):
            if name not in errors:
                errors[name] = _errors(asked, words(name))
            if errors[name] is not None:
                films[name] += 1
    # A sort keeps the order of equals, and a Counter that of the first time.
    return sorted(films, key=lambda name: (errors[name] or 0, -films[name]))[:limit]


def _errors(asked: Sequence[str], name: Sequence[str]) -> int | None:
    """Typing errors between what was asked and a name; None when it is another name."""
    left = list(name)
    total = 0
    for number, word in enumerate(asked, start=1):
        unfinished = number == len(asked)
        best = min(
            (
                (typing_errors(word, part[: len(word)] if unfinished else part), part)
                for part in left
            ),
            default=(1, ""),
        )
        if best[0] > typo_budget(word):
            return None
        total += best[0]
        left.remove(best[1])
    return total
