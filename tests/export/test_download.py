"""Downloads from a local HTTP server that can cut connections and supports range requests."""

import contextlib
import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gramophone_export.download import DownloadError, download, hash_prefix

DATA = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(DATA).hexdigest()


class Mirror(ThreadingHTTPServer):
    """Serves DATA at /file, and an endless response at /endless.

    Attributes:
        cut: the next response to /file is cut after this number of bytes.
        ranges: whether range requests are supported.
        claim: the Content-Length of the endless response; None sends none.
        requests: the Range header of each request.
    """

    cut: int | None = None
    ranges = True
    claim: int | None = None
    requests: list[str | None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file"


class Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requests.append(wanted)
        if self.path == "/endless":
            self._send_without_end()
            return
        if self.path != "/file":
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if start >= len(DATA):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(DATA) - start))
        self.end_headers()
        cut, self.server.cut = self.server.cut, None
        self.wfile.write(DATA[start : len(DATA) if cut is None else start + cut])
        if cut is not None:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

    def _send_without_end(self) -> None:
        self.send_response(200)
        if self.server.claim is not None:
            self.send_header("Content-Length", str(self.server.claim))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            while True:
                self.wfile.write(DATA)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    server = Mirror(("127.0.0.1", 0), Handler)
    server.requests = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_file_is_downloaded(mirror, tmp_path):
    seen = []
    path = tmp_path / "folder/file"
    download(mirror.url, path, sha256=SHA256, progress=lambda have, total: seen.append((have, total)))
    assert path.read_bytes() == DATA
    assert seen[-1] == (len(DATA), len(DATA))
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_cut_download_is_resumed(mirror, tmp_path):
    path = tmp_path / "file"
    mirror.cut = 100_000
    with pytest.raises(DownloadError, match="run the same command to resume"):
        download(mirror.url, path, sha256=SHA256)
    assert not path.exists()
    download(mirror.url, path, sha256=SHA256)
    assert path.read_bytes() == DATA
    assert mirror.requests[0] is None
    assert mirror.requests[1] == "bytes=100000-"


def test_a_download_starts_again_if_the_server_ignores_ranges(mirror, tmp_path):
    mirror.cut, mirror.ranges = 100_000, False
    with pytest.raises(DownloadError):
        download(mirror.url, tmp_path / "file", sha256=SHA256)
    download(mirror.url, tmp_path / "file", sha256=SHA256)
    assert (tmp_path / "file").read_bytes() == DATA


def test_a_complete_part_file_is_renamed(mirror, tmp_path):
    (tmp_path / "file.part").write_bytes(DATA)
    download(mirror.url, tmp_path / "file", sha256=SHA256[:8])
    assert (tmp_path / "file").read_bytes() == DATA


def test_a_wrong_file_is_deleted(mirror, tmp_path):
    with pytest.raises(DownloadError, match="not the right file"):
        download(mirror.url, tmp_path / "file", sha256="0" * 64)
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_reported(mirror, tmp_path):
    with pytest.raises(DownloadError, match=r"404 .*--url"):
        download(mirror.url + "/nothing", tmp_path / "file", sha256=SHA256)


def test_an_unreachable_server_is_reported(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DownloadError, match="models import"):
        download(f"http://127.0.0.1:{port}/file", tmp_path / "file", sha256=SHA256)


@pytest.mark.parametrize(
    ("url", "prefix"),
    [("https://x.test/models/vgg19-dcbb9e9d.pth", "dcbb9e9d"), ("https://x.test/file.pth?x=-abcdef12.pth", "")],
)
def test_hash_prefix_in_a_url(url, prefix):
    assert hash_prefix(url) == prefix


@pytest.mark.parametrize("claim", [None, 10**13, -5])
def test_a_download_above_the_size_limit_is_aborted(mirror, tmp_path, claim):
    mirror.claim = claim
    url = mirror.url.replace("/file", "/endless")
    with pytest.raises(DownloadError, match="has more than 3,000,000 bytes"):
        download(url, tmp_path / "file", sha256=SHA256, most=3_000_000)
    assert list(tmp_path.iterdir()) == []
