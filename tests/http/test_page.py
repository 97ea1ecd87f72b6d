"""The files of the web page: types, caching, compression and policy."""

import asyncio
import gzip
from typing import Any

import pytest

from gramophone_server.http.errors import CallError
from gramophone_server.http.page import Page
from gramophone_server.http.requests import Request


@pytest.fixture
def page(tmp_path) -> Page:
    (tmp_path / "page" / "assets").mkdir(parents=True)
    for name, text in (
        ("page/index.html", "<!doctype html>" + "x" * 500),
        ("page/assets/app-1a2b.js", "let a = 1\n" * 50),
        ("page/icon.svg", "<svg/>"),
        ("page/.hidden", "secret"),
        ("secret.txt", "secret"),
    ):
        (tmp_path / name).write_text(text)
    return Page(tmp_path / "page")


def get(page: Page, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"method": method, "path": path, "headers": raw, "query_string": b""}
    asyncio.run(page.answer(Request(scope, receive), send))
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, sent[1]["body"]


def test_the_page_is_served_with_a_strict_policy(page):
    status, headers, body = get(page, "/")
    assert (status, body[:15]) == (200, b"<!doctype html>")
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["cache-control"] == "no-cache"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


def test_a_hashed_file_is_cached_for_good_and_others_are_checked(page):
    assert "immutable" in get(page, "/assets/app-1a2b.js")[1]["cache-control"]
    tag = get(page, "/icon.svg")[1]["etag"]
    status, _, body = get(page, "/icon.svg", if_none_match=tag)
    assert (status, body) == (304, b"")


def test_text_is_compressed_for_clients_that_accept_it(page):
    _, headers, body = get(page, "/", accept_encoding="br, gzip;q=0.5")
    assert headers["content-encoding"] == "gzip"
    assert headers["vary"] == "Accept-Encoding"
    assert gzip.decompress(body) == get(page, "/")[2]
    assert "content-encoding" not in get(page, "/", accept_encoding="gzip;q=0")[1]


@pytest.mark.parametrize("path", ["/../secret.txt", "/assets/../../secret.txt", "/.hidden", "/assets/", "//index.html"])
def test_only_files_of_the_page_are_served(page, path):
    with pytest.raises(CallError) as caught:
        get(page, path)
    assert caught.value.status == 404


def test_a_new_build_is_served_without_a_restart(page, tmp_path):
    get(page, "/")
    (tmp_path / "page" / "index.html").unlink()
    (tmp_path / "page" / "index.html").write_text("new")
    assert get(page, "/")[2] == b"new"


def test_a_missing_page_is_said_in_a_sentence(tmp_path):
    page = Page(tmp_path / "missing")
    status, headers, body = get(page, "/")
    assert (status, headers["content-type"]) == (404, "text/plain; charset=utf-8")
    assert b"not built" in body
    assert not page.exists


def test_a_file_is_only_read(page):
    with pytest.raises(CallError) as caught:
        get(page, "/", method="POST")
    assert caught.value.status == 405
