"""Requests that other web sites make through a visitor's browser are refused."""

import pytest

from tests.harness import ServerProcess
from tests.http import web

LIST = "/gramophone.v1.JobService/ListJobs"
ALLOWED = "https://pages.example"


def listing(url: str, **headers: str) -> web.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.post_json(url, LIST, {}, names)


def test_a_foreign_host_is_refused(server):
    """A name of another site that was pointed at a loopback address (DNS rebinding)."""
    for host in (
        "evil.example",
        "evil.example:80",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "[",
        "",
    ):
        answer = listing(server.url, Host=host)
        assert (answer.status, answer.json()["code"]) == (421, "permission_denied"), host
    assert web.request(server.url, "GET", "/", headers={"Host": "evil.example"}).status == 421


def test_the_names_of_the_loopback_address_are_accepted(server):
    port = server.url.rpartition(":")[2]
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "LOCALHOST:9000", "[::1]:9000", "localhost."):
        assert listing(server.url, Host=host).status == 200, host


def test_two_hosts_in_one_request_are_refused(server):
    connection = web.connect(server.url)
    connection.putrequest("POST", LIST, skip_host=True)
    for name, value in (("Host", "localhost"), ("Host", "evil.example"), ("Content-Length", "0")):
        connection.putheader(name, value)
    connection.endheaders()
    answer = web.read(connection)
    assert answer.status == 400
    assert answer.json()["code"] == "invalid_argument"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost:1"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1.evil.example"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"},
    ],
)
def test_a_page_of_another_site_may_not_call(server, headers):
    answer = listing(server.url, **headers)
    assert (answer.status, answer.json()["code"]) == (403, "permission_denied")
    assert "access-control-allow-origin" not in answer.headers


def test_a_page_of_another_site_may_neither_submit_nor_upload_nor_follow(server):
    evil = {"Origin": "https://evil.example"}
    for method, path in (
        ("POST", "/jobs/style"),
        ("PUT", f"/images/{'0' * 64}"),
        ("GET", f"/jobs/{'0' * 30}/events"),
        ("GET", f"/jobs/{'0' * 30}/result"),
        ("GET", "/metrics"),
        ("OPTIONS", LIST),
    ):
        assert web.request(server.url, method, path, headers=evil).status == 403, path


def test_the_servers_own_page_may_call(server):
    origin = server.url
    assert listing(server.url, Origin=origin, Sec_Fetch_Site="same-origin").status == 200
    assert listing(server.url, Sec_Fetch_Site="none").status == 200


def test_another_site_may_link_to_the_page_but_not_to_data(server):
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert web.request(server.url, "GET", "/", headers=link).status in (200, 404)
    assert web.request(server.url, "GET", f"/jobs/{'0' * 30}/result", headers=link).status == 403
    assert web.request(server.url, "GET", "/", headers={"Sec-Fetch-Site": "cross-site"}).status == 403


@pytest.fixture(scope="module")
def open_server():
    with ServerProcess("--http", "127.0.0.1:0", "--http-origin", ALLOWED, "--http-host", "studio.example") as running:
        yield running


def test_a_configured_origin_may_call_and_read(open_server):
    answer = listing(open_server.url, Origin=ALLOWED, Sec_Fetch_Site="cross-site")
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == ALLOWED
    assert "ETag" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answer.headers
    # An error can be read as well.
    refused = web.post_json(open_server.url, "/gramophone.v1.JobService/GetJob", {}, {"Origin": ALLOWED})
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (400, ALLOWED)


def test_a_preflight_request_of_a_configured_origin_is_answered(open_server):
    wanted = {"Origin": ALLOWED, "Access-Control-Request-Method": "PUT"}
    answer = web.request(open_server.url, "OPTIONS", f"/images/{'0' * 64}", headers=wanted)
    assert answer.status == 204
    assert "PUT" in answer.headers["access-control-allow-methods"]
    assert "Authorization" in answer.headers["access-control-allow-headers"]
    assert int(answer.headers["access-control-max-age"]) > 0
    wanted["Origin"] = "https://evil.example"
    assert web.request(open_server.url, "OPTIONS", f"/images/{'0' * 64}", headers=wanted).status == 403


def test_another_origin_is_still_refused_and_caches_are_told(open_server):
    assert listing(open_server.url, Origin="https://other.example").status == 403
    assert listing(open_server.url).headers["vary"].lower().startswith(("origin", "accept-encoding"))


def test_a_configured_name_of_the_server_is_accepted(open_server):
    assert listing(open_server.url, Host="studio.example").status == 200
    assert listing(open_server.url, Host="other.example").status == 421
