"""Pictures that cost a decoder as much time or memory as possible, sent by many threads while another client works."""

import contextlib
import hashlib
import signal
import threading
import time
from collections.abc import Callable, Iterator

import grpc
import psutil
import pytest
from PIL import Image

from gramophone.v1 import job_service_pb2, options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from tests.decoding.test_decoders import large_scans
from tests.decoding.test_hostile_files import jpeg_of_scans, jpeg_with, png_with, rle_bmp
from tests.faults.bystander import WATCHED, Bystander, check_back_to_idle, decoders
from tests.harness import Calls, ServerProcess, encode, options, png_header, run, style_request, wait_until

pytestmark = pytest.mark.slow

HOSTILE: dict[str, Callable[[], bytes]] = {
    "JPEG of 4,000 scans": lambda: jpeg_of_scans(4000),
    "JPEG of 30 MB of fill bytes": lambda: jpeg_with(b"\xff" * 30_000_000),
    "JPEG of 10 million markers": lambda: jpeg_with(b"\xff\xe5\0\2" * 10_000_000),
    "BMP of ends of lines": lambda: rle_bmp(8000, 8000, b"\0\0" * 16_000),
    "PNG of one column": lambda: encode(Image.new("1", (1, 67_000_000)), "PNG"),
    "PNG header": lambda: png_header(8192, 8192),
    "PNG of metadata": lambda: png_with(b"\0\0\0\0abCd\0\0\0\0" * 1_000_000),
}
COSTLY: dict[str, Callable[[], bytes]] = {
    "JPEG of as many scans as are allowed": large_scans,
    "JPEG of 67 million pixels": lambda: encode(Image.new("RGB", (8192, 8192), "red"), "JPEG"),
    "PNG of 67 million pixels": lambda: encode(Image.new("RGBA", (8192, 8192), "red"), "PNG", compress_level=1),
    "PNG of 67 million transparent pixels": lambda: encode(
        Image.new("RGBA", (8192, 8192), (255, 0, 0, 99)), "PNG", compress_level=1
    ),
}


def upload(calls: Calls, data: bytes) -> str:
    """Uploads a picture file and returns its SHA-256."""
    name = hashlib.sha256(data).hexdigest()

    def pieces() -> Iterator[job_service_pb2.UploadImageRequest]:
        yield job_service_pb2.UploadImageRequest(sha256=name)
        for start in range(0, len(data), 1 << 20):
            yield job_service_pb2.UploadImageRequest(data=data[start : start + (1 << 20)])

    assert calls.jobs.UploadImage(pieces(), timeout=60).sha256 == name
    return name


def painting(name: str) -> pb.ReconstructStyleRequest:
    source = options_pb2.StyleSource(image=options_pb2.InputImage(sha256=name))
    return pb.ReconstructStyleRequest(styles=[source], options=options(size=16, iterations=1))


class Attack:
    """Threads that each request estimates with one picture, over a separate connection, until the `with` block ends.

    Attributes:
        answers: outcomes of each picture by its name in HOSTILE or COSTLY: "accepted" or a status code.
    """

    def __init__(self, address: str, pictures: dict[str, str], each: int = 2) -> None:
        self.answers: dict[str, set[str]] = {name: set() for name in pictures}
        self._address = address
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(name, digest), daemon=True)
            for name, digest in pictures.items()
            for _ in range(each)
        ]

    def __enter__(self) -> "Attack":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, name: str, digest: str) -> None:
        with Calls(self._address) as calls:
            while not self._over.is_set():
                try:
                    calls.style.EstimateJob(pb.EstimateJobRequest(style=painting(digest)), timeout=60)
                    self.answers[name].add("accepted")
                except grpc.RpcError as error:
                    self.answers[name].add(error.code().name)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {name: make() for name, make in (HOSTILE | COSTLY).items()}


@pytest.mark.timeout(300)
@pytest.mark.alone
def test_hostile_pictures_do_not_disturb_another_client(files: dict[str, bytes], long: bool) -> None:
    with ServerProcess(*WATCHED) as server:
        run(server, style_request())
        idle = psutil.Process(server.process.pid).memory_info().rss
        with Calls(server.address) as calls:
            names = {name: upload(calls, data) for name, data in files.items()}
        with Bystander(server) as client, Attack(server.address, names) as attack:
            time.sleep(60 if long else 12)
        client.check()
        print(attack.answers)
        assert all(answers == {"INVALID_ARGUMENT"} for name, answers in attack.answers.items() if name in HOSTILE)
        assert all(answers == {"accepted"} for name, answers in attack.answers.items() if name in COSTLY)
        check_back_to_idle(server, idle)
        wait_until(lambda: not decoders(server), "the decoders to end", timeout=40)
        assert "Traceback" not in server.read_log()


def test_a_stop_does_not_wait_for_decoders(files: dict[str, bytes]) -> None:
    with ServerProcess("--grace", "2") as server:
        with Calls(server.address) as calls:
            names = {name: upload(calls, data) for name, data in files.items() if "as many" in name or name in COSTLY}
        attack = Attack(server.address, names, each=4)
        with attack:
            wait_until(lambda: bool(decoders(server)), "a decoder")
            time.sleep(0.5)
            there = decoders(server)
            begun = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(20)
            attack._over.set()
            assert time.monotonic() - begun < 7
        assert not psutil.wait_procs(there, timeout=5)[1]


def test_decoders_do_not_outlive_a_killed_front(files: dict[str, bytes]) -> None:
    with ServerProcess() as server:
        with Calls(server.address) as calls:
            names = {name: upload(calls, data) for name, data in files.items() if "as many" in name}
        with Attack(server.address, names, each=4) as attack:
            wait_until(lambda: bool(decoders(server)), "a decoder")
            there = decoders(server)
            server.process.kill()
            attack._over.set()
        assert not psutil.wait_procs(there, timeout=5)[1]


def test_a_picture_is_decoded_again_if_its_decoder_is_killed(files: dict[str, bytes]) -> None:
    with ServerProcess() as server:
        with Calls(server.address) as calls:
            name = upload(calls, files["JPEG of 67 million pixels"])
            asked = calls.style.EstimateJob.future(pb.EstimateJobRequest(style=painting(name)), timeout=60)
            wait_until(lambda: bool(decoders(server)), "a decoder")
            time.sleep(0.3)
            for decoder in decoders(server):
                with contextlib.suppress(psutil.NoSuchProcess):
                    decoder.kill()
            assert asked.result().fits
