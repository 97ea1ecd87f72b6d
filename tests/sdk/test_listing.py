"""Lists of jobs: filters and pages."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from gramophone.listing import JobFilters, Pages
from gramophone.v1 import job_pb2
from gramophone.v1 import job_service_pb2 as pb


def test_every_filter_reaches_its_field():
    filters: JobFilters = {
        "states": ["queued", "failed"],
        "kinds": ["style"],
        "model": "m",
        "owner": "ann",
        "created_after": datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        "created_before": datetime(2026, 1, 2, tzinfo=UTC),
        "order": "oldest_first",
    }
    assert set(filters) == set(JobFilters.__annotations__)
    request = Pages(7, filters).next()
    assert request.states == [job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_FAILED]
    assert request.kinds == [job_pb2.JOB_KIND_STYLE]
    assert (request.model, request.owner, request.page_size) == ("m", "ann", 7)
    assert request.created_after.ToDatetime() == datetime(2025, 12, 31, 23)
    assert request.created_before.ToDatetime() == datetime(2026, 1, 2)
    assert request.order == pb.JOB_ORDER_OLDEST_FIRST


def test_filters_that_are_not_given_are_not_sent():
    assert Pages(None, {}).next() == pb.ListJobsRequest(page_size=100)


def test_a_time_without_a_zone_is_local():
    moment = datetime(2026, 6, 1, 12)
    request = Pages(None, {"created_after": moment}).next()
    assert request.created_after.ToDatetime(UTC) == moment.astimezone(UTC)


@pytest.mark.parametrize(
    ("filters", "error", "reason"),
    [
        ({"states": ["done"]}, ValueError, "succeeded.*not 'done'"),
        ({"kinds": ["video"]}, ValueError, "style, content, transfer, not 'video'"),
        ({"order": "random"}, ValueError, "newest_first, oldest_first"),
        ({"state": "queued"}, TypeError, "by state; only by states"),
    ],
)
def test_wrong_filters_are_errors_that_list_the_choices(filters, error, reason):
    with pytest.raises(error, match=reason):
        Pages(None, filters)


def test_a_list_of_jobs_is_fetched_in_pages(flaky, connect):
    client = connect(flaky.address)
    for number in range(250):
        (flaky.folder / "jobs" / f"{number:03}").touch()
    assert [info.id for info in client.jobs()] == [f"{number:03}" for number in range(250)]
    assert len(list(client.jobs(limit=120, owner="ann"))) == 120
    assert list(client.jobs(limit=0)) == []
    calls = flaky.calls("ListJobs")
    assert len(calls) == 5
    assert 'page_size: 20 page_token: "100" owner: "ann"' in calls[-1]
