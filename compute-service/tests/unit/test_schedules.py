"""When schedules are due, and what they ask for then. No test reads the clock."""

import re
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from compute_service.bootstrap import NAME, bootstrap
from compute_service.scheduling import DEFAULTS, Cron, Schedule, schedule_table
from compute_service.scheduling.planning import Move, Progress, next_due, plan
from compute_service.settings import Settings
from moviemetric_contracts import Event, IngestCatalog, Message, RebuildSearch, RunCompute, decode
from service_kit import main

DAILY = Cron.parse("0 3 * * *")
MONDAYS = Cron.parse("0 5 * * 1")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def moved(cron: Cron | None, known: Progress | None, now: datetime) -> Move:
    move = plan(cron, known, now)
    assert move is not None
    return move


def due(cron: Cron | None, known: Progress, now: str) -> datetime | None:
    move = plan(cron, known, at(now))
    return None if move is None else move.due


def test_before_its_time_there_is_nothing_to_do() -> None:
    known = Progress(DAILY, at("2026-03-10T03:00:00"))
    assert plan(DAILY, known, at("2026-03-11T02:59:59.999999")) is None


def test_at_its_time_it_is_due_once() -> None:
    known = Progress(DAILY, at("2026-03-10T03:00:00"))
    now = at("2026-03-11T03:00:00")
    move = moved(DAILY, known, now)
    assert move == Move(Progress(DAILY, now), now)
    assert plan(DAILY, move.progress, now) is None
    assert plan(DAILY, move.progress, at("2026-03-11T03:00:00.000001")) is None
    assert plan(DAILY, move.progress, at("2026-03-12T02:59:59")) is None


def test_of_several_missed_runs_the_newest_alone_is_made_up() -> None:
    known = Progress(DAILY, at("2026-03-01T03:00:00"))
    move = moved(DAILY, known, at("2026-03-10T17:23:45.678"))
    assert move == Move(Progress(DAILY, at("2026-03-10T03:00:00")), at("2026-03-10T03:00:00"))
    assert plan(DAILY, move.progress, at("2026-03-10T17:23:46.678")) is None


def test_a_schedule_begins_when_it_is_first_seen() -> None:
    now = at("2026-03-10T17:00:00")
    move = moved(DAILY, None, now)
    assert move == Move(Progress(DAILY, now), None)
    assert due(DAILY, move.progress, "2026-03-11T03:00:00") == at("2026-03-11T03:00:00")


def test_a_changed_expression_counts_from_its_change() -> None:
    known = Progress(DAILY, at("2026-03-10T03:00:00"))
    earlier, later = Cron.parse("0 2 * * *"), Cron.parse("0 16 * * *")
    now = at("2026-03-10T17:00:00")
    for changed in (earlier, later, MONDAYS):
        assert plan(changed, known, now) == Move(Progress(changed, now), None)
    assert due(earlier, Progress(earlier, now), "2026-03-11T02:00:00") == at("2026-03-11T02:00:00")


def test_what_the_old_expression_missed_is_made_up_at_a_change() -> None:
    known = Progress(DAILY, at("2026-03-08T03:00:00"))
    now = at("2026-03-10T17:00:00")
    assert plan(MONDAYS, known, now) == Move(Progress(MONDAYS, now), at("2026-03-10T03:00:00"))


def test_what_is_off_is_never_due_and_begins_anew_when_it_is_back() -> None:
    known = Progress(DAILY, at("2026-03-01T03:00:00"))
    off = moved(None, known, at("2026-03-10T17:00:00"))
    assert off == Move(Progress(None, at("2026-03-10T17:00:00")), None)
    assert plan(None, off.progress, at("2026-04-10T17:00:00")) is None
    assert plan(None, None, at("2026-04-10T17:00:00")) == Move(
        Progress(None, at("2026-04-10T17:00:00")), None
    )
    back = moved(DAILY, off.progress, at("2026-04-10T17:00:00"))
    assert back == Move(Progress(DAILY, at("2026-04-10T17:00:00")), None)


def test_a_clock_that_goes_back_makes_nothing_due_again() -> None:
    done = Progress(DAILY, at("2026-03-11T03:00:00"))
    assert plan(DAILY, done, at("2026-03-11T02:59:55")) is None
    assert plan(DAILY, done, at("2026-03-10T12:00:00")) is None
    assert plan(DAILY, done, at("2026-03-11T03:00:00")) is None
    assert due(DAILY, done, "2026-03-12T03:00:00") == at("2026-03-12T03:00:00")


def test_a_clock_that_was_far_ahead_does_not_stop_a_schedule_for_years() -> None:
    known = Progress(DAILY, at("2031-01-01T03:00:00"))
    now = at("2026-03-10T17:00:00")
    assert plan(DAILY, known, now) == Move(Progress(DAILY, now), None)


@pytest.mark.parametrize(
    ("expression", "known", "now", "expected"),
    [
        # a month without a 31st
        ("0 0 31 * *", "2026-03-31T00:00:00", "2026-05-30T00:00:00", None),
        ("0 0 31 * *", "2026-03-31T00:00:00", "2026-06-30T00:00:00", "2026-05-31T00:00:00"),
        ("0 0 L * *", "2026-01-31T00:00:00", "2026-03-01T00:00:00", "2026-02-28T00:00:00"),
        ("0 0 29 2 *", "2026-01-01T00:00:00", "2028-02-28T23:59:59", None),
        ("0 0 29 2 *", "2026-01-01T00:00:00", "2028-02-29T00:00:00", "2028-02-29T00:00:00"),
        # over the end of a year; a Monday
        ("0 5 * * 1", "2025-12-29T05:00:00", "2026-01-05T05:00:00", "2026-01-05T05:00:00"),
        ("0 5 * * MON", "2025-12-29T05:00:00", "2026-01-05T04:59:59", None),
        # seconds are the first of six fields
        ("*/10 * * * * *", "2026-01-01T00:00:00", "2026-01-01T00:00:29.9", "2026-01-01T00:00:20"),
    ],
)
def test_months_years_and_seconds(
    expression: str, known: str, now: str, expected: str | None
) -> None:
    cron = Cron.parse(expression)
    wanted = None if expected is None else at(expected)
    assert due(cron, Progress(cron, at(known)), now) == wanted


def test_days_have_24_hours_whatever_the_zone_in_which_the_time_is_told() -> None:
    cron = Cron.parse("30 2 * * *")
    # in Central Europe there is no half past two on the 29th of March 2026, and two in October
    for first, zone in (("2026-03-27", 1), ("2026-10-23", 2)):
        fires: list[datetime] = []
        moment: datetime | None = at(f"{first}T12:00:00").astimezone(
            timezone(timedelta(hours=zone))
        )
        while len(fires) < 4:
            assert moment is not None
            moment = cron.following(moment)
            assert moment is not None
            assert cron.newest(moment) == moment
            fires.append(moment)
        assert fires[0] == at(f"{first}T02:30:00") + timedelta(days=1)
        assert {later - earlier for earlier, later in pairwise(fires)} == {timedelta(days=1)}


def test_what_is_next() -> None:
    known = Progress(DAILY, at("2026-03-10T03:00:00"))
    assert next_due(known, at("2026-03-10T04:00:00")) == at("2026-03-11T03:00:00")
    assert next_due(known, at("2026-03-10T03:00:00")) == at("2026-03-11T03:00:00")
    # missed, and not yet made up
    assert next_due(known, at("2026-03-12T04:00:00")) == at("2026-03-12T03:00:00")
    # the clock has gone back
    assert next_due(known, at("2026-03-10T02:59:59")) == at("2026-03-11T03:00:00")
    assert next_due(Progress(None, at("2026-03-10T03:00:00")), at("2026-03-12T04:00:00")) is None


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "* * * *",
        "60 * * * *",
        "0 3 * * * * *",
        "at three",
        "0 3 31 2 *",
        "0 3 */20 * 1L",
        "@daily",
    ],
)
def test_what_is_no_expression_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(expression))):
        Cron.parse(expression)


def table() -> dict[str, Schedule]:
    return {schedule.name: schedule for schedule in schedule_table(DEFAULTS)}


def command_of(name: str, due: str) -> Message:
    return table()[name].command(at(due))


def test_by_default_there_are_the_five_of_the_predecessor_and_one_more() -> None:
    assert {name: schedule.cron for name, schedule in table().items()} == {
        "ingest": Cron("0 2 * * *"),
        "trending": Cron("0 3 * * *"),
        "genre-stats": Cron("15 3 * * *"),
        "ratings-by-decade": Cron("20 3 * * *"),
        "index-rebuild": Cron("0 4 * * 1"),
        "recommendations": Cron("0 5 * * 1"),
    }


def test_what_is_asked_for() -> None:
    ingest = command_of("ingest", "2026-03-01T02:00:00")
    assert isinstance(ingest, IngestCatalog)
    assert ingest.lists is not None
    # the pages that the predecessor read
    assert ingest.lists.model_dump() == {
        "popular": 30,
        "top_rated": 30,
        "now_playing": 10,
        "upcoming": 10,
        "trending_week": 5,
        "discover_popularity": 10,
        "discover_vote_average": 10,
    }
    assert isinstance(command_of("index-rebuild", "2026-03-02T04:00:00"), RebuildSearch)
    weekly = command_of("recommendations", "2026-03-02T05:00:00")
    assert isinstance(weekly, RunCompute)
    assert (weekly.artifact, weekly.as_of) == ("recommendations", None)


@pytest.mark.parametrize("name", ["trending", "genre-stats", "ratings-by-decade"])
@pytest.mark.parametrize(
    ("due", "day"),
    [
        ("2026-03-01T03:00:00", date(2026, 2, 28)),
        ("2028-03-01T03:00:00", date(2028, 2, 29)),
        ("2026-01-01T03:00:00", date(2025, 12, 31)),
    ],
)
def test_figures_of_a_day_are_of_the_day_before(name: str, due: str, day: date) -> None:
    command = command_of(name, due)
    assert isinstance(command, RunCompute)
    assert (command.artifact, command.as_of) == (name, day)


def test_the_same_run_is_the_same_event_and_job_everywhere() -> None:
    moment = at("2026-03-01T03:00:00")
    trending = table()["trending"]
    # SHA-1 of namespace and `trending/2026-03-01T03:00:00Z`, marked as RFC 4122 says
    assert trending.event_id(moment) == "d567642e-ff04-5beb-94a2-5ee493e36168"
    assert trending.job_id(moment) == "compute-d567642eff045beb94a25ee493e36168"
    elsewhere = moment.astimezone(timezone(timedelta(hours=-7)))
    assert trending.event_id(elsewhere) == trending.event_id(moment)
    assert trending.command(elsewhere) == trending.command(moment)

    runs = [
        schedule.job_id(moment + timedelta(days=days))
        for schedule in table().values()
        for days in range(3)
    ]
    assert len(set(runs)) == len(runs)
    # the ids that the gateway knows
    assert {re.sub("-[0-9a-f]{32}$", "", run) for run in runs} == {"ingest", "compute", "search"}


def test_every_command_can_be_read_again() -> None:
    for name, schedule in table().items():
        command = schedule.command(at("2026-03-02T05:00:00"))
        event = Event.of(command, source="/test", time=at("2026-03-02T05:00:00"))
        assert decode(event.to_bytes()).data == command, name


VARIABLES = {
    "ingest": "SCHEDULE_INGEST",
    "trending": "SCHEDULE_TRENDING",
    "genre-stats": "SCHEDULE_GENRE_STATS",
    "ratings-by-decade": "SCHEDULE_RATINGS_BY_DECADE",
    "index-rebuild": "SCHEDULE_INDEX_REBUILD",
    "recommendations": "SCHEDULE_RECOMMENDATIONS",
}


@pytest.fixture
def _required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_URL", "amqp://guest:guest@127.0.0.1/")
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1/none")


@pytest.mark.usefixtures("_required")
def test_every_schedule_can_be_set_and_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    for number, variable in enumerate(VARIABLES.values()):
        monkeypatch.setenv(variable, f" {number}  6 * * *")
    monkeypatch.setenv("SCHEDULE_GENRE_STATS", "Off")
    settings = Settings()  # pyright: ignore[reportCallIssue] -- the environment gives the rest
    found = {schedule.name: schedule.cron for schedule in settings.schedules()}
    expected = {name: Cron(f"{number} 6 * * *") for number, name in enumerate(VARIABLES)}
    assert found == {**expected, "genre-stats": None}


@pytest.mark.usefixtures("_required")
@pytest.mark.parametrize("variable", VARIABLES.values())
def test_a_malformed_expression_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "0 25 * * *")
    monkeypatch.setattr(sys, "argv", ["compute_service"])
    with pytest.raises(SystemExit) as stopped:
        main(NAME, Settings, bootstrap)
    assert f"{variable}: Value error, '0 25 * * *' is no cron expression: Bad hour" in str(
        stopped.value
    )
