"""Listing of jobs in pages: the part that the synchronous and the asynchronous client share."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from typing_extensions import TypedDict

from .options import JobKind, JobOrder, JobState
from .requests import choice, words
from .v1 import job_pb2, job_service_pb2
from .values import JobInfo

_PAGE = 100


class JobFilters(TypedDict, total=False):
    """Filters and order of a list of jobs; a job must match all filters.

    Attributes:
        states: any of "queued", "running", "succeeded", "failed", "cancelled".
        kinds: any of "style", "content", "transfer".
        model: name of the model.
        owner: name of the client that submitted the job; useful to administrators.
        created_after, created_before: the job was accepted at `created_after` or later, and before `created_before`. A
            datetime without a time zone is local time.
        order: "newest_first", the default, or "oldest_first".
    """

    states: Iterable[JobState]
    kinds: Iterable[JobKind]
    model: str | None
    owner: str | None
    created_after: datetime | None
    created_before: datetime | None
    order: JobOrder


class Pages:
    """The requests for the pages of a list of jobs.

    Args:
        limit: maximum number of jobs; None for all.
        filters: filters and order.

    Raises:
        TypeError: there is no filter of that name.
        ValueError: a filter's value is not allowed.
    """

    def __init__(self, limit: int | None, filters: JobFilters) -> None:
        unknown = set(filters) - JobFilters.__annotations__.keys()
        if unknown:
            known = ", ".join(JobFilters.__annotations__)
            raise TypeError(f"jobs cannot be listed by {', '.join(sorted(unknown))}; only by {known}")
        self._left = limit
        self._last = False
        self._request = job_service_pb2.ListJobsRequest(
            states=[choice(words(job_pb2.JobState), "states", state) for state in filters.get("states", ())],
            kinds=[choice(words(job_pb2.JobKind), "kinds", kind) for kind in filters.get("kinds", ())],
            model=filters.get("model") or "",
            owner=filters.get("owner") or "",
            order=choice(words(job_service_pb2.JobOrder), "order", filters.get("order")),
        )
        if (after := filters.get("created_after")) is not None:
            self._request.created_after.FromDatetime(after.astimezone(UTC))
        if (before := filters.get("created_before")) is not None:
            self._request.created_before.FromDatetime(before.astimezone(UTC))

    def next(self) -> job_service_pb2.ListJobsRequest | None:
        """Returns the request for the next page; None after the last page."""
        if self._last or (self._left is not None and self._left <= 0):
            return None
        self._request.page_size = min(self._left or _PAGE, _PAGE)
        return self._request

    def take(self, page: job_service_pb2.ListJobsResponse) -> list[JobInfo]:
        """Processes a response; returns its jobs."""
        self._request.page_token = page.next_page_token
        self._last = not page.next_page_token
        if self._left is not None:
            self._left -= len(page.jobs)
        return [JobInfo.of(job) for job in page.jobs]
