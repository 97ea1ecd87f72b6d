"""A server with tokens over HTTP: the same rules as over gRPC, and nothing of another client is visible."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gramophone.v1 import job_service_pb2 as pb
from gramophone_server.security.tokens import add_token, remove_token
from tests.harness import ServerProcess, style_request, wait_until
from tests.http import web
from tests.http.test_uploads import picture

JOBS = "/gramophone.v1.JobService"


class Guarded:
    """A server with tokens for alice, bob and the administrator root, and a finished job of alice."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "tokens.json"
        tokens = {name: add_token(self.file, name, admin=name == "root") for name in ("alice", "bob", "root")}
        self.alice, self.bob, self.root = ({"Authorization": f"Bearer {tokens[n]}"} for n in ("alice", "bob", "root"))
        self.server = ServerProcess("--tokens", str(self.file), "--http", "127.0.0.1:0")
        self.url = self.server.url
        self.job_id: str = web.post_json(self.url, "/jobs/style", style_request(), self.alice).json()["jobId"]
        wait_until(lambda: self.get(f"/jobs/{self.job_id}/result", self.alice).status == 200, "the result")

    def get(self, path: str, headers: web.Headers, method: str = "GET") -> web.Response:
        return web.request(self.url, method, path, headers=headers)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory) -> Iterator[Guarded]:
    made = Guarded(tmp_path_factory.mktemp("tokens"))
    with made.server:
        yield made


def paths(job_id: str) -> list[tuple[str, str]]:
    return [
        ("GET", f"/jobs/{job_id}/events"),
        ("GET", f"/events?job={job_id}"),
        ("GET", f"/jobs/{job_id}/result"),
        ("HEAD", f"/jobs/{job_id}/result"),
        ("GET", f"/jobs/{job_id}/preview"),
    ]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer gramophone_wrong"},
        {"Authorization": "Basic YTpi"},
        {"Authorization": ""},
        {"Cookie": "token=x"},
    ],
)
def test_a_call_without_a_valid_token_is_refused_everywhere(guarded, headers):
    for method, path in (
        *paths(guarded.job_id),
        ("GET", "/metrics"),
        ("PUT", f"/images/{'0' * 64}"),
        ("HEAD", f"/images/{'0' * 64}"),
    ):
        answer = guarded.get(path, headers, method)
        assert answer.status == 401, path
        assert answer.headers["www-authenticate"].startswith("Bearer")
    for path in (f"{JOBS}/ListJobs", f"{JOBS}/Nothing", "/jobs/style"):
        answer = web.post_json(guarded.url, path, {}, headers)
        assert (answer.status, answer.json()["code"]) in ((401, "unauthenticated"), (404, "not_found")), path
    messages, trailers = web.grpc_web(guarded.url, f"{JOBS}/ListJobs", pb.ListJobsRequest(), headers)
    assert (messages, trailers["grpc-status"]) == ([], "16")


def test_health_and_the_page_need_no_token(guarded):
    assert guarded.get("/healthz", {}).json() == {"status": "SERVING"}
    assert guarded.get("/", {}).status in (200, 404)
    assert web.post_json(guarded.url, "/grpc.health.v1.Health/Check", {}).status == 200


def test_a_job_of_another_client_is_like_one_that_does_not_exist(guarded):
    for (method, path), (_, unknown) in zip(paths(guarded.job_id), paths("0" * 30), strict=True):
        theirs, none = guarded.get(path, guarded.bob, method), guarded.get(unknown, guarded.bob, method)
        assert theirs.status == none.status == 404
        if method == "GET":
            assert shape(theirs, guarded.job_id) == shape(none, "0" * 30)
        assert guarded.get(path, guarded.root, method).status == 200
    listed = web.post_json(guarded.url, f"{JOBS}/ListJobs", {}, guarded.bob).json()
    assert listed == {}
    assert web.post_json(guarded.url, f"{JOBS}/DeleteJob", {"jobId": guarded.job_id}, guarded.bob).status == 404


def shape(answer: web.Response, job_id: str) -> str:
    """Returns an error without the id of the job."""
    error = answer.json()
    for detail in error["details"]:
        del detail["value"]
    return str(error).replace(job_id, "")


def test_one_stream_does_not_mix_in_a_job_of_another_client(guarded):
    own = web.post_json(guarded.url, "/jobs/style", style_request(seed=4), guarded.bob).json()["jobId"]
    answer = guarded.get(f"/events?job={own}&job={guarded.job_id}", guarded.bob)
    assert b"result" not in answer.data or guarded.job_id.encode() not in answer.data.partition(b"problem")[0]
    assert answer.status == 404 or b"event: problem" in answer.data


def test_an_upload_of_another_client_is_not_visible(guarded):
    name, data = picture(9, 100_000)
    assert web.request(guarded.url, "PUT", f"/images/{name}", data, guarded.alice).status == 201
    assert guarded.get(f"/images/{name}", guarded.alice, "HEAD").status == 204
    assert guarded.get(f"/images/{name}", guarded.bob, "HEAD").status == 404


def test_only_an_administrator_reads_the_metrics(guarded):
    assert guarded.get("/metrics", guarded.root).status == 200
    answer = guarded.get("/metrics", guarded.alice)
    assert (answer.status, answer.json()["code"]) == (403, "permission_denied")


def test_a_token_that_is_removed_is_refused_at_once(guarded):
    token = {"Authorization": f"Bearer {add_token(guarded.file, 'carol', admin=False)}"}
    assert web.post_json(guarded.url, f"{JOBS}/ListJobs", {}, token).status == 200
    remove_token(guarded.file, "carol")
    assert web.post_json(guarded.url, f"{JOBS}/ListJobs", {}, token).status == 401


def test_a_body_is_not_read_before_the_token_is_checked(guarded):
    connection = web.connect(guarded.url)
    connection.putrequest("POST", f"{JOBS}/ListJobs")
    for key, value in (
        ("Content-Type", "application/proto"),
        ("Content-Length", "1000000"),
        ("Expect", "100-continue"),
    ):
        connection.putheader(key, value)
    connection.endheaders()
    assert web.read(connection).status == 401


def test_the_log_has_no_token(guarded):
    secret = guarded.alice["Authorization"].split()[1]
    assert secret not in guarded.server.read_log()
