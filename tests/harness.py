"""Starts a real server in its own process, makes raw gRPC calls to it, and builds small requests and pictures."""

import contextlib
import io
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import grpc
import numpy as np
import psutil
from google.rpc import status_pb2
from PIL import Image

from gramophone.v1 import job_pb2, options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from gramophone.v1.job_service_pb2_grpc import JobServiceStub
from gramophone.v1.model_service_pb2_grpc import ModelServiceStub
from gramophone.v1.style_transfer_service_pb2_grpc import StyleTransferServiceStub
from tests import databases


class ServerProcess:
    """`python -m gramophone_server` on a free loopback port; it stops when its `with` block or this process ends.

    Raw calls go over `channel`, which is encrypted if `credentials` are given. `files` are the soft and the hard limit
    of the server's file descriptors.
    """

    def __init__(
        self,
        *args: str,
        credentials: grpc.ChannelCredentials | None = None,
        files: tuple[int, int] | None = None,
    ) -> None:
        # Opened to append: the server's writes share a file position with read_log().
        self.log = tempfile.TemporaryFile("a+")  # noqa: SIM115 - closed in __exit__
        args = (*args, *databases.database_arguments(args))
        command = [sys.executable, "-m", "gramophone_server", "--port", "0", "--until-stdin-closes", *args]
        pipe = subprocess.PIPE
        limit = None if files is None else partial(resource.setrlimit, resource.RLIMIT_NOFILE, files)
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self.log, text=True, preexec_fn=limit)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("serving on "):
            self.process.wait(10)
            raise RuntimeError(f"the server did not start:\n{self.read_log()}")
        self.address = line.removeprefix("serving on ").strip()
        # With --http, the second line has the URL.
        self.url = self.process.stdout.readline().removeprefix("serving on ").strip() if "--http" in args else ""
        calls = Calls(self.address, credentials)
        self.channel, self.style, self.jobs, self.models = calls.channel, calls.style, calls.jobs, calls.models

    def __enter__(self) -> "ServerProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.channel.close()
        if self.process.poll() is None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            self.process.wait(20)
        self.log.close()

    def workers(self) -> list[psutil.Process]:
        """Returns the worker processes that are alive."""
        found = []
        for child in psutil.Process(self.process.pid).children():
            # A process that was killed a moment ago has no command line anymore.
            with contextlib.suppress(psutil.NoSuchProcess):
                if "gramophone_server.worker" in " ".join(child.cmdline()):
                    found.append(child)
        return found

    def read_log(self) -> str:
        """Returns what the server has written to standard error."""
        self.log.seek(0)
        return self.log.read()


class Calls:
    """Raw calls over a separate channel, which the `with` block closes."""

    def __init__(
        self, address: str, credentials: grpc.ChannelCredentials | None = None, *options: tuple[str, object]
    ) -> None:
        # Without this option, channels that differ only in their credentials may share a connection.
        chosen = [("grpc.use_local_subchannel_pool", 1), *options]
        self.channel = (
            grpc.insecure_channel(address, chosen)
            if credentials is None
            else grpc.secure_channel(address, credentials, chosen)
        )
        self.style = StyleTransferServiceStub(self.channel)
        self.jobs = JobServiceStub(self.channel)
        self.models = ModelServiceStub(self.channel)

    def __enter__(self) -> "Calls":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.channel.close()


def png(width: int = 48, height: int = 48, seed: int = 0) -> bytes:
    """Returns a PNG file with detail at every scale, different for every seed."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3))
    for cells in (2, 4, 8, 16):
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        picture += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) / 4
    return encode(Image.fromarray(picture.astype(np.uint8)))


def encode(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    """Returns an image as the bytes of a file of the given format."""
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """Returns a PNG whose header claims a size that its data does not have."""
    data = bytearray(encode(Image.new("RGB", (1, 1))))
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data[12:33] = header + struct.pack(">I", zlib.crc32(header))
    return bytes(data)


def options(**fields: Any) -> options_pb2.SynthesisOptions:
    """Returns the options of a small job, with `fields` changed."""
    defaults: dict[str, object] = {"size": 32, "iterations": 4, "report_every": 1}
    return options_pb2.SynthesisOptions(**(defaults | fields))  # type: ignore[arg-type]


def style_request(seed_of_picture: int = 0, **fields: Any) -> pb.ReconstructStyleRequest:
    """Returns the request of a small style reconstruction, with the options in `fields` changed."""
    source = options_pb2.StyleSource(image=options_pb2.InputImage(data=png(seed=seed_of_picture)))
    return pb.ReconstructStyleRequest(styles=[source], options=options(**fields))


def endless_request() -> pb.ReconstructStyleRequest:
    """Returns the request of a job that runs until it is canceled."""
    return style_request(iterations=1_000_000, report_every=2)


def events(stream: Iterable[Any]) -> Iterator[job_pb2.JobEvent]:
    """Yields the events of a stream of responses."""
    return (response.event for response in stream)


def rpc_status(error: grpc.RpcError) -> status_pb2.Status:
    """Returns the status, with its details, from the trailing metadata of a failed call."""
    metadata: dict[str, Any] = dict(cast(Any, error).trailing_metadata())
    return status_pb2.Status.FromString(metadata["grpc-status-details-bin"])


def run(server: ServerProcess | Calls, request: pb.ReconstructStyleRequest) -> job_pb2.JobResult:
    """Runs a style reconstruction, which must succeed, and returns its result."""
    last = list(events(server.style.ReconstructStyle(request)))[-1]
    assert last.state == job_pb2.JOB_STATE_SUCCEEDED, last
    return last.result


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 60) -> None:
    """Waits until `condition` holds; after `timeout` seconds it fails with a message that names `what`."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s for {what} without success")
        time.sleep(0.02)


def submit(server: ServerProcess, request: pb.EstimateJobRequest) -> Iterator[job_pb2.JobEvent]:
    """Submits the job of an estimate request and yields its events."""
    call: dict[str | None, Any] = {
        "style": server.style.ReconstructStyle,
        "content": server.style.ReconstructContent,
        "transfer": server.style.TransferStyle,
    }
    kind = request.WhichOneof("job")
    assert kind is not None
    return events(call[kind](getattr(request, kind)))


def peak_memory(server: ServerProcess, request: pb.EstimateJobRequest) -> int:
    """Returns the peak memory in bytes of the server's only worker while the job ran (Linux)."""
    (worker,) = server.workers()
    process = Path(f"/proc/{worker.pid}")
    (process / "clear_refs").write_text("5")  # resets the peak
    last = list(submit(server, request))[-1]
    assert last.state == job_pb2.JOB_STATE_SUCCEEDED, last
    lines = (process / "status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
