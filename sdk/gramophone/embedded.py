"""A server started by a script or a command for its own use."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from types import TracebackType

from .brief import NotPicklable
from .errors import UnavailableError
from .runtime import server_environment

NEEDED = ("torch", "onnx", "onnxruntime", "grpc_health", "grpc_reflection", "connectrpc", "uvicorn")
GREETING = "serving on "


class EmbeddedServer(NotPicklable):
    """Runs a server on free loopback ports during a `with` block: gRPC at `address`, HTTP at `url`.

    The server runs in its own process. It stops at the end of the block, or when this process ends, even by a crash. It
    reads only those environment variables of `gramophone serve` that describe the machine, such as $GRAMOPHONE_DEVICE.

    Args:
        args: additional arguments of `gramophone serve`.

    Raises:
        UnavailableError: the server's packages are not installed, or the server did not start.
    """

    _instead = "send its address, and connect a gramophone.Client to it there"
    _shown = ("address",)

    def __init__(self, *args: str) -> None:
        self._args = args
        self.address = self.url = ""

    def __enter__(self) -> EmbeddedServer:
        missing = [name for name in NEEDED if not importlib.util.find_spec(name)]
        if missing:
            raise UnavailableError(
                f"a server cannot run here, because packages are missing ({', '.join(missing)}): "
                "pip install 'gramophone[server]', or give the address of a running server"
            )
        command = [sys.executable, "-m", "gramophone_server", "--port", "0", "--http", "127.0.0.1:0"]
        command += ["--until-stdin-closes", *self._args]
        self._log = tempfile.TemporaryFile("w+")
        # In its own process group, so that Ctrl-C in a terminal reaches only this process, which can then cancel jobs.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, process_group=0,
            env=server_environment(),
        )  # fmt: skip
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith(GREETING):
            self._process.wait()
            self._log.seek(0)
            last = "".join(self._log.readlines()[-5:]).strip()
            self._log.close()
            raise UnavailableError(f"the server did not start: {last}")
        self.address = line.removeprefix(GREETING).strip()
        self.url = self._process.stdout.readline().removeprefix(GREETING).strip()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def log(self) -> str:
        """Returns the server's log so far."""
        self._log.seek(0)
        return self._log.read()
