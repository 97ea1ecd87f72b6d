"""The notices that the fronts of a cluster send each other through the database; see `cluster.notices`.

A notice is one of the words below; those about a job are followed by a blank and the job's id.
"""

WORK = "work"
"""A job may wait that can run now."""
EVENTS = "events"
"""A job has new events."""
CANCEL = "cancel"
"""A client has canceled a job, which a front runs."""
WATCH = "watch"
"""Clients of another front watch a job, and want its previews."""


def of_job(word: str, job_id: str) -> str:
    """Returns a notice about a job."""
    return f"{word} {job_id}"
