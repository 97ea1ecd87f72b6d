"""Runs a real nginx in front of a server."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

PROGRAM = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")

_CONFIG = """
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log info;
{main}
events {{ worker_connections 256; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {http}
    server {{
        listen {address}{http2};
        {server}
        location / {{
            {location}
            {pass_to};
        }}
    }}
}}
"""


class Nginx:
    """An nginx with its default configuration and some more lines; the `with` block stops it.

    Args:
        folder: an empty folder for its files.
        backend: address of the server for gRPC, or its URL of HTTP; or the name of an upstream in `http`.
        main, http, server, location: more lines for these parts of the configuration.
    """

    def __init__(
        self, folder: Path, backend: str, main: str = "", http: str = "", server: str = "", location: str = ""
    ) -> None:
        if PROGRAM is None:
            pytest.skip("nginx is not installed")
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        folder.mkdir(parents=True, exist_ok=True)
        is_http = backend.startswith("http://")
        self._parts = {
            "main": main,
            "http": http,
            "server": server,
            "location": location,
            "http2": "" if is_http else " http2",
            "pass_to": f"proxy_pass {backend}" if is_http else f"grpc_pass grpc://{backend}",
        }
        self.configure()
        self.start()

    def __enter__(self) -> "Nginx":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def configure(self, **parts: str) -> None:
        """Writes the configuration, with the given parts changed."""
        self._parts |= parts
        text = _CONFIG.format(folder=self.folder, address=self.address, **self._parts)
        (self.folder / "nginx.conf").write_text(text)

    def start(self) -> None:
        """Starts nginx and waits until it accepts connections."""
        command = [str(PROGRAM), "-p", str(self.folder), "-c", str(self.folder / "nginx.conf"), "-e", "error.log"]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
        host, port = self.address.split(":")
        for _ in range(500):
            try:
                socket.create_connection((host, int(port)), timeout=5).close()
                return
            except ConnectionRefusedError:
                assert self._process.poll() is None, (self.folder / "error.log").read_text()
                time.sleep(0.02)
        raise AssertionError("nginx did not start")

    def kill(self) -> None:
        """Kills all its processes, as when its machine is lost."""
        workers = self._workers()
        for pid in (self._process.pid, *workers):
            _signal(pid, signal.SIGKILL)
        self._process.wait()

    def reload(self) -> None:
        """Reloads: new workers take over; old ones end with their streams or after worker_shutdown_timeout."""
        self._process.send_signal(signal.SIGHUP)

    def quit(self) -> None:
        """Drains: stops nginx when its streams have ended or after worker_shutdown_timeout."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(60)

    def _workers(self) -> list[int]:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return [int(pid) for pid in children.read_text().split()] if children.exists() else []


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
