"""The schedules: a name, when, and the command that is published then. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final, Literal
from uuid import UUID, uuid5

from moviemetric_contracts import IngestCatalog, ListPages, Message, RebuildSearch, RunCompute

from compute_service.scheduling.planning import Cron

Artifact = Literal["trending", "genre-stats", "ratings-by-decade", "recommendations"]
MakeCommand = Callable[[str, datetime], Message]
"""From the job's id and the time at which the command was due."""

OFF: Final = "off"
DEFAULTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ingest": "0 2 * * *",
        "trending": "0 3 * * *",
        "genre-stats": "15 3 * * *",
        "ratings-by-decade": "20 3 * * *",
        "index-rebuild": "0 4 * * 1",
        "recommendations": "0 5 * * 1",
    }
)
# The names of all events that the clock ever asks for; must never change.
_NAMESPACE: Final = UUID("2dc54ac9-65bb-42bd-9ab3-172e6909cda1")


@dataclass(frozen=True, slots=True)
class Schedule:
    """A command by the clock.

    Attributes:
        kind: what the ids of its jobs begin with.
        cron: when; None if it is off.
        make: the command.
    """

    name: str
    kind: str
    cron: Cron | None
    make: MakeCommand

    def event_id(self, due: datetime) -> str:
        """The id of the one event that asks for what was due then."""
        return str(uuid5(_NAMESPACE, f"{self.name}/{due.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"))

    def job_id(self, due: datetime) -> str:
        """The id of that event's job, made from the event's as the gateway does."""
        return f"{self.kind}-{self.event_id(due).replace('-', '')}"

    def command(self, due: datetime) -> Message:
        """The command for what was due then."""
        return self.make(self.job_id(due), due)


def _ingest(job_id: str, _due: datetime) -> Message:
    return IngestCatalog(job_id=job_id, lists=ListPages())


def _rebuild(job_id: str, _due: datetime) -> Message:
    return RebuildSearch(job_id=job_id)


def _present(artifact: Artifact) -> MakeCommand:
    def make(job_id: str, _due: datetime) -> Message:
        return RunCompute(job_id=job_id, artifact=artifact)

    return make


def _day_before(artifact: Artifact) -> MakeCommand:
    """For figures of a day: of the last one that is over, since at three in the morning hardly
    anything has happened on the present one."""

    def make(job_id: str, due: datetime) -> Message:
        day = due.astimezone(UTC).date() - timedelta(days=1)
        return RunCompute(job_id=job_id, artifact=artifact, as_of=day)

    return make


_COMMANDS: Final[Mapping[str, tuple[str, MakeCommand]]] = {
    "ingest": ("ingest", _ingest),
    "trending": ("compute", _day_before("trending")),
    "genre-stats": ("compute", _day_before("genre-stats")),
    "ratings-by-decade": ("compute", _day_before("ratings-by-decade")),
    "index-rebuild": ("search", _rebuild),
    "recommendations": ("compute", _present("recommendations")),
}


def cron_of(setting: str) -> Cron | None:
    """What a setting means: an expression, or that the schedule is off.

    Raises:
        ValueError: it is neither.
    """
    return None if setting.strip().lower() == OFF else Cron.parse(setting)


def schedule_table(settings: Mapping[str, str]) -> tuple[Schedule, ...]:
    """All schedules, each by the setting under its name, in the order of the table."""
    return tuple(
        Schedule(name, kind, cron_of(settings[name]), make)
        for name, (kind, make) in _COMMANDS.items()
    )
