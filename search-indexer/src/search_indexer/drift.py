"""Whether an index holds what it should: compared with the films in pages, in bounded memory.

A film is *missing* when it can be found by what was told and is not in the index, *surplus* when it
is there and should not be, and *outdated* when it is there in another state: of the document, the
trend or the ratings, by their revisions; in PostgreSQL, whose index is derived in the transaction
that stores a film, by the facts that are kept a second time and by the rules that were applied.

Of an external index, what `index_changes` names is no fault: somebody is about to send it, unless
the index has refused it. As films change while they are compared, whatever seems wrong is looked at
a second time.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from service_kit import Database

from search_indexer import upkeep_repository
from search_indexer.documents import Stamp
from search_indexer.engine import DocumentIndex
from search_indexer.upkeep_repository import Truth

PAGE: Final = 1000
SAMPLE: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftPage:
    """What was found wrong with some films. `miscounted`: groups of films with a wrong count."""

    checked: int
    missing: Sequence[str] = ()
    surplus: Sequence[str] = ()
    outdated: Sequence[str] = ()
    miscounted: int = 0

    @property
    def faulty(self) -> list[str]:
        """All of them."""
        return [*self.missing, *self.surplus, *self.outdated]


@dataclass(slots=True)
class Drift:
    """The sum of pages: counts, and the first ids of each kind."""

    checked: int = 0
    miscounted: int = 0
    counts: dict[str, int] = field(
        default_factory=lambda: {"missing": 0, "surplus": 0, "outdated": 0}
    )
    samples: dict[str, list[str]] = field(
        default_factory=lambda: {"missing": [], "surplus": [], "outdated": []}
    )

    def add(self, page: DriftPage) -> None:
        """Counts a page."""
        self.checked += page.checked
        self.miscounted += page.miscounted
        for kind, ids in (
            ("missing", page.missing),
            ("surplus", page.surplus),
            ("outdated", page.outdated),
        ):
            self.counts[kind] += len(ids)
            room = SAMPLE - len(self.samples[kind])
            self.samples[kind].extend(ids[: max(room, 0)])

    @property
    def shown_counts(self) -> dict[str, int]:
        """How many of each kind."""
        return {**self.counts, "miscounted_groups": self.miscounted}

    @property
    def total(self) -> int:
        """How many films, and groups of them, are not in the index as they should be."""
        return sum(self.counts.values()) + self.miscounted


async def compare_tables(database: Database) -> AsyncGenerator[DriftPage]:
    """What PostgreSQL searches, beside what was told; the counts of groups come last."""
    after = ""
    while True:
        async with database.reading() as connection:
            page = await upkeep_repository.listed_after(connection, after, PAGE)
        if not page:
            break
        after = page[-1][0]
        yield DriftPage(
            checked=len(page),
            missing=[key for key, fault in page if fault == "missing"],
            surplus=[key for key, fault in page if fault == "surplus"],
            outdated=[key for key, fault in page if fault == "outdated"],
        )
    async with database.reading() as connection:
        miscounted = await upkeep_repository.wrong_counts(connection)
    if miscounted:
        yield DriftPage(checked=0, miscounted=miscounted)


async def compare_index(database: Database, index: DocumentIndex) -> AsyncGenerator[DriftPage]:
    """An external index, beside the films.

    Surplus documents are found at the end, by a pass over the index, if it has more than it should.

    Raises:
        Outage: the database or the engine is away.
    """
    after = ""
    found = 0
    while True:
        async with database.reading() as connection:
            films = await upkeep_repository.truth_after(connection, after, PAGE)
        if not films:
            break
        after = films[-1].movie_id
        held = await index.stamps([film.movie_id for film in films])
        found += len(held)
        suspects = [film.movie_id for film in films if not _same(film, held)]
        missing, outdated = await _look_again(database, index, suspects)
        yield DriftPage(checked=len(films), missing=missing, outdated=outdated)
    if await index.count() <= found:
        return
    async for surplus in _surplus(database, index):
        yield DriftPage(checked=0, surplus=surplus)


def _same(film: Truth, held: Mapping[str, Stamp]) -> bool:
    stamp = held.get(film.movie_id)
    return stamp == Stamp(
        revision=film.revision,
        trend_revision=film.trend_revision,
        ratings_revision=film.ratings_revision,
    )


async def _look_again(
    database: Database, index: DocumentIndex, suspects: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Those of the suspects that are missing, and those that are outdated."""
    if not suspects:
        return [], []
    # In this order: what is sent after the index was asked was pending until then.
    held = await index.stamps(suspects)
    async with database.reading() as connection:
        films = await upkeep_repository.truth_named(connection, suspects)
    wrong = [film for film in films if not film.pending and not _same(film, held)]
    # A film that was sent between the two looks.
    held = await index.stamps([film.movie_id for film in wrong])
    wrong = [film for film in wrong if not _same(film, held)]
    return (
        [film.movie_id for film in wrong if film.movie_id not in held],
        [film.movie_id for film in wrong if film.movie_id in held],
    )


async def _surplus(database: Database, index: DocumentIndex) -> AsyncGenerator[list[str]]:
    offset = 0
    while ids := await index.page_of_ids(offset, PAGE):
        offset += len(ids)
        async with database.reading() as connection:
            known = {f.movie_id for f in await upkeep_repository.truth_named(connection, ids)}
            strangers = [movie_id for movie_id in ids if movie_id not in known]
            pending = await upkeep_repository.pending_among(connection, strangers)
        strangers = [movie_id for movie_id in strangers if movie_id not in pending]
        if strangers:
            still = await index.stamps(strangers)
            surplus = [movie_id for movie_id in strangers if movie_id in still]
            if surplus:
                yield surplus


async def measure(pages: AsyncGenerator[DriftPage]) -> Drift:
    """The sum of all pages."""
    drift = Drift()
    async for page in pages:
        drift.add(page)
    return drift
