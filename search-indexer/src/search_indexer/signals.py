"""What searches tell: how often words were searched, found nothing, and what was opened. Pure.

Queries are counted by their folded words, so `The Matrix!` and `the matrix` are one; who searched
is not known here. Text that has no word in it is not counted.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date
from typing import Final

from moviemetric_contracts import SearchOpened, SearchPerformed

from search_indexer.folding import fold

MAX_QUERY: Final = 100


@dataclass(slots=True)
class QueryCounts:
    """What happened to one query on one day; `films` counts what was opened."""

    searches: int = 0
    no_results: int = 0
    opened: int = 0
    films: dict[str, int] = field(default_factory=dict[str, int])


def counted_query(text: str) -> str:
    """What a query is counted as: folded, and cut to `MAX_QUERY` characters."""
    return fold(text)[:MAX_QUERY].rstrip()


def count_signals(
    messages: Iterable[SearchPerformed | SearchOpened],
) -> dict[tuple[date, str], QueryCounts]:
    """The sums of a batch, by day (UTC) and query."""
    counts: dict[tuple[date, str], QueryCounts] = {}
    for message in messages:
        query = counted_query(message.query)
        if not query:
            continue
        moment = message.searched_at if isinstance(message, SearchPerformed) else message.opened_at
        entry = counts.setdefault((moment.astimezone(UTC).date(), query), QueryCounts())
        if isinstance(message, SearchPerformed):
            entry.searches += 1
            entry.no_results += message.total == 0
        else:
            entry.opened += 1
            entry.films[message.movie_id] = entry.films.get(message.movie_id, 0) + 1
    return counts
