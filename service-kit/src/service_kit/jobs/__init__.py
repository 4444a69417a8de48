"""Jobs: work that outlives a batch, done in committed steps and gone on with after any death.

    enqueue     a command's handler writes the row, `queued`, in the transaction of its inbox claim
    claim       a runner takes the oldest job without an owner and counts its `attempt` up
    step        one transaction: the effect, the checkpoint and the follow-on events, or nothing
    finish      `succeeded`, `failed` with a reason, or `cancelled`; each change as `JobChanged`

The owner is whoever holds the job's advisory lock on a connection of its own. When the process
dies, however it dies, the server lets go of the lock and the next runner goes on from the last
committed checkpoint. A step commits only while its attempt is the newest, so an owner that was
given up for dead and is not cannot write any more.
"""

from service_kit.jobs.api import jobs_router
from service_kit.jobs.model import Job, JobCancelled, JobFailed, JobLost
from service_kit.jobs.repository import enqueue, list_jobs, load_job, request_cancel
from service_kit.jobs.runner import JobRunner, Run
from service_kit.jobs.running import RunningJob, Step

__all__ = [
    "Job",
    "JobCancelled",
    "JobFailed",
    "JobLost",
    "JobRunner",
    "Run",
    "RunningJob",
    "Step",
    "enqueue",
    "jobs_router",
    "list_jobs",
    "load_job",
    "request_cancel",
]
