"""A real S3-compatible server (moto's) in a process of its own, behind a door that tests can close."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import pytest

from tests.harness import wait_until

BUCKET = "pictures"
URL = f"s3://{BUCKET}/gramophone"


class ObjectServer:
    """An S3-compatible server with one empty bucket, on a free loopback port; it stops with its `with` block.

    Skips the test where moto or s3fs is not installed.

    Args:
        denies: whether it denies every request after those that test the server and make the bucket.

    Attributes:
        endpoint: its URL, behind the door.
    """

    def __init__(self, *, denies: bool = False) -> None:
        pytest.importorskip("moto.server", reason="moto is not installed: pip install 'moto[server]'")
        s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'gramophone[s3]'")
        port = _free_port()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        environment = os.environ | ({"INITIAL_NO_AUTH_ACTION_COUNT": "2"} if denies else {})
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdout=quiet, stderr=quiet, env=environment)
        wait_until(lambda: _answers(port), "the object store", timeout=60)
        self._door = Door(port)
        self.endpoint = f"http://127.0.0.1:{self._door.port}"
        self._fs = s3fs.S3FileSystem(
            key="one", secret="two", endpoint_url=f"http://127.0.0.1:{port}", use_listings_cache=False,
            skip_instance_cache=True,
        )  # fmt: skip
        self._fs.call_s3("create_bucket", Bucket=BUCKET)

    def __enter__(self) -> "ObjectServer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._door.close()
        self._process.kill()
        self._process.wait()

    def variables(self) -> dict[str, str]:
        """Returns the environment variables of a server that uses it."""
        return {
            "AWS_ACCESS_KEY_ID": "one", "AWS_SECRET_ACCESS_KEY": "two", "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
        }  # fmt: skip

    def names(self, prefix: str = "") -> list[str]:
        """Returns the names of the objects below the prefix of the server's files."""
        folder = URL.removeprefix("s3://")
        return [name.removeprefix(f"{folder}/") for name in self._fs.find(f"{folder}/{prefix}")]

    def write(self, name: str, data: bytes) -> None:
        """Replaces an object."""
        self._fs.pipe_file(f"{URL}/{name}", data)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Breaks all connections, and refuses new ones, while the block runs."""
        self._door.close()
        try:
            yield
        finally:
            self._door.open()

    @property
    def client(self) -> Any:
        """The file system of fsspec, not through the door."""
        return self._fs


class Door:
    """Forwards connections to a port of this machine while it is open.

    Attributes:
        port: the port to connect to.
    """

    def __init__(self, port: int) -> None:
        self._behind = port
        self.port = _free_port()
        self._ends: set[socket.socket] = set()
        self.open()

    def open(self) -> None:
        """Accepts connections."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        """Refuses connections, and breaks those that are open."""
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._ends.clear()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", self._behind))
                self._ends |= {client, server}
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=_copy, args=pair, daemon=True).start()


def _copy(source: socket.socket, to: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            to.sendall(data)
        to.shutdown(socket.SHUT_WR)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
        return True
    return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
