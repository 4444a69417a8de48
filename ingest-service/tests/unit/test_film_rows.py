"""A film's line for COPY: the short way gives what the long one gives."""

import random
from datetime import UTC, datetime
from typing import Any

import pytest
from ingest_service.film_rows import COLUMNS, line_of, line_of_new
from ingest_service.ledger import Ledger, may_be_fresh
from ingest_service.merging import Kept, slot
from ingest_service.records import Source, SourceRecord

AT = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
NOW = datetime(2026, 1, 2, 4, tzinfo=UTC)
JOB = "import-0123456789abcdef0123456789abcdef"

ODD = (
    "tab\there",
    "line\nend",
    "return\rhere",
    "back\\slash",
    "\\N",
    'quo"te',
    "{brace},",
    "naïve 千",
)


def values(line: str) -> dict[str, str]:
    assert line.endswith("\n")
    cells = line[:-1].split("\t")
    assert len(cells) == len(COLUMNS)
    return dict(zip(COLUMNS, cells, strict=True))


def a_record(draw: random.Random) -> SourceRecord:
    fields: dict[str, Any] = {"title": draw.choice(ODD) + draw.choice(ODD)}
    optional: dict[str, Any] = {
        "original_title": draw.choice(ODD),
        "original_language": "en",
        "overview": " ".join(draw.choices(ODD, k=5)),
        "release_date": f"{draw.randint(1900, 2030)}-02-03",
        "genres": draw.sample([*ODD, "Drama", "War"], k=3),
        "vote_average": 7.5,
        "vote_count": draw.randint(1, 10**9),
        "popularity": draw.choice([0.1, 12, 1e-7, 123456.789]),
        "poster_path": "/a.jpg",
        "imdb_id": "tt1234567",
    }
    fields |= {name: optional[name] for name in draw.sample(sorted(optional), k=6)}
    return SourceRecord(Source.TABLE, f"title-a-{draw.randint(1000, 9999)}", (), fields)


@pytest.mark.parametrize("seed", range(200))
def test_the_short_way_gives_the_same_line(seed: int) -> None:
    record = a_record(random.Random(seed))
    assert may_be_fresh(record)
    # Without a job there is no short way.
    ledger = Ledger([], {})
    ledger.apply(record, AT)
    [film] = ledger.films.values()
    film.records[slot(record.source, record.key)] = Kept(AT, record.fields, JOB)
    film.revision, film.updated_at = 1, NOW
    long, short = values(line_of(film)), values(line_of_new(record, AT, JOB, NOW))
    records = "records"
    assert sorted(long.pop(records)) == sorted(short.pop(records))
    assert long == short


def test_what_copy_would_take_for_something_is_escaped() -> None:
    title = "a\tb\nc\rd\\e\\N"
    record = SourceRecord(Source.TABLE, "title-a-2000", (), {"title": title})
    line = values(line_of_new(record, AT, JOB, NOW))
    assert line["title"] == "a\\tb\\nc\\rd\\\\e\\\\N"
    assert line["original_title"] == "\\N"
    assert line["genres"] == "{}"
