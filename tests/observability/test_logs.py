"""Logs as JSON, with the ids of job and trace, and without secrets."""

import json
import logging
import sys
from typing import Any

from gramophone.v1 import job_service_pb2
from gramophone_server.logs import JsonFormatter, mark, marked
from gramophone_server.security.tokens import add_token
from tests.harness import ServerProcess, endless_request, events, png, run, style_request, wait_until

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = (("traceparent", f"00-{TRACE}-{SPAN}-01"),)


def written(message: str, *args: object, exception: Any = None, **extra: str) -> dict[str, str]:
    """Formats a log record as a JSON line and returns the parsed object."""
    record = logging.LogRecord("a.b", logging.WARNING, __file__, 1, message, args, exception)
    record.__dict__.update(extra)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    parsed: dict[str, str] = json.loads(line)
    return parsed


def lines(server: ServerProcess) -> list[dict[str, str]]:
    """Parses the server's log; each line must be a JSON object."""
    return [json.loads(line) for line in server.read_log().splitlines()]


def test_the_fields_of_a_line():
    line = written("%d of\n“%s”", 3, "these")
    assert line.pop("time").endswith("+00:00")
    assert line == {"level": "warning", "logger": "a.b", "message": "3 of\n“these”"}


def test_a_line_with_an_exception():
    try:
        raise ValueError("no\ngood")
    except ValueError:
        line = written("oh", exception=sys.exc_info())
    assert line["exception"].endswith("ValueError: no\ngood")


def test_marks_are_added_to_lines():
    with marked({"job_id": "j", "trace_id": "t"}):
        assert (written("x")["job_id"], written("x")["trace_id"]) == ("j", "t")
        mark(span_id="s")
        assert written("x")["span_id"] == "s"
        # A line about another job does not get this trace's id.
        other = written("x", job_id="k")
        assert other["job_id"] == "k" and "trace_id" not in other
    assert "job_id" not in written("x")


def test_a_server_logs_the_job_and_trace_of_each_line_and_no_secrets(tmp_path):
    """Including lines from workers, and lines about a job whose worker was killed."""
    tokens = tmp_path / "tokens.json"
    token = add_token(tokens, "alice", admin=False)
    args = ["--log-format", "json", "--log-level", "debug", "--tokens", str(tokens), "--checkpoint-every", "0"]
    with ServerProcess(*args, "--data", str(tmp_path / "data")) as server:
        metadata = (("authorization", f"Bearer {token}"), *TRACEPARENT)
        stream = server.style.ReconstructStyle(endless_request(), metadata=metadata)
        for event in events(stream):
            if event.progress.iteration >= 4:
                break
        job_id = event.job_id
        (worker,) = server.workers()
        worker.kill()
        wait_until(lambda: "resumes at iteration" in server.read_log(), "the job's second attempt")
        server.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=job_id), metadata=metadata[:1])
        list(stream)
        wait_until(lambda: f"job {job_id} cancelled" in server.read_log(), "the job's end")
        log = lines(server)
        about = [line for line in log if job_id in line["message"]]
        for words in ("queued", "goes back to the queue", "resumes at iteration", "cancelled"):
            (line,) = [line for line in about if words in line["message"]]
            assert (line["job_id"], line["trace_id"], line["span_id"]) == (job_id, TRACE, SPAN)
        (call,) = [line for line in log if "JobService/CancelJob: OK" in line["message"]]
        assert call["job_id"] == job_id and "trace_id" not in call
        text = server.read_log()
        assert token not in text and token[-16:] not in text
        assert repr(png()[40:60])[2:-1] not in text


def test_the_default_format_is_text(server):
    run(server, style_request())
    assert any(" INFO gramophone_server.scheduling.scheduler: job " in line for line in server.read_log().splitlines())
