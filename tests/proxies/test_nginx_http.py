"""HTTP behind a real nginx with the lines of docs/proxies.md."""

import hashlib
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gramophone.v1 import job_service_pb2 as pb
from tests.harness import ServerProcess, endless_request
from tests.http import web
from tests.proxies.nginx import Nginx

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "proxies.md").read_text()
NAME = "studio.example.com"


@pytest.fixture(scope="module")
def proxied() -> Iterator[ServerProcess]:
    with ServerProcess("--http", "127.0.0.1:0", "--http-host", NAME) as running:
        yield running


@pytest.fixture
def nginx(proxied: ServerProcess, tmp_path: Path) -> Iterator[str]:
    """The URL of an nginx with the lines of the page."""
    block = PAGE.partition("## HTTP")[2]
    (lines,) = re.findall(r"location / \{\n(.*?)\n    \}", block, re.DOTALL)
    assert "proxy_pass http://127.0.0.1:8080;" in lines
    location = lines.replace("proxy_pass http://127.0.0.1:8080;", "")
    with Nginx(tmp_path / "nginx", proxied.url, location=location) as running:
        yield f"http://{running.address}"


def test_events_arrive_when_they_happen(proxied: ServerProcess, nginx: str) -> None:
    host = {"Host": NAME}
    job_id = web.post_json(nginx, "/jobs/style", endless_request(), host).json()["jobId"]
    connection = web.connect(nginx)
    connection.request("GET", f"/jobs/{job_id}/events?pictures=false", headers=host)
    events = web.events(connection.getresponse())
    # The job never ends: an event that arrives was not held back.
    while "progress" not in next(events)[1]:
        pass
    connection.close()
    proxied.jobs.CancelJob(pb.CancelJobRequest(job_id=job_id))


def test_a_large_picture_goes_up_and_a_page_of_the_proxy_may_call(nginx: str) -> None:
    data = random.Random(8).randbytes(3_000_000)
    name = hashlib.sha256(data).hexdigest()
    headers = {"Host": NAME, "Origin": f"https://{NAME}", "Sec-Fetch-Site": "same-origin"}
    answer = web.request(nginx, "PUT", f"/images/{name}", data, headers)
    assert (answer.status, answer.json()["size"]) == (201, len(data))


def test_another_name_or_page_is_refused_behind_the_proxy(nginx: str) -> None:
    assert web.request(nginx, "GET", "/metrics", headers={"Host": "evil.example"}).status == 421
    headers = {"Host": NAME, "Origin": "https://evil.example"}
    assert web.request(nginx, "GET", "/metrics", headers=headers).status == 403
