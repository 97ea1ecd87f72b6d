"""A server gives the same responses on SQLite and on PostgreSQL for odd texts, extreme numbers and extreme times."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from gramophone.v1 import job_pb2, job_service_pb2, options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from gramophone_server.security.tokens import add_token
from tests.harness import Calls, ServerProcess, events, options, style_request

Code = grpc.StatusCode
# Texts that a database might handle wrongly. A lone surrogate is missing because protobuf cannot carry it.
ODD = {
    "NUL": "a\0b",
    "NUL alone": "\0",
    "controls": "\x01\x1f\x7f\x85\u2028",
    "not a character": "\uffff\ufdd0",
    "beyond the basic plane": "\U0010ffff\U0001f3a8",
    "quotes": "'; DROP TABLE jobs; --",
    "a backslash": "\\x00\\000\\",
    "patterns": "%_*?",
    "combining": "e\u0301\u202e",
    "an id's length": "\0" * 30,
    "a hash's length": "\0" * 64,
    "long": "0" * 100_000,
    "invisible": "\u200b ",
}
MOST, LAST, LARGEST = 2**63 - 1, 2**31 - 1, 2**32 - 1


@pytest.fixture(scope="module")
def servers(tmp_path_factory) -> Iterator[dict[str, Any]]:
    """The servers started so far, by database: (server, calls, id of a job that has ended). Stopped at the end."""
    made: dict[str, Any] = {}
    yield made
    for server, calls, _ in made.values():
        calls.channel.close()
        server.__exit__(None, None, None)


@pytest.fixture
def calls_and_job(servers, each_database, tmp_path_factory) -> tuple[Calls, str]:
    """An administrator's client of a server on one of the databases, and the id of a job that has ended."""
    if each_database not in servers:
        file = tmp_path_factory.mktemp("tokens") / "tokens.json"
        token = add_token(file, "root", admin=True)
        server = ServerProcess("--tokens", str(file), "--threads", "1")
        calls = Calls(server.address)
        calls.jobs = authenticated(calls.jobs, token)
        calls.style = authenticated(calls.style, token)
        last = list(events(calls.style.ReconstructStyle(style_request())))[-1]
        assert last.state == job_pb2.JOB_STATE_SUCCEEDED
        servers[each_database] = server, calls, last.job_id
    _, calls, job_id = servers[each_database]
    return calls, job_id


def authenticated(stub: Any, token: str) -> Any:
    """Wraps a stub so that each of its calls sends the token."""

    class WithToken:
        def __getattr__(self, name: str) -> Callable[..., Any]:
            return lambda request: getattr(stub, name)(request, metadata=(("authorization", f"Bearer {token}"),))

    return WithToken()


def status_of(call: Callable[[Message], Any], request: Message) -> Code:
    """Returns the status code of the call. The error's details must not mention the storage."""
    refused: Any = None
    try:
        result = call(request)
        if not isinstance(result, Message):
            list(result)
    except grpc.RpcError as error:
        refused = error
    assert refused is None or not re.search("disk|storage", refused.details())
    return refused.code() if refused else Code.OK


@pytest.mark.parametrize("name", ODD)
def test_an_id_with_odd_characters_is_not_found(calls_and_job, name):
    calls, _ = calls_and_job
    for method, kind in (
        ("GetJob", job_service_pb2.GetJobRequest),
        ("CancelJob", job_service_pb2.CancelJobRequest),
        ("DeleteJob", job_service_pb2.DeleteJobRequest),
        ("WatchJob", job_service_pb2.WatchJobRequest),
        ("DownloadResult", job_service_pb2.DownloadResultRequest),
    ):
        assert status_of(getattr(calls.jobs, method), kind(job_id=ODD[name])) == Code.NOT_FOUND, method


@pytest.mark.parametrize("name", ODD)
def test_odd_texts_in_filters_of_list_jobs(calls_and_job, name):
    calls, _ = calls_and_job
    for field in ("model", "owner", "page_token"):
        is_wrong = "\0" in ODD[name] or field == "page_token"
        filters: Any = {field: ODD[name]}
        status = status_of(calls.jobs.ListJobs, job_service_pb2.ListJobsRequest(**filters))
        assert status == (Code.INVALID_ARGUMENT if is_wrong else Code.OK), field


@pytest.mark.parametrize("name", ODD)
def test_odd_texts_in_a_submission(calls_and_job, name):
    calls, _ = calls_and_job
    text = ODD[name]
    by_name = pb.ReconstructStyleRequest(
        styles=[options_pb2.StyleSource(image=options_pb2.InputImage(sha256=text))], options=options()
    )
    layer = style_request()
    layer.style_layers.add(layer=text)
    named = style_request()
    named.submission.request_id = text
    assert status_of(calls.style.ReconstructStyle, by_name) == Code.INVALID_ARGUMENT
    assert status_of(calls.style.ReconstructStyle, layer) == Code.INVALID_ARGUMENT
    could_be = re.fullmatch(r"[\x21-\x7e]{1,128}", text)
    assert status_of(calls.style.ReconstructStyle, named) == (Code.OK if could_be else Code.INVALID_ARGUMENT)
    assert status_of(calls.style.ReconstructStyle, style_request(model=text)) == Code.NOT_FOUND
    upload = iter([job_service_pb2.UploadImageRequest(sha256=text)])
    assert status_of(calls.jobs.UploadImage, upload) == Code.INVALID_ARGUMENT  # type: ignore[arg-type]


@pytest.mark.parametrize("after", [0, 1, 2**30, LAST])
def test_watch_job_accepts_the_largest_sequence(calls_and_job, after):
    calls, job_id = calls_and_job
    found = list(calls.jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job_id, after_sequence=after)))
    assert [event.event.sequence for event in found] == sorted(event.event.sequence for event in found)
    assert bool(found) == (after < 2**30)


def test_numbers_out_of_range_are_invalid(calls_and_job):
    calls, job_id = calls_and_job
    for size in (0, -1, 1001, 2**31 - 1):
        assert status_of(calls.jobs.ListJobs, job_service_pb2.ListJobsRequest(page_size=size)) == Code.INVALID_ARGUMENT
    for offset in (2**31, LARGEST):
        request = job_service_pb2.DownloadResultRequest(job_id=job_id, offset=offset)
        assert status_of(calls.jobs.DownloadResult, request) == Code.INVALID_ARGUMENT
    for after in (-1, -LAST - 1):
        request = job_service_pb2.WatchJobRequest(job_id=job_id, after_sequence=after)  # type: ignore[assignment]
        assert status_of(calls.jobs.WatchJob, request) == Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("seconds", "nanos", "is_before"),
    [(-62_135_596_800, 0, True), (-1, 999_999_999, True), (0, 0, True), (253_402_300_799, 999_999_999, False)],
    ids=["year 1", "1969", "1970", "year 9999"],
)
def test_list_jobs_accepts_the_earliest_and_the_latest_time(calls_and_job, seconds, nanos, is_before):
    calls, job_id = calls_and_job
    moment = Timestamp(seconds=seconds, nanos=nanos)
    after = calls.jobs.ListJobs(job_service_pb2.ListJobsRequest(created_after=moment)).jobs
    before = calls.jobs.ListJobs(job_service_pb2.ListJobsRequest(created_before=moment)).jobs
    assert (job_id in [job.id for job in after]) == is_before
    assert (job_id in [job.id for job in before]) != is_before


def test_timestamps_out_of_range_are_invalid(calls_and_job):
    calls, _ = calls_and_job
    for moment in (Timestamp(seconds=MOST), Timestamp(seconds=-MOST), Timestamp(nanos=-1), Timestamp(nanos=2**31 - 1)):
        request = job_service_pb2.ListJobsRequest(created_after=moment)
        assert status_of(calls.jobs.ListJobs, request) == Code.INVALID_ARGUMENT


def test_pages_of_list_jobs_in_both_orders(calls_and_job):
    calls, _ = calls_and_job
    for seed in range(3):
        list(calls.style.ReconstructStyle(style_request(seed, iterations=1)))
    for order in (job_service_pb2.JOB_ORDER_NEWEST_FIRST, job_service_pb2.JOB_ORDER_OLDEST_FIRST):
        found, token = [], ""
        while True:
            page = calls.jobs.ListJobs(job_service_pb2.ListJobsRequest(page_size=1, page_token=token, order=order))
            found += [job.id for job in page.jobs]
            if not (token := page.next_page_token):
                break
        assert len(found) == len(set(found)) >= 4
        assert found == sorted(found, reverse=order == job_service_pb2.JOB_ORDER_NEWEST_FIRST)
