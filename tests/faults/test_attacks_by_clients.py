"""One client attacks the server or damages its own files and records; another client does not notice."""

import contextlib
import hashlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from gramophone.v1 import job_service_pb2, options_pb2
from gramophone_server.security.tokens import add_token
from tests.harness import Calls, ServerProcess, png, style_request

from .bystander import WATCHED, Bystander

pytestmark = [pytest.mark.slow, pytest.mark.alone]

Metadata = tuple[tuple[str, str], ...]


def odd_calls(calls: Calls, as_alice: Metadata, data: Path) -> None:
    """Sends strings and numbers that a database does not accept."""
    questions: tuple[tuple[Any, Message], ...] = (
        (calls.jobs.GetJob, job_service_pb2.GetJobRequest(job_id="\0")),
        (calls.jobs.ListJobs, job_service_pb2.ListJobsRequest(page_token="\0", owner="\0", model="\0")),
        (calls.jobs.CancelJob, job_service_pb2.CancelJobRequest(job_id="x\0y")),
        (lambda *a, **k: list(calls.jobs.WatchJob(*a, **k)),
         job_service_pb2.WatchJobRequest(job_id="0" * 30, after_sequence=2**31 - 1)),
    )  # fmt: skip
    for call, request in questions:
        with pytest.raises(grpc.RpcError) as caught:
            call(request, metadata=as_alice, timeout=20)
        assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)


def uploads(calls: Calls, as_alice: Metadata, data: Path) -> None:
    """Uploads more than the server keeps."""
    for _ in range(4):
        file = os.urandom(2_000_000)
        name = hashlib.sha256(file).hexdigest()
        pieces = [job_service_pb2.UploadImageRequest(sha256=name)]
        pieces += [job_service_pb2.UploadImageRequest(data=file[i : i + 500_000]) for i in range(0, len(file), 500_000)]
        with contextlib.suppress(grpc.RpcError):
            calls.jobs.UploadImage(iter(pieces), metadata=as_alice, timeout=20)


def damaged_files(calls: Calls, as_alice: Metadata, data: Path) -> None:
    """Damages a stored upload, then uses it in a job and uploads it again."""
    file = png(64, 64, seed=int(time.time()))
    name = hashlib.sha256(file).hexdigest()
    pieces = [job_service_pb2.UploadImageRequest(sha256=name), job_service_pb2.UploadImageRequest(data=file)]
    calls.jobs.UploadImage(iter(pieces), metadata=as_alice, timeout=20)
    with contextlib.suppress(FileNotFoundError):
        (data / "blobs" / name[:2] / name).write_bytes(file[:-1] + b"x")
    request = style_request()
    request.styles[0].image.CopyFrom(options_pb2.InputImage(sha256=name))
    with contextlib.suppress(grpc.RpcError):
        list(calls.style.ReconstructStyle(request, metadata=as_alice, timeout=20))
    calls.jobs.UploadImage(iter(pieces), metadata=as_alice, timeout=20)


def damaged_rows(calls: Calls, as_alice: Metadata, data: Path) -> None:
    """Makes the records of ended jobs unreadable."""
    with contextlib.suppress(grpc.RpcError):
        list(calls.style.ReconstructStyle(style_request(), metadata=as_alice, timeout=20))
    with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(
        sqlite3.connect(data / "jobs.sqlite", timeout=0.2)
    ) as database, database:  # fmt: skip
        database.execute("UPDATE jobs SET spec = '{}' WHERE owner = 'alice' AND end_time IS NOT NULL")
    calls.jobs.ListJobs(job_service_pb2.ListJobsRequest(), metadata=as_alice, timeout=20)


def second_servers(calls: Calls, as_alice: Metadata, data: Path) -> None:
    """Starts servers on the same data folder, and with a device that does not exist."""
    for more in (["--data", str(data)], ["--device", "foo"]):
        command = [sys.executable, "-m", "gramophone_server", "--port", "0", *more]
        assert subprocess.run(command, capture_output=True, timeout=60).returncode != 0


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    file = tmp_path_factory.mktemp("tokens") / "tokens.json"
    return file, add_token(file, "alice", admin=False), add_token(file, "bob", admin=False)


@pytest.fixture
def server(tokens: tuple[Path, str, str], tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(*WATCHED, "--tokens", str(tokens[0]), "--data", str(tmp_path), "--keep", "30MB") as started:
        yield started


@pytest.mark.parametrize("attack", [odd_calls, uploads, damaged_files, damaged_rows, second_servers])
def test_another_client_is_not_disturbed(server, tokens, tmp_path, attack, long):
    _, alice, bob = tokens
    over, failures = threading.Event(), []

    def work() -> None:
        with Calls(server.address) as calls:
            while not over.is_set():
                try:
                    attack(calls, (("authorization", f"Bearer {alice}"),), tmp_path)
                except Exception as error:
                    failures.append(error)
                    return

    with Bystander(server, bob) as client:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        time.sleep(30 if long else 5)
        over.set()
        thread.join(60)
    assert not failures
    client.check()
    assert "Traceback" not in server.read_log(), server.read_log()[-3000:]
