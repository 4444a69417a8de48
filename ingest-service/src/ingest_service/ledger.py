"""What a batch of records does to the films it is about. Pure: films in, films out.

A film is found by any of its keys. A record that bears several keys says that they are one film:
the best key (tmdb, imdb, movielens, title) becomes the film's own and the others its aliases, and
what was known under them comes together. Two films with equally good keys are never made one: the
link that came first stays.

Several rows of one file may be about the same film. Equal ones count once. Of different ones the
first stays and the others are refused, because which of them is right cannot be told; such a record
is marked as `repeated`, and remembers the import that saw it last even when nothing changed. So
the same file gives the same answer every time.
"""

from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import blake2b

from ingest_service.merging import Content, Kept, merge, rank_of_key, slot, with_keys
from ingest_service.records import Source, SourceRecord


class Effect(StrEnum):
    """What a record did."""

    NEW = "new"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    LINKED = "linked"
    """It tied keys together."""
    WAITING = "waiting"
    """Kept until another record names the film."""
    REPEATED = "repeated"
    """The same row as an earlier one of the file."""


class RefusedError(ValueError):
    """A record that contradicts what is known; the message is for people."""


class ContradictedError(RefusedError):
    """A row that says otherwise than an earlier one of its file."""

    def __init__(self, key: str) -> None:
        super().__init__(f"an earlier row of this file is about {key} too, and says otherwise")


@dataclass(slots=True, eq=False)
class Film:
    """A film as the catalogue keeps it.

    Attributes:
        revision: 0 for one that is not stored yet.
        updated_at: when others last saw it change.
        fetched_at: when TMDB was last asked for it.
        removed_at: when its source last said that there is no such film, and nothing newer did.
    """

    movie_id: str
    records: dict[str, Kept] = field(default_factory=dict[str, Kept])
    aliases: set[str] = field(default_factory=set[str])
    revision: int = 0
    updated_at: datetime | None = None
    fetched_at: datetime | None = None
    removed_at: datetime | None = None
    removed_reason: str | None = None
    stored: bool = False
    touched: bool = False
    before: Content | None = None
    """What others saw; set when the film is first touched."""
    was_removed: bool = False

    @property
    def removed(self) -> bool:
        """Whether its source took it back, and nothing has named it since."""
        return self.removed_at is not None

    def content(self) -> Content:
        """Its fields, as JSON values."""
        return with_keys(merge(self.records), self.movie_id, self.aliases)

    @property
    def present(self) -> bool:
        """Whether others see it: not while it has no title or is removed."""
        return self.removed_at is None and any(
            "title" in kept.fields for kept in self.records.values()
        )

    def shown(self) -> Content | None:
        """As others see it: None while it is not present."""
        return self.content() if self.present else None

    def revive(self) -> None:
        """A record that is newer than the removal brings the film back."""
        removed_at = self.removed_at
        if removed_at is not None and any(kept.at > removed_at for kept in self.records.values()):
            self.removed_at = self.removed_reason = None

    def touch(self) -> None:
        """Remember how it was before the first change."""
        if not self.touched:
            self.touched = True
            self.before = self.shown() if self.stored else None
            self.was_removed = self.removed

    def is_news(self) -> bool:
        """Whether others see it differently now, or it turned out that there is no such film."""
        if self.removed and not self.was_removed:
            return True
        # What was not there before need not be compared.
        return self.present if self.before is None else self.before != self.shown()


@dataclass(frozen=True, slots=True)
class Gone:
    """A film that is another one now."""

    film: Film
    into: str


class Ledger:
    """The films that a batch may touch, and what becomes of them.

    Most rows of a first import are all that is known of their film. They stay records (`fresh`)
    until another row has to do with the same film; the others are films with all their records.

    Args:
        films: those stored under any key of the batch, or under what such a key stands for.
        keys: every key that stands for one of these films, and that film's own key.
        job_id: the import that the records come from.
        unchanged: what earlier batches of that import have found to be as it was, as slot_number.
        retried: earlier imports of the same file, of which this one tries the rejected rows.

    Attributes:
        found_unchanged: the same of this batch, to be handed to the next ones.
    """

    def __init__(
        self,
        films: Iterable[Film],
        keys: Mapping[str, str],
        *,
        job_id: str | None = None,
        unchanged: Set[int] = frozenset(),
        retried: Collection[str] = (),
    ) -> None:
        self.films = {film.movie_id: film for film in films}
        self.keys = dict(keys)
        self.stored_keys = frozenset(keys)
        self.changed_keys: dict[str, str] = {}
        self.gone: list[Gone] = []
        self.fresh: dict[str, tuple[SourceRecord, datetime]] = {}
        self.job_id = job_id
        self._unchanged = unchanged
        self._same_file = {job_id, *retried}
        self.found_unchanged: set[int] = set()

    def apply(self, record: SourceRecord, at: datetime) -> Effect:
        """Take in what a source said at that time.

        Raises:
            RefusedError: it contradicts an earlier row of its file, or all its links are others'.
        """
        if self._is_fresh(record):
            self.fresh[record.key] = record, at
            return Effect.NEW
        for key in (record.key, *record.links):
            if (first := self.fresh.pop(key, None)) is not None:
                self._keep(self._create(key), *first)
        linked = bool(record.links) and self._link(record)
        movie_id = self.keys.get(record.key, record.key)
        if not record.fields:
            return Effect.LINKED if linked else Effect.UNCHANGED
        film = self.films.get(movie_id) or self._create(movie_id)
        effect = self._keep(film, record, at)
        return Effect.LINKED if linked and effect is Effect.UNCHANGED else effect

    def remove(self, movie_id: str, reason: str, at: datetime) -> None:
        """The source says that there is no such film; what came later than `at` is right."""
        movie_id = self.keys.get(movie_id, movie_id)
        film = self.films.get(movie_id) or self._create(movie_id)
        if film.fetched_at is not None and film.fetched_at >= at:
            return
        film.touch()
        film.fetched_at = at
        if all(kept.at <= at for kept in film.records.values()):
            film.removed_at, film.removed_reason = at, reason

    def fetched(self, movie_id: str, at: datetime) -> bool:
        """TMDB was asked for the film at that time; False if it was asked later already."""
        film = self.films.get(self.keys.get(movie_id, movie_id))
        if film is None or film.fetched_at is None:
            return True
        return film.fetched_at < at

    def _is_fresh(self, record: SourceRecord) -> bool:
        """Whether the record is all that is known of a film, which need not be compared then."""
        key = record.key
        return (
            self.job_id is not None
            and key not in self.films
            and key not in self.fresh
            and may_be_fresh(record)
        )

    def _create(self, movie_id: str) -> Film:
        film = self.films[movie_id] = Film(movie_id, touched=True)
        # Only these two kinds of key may be claimed by a link; the row settles who was first.
        if movie_id.startswith(("imdb-", "movielens-")):
            self._point(movie_id, movie_id)
        return film

    def _keep(self, film: Film, record: SourceRecord, at: datetime) -> Effect:
        name = slot(record.source, record.key)
        known = film.records.get(name)
        is_new = not film.stored and not film.records
        if known is not None:
            same = known.fields == record.fields
            if self._is_of_this_file(name, known):
                if same:
                    return Effect.REPEATED
                if not known.repeated or known.job_id != self.job_id:
                    film.touch()
                    film.records[name] = Kept(known.at, known.fields, self.job_id, repeated=True)
                raise ContradictedError(record.key)
            if at < known.at:
                return Effect.UNCHANGED
            revived = film.removed_at is not None and at > film.removed_at
            if same and not revived:
                if record.source is Source.TMDB or known.repeated:
                    film.touch()
                    film.records[name] = Kept(at, known.fields, self.job_id, known.repeated)
                    film.fetched_at = at if record.source is Source.TMDB else film.fetched_at
                elif self.job_id is not None:
                    self.found_unchanged.add(slot_number(name))
                return Effect.UNCHANGED if "title" in film.content() else Effect.WAITING
        film.touch()
        before = None if is_new else film.shown()
        repeated = known is not None and known.repeated
        film.records[name] = Kept(at, record.fields, self.job_id, repeated)
        if record.source is Source.TMDB and (film.fetched_at is None or film.fetched_at < at):
            film.fetched_at = at
        film.revive()
        if is_new:
            return Effect.NEW if "title" in record.fields else Effect.WAITING
        after = film.shown()
        if after is None:
            return Effect.UNCHANGED if film.removed else Effect.WAITING
        if before is None:
            return Effect.NEW
        return Effect.UNCHANGED if before == after else Effect.CHANGED

    def _is_of_this_file(self, name: str, known: Kept) -> bool:
        """Whether an earlier row of the import has said what is known."""
        if self.job_id is None:
            return False
        if known.job_id is not None and known.job_id in self._same_file:
            return True
        number = slot_number(name)
        return number in self._unchanged or number in self.found_unchanged

    def _link(self, record: SourceRecord) -> bool:
        """Make the record's keys one film; whether anything was new about that."""
        stands_for = {key: self.keys.get(key, key) for key in (record.key, *record.links)}
        own = min(stands_for.values(), key=lambda key: (rank_of_key(key), key))
        if rank_of_key(stands_for[record.key]) == rank_of_key(own):
            own = stands_for[record.key]
        news = 0
        for key, present in stands_for.items():
            if key == own or (present == own and key in self.keys):
                continue
            if present != own and rank_of_key(present) <= rank_of_key(own):
                if not record.fields:
                    other = f"{key} is {present}" if key != present else f"{present} and {own}"
                    msg = f"{other} already, so it cannot be {own} as well"
                    raise RefusedError(msg)
                continue
            self._make_alias(key, present, own)
            news += 1
        return news > 0

    def _make_alias(self, key: str, present: str, own: str) -> None:
        # A link to a film that is still to come makes the film, without a title: its row settles
        # what happens when another transaction brings the film at the same time.
        film = self.films.get(own) or self._create(own)
        film.touch()
        names = {key, present}
        if (absorbed := self.films.pop(present, None)) is not None:
            absorbed.touch()
            names |= absorbed.aliases
            for name, kept in absorbed.records.items():
                film.records.setdefault(name, kept)
            film.revive()
            if absorbed.stored:
                self.gone.append(Gone(absorbed, own))
        film.aliases |= names
        for name in names:
            self._point(name, own)

    def _point(self, key: str, movie_id: str) -> None:
        self.keys[key] = self.changed_keys[key] = movie_id


def slot_number(name: str) -> int:
    """64 bits that stand for a record's slot, the same in every process."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), signed=True)


def may_be_fresh(record: SourceRecord) -> bool:
    """Whether the record alone makes a film, and no key can stand for another one."""
    return (
        not record.links and record.key.startswith(("title-", "tmdb-")) and "title" in record.fields
    )


def keys_of(records: Iterable[SourceRecord]) -> set[str]:
    """Every key that the records bear."""
    keys: set[str] = set()
    for record in records:
        keys.add(record.key)
        keys.update(record.links)
    return keys
