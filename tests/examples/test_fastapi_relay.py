"""The web service that relays progress by server-sent events, under uvicorn and against a real server."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

import gramophone
from tests.harness import ServerProcess, png

ENDLESS = {"size": 32, "iterations": 1_000_000, "report_every": 2, "time_limit": 60}


@pytest.fixture(scope="module")
def http(program: Callable[[str], ModuleType]) -> Iterator[Any]:
    """An HTTP client of the running relay."""
    httpx, uvicorn = pytest.importorskip("httpx"), pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    relay = program("fastapi_relay")
    listening = socket.create_server(("127.0.0.1", 0))
    web = uvicorn.Server(uvicorn.Config(relay.app, log_level="warning", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=web.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=60) as client:
        yield client
    web.should_exit = True
    thread.join(20)
    listening.close()


def submitted(http: Any, **options: Any) -> str:
    """Uploads two pictures and submits a transfer; returns the job's id."""
    hashes = [http.post("/pictures", content=png(seed=seed)).json()["sha256"] for seed in (0, 1)]
    body = {"content": hashes[0], "style": hashes[1], "options": options}
    answer = http.post("/paintings", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def events(http: Any, job_id: str, after: int = 0) -> Iterator[dict[str, Any]]:
    """Yields the server-sent events of a job as an EventSource would."""
    headers = {"Last-Event-ID": str(after)} if after else {}
    with http.stream("GET", f"/paintings/{job_id}/events", headers=headers) as stream:
        assert stream.status_code == 200
        event: dict[str, Any] = {}
        for line in stream.iter_lines():
            name, _, value = line.partition(": ")
            if line:
                event[name] = json.loads(value) if name == "data" else int(value) if name == "id" else value
            else:
                yield event
                event = {}


def test_a_broken_stream_resumes_after_its_last_event(http: Any, server: ServerProcess) -> None:
    job_id = submitted(http, size=32, iterations=120, report_every=4)
    before = []
    for event in events(http, job_id):
        before.append(event)
        if len(before) == 3:
            break
    after = list(events(http, job_id, before[-1]["id"]))
    numbers = [event["id"] for event in [*before, *after]]
    assert numbers == sorted(set(numbers))
    iterations = [event["data"]["iteration"] for event in [*before, *after][:-1]]
    assert iterations == sorted(set(iterations)) and iterations[-1] == 120
    assert {event["event"] for event in [*before, *after[:-1]]} == {"progress"}
    assert after[-1]["event"] == "done"
    picture = http.get(after[-1]["data"]["picture"])
    with gramophone.Client(server.address) as client:
        assert picture.content == client.job(job_id).result().data
    answer = http.get(f"/paintings/{job_id}/events", headers={"Last-Event-ID": str(after[-1]["id"])})
    assert answer.status_code == 204


def test_a_canceled_job_ends_its_stream(http: Any) -> None:
    job_id = submitted(http, **ENDLESS)
    following = events(http, job_id)
    assert next(following)["event"] == "progress"
    assert http.delete(f"/paintings/{job_id}").status_code == 204
    last = list(following)[-1]
    assert last["event"] == "failed" and "was canceled" in last["data"]["detail"]


def test_errors_have_their_status_and_name_the_field(http: Any) -> None:
    assert http.get("/paintings/nothing/events").status_code == 404
    body = {"content": "0" * 64, "style": "0" * 64, "options": {"size": 32}}
    unknown = http.post("/paintings", json=body)
    assert unknown.status_code == 422 and "content.sha256" in str(unknown.json())
    wrong = http.post("/paintings", json=body | {"options": {"size": "large"}})
    assert wrong.status_code == 422 and "size" in str(wrong.json())
