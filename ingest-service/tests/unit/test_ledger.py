"""What records do to films, batch by batch, with a store in memory."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from ingest_service.ledger import Effect, Film, Ledger, RefusedError, keys_of
from ingest_service.merging import Content, Kept, slot
from ingest_service.records import Source, SourceRecord

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def minute(number: float) -> datetime:
    return NOON + timedelta(minutes=number)


def record(source: Source, key: str, *links: str, **fields: Any) -> SourceRecord:
    return SourceRecord(source, key, links, fields)


@dataclass
class Store:
    """Films and keys as the tables hold them; a batch is a new ledger over what it touches."""

    films: dict[str, Film] = field(default_factory=dict[str, Film])
    keys: dict[str, str] = field(default_factory=dict[str, str])
    told: list[tuple[str, int, Content | None]] = field(
        default_factory=list[tuple[str, int, Content | None]]
    )

    unchanged: dict[str, set[int]] = field(default_factory=dict[str, set[int]])

    def open(self, keys: Iterable[str], job_id: str | None = None) -> Ledger:
        asked = set(keys)
        stands_for = {key: self.keys[key] for key in asked if key in self.keys}
        films = {stands_for.get(key, key) for key in asked}
        stands_for |= {key: own for key, own in self.keys.items() if own in films}
        wanted = asked | set(stands_for.values())
        stored = [deepcopy(film) for key, film in self.films.items() if key in wanted]
        unchanged = self.unchanged.get(job_id or "", set())
        return Ledger(stored, stands_for, job_id=job_id, unchanged=unchanged)

    def save(self, ledger: Ledger) -> None:
        assert not ledger.changed_keys.keys() & {
            key for key, own in ledger.changed_keys.items() if key == own and key[0] == "t"
        }
        for gone in ledger.gone:
            if gone.film.before is not None:
                self.told.append((gone.film.movie_id, gone.film.revision + 1, None))
            del self.films[gone.film.movie_id]
        self.keys.update(ledger.changed_keys)
        self.unchanged.setdefault(ledger.job_id or "", set()).update(ledger.found_unchanged)
        for key, (one, at) in ledger.fresh.items():
            assert key not in ledger.films
            assert key not in self.films
            kept = {slot(one.source, key): Kept(at, one.fields, ledger.job_id)}
            film = self.films[key] = Film(key, records=kept, revision=1, stored=True)
            self.told.append((key, 1, film.shown()))
        for film in ledger.films.values():
            if not film.touched:
                continue
            if film.is_news() or not film.stored:
                film.revision += 1
            if film.is_news():
                self.told.append((film.movie_id, film.revision, film.shown()))
            film.stored, film.touched = True, False
            self.films[film.movie_id] = film

    def take(
        self, records: Sequence[SourceRecord], at: datetime, job_id: str | None = None
    ) -> list[Effect | None]:
        """The effects of one batch; None: refused."""
        ledger = self.open(keys_of(records), job_id)
        effects: list[Effect | None] = []
        for one in records:
            try:
                effects.append(ledger.apply(one, at))
            except RefusedError:
                effects.append(None)
        self.save(ledger)
        return effects

    def remove(self, movie_id: str, at: datetime, reason: str = "gone") -> None:
        ledger = self.open([movie_id])
        ledger.remove(movie_id, reason, at)
        self.save(ledger)

    def shown(self) -> dict[str, Content | None]:
        return {key: film.shown() for key, film in sorted(self.films.items())}

    def state(self) -> dict[str, Any]:
        """Everything that order must not change."""
        return {
            key: (film.shown(), film.records, film.aliases, film.removed, film.removed_at)
            for key, film in sorted(self.films.items())
        }

    def check(self) -> None:
        """What holds at any time."""
        for key, own in self.keys.items():
            assert self.keys.get(own, own) == own, "no chains"
            assert key == own or key not in self.films
            assert key == own or key in self.films[own].aliases
        for movie_id, film in self.films.items():
            assert film.movie_id == movie_id
            assert all(self.keys[alias] == movie_id for alias in film.aliases)
            if movie_id.startswith(("imdb-", "movielens-")):
                assert self.keys[movie_id] == movie_id


@pytest.fixture
def store() -> Store:
    return Store()


HEAT = record(Source.TMDB_FILE, "tmdb-949", title="Heat", runtime=170)
LINK = record(Source.MOVIELENS_LINKS, "tmdb-949", "imdb-tt0113277", "movielens-6")
BASICS = record(Source.IMDB_BASICS, "imdb-tt0113277", title="Heat", genres=["Crime"])
RATINGS = record(Source.IMDB_RATINGS, "imdb-tt0113277", vote_average=8.3, vote_count=700_000)
LENS = record(Source.MOVIELENS, "movielens-6", title="Heat (1995)", genres=["Action"])


def test_a_film_is_new_unchanged_and_changed(store: Store) -> None:
    assert store.take([HEAT], minute(1)) == [Effect.NEW]
    assert store.shown() == {
        "tmdb-949": {"title": "Heat", "runtime": 170, "movie_id": "tmdb-949", "tmdb_id": 949}
    }
    assert store.take([HEAT], minute(2)) == [Effect.UNCHANGED]
    longer = record(Source.TMDB_FILE, "tmdb-949", title="Heat", runtime=171)
    assert store.take([longer], minute(3)) == [Effect.CHANGED]
    assert [revision for _, revision, _ in store.told] == [1, 2]


def test_a_newer_record_stays(store: Store) -> None:
    newer = record(Source.TMDB_FILE, "tmdb-949", title="Heat", runtime=171)
    store.take([newer], minute(2))
    assert store.take([HEAT], minute(1)) == [Effect.UNCHANGED]
    assert store.films["tmdb-949"].content()["runtime"] == 171


def test_a_record_that_nobody_sees_changes_nothing(store: Store) -> None:
    store.take([HEAT], minute(1))
    worse = record(Source.TABLE, "tmdb-949", title="HEAT", runtime=1)
    assert store.take([worse], minute(2)) == [Effect.UNCHANGED]
    assert len(store.told) == 1
    assert set(store.films["tmdb-949"].records) == {"tmdb-file/tmdb-949", "table/tmdb-949"}


def test_a_record_without_a_title_waits_for_one(store: Store) -> None:
    assert store.take([RATINGS], minute(1)) == [Effect.WAITING]
    assert store.take([RATINGS], minute(2)) == [Effect.WAITING]
    assert (store.told, store.shown()) == ([], {"imdb-tt0113277": None})
    assert store.take([BASICS], minute(3)) == [Effect.NEW]
    [(movie_id, revision, content)] = store.told
    assert (movie_id, revision) == ("imdb-tt0113277", 2)
    assert content == {
        "title": "Heat",
        "genres": ["Crime"],
        "vote_average": 8.3,
        "vote_count": 700_000,
        "movie_id": "imdb-tt0113277",
        "imdb_id": "tt0113277",
    }


def test_a_film_whose_source_names_it_no_more_waits_again(store: Store) -> None:
    store.take([record(Source.TABLE, "tmdb-949", title="Heat", runtime=170)], minute(1))
    nameless = record(Source.TABLE, "tmdb-949", runtime=170)
    assert store.take([nameless], minute(2)) == [Effect.WAITING]
    assert [(revision, content is None) for _, revision, content in store.told] == [
        (1, False),
        (2, True),
    ]


def test_a_film_is_found_by_any_of_its_keys(store: Store) -> None:
    both = record(Source.TMDB, "tmdb-949", "imdb-tt0113277", title="Heat")
    store.take([both], minute(1))
    assert store.take([RATINGS, LENS], minute(2)) == [Effect.CHANGED, Effect.NEW]
    assert store.shown()["tmdb-949"] == {
        "title": "Heat",
        "vote_average": 8.3,
        "vote_count": 700_000,
        "movie_id": "tmdb-949",
        "tmdb_id": 949,
        "imdb_id": "tt0113277",
        "aliases": ["imdb-tt0113277"],
    }
    assert store.films.keys() == {"tmdb-949", "movielens-6"}
    store.check()


def test_a_link_makes_one_film_of_several(store: Store) -> None:
    store.take([BASICS], minute(1), "one")
    store.take([LENS], minute(2), "two")
    store.take([HEAT], minute(3), "three")
    store.told.clear()
    assert store.take([LINK], minute(4), "four") == [Effect.LINKED]
    merged = {
        "title": "Heat",
        "runtime": 170,
        "genres": ["Crime"],
        "movie_id": "tmdb-949",
        "tmdb_id": 949,
        "imdb_id": "tt0113277",
        "aliases": ["imdb-tt0113277", "movielens-6"],
    }
    assert store.shown() == {"tmdb-949": merged}
    assert store.told == [
        ("imdb-tt0113277", 2, None),
        ("movielens-6", 2, None),
        ("tmdb-949", 2, merged),
    ]
    assert store.take([LINK], minute(5), "five") == [Effect.UNCHANGED]
    assert len(store.told) == 3
    store.check()


def test_a_link_may_come_before_its_films(store: Store) -> None:
    assert store.take([LINK], minute(1)) == [Effect.LINKED]
    assert (store.shown(), store.told) == ({"tmdb-949": None}, [])
    assert store.take([LINK], minute(2)) == [Effect.UNCHANGED]
    assert store.take([LENS], minute(3)) == [Effect.NEW]
    assert store.take([HEAT], minute(4)) == [Effect.CHANGED]
    [film] = store.films.values()
    assert (film.movie_id, film.aliases) == ("tmdb-949", {"imdb-tt0113277", "movielens-6"})
    assert film.content()["title"] == "Heat"
    store.check()


def test_a_film_may_move_twice(store: Store) -> None:
    store.take([LENS], minute(1))
    store.take([record(Source.TABLE, "imdb-tt0113277", "movielens-6", runtime=170)], minute(2))
    assert store.shown().keys() == {"imdb-tt0113277"}
    store.take([record(Source.TMDB, "tmdb-949", "imdb-tt0113277", title="Heat")], minute(3))
    assert store.shown() == {
        "tmdb-949": {
            "title": "Heat",
            "genres": ["Action"],
            "runtime": 170,
            "movie_id": "tmdb-949",
            "tmdb_id": 949,
            "imdb_id": "tt0113277",
            "aliases": ["imdb-tt0113277", "movielens-6"],
        }
    }
    # By the oldest of its keys, too.
    assert store.take([LENS], minute(4)) == [Effect.UNCHANGED]
    store.check()


def test_a_row_may_link_to_a_better_key_than_its_own(store: Store) -> None:
    store.take([HEAT], minute(1))
    linked = record(Source.MOVIELENS, "movielens-6", "tmdb-949", "imdb-tt0113277", keywords=["la"])
    assert store.take([linked], minute(2)) == [Effect.CHANGED]
    assert store.films.keys() == {"tmdb-949"}
    assert store.films["tmdb-949"].content()["keywords"] == ["la"]
    store.check()


def test_the_first_link_stays(store: Store) -> None:
    first = record(Source.TMDB, "tmdb-1", "imdb-tt0000001", title="One")
    second = record(Source.TMDB, "tmdb-2", "imdb-tt0000001", title="Two", imdb_id="tt0000001")
    assert store.take([first, second], minute(1)) == [Effect.NEW, Effect.NEW]
    assert store.keys == {"imdb-tt0000001": "tmdb-1"}
    assert store.films["tmdb-2"].aliases == set()
    assert store.shown()["tmdb-2"] == {
        "title": "Two",
        "imdb_id": "tt0000001",
        "movie_id": "tmdb-2",
        "tmdb_id": 2,
    }
    # A row that says nothing else is refused, because nothing of it is kept.
    only_link = record(Source.MOVIELENS_LINKS, "tmdb-2", "imdb-tt0000001")
    ledger = store.open(keys_of([only_link]))
    with pytest.raises(
        RefusedError, match=r"^imdb-tt0000001 is tmdb-1 already, so it cannot be tmdb-2 as well$"
    ):
        ledger.apply(only_link, minute(2))
    store.check()


def test_two_films_with_equally_good_keys_are_never_one(store: Store) -> None:
    store.take([HEAT, record(Source.TMDB_FILE, "tmdb-950", title="Other")], minute(1))
    with_both = record(Source.TABLE, "movielens-6", "tmdb-949", "tmdb-950", tagline="x")
    store.take([with_both], minute(2))
    assert store.films.keys() == {"tmdb-949", "tmdb-950"}
    assert store.keys == {"movielens-6": "tmdb-949"}
    only_link = record(Source.MOVIELENS_LINKS, "tmdb-949", "tmdb-950")
    ledger = store.open(keys_of([only_link]))
    with pytest.raises(RefusedError, match="tmdb-950 and tmdb-949 already"):
        ledger.apply(only_link, minute(3))
    assert not any(film.touched for film in ledger.films.values())


def test_a_title_key_is_a_film_of_its_own(store: Store) -> None:
    by_title = record(Source.TABLE, "title-heat-1995", title="Heat")
    assert store.take([by_title, HEAT], minute(1)) == [Effect.NEW, Effect.NEW]
    assert store.keys == {}
    assert store.shown().keys() == {"title-heat-1995", "tmdb-949"}


def test_equal_rows_of_a_file_count_once(store: Store) -> None:
    rows = [HEAT, HEAT, HEAT]
    assert store.take(rows, minute(1), "one") == [Effect.NEW, Effect.REPEATED, Effect.REPEATED]
    # In a later batch of the same import too.
    assert store.take([HEAT], minute(1), "one") == [Effect.REPEATED]
    before = deepcopy(store.state())
    again = [Effect.UNCHANGED, Effect.REPEATED, Effect.REPEATED]
    assert store.take(rows, minute(2), "two") == again
    assert store.state() == before
    assert len(store.told) == 1


def _other(fields: Mapping[str, Any]) -> SourceRecord:
    return SourceRecord(Source.TMDB_FILE, "tmdb-949", (), fields)


@pytest.mark.parametrize("split", [1, 2, 3, 5])
def test_of_different_rows_of_a_file_the_first_stays(store: Store, split: int) -> None:
    rows = [HEAT, _other({"title": "Heat", "runtime": 1}), HEAT, _other({"title": "Cold"}), LINK]

    def run(job_id: str, at: datetime) -> list[Effect | None]:
        effects: list[Effect | None] = []
        for start in range(0, len(rows), split):
            effects += store.take(rows[start : start + split], at, job_id)
        return effects

    refused = [None, Effect.REPEATED, None]
    assert run("one", minute(1)) == [Effect.NEW, *refused, Effect.LINKED]
    assert store.films["tmdb-949"].content()["runtime"] == 170
    shown, told = deepcopy(store.shown()), len(store.told)
    # However often the file comes.
    for again in range(2, 5):
        effects = run(f"job {again}", minute(again))
        assert effects == [Effect.UNCHANGED, *refused, Effect.UNCHANGED]
    assert store.shown() == shown
    assert len(store.told) == told


def test_a_contradicting_row_is_told_which_film_it_is_about(store: Store) -> None:
    ledger = store.open(["tmdb-949"], "one")
    ledger.apply(HEAT, minute(1))
    with pytest.raises(RefusedError) as caught:
        ledger.apply(_other({"title": "Cold"}), minute(1))
    assert str(caught.value) == (
        "an earlier row of this file is about tmdb-949 too, and says otherwise"
    )


@pytest.mark.parametrize("in_one_batch", [True, False])
def test_the_first_row_stays_also_when_an_earlier_file_said_the_same(
    store: Store, in_one_batch: bool
) -> None:
    rows = [HEAT, _other({"title": "Cold"}), HEAT]
    assert store.take([HEAT], minute(1), "one") == [Effect.NEW]
    for again in range(2, 5):
        effects: list[Effect | None] = []
        for batch in [rows] if in_one_batch else [[row] for row in rows]:
            effects += store.take(batch, minute(again), f"job {again}")
        assert effects == [Effect.UNCHANGED, None, Effect.REPEATED]
    assert store.films["tmdb-949"].content()["title"] == "Heat"
    assert len(store.told) == 1


def test_files_do_not_contradict_each_other(store: Store) -> None:
    assert store.take([HEAT], minute(1), "one") == [Effect.NEW]
    assert store.take([_other({"title": "Cold"})], minute(2), "two") == [Effect.CHANGED]


def test_an_older_file_changes_nothing_of_a_newer_one(store: Store) -> None:
    store.take([_other({"title": "Cold"})], minute(2), "two")
    assert store.take([HEAT], minute(1), "one") == [Effect.UNCHANGED]
    assert store.films["tmdb-949"].content()["title"] == "Cold"


TMDB = record(Source.TMDB, "tmdb-949", title="Heat")


def test_a_removed_film_comes_back_by_what_is_newer(store: Store) -> None:
    store.take([TMDB], minute(1))
    store.remove("tmdb-949", minute(2))
    film = store.films["tmdb-949"]
    assert (film.removed, film.removed_reason, film.shown()) == (True, "gone", None)
    store.remove("tmdb-949", minute(3))
    assert [revision for _, revision, _ in store.told] == [1, 2]
    # What was said before the removal is kept, and does not bring it back.
    assert store.take([HEAT], minute(2.5)) == [Effect.UNCHANGED]
    assert store.films["tmdb-949"].removed
    # The same words, but later.
    assert store.take([TMDB], minute(4)) == [Effect.NEW]
    film = store.films["tmdb-949"]
    assert (film.removed_at, film.removed_reason, film.fetched_at) == (None, None, minute(4))
    assert store.told[-1] == ("tmdb-949", 3, film.content())
    assert film.content()["runtime"] == 170


def test_a_removal_that_is_older_than_a_record_changes_nothing(store: Store) -> None:
    store.take([HEAT], minute(3))
    store.remove("tmdb-949", minute(2))
    film = store.films["tmdb-949"]
    assert (film.removed, film.fetched_at, film.revision) == (False, minute(2), 1)
    store.remove("tmdb-949", minute(1))
    assert store.films["tmdb-949"].fetched_at == minute(2)


def test_a_film_that_never_was_is_known_as_removed(store: Store) -> None:
    store.remove("tmdb-949", minute(1))
    assert store.films["tmdb-949"].removed
    assert store.told == [("tmdb-949", 1, None)], "who asked for it gets an answer"
    store.remove("tmdb-949", minute(2))
    assert len(store.told) == 1
    assert store.take([TMDB], minute(3)) == [Effect.NEW]
    assert store.told[1:] == [("tmdb-949", 2, store.films["tmdb-949"].content())]


def test_a_film_that_waits_for_its_title_turns_out_not_to_be(store: Store) -> None:
    store.take([LINK], minute(1))
    store.remove("tmdb-949", minute(2))
    assert store.told == [("tmdb-949", 2, None)]
    store.remove("tmdb-949", minute(3))
    assert len(store.told) == 1


def test_nobody_is_told_of_a_move_of_what_nobody_saw(store: Store) -> None:
    store.take([RATINGS], minute(1))
    store.take([LINK], minute(2))
    assert (store.shown(), store.told) == ({"tmdb-949": None}, [])


def test_a_removed_film_is_revived_by_what_it_absorbs(store: Store) -> None:
    store.take([TMDB], minute(1))
    store.remove("tmdb-949", minute(2))
    store.take([LENS], minute(1.5))
    store.take([LINK], minute(3))
    assert store.films["tmdb-949"].removed
    store.take([BASICS], minute(3))
    assert not store.films["tmdb-949"].removed
    assert store.films["tmdb-949"].content()["genres"] == ["Crime"]


def test_what_tmdb_said_last_is_remembered(store: Store) -> None:
    store.take([TMDB], minute(2))
    ledger = store.open(["tmdb-949", "tmdb-1"])
    assert not ledger.fetched("tmdb-949", minute(1))
    assert not ledger.fetched("tmdb-949", minute(2))
    assert ledger.fetched("tmdb-949", minute(3))
    assert ledger.fetched("tmdb-1", minute(0))
    # A file is no fetch.
    store.take([HEAT], minute(5))
    assert store.films["tmdb-949"].fetched_at == minute(2)
    # A later fetch that found the same is one.
    assert store.take([TMDB], minute(6)) == [Effect.UNCHANGED]
    assert store.films["tmdb-949"].fetched_at == minute(6)


def test_an_older_fetch_does_not_make_the_film_older(store: Store) -> None:
    store.remove("tmdb-949", minute(5))
    store.take([TMDB], minute(3))
    film = store.films["tmdb-949"]
    assert (film.fetched_at, film.removed) == (minute(5), True)


@pytest.mark.parametrize(
    "order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
)
def test_the_last_removal_counts_in_any_order(store: Store, order: tuple[int, ...]) -> None:
    steps: list[Callable[[], object]] = [
        lambda: store.remove("tmdb-949", minute(5)),
        lambda: store.take([HEAT], minute(5.5)),
        lambda: store.remove("tmdb-949", minute(6)),
    ]
    for position in order:
        steps[position]()
    assert store.films["tmdb-949"].removed


def test_keys_of_records() -> None:
    assert keys_of([HEAT, LINK, LENS]) == {"tmdb-949", "imdb-tt0113277", "movielens-6"}
    assert keys_of([]) == set()


# What follows draws records at random. Every film has at most one key of TMDB's and one of IMDb's,
# so that no link contradicts another; the exception has a test of its own below.


@dataclass(frozen=True)
class Said:
    """A record at its time, as a batch of an import or a fetch brings it; no record: a removal."""

    at: datetime
    what: SourceRecord | str
    job_id: str | None = None


def _draw_film(draw: random.Random, number: int) -> list[str]:
    """The keys of one film."""
    keys = [f"movielens-{number * 10 + n}" for n in range(draw.randint(0, 3))]
    if draw.random() < 0.7 or not keys:
        keys.append(f"imdb-tt{number:07}")
    if draw.random() < 0.7:
        keys.append(f"tmdb-{number}")
    return keys


def _draw_links(draw: random.Random, keys: Sequence[str]) -> list[tuple[str, str]]:
    """Enough links to make one film of all the keys, in any direction.

    Two keys of MovieLens are linked through a better one: they cannot be one film by themselves.
    """
    better = [key for key in keys if not key.startswith("movielens-")]
    pairs = [(draw.choice(better), key) for key in keys if key not in better and better]
    pairs += pairwise(better)
    return [draw.choice([(a, b), (b, a)]) for a, b in pairs]


def _draw_world(draw: random.Random) -> list[Said]:
    said: list[Said] = []
    clock = iter(draw.sample(range(1, 2_000), 1_000))
    for number in range(1, draw.randint(3, 7)):
        keys = _draw_film(draw, number)
        links = _draw_links(draw, keys)
        for key in keys:
            sources = {"t": [*Source][:4], "i": [*Source][3:6], "m": [Source.MOVIELENS]}[key[0]]
            for source in draw.sample(sources, draw.randint(0, len(sources))):
                for version in range(draw.randint(1, 3)):
                    at = minute(next(clock))
                    fields = _draw_fields(draw, f"{source} {key} {version}")
                    carried = tuple(b for a, b in links if a == key and draw.random() < 0.5)
                    job_id = None if source is Source.TMDB else f"{source} {at}"
                    said.append(Said(at, SourceRecord(source, key, carried, fields), job_id))
        for a, b in links:
            # Said at least once as nothing but a link.
            said.append(Said(minute(0), record(Source.MOVIELENS_LINKS, a, b), "links"))
        if draw.random() < 0.4 and keys[-1].startswith("tmdb-"):
            said += [Said(minute(next(clock)), keys[-1]) for _ in range(draw.randint(1, 3))]
    return said


def _draw_fields(draw: random.Random, mark: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"overview": mark}
    if draw.random() < 0.7:
        fields["title"] = f"Title of {mark}"
    if draw.random() < 0.4:
        fields |= {"vote_average": draw.randint(1, 100) / 10, "vote_count": draw.randint(1, 99)}
    if draw.random() < 0.4:
        fields["genres"] = draw.sample(["Drama", "Crime", "War"], 2)
    if draw.random() < 0.3:
        fields["popularity"] = draw.random()
    return fields


def _play(said: Sequence[Said], draw: random.Random) -> Store:
    """In batches of random size, as replicas would store them one after the other."""
    store = Store()
    rest = list(said)
    while rest:
        size = draw.choice([1, 1, 2, 5, 20])
        batch, rest = rest[:size], rest[size:]
        while batch:
            # A ledger is of one import.
            job_id = batch[0].job_id
            together = [one for one in batch if one.job_id == job_id]
            batch = [one for one in batch if one.job_id != job_id]
            keys = keys_of(one.what for one in together if isinstance(one.what, SourceRecord))
            keys |= {one.what for one in together if isinstance(one.what, str)}
            ledger = store.open(keys, job_id)
            for one in together:
                if isinstance(one.what, str):
                    ledger.remove(one.what, "gone", one.at)
                else:
                    ledger.apply(one.what, one.at)
            store.save(ledger)
            store.check()
    return store


@pytest.mark.parametrize("seed", range(60))
def test_any_order_and_any_batches_give_the_same_films(seed: int) -> None:
    draw = random.Random(seed)
    said = _draw_world(draw)
    expected = _play(said, draw)
    assert expected.films
    for _ in range(12):
        shuffled = draw.sample(said, len(said))
        played = _play(shuffled, draw)
        assert played.state() == expected.state()
        assert played.keys == expected.keys


@pytest.mark.parametrize("seed", range(20))
def test_the_same_again_changes_nothing(seed: int) -> None:
    draw = random.Random(1000 + seed)
    said = _draw_world(draw)
    store = _play(said, draw)
    state, keys, told = deepcopy(store.state()), dict(store.keys), len(store.told)
    for one in draw.sample(said, len(said)):
        if isinstance(one.what, str):
            store.remove(one.what, one.at)
        else:
            [effect] = store.take([one.what], one.at, one.job_id)
            assert effect in {Effect.UNCHANGED, Effect.WAITING, Effect.REPEATED}
    assert (store.state(), store.keys, len(store.told)) == (state, keys, told)


@pytest.mark.parametrize("seed", range(20))
def test_what_was_told_adds_up_to_what_is(seed: int) -> None:
    draw = random.Random(2000 + seed)
    said = _draw_world(draw)
    store = _play(draw.sample(said, len(said)), draw)
    copies: dict[str, Content | None] = {}
    revisions: dict[str, int] = {}
    for movie_id, revision, content in store.told:
        assert revision > revisions.get(movie_id, 0), "who keeps a copy compares revisions"
        revisions[movie_id] = revision
        copies[movie_id] = content
    seen = {key: content for key, content in copies.items() if content is not None}
    assert seen == {key: content for key, content in store.shown().items() if content is not None}


@pytest.mark.parametrize("seed", range(20))
def test_of_contradicting_links_one_stays_and_no_film_is_lost(seed: int) -> None:
    draw = random.Random(3000 + seed)
    keys = ["tmdb-1", "tmdb-2", "imdb-tt0000001", "imdb-tt0000002", "movielens-1", "movielens-2"]
    said: list[Said] = []
    for number in range(30):
        key, *links = draw.sample(keys, draw.randint(1, 3))
        source = draw.choice([Source.TABLE, Source.IMDB_BASICS, Source.MOVIELENS])
        fields = {} if links and draw.random() < 0.3 else {"title": f"{source} {key} {number}"}
        said.append(Said(minute(number), SourceRecord(source, key, tuple(links), fields)))
    store = Store()
    first: dict[str, str] = {}
    for one in said:
        assert isinstance(one.what, SourceRecord)
        store.take([one.what], one.at)
        store.check()
        for key, own in store.keys.items():
            if own.startswith("tmdb-"):
                assert first.setdefault(key, own) == own, "the link that came first stays"
    slots = [name for film in store.films.values() for name in film.records]
    assert len(slots) == len(set(slots))
    expected = {
        f"{s.what.source}/{s.what.key}"
        for s in said
        if not isinstance(s.what, str) and s.what.fields
    }
    assert set(slots) == expected
