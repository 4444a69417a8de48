"""What the service asks for by the clock: which commands, when, and that each goes out once.

One of the processes that play the role `scheduler` leads (`service_kit.leadership`). Every second
it looks for schedules whose time has come, and in one transaction moves such a schedule on and
puts its command into the outbox. It does no work of its own: the commands' jobs run where they
are consumed.

Nothing depends on there being one leader only. The row of a schedule is locked while it is moved
on; and the command's event id is made from the schedule's name and the time it was due, so that
even a second publication, say after a restored backup, is the same event, which has its effect
once.
"""

from compute_service.scheduling.api import schedules_api
from compute_service.scheduling.planning import Cron
from compute_service.scheduling.scheduler import Scheduler
from compute_service.scheduling.table import DEFAULTS, OFF, Schedule, cron_of, schedule_table

__all__ = [
    "DEFAULTS",
    "OFF",
    "Cron",
    "Schedule",
    "Scheduler",
    "cron_of",
    "schedule_table",
    "schedules_api",
]
