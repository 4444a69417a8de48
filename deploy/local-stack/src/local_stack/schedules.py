"""What happens by the clock, as the scheduler tells it at `GET /schedules`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import httpx
from pydantic import BaseModel, ValidationError

# A leader looks every second; what is later than this has nobody to do it.
_LATE = timedelta(seconds=10)
_NEVER = "-"


class _Item(BaseModel):
    name: str
    cron: str | None
    last_due: datetime | None
    next_due: datetime | None


class _Page(BaseModel):
    items: list[_Item]
    as_of: datetime


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """One line below the status table; times in UTC, None for never."""

    name: str
    cron: str | None
    last: datetime | None
    next: datetime | None
    overdue: bool


def read_schedules(base_url: str) -> list[ScheduleRow]:
    """All schedules; none where the scheduler does not tell."""
    try:
        with httpx.Client(timeout=2.0, trust_env=False) as client:
            answer = client.get(f"{base_url}/schedules").raise_for_status()
        page = _Page.model_validate_json(answer.content)
    except (httpx.HTTPError, ValidationError):
        return []
    return [
        ScheduleRow(
            name=item.name,
            cron=item.cron,
            last=item.last_due,
            next=item.next_due,
            overdue=item.next_due is not None and page.as_of - item.next_due > _LATE,
        )
        for item in page.items
    ]


def schedule_lines(rows: Sequence[ScheduleRow]) -> list[str]:
    """The rows as a table; no lines for no rows."""
    if not rows:
        return []
    head = f"{'SCHEDULE (UTC)':<20}{'CRON':<18}{'LAST':<18}NEXT"
    return [head, *(_line(row) for row in rows)]


def _line(row: ScheduleRow) -> str:
    following = _moment(row.next) + (" overdue" if row.overdue else "")
    return f"{row.name:<20}{row.cron or 'off':<18}{_moment(row.last):<18}{following}"


def _moment(moment: datetime | None) -> str:
    return _NEVER if moment is None else f"{moment:%Y-%m-%d %H:%M}"
