"""A well-behaved client that works while a server is attacked; measures what the attack costs client and server.

The client is a separate process, `python -m tests.faults.bystander ADDRESS TOKEN`, so that the attacker in the test's
process does not slow it. It makes about twenty calls a second (its jobs, the models and the server's health), and
paints one small picture after the other.
"""

import asyncio
import contextlib
import hashlib
import json
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gramophone.v1 import job_pb2, job_service_pb2, model_service_pb2
from gramophone.v1.job_service_pb2_grpc import JobServiceStub
from gramophone.v1.model_service_pb2_grpc import ModelServiceStub
from gramophone.v1.style_transfer_service_pb2_grpc import StyleTransferServiceStub
from tests.harness import ServerProcess

from .recovery import ONE_THREAD, request, undisturbed

WATCHED = ("--metrics-port", "0", *ONE_THREAD)
"""Arguments of a server that a Bystander measures."""
ITERATIONS = 60


@dataclass
class Report:
    """Measurements of the client and of the server.

    Attributes:
        seconds: duration of each of the client's calls.
        errors: number of the client's failed calls by status code.
        pictures: SHA-256 of each picture that the client received.
        front, together: peak resident bytes of the front, and of the front with its decoders.
        stall: longest stall of the front's event loop in seconds.
    """

    seconds: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    pictures: list[str] = field(default_factory=list)
    front: int = 0
    together: int = 0
    stall: float = 0.0

    @property
    def p99(self) -> float:
        """Seconds within which 99 of 100 calls were answered."""
        return sorted(self.seconds)[int(0.99 * (len(self.seconds) - 1))]

    def __str__(self) -> str:
        return (
            f"{len(self.seconds)} calls, p99 {1e3 * self.p99:.0f} ms, longest {1e3 * max(self.seconds):.0f} ms, errors "
            f"{self.errors}, {len(self.pictures)} pictures, front at most {self.front >> 20} MiB, with decoders "
            f"{self.together >> 20} MiB, loop stall {1e3 * self.stall:.0f} ms"
        )


class Bystander:
    """Runs the client and the measurements during its `with` block; `report` holds them afterward.

    Args:
        server: a server that was started with the arguments `WATCHED`.
        token: the client's token, if the server asks for one.
    """

    def __init__(self, server: ServerProcess, token: str = "") -> None:
        self._server = server
        self._token = token
        self._over = threading.Event()
        self.report = Report()

    def __enter__(self) -> "Bystander":
        command = [sys.executable, "-m", "tests.faults.bystander", self._server.address, self._token]
        self._client = subprocess.Popen(
            command, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._client.stdout is not None
        # The client prints this after its first picture: the server is warm.
        assert self._client.stdout.readline() == "ready\n"
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The client finishes its current picture before it ends.
        output, _ = self._client.communicate(timeout=120)
        self._over.set()
        self._sampler.join()
        measured = json.loads(output)
        self.report.seconds, self.report.errors = measured["seconds"], measured["errors"]
        self.report.pictures = measured["pictures"]
        with contextlib.suppress(OSError):
            self.report.stall = loop_stall(self._server)

    def check(self, *, errors: bool = False) -> None:
        """Checks the limits that hold under every attack; with `errors`, calls of the client may have failed."""
        print(self.report)
        assert self.report.p99 < 1.0, self.report
        assert self.report.stall <= 0.2, self.report
        assert self.report.front <= 400e6, self.report
        assert self.report.together <= 1e9, self.report
        assert errors or not self.report.errors, self.report
        assert set(self.report.pictures) == {_expected_picture()}

    def _sample(self) -> None:
        front = psutil.Process(self._server.process.pid)
        while not self._over.wait(0.05):
            with contextlib.suppress(psutil.NoSuchProcess):
                held = front.memory_info().rss
                self.report.front = max(self.report.front, held)
                self.report.together = max(self.report.together, held + sum(map(_resident, decoders(self._server))))


def decoders(server: ServerProcess) -> list[psutil.Process]:
    """Returns the decoder processes of a server that are alive."""
    found = []
    for child in psutil.Process(server.process.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "gramophone_server.decoding" in " ".join(child.cmdline()):
                found.append(child)
    return found


def loop_stall(server: ServerProcess) -> float:
    """Returns the longest stall of the server's event loop in the last minute, in seconds."""
    found = re.search(r"http://127\.0\.0\.1:\d+/metrics", server.read_log())
    assert found, "the server has no --metrics-port"
    with urllib.request.urlopen(found[0], timeout=10) as answer:
        text = answer.read().decode()
    value = re.search(r"^gramophone_loop_stall_seconds (\S+)", text, re.MULTILINE)
    assert value
    return float(value[1])


def check_back_to_idle(server: ServerProcess, idle: int, seconds: float = 60) -> None:
    """Checks that the front's resident memory returns to at most `idle` bytes + 30 MB within `seconds`."""
    deadline = time.monotonic() + seconds
    while (held := _resident(psutil.Process(server.process.pid))) > idle + 30e6:
        assert time.monotonic() < deadline, (
            f"the front still holds {held >> 20} MiB; it held {idle >> 20} MiB when idle"
        )
        time.sleep(0.5)


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


_undisturbed_picture: list[str] = []


def _expected_picture() -> str:
    """Returns the SHA-256 of the client's picture as a server makes it that is not attacked."""
    if not _undisturbed_picture:
        _undisturbed_picture.append(_sha256(undisturbed([request(0, iterations=ITERATIONS)])[0]))
    return _undisturbed_picture[0]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def _work(address: str, token: str) -> None:
    report = Report()
    metadata = [("authorization", f"Bearer {token}")] if token else []
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, over.set)
    async with grpc.aio.insecure_channel(address) as channel:
        questions: tuple[tuple[Any, Any], ...] = (
            (JobServiceStub(channel).ListJobs, job_service_pb2.ListJobsRequest()),
            (ModelServiceStub(channel).ListModels, model_service_pb2.ListModelsRequest()),
        )
        health = health_pb2_grpc.HealthStub(channel)

        async def call(make: Callable[[], Awaitable[object]]) -> None:
            begun = time.perf_counter()
            try:
                await make()
            except grpc.aio.AioRpcError as error:
                report.errors[error.code().name] = report.errors.get(error.code().name, 0) + 1
            report.seconds.append(time.perf_counter() - begun)

        async def ask() -> None:
            while not over.is_set():
                await call(lambda: health.Check(health_pb2.HealthCheckRequest(), timeout=20))
                for method, question in questions:
                    await call(partial(method, question, metadata=metadata, timeout=20))
                await asyncio.sleep(0.1)

        async def paint() -> None:
            stub = StyleTransferServiceStub(channel)
            begun, first = time.perf_counter(), True
            try:
                async for response in stub.ReconstructStyle(request(0, iterations=ITERATIONS), metadata=metadata):
                    if first:
                        # Only the time until the job is accepted counts as a call, not the time until its end.
                        report.seconds.append(time.perf_counter() - begun)
                    first = False
                    if response.event.state == job_pb2.JOB_STATE_SUCCEEDED:
                        report.pictures.append(_sha256(response.event.result.image.data))
            except grpc.aio.AioRpcError as error:
                report.errors[error.code().name] = report.errors.get(error.code().name, 0) + 1
                await asyncio.sleep(0.2)

        await paint()
        report.seconds.clear()
        print("ready", flush=True)
        asking = asyncio.create_task(ask())
        while not over.is_set():
            await paint()
        await asking
    print(json.dumps({"seconds": report.seconds, "errors": report.errors, "pictures": report.pictures}))


if __name__ == "__main__":
    asyncio.run(_work(sys.argv[1], sys.argv[2]))
