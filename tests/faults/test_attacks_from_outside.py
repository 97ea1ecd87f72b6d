"""Invalid models, idle scrapers and endless signals do not disturb a well-behaved client."""

import contextlib
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import psutil
import pytest

from gramophone.v1 import model_service_pb2, options_pb2
from tests.harness import ServerProcess, events, png, style_request

from .bystander import WATCHED, Bystander
from .test_models import Folder, flip

pytestmark = [pytest.mark.slow, pytest.mark.alone]

PICTURE = options_pb2.InputImage(data=png())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Folder:
    made = Folder(tmp_path_factory.mktemp("models"))
    litter(made.store.root)
    return made


@pytest.fixture(scope="module")
def server(folder) -> Iterator[ServerProcess]:
    with ServerProcess(*WATCHED, "--models", str(folder.store.root)) as started:
        yield started


LITTER: list[Callable[[Path], object]] = [
    os.mkfifo,
    lambda manifest: manifest.write_bytes(b"\xff" * 1000),
    lambda manifest: manifest.write_text("[" * 500_000),
    lambda manifest: manifest.symlink_to(manifest),
    lambda manifest: manifest.symlink_to("/dev/zero"),
]


def litter(root: Path) -> None:
    """Adds a hundred folders with invalid manifests to a folder of models."""
    for number in range(100):
        place = root / f"litter-{number}"
        place.mkdir()
        LITTER[number % len(LITTER)](place / "manifest.json")


def damage_a_model(server: ServerProcess, folder: Folder, seconds: float) -> None:
    """Uses a model in jobs and for features while its file is damaged and restored."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        flip(folder.model)
        with contextlib.suppress(grpc.RpcError):
            list(events(server.style.ReconstructStyle(style_request(model="mine"))))
        with contextlib.suppress(grpc.RpcError):
            request = model_service_pb2.ExtractFeaturesRequest(image=PICTURE, model="mine", layers=["conv1_1"])
            list(server.models.ExtractFeatures(request, timeout=20))
        folder.restore()


def idle_scrapers(server: ServerProcess, folder: Folder, seconds: float) -> None:
    found = re.search(r"http://127\.0\.0\.1:(\d+)/metrics", server.read_log())
    assert found
    deadline, threads = time.monotonic() + seconds, psutil.Process(server.process.pid).num_threads()
    with contextlib.ExitStack() as stack:
        while time.monotonic() < deadline:
            for _ in range(20):
                stack.enter_context(socket.create_connection(("127.0.0.1", int(found[1])), timeout=10))
            time.sleep(0.1)
        assert psutil.Process(server.process.pid).num_threads() < threads + 20


def send_sighup(server: ServerProcess, folder: Folder, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        server.process.send_signal(signal.SIGHUP)
        time.sleep(0.02)


@pytest.mark.parametrize("attack", [damage_a_model, idle_scrapers, send_sighup])
def test_a_well_behaved_client_is_not_disturbed(server, folder, attack, long):
    with Bystander(server) as client:
        attack(server, folder, 60 if long else 6)
    client.check()
    assert "Traceback" not in server.read_log()
