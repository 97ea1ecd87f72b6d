"""Events of jobs as server-sent events."""

import asyncio
import base64
import signal
import socket
import time
from typing import Any, cast

import pytest

from gramophone.v1 import job_pb2
from gramophone.v1 import job_service_pb2 as pb
from gramophone_server.http import events as module
from gramophone_server.http.errors import CallError, Code
from tests.harness import ServerProcess, endless_request, style_request, wait_until
from tests.http import web


def submit(server: ServerProcess, request=None) -> str:
    answer = web.post_json(server.url, "/jobs/style", request or style_request())
    assert answer.status == 201, answer
    job_id: str = answer.json()["jobId"]
    return job_id


def follow(server: ServerProcess, path: str, **headers: str) -> list[tuple[str, dict]]:
    """Returns all events of a stream that ends."""
    answer = web.request(server.url, "GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream"), answer
    return list(web.events(line + b"\n" for line in answer.data.split(b"\n")))


@pytest.fixture(scope="module")
def done(server) -> str:
    """The id of a job that has ended."""
    job_id = submit(server)
    assert follow(server, f"/jobs/{job_id}/events")[-1][1]["state"] == "JOB_STATE_SUCCEEDED"
    return job_id


def test_the_events_end_with_the_result(server, done):
    got = follow(server, f"/jobs/{done}/events")
    assert [int(event_id) for event_id, _ in got] == [event["sequence"] for _, event in got]
    assert got[0][1]["state"] == "JOB_STATE_QUEUED"
    result = server.jobs.GetJob(pb.GetJobRequest(job_id=done)).job.result
    assert base64.b64decode(got[-1][1]["result"]["image"]["data"]) == result.image.data


def test_pictures_can_be_left_out(server, done):
    got = follow(server, f"/jobs/{done}/events?pictures=false")
    image = got[-1][1]["result"]["image"]
    assert "data" not in image
    assert image["sha256"]


def test_a_stream_resumes_after_an_event(server, done):
    got = follow(server, f"/jobs/{done}/events")
    middle = got[len(got) // 2][0]
    later = [event for event in got if int(event[0]) > int(middle)]
    assert follow(server, f"/jobs/{done}/events", Last_Event_ID=middle) == later
    assert follow(server, f"/jobs/{done}/events?after={middle}") == later


def test_nothing_after_the_last_event_tells_the_client_to_stop(server, done):
    last = follow(server, f"/jobs/{done}/events")[-1][0]
    answer = web.request(server.url, "GET", f"/jobs/{done}/events", headers={"Last-Event-ID": last})
    assert (answer.status, answer.data) == (204, b"")


@pytest.mark.parametrize("last", ["x", "-1", "9999999999", "1, 2"])
def test_a_wrong_position_names_its_header(server, done, last):
    answer = web.request(server.url, "GET", f"/jobs/{done}/events", headers={"Last-Event-ID": last})
    assert (answer.status, answer.error()[1].keys()) == (400, {"Last-Event-ID"})


def test_one_stream_follows_several_jobs_and_resumes_all(server, done):
    other = submit(server, style_request(seed=3))
    got = follow(server, f"/events?job={done}&job={other}")
    by_job = {job_id: [event["sequence"] for _, event in got if event["jobId"] == job_id] for job_id in (done, other)}
    assert all(numbers == sorted(numbers) and numbers for numbers in by_job.values())
    assert {event["jobId"] for _, event in got if event["state"] == "JOB_STATE_SUCCEEDED"} == {done, other}
    half = got[len(got) // 2]
    rest = follow(server, f"/events?job={done}&job={other}", Last_Event_ID=half[0])
    seen = {(event["jobId"], event["sequence"]) for _, event in got[: len(got) // 2 + 1]}
    assert seen.isdisjoint((event["jobId"], event["sequence"]) for _, event in rest)
    assert len(seen) + len(rest) == len(got)
    last = got[-1][0]
    path = f"/events?job={done}&job={other}"
    assert web.request(server.url, "GET", path, headers={"Last-Event-ID": last}).status == 204


def test_one_unknown_job_of_several_is_an_error(server, done):
    answer = web.request(server.url, "GET", f"/events?job={'0' * 30}")
    assert (answer.status, answer.error()[1].keys()) == (404, {"job_id"})
    assert web.request(server.url, "GET", "/events").error()[1].keys() == {"job"}
    many = "&".join(f"job={i:030x}" for i in range(65))
    assert web.request(server.url, "GET", f"/events?{many}").error()[1].keys() == {"job"}


def test_a_stream_ends_with_a_problem_when_the_server_stops(tmp_path):
    with ServerProcess("--http", "127.0.0.1:0", "--grace", "0", "--data", str(tmp_path)) as own:
        job_id = submit(own, endless_request())
        connection = web.connect(own.url)
        connection.request("GET", f"/jobs/{job_id}/events?pictures=false")
        lines = web.events(connection.getresponse())
        assert next(lines)[1]["jobId"] == job_id
        own.process.send_signal(signal.SIGTERM)
        *_, last = lines
        assert last[0] == "problem"
        assert last[1]["code"] == "unavailable"
        own.process.wait(20)
        assert "Traceback" not in own.read_log()


def test_a_client_that_leaves_frees_its_stream(server):
    job_id = submit(server, endless_request())
    before = open_streams(server)
    connection = web.connect(server.url)
    connection.request("GET", f"/jobs/{job_id}/events")
    next(web.events(connection.getresponse()))
    assert open_streams(server) == before + 1
    connection.close()
    wait_until(lambda: open_streams(server) == before, "the stream to be freed")
    server.jobs.CancelJob(pb.CancelJobRequest(job_id=job_id))


def test_a_slow_reader_gets_the_latest_progress_and_each_state(server):
    job_id = submit(server, style_request(iterations=80, report_every=1, size=128))
    connection = web.connect(server.url)
    # A window of a few kilobytes, as over a slow network.
    connection.sock = socket.socket()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sock.settimeout(30)
    connection.sock.connect((connection.host, connection.port))
    connection.request("GET", f"/jobs/{job_id}/events")
    lines = web.events(connection.getresponse())
    first = next(lines)[1]
    ended = (job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED)
    wait_until(lambda: server.jobs.GetJob(pb.GetJobRequest(job_id=job_id)).job.state in ended, "the job to end")
    rest = [event for event_id, event in lines if event_id]
    assert first["state"] == "JOB_STATE_QUEUED"
    assert rest[-1]["state"] == "JOB_STATE_SUCCEEDED"
    assert len(rest) < 40


def test_the_head_of_a_stream_without_events_comes_soon(server):
    job_id = submit(server, style_request(iterations=1_000_000, report_every=1_000_000))
    while server.jobs.GetJob(pb.GetJobRequest(job_id=job_id)).job.state != job_pb2.JOB_STATE_RUNNING:
        time.sleep(0.05)
    last = server.jobs.GetJob(pb.GetJobRequest(job_id=job_id)).job.sequence
    connection = web.connect(server.url)
    started = time.monotonic()
    connection.request("GET", f"/jobs/{job_id}/events", headers={"Last-Event-ID": str(last)})
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream")
    assert time.monotonic() - started < 10
    connection.close()
    server.jobs.CancelJob(pb.CancelJobRequest(job_id=job_id))


def test_an_error_after_a_quiet_time_is_a_problem(monkeypatch):
    monkeypatch.setattr(module, "_FIRST_QUIET", 0.01)

    class Broken:
        async def events(self):
            await asyncio.sleep(0.1)
            raise CallError(Code.UNAVAILABLE, "the server is shutting down")
            yield

    async def read():
        return [item async for item in module._merged({"a": cast(Any, Broken())})]

    first, last = asyncio.run(read())
    assert first == "keep-alive"
    assert isinstance(last, CallError)


def test_a_quiet_stream_is_kept_alive(monkeypatch):
    monkeypatch.setattr(module, "_QUIET", 0.02)
    monkeypatch.setattr(module, "_FIRST_QUIET", 0.02)

    class Quiet:
        async def events(self):
            yield job_pb2.JobEvent(job_id="a", sequence=1)
            await asyncio.sleep(0.2)
            yield job_pb2.JobEvent(job_id="a", sequence=2)

    async def read():
        return [item async for item in module._merged({"a": cast(Any, Quiet())})]

    started = time.monotonic()
    items = asyncio.run(read())
    assert time.monotonic() - started < 10
    assert [item.sequence for item in items if not isinstance(item, str)] == [1, 2]
    assert "keep-alive" in items[1:-1]


def open_streams(server: ServerProcess) -> int:
    text = web.request(server.url, "GET", "/metrics").data.decode()
    return int(float(next(line for line in text.splitlines() if line.startswith("gramophone_streams_open")).split()[1]))
