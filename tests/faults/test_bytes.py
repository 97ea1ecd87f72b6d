"""Messages that are large, grow when they are parsed, or never end, while another client works."""

import contextlib
import hashlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import grpc
import psutil
import pytest

from gramophone.v1 import job_service_pb2, model_service_pb2, options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from tests.harness import Calls, ServerProcess, png, run, style_request, wait_until

from .bystander import WATCHED, Bystander, check_back_to_idle
from .checks import check_unharmed
from .http2 import Connection

pytestmark = [pytest.mark.slow, pytest.mark.alone]

HEALTH = "/grpc.health.v1.Health/Check"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
PAINT = "/gramophone.v1.StyleTransferService/ReconstructStyle"
Attack = Callable[[str, threading.Event], None]


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(*WATCHED) as running:
        run(running, style_request())
        yield running


def attacked(server: ServerProcess, attack: Attack, seconds: float, threads: int = 4) -> Bystander:
    """Attacks a server from `threads` threads for `seconds` beside a Bystander; checks the Bystander and the server."""
    over, failures = threading.Event(), []

    def work() -> None:
        while not over.is_set():
            try:
                attack(server.address, over)
            except Exception as error:
                failures.append(error)
                return

    idle, workers = psutil.Process(server.process.pid).memory_info().rss, server.workers()
    attackers = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    with Bystander(server) as client:
        for thread in attackers:
            thread.start()
        time.sleep(seconds)
        over.set()
        for thread in attackers:
            thread.join(30)
    assert not failures
    client.check()
    check_back_to_idle(server, max(idle, 75 << 20))
    check_unharmed(server, workers)
    return client


def code_of(call: Callable[[], object]) -> grpc.StatusCode:
    """Returns the status code of a call, which must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code()


def field(number: int, content: bytes = b"") -> bytes:
    """Returns a length-delimited field in protobuf's wire format."""
    size, made = len(content), bytearray([number << 3 | 2])
    while size > 127:
        made.append(size & 127 | 128)
        size >>= 7
    return bytes([*made, size]) + content


REPEATED: dict[str, tuple[str, bytes]] = {
    "empty styles": (PAINT, field(1) * 2_000_000),
    "layers": (PAINT, field(2, field(1, b"conv1_1")) * 300_000),
    "layers of an estimate": (
        "/gramophone.v1.StyleTransferService/EstimateJob", field(1, field(2, field(1, b"conv1_1")) * 300_000),
    ),
    "options again and again": (PAINT, field(3, field(24)) * 800_000),
    "layers of features": ("/gramophone.v1.ModelService/ExtractFeatures", field(2, b"conv1_1") * 400_000),
    "states": ("/gramophone.v1.JobService/ListJobs", field(3, b"\1" * 1_000_000)),
    "unknown fields": ("/gramophone.v1.JobService/GetJob", field(15) * 500_000),
}  # fmt: skip


def test_fields_repeated_more_often_than_the_contract_allows_are_refused(server: ServerProcess) -> None:
    """The messages are written byte by byte, as any client may send them; with gzip, each takes a few kilobytes."""
    answers: dict[str, set[str]] = {name: set() for name in REPEATED}

    def attack(address: str, over: threading.Event) -> None:
        with Calls(address) as calls:
            for name, (method, message) in REPEATED.items():
                for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
                    streams = "Estimate" not in method
                    call = (
                        cast(Any, calls.channel).unary_stream(method)
                        if streams
                        else cast(Any, calls.channel).unary_unary(method)
                    )
                    try:
                        answer = call(message, timeout=20, compression=compression)
                        list(answer) if streams else None
                        answers[name].add("OK")
                    except grpc.RpcError as error:
                        answers[name].add(error.code().name)

    attacked(server, attack, 6)
    print(answers)
    assert all(found <= {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"} for found in answers.values())
    with Calls(server.address) as calls:
        call = cast(Any, calls.channel).unary_unary("/gramophone.v1.StyleTransferService/EstimateJob")
        with pytest.raises(grpc.RpcError) as caught:
            call(REPEATED["layers of an estimate"][1])
        assert caught.value.details() == "style_layers: has more than 256 values; it takes 1 to 256"


def test_a_message_that_grows_by_decompression_is_refused_by_its_size(server: ServerProcess) -> None:
    """27 KB of gzip contain 28 MB of styles."""

    def attack(address: str, over: threading.Event) -> None:
        with Calls(address) as calls:
            call = cast(Any, calls.channel).unary_stream(PAINT)
            for _ in range(5):
                code = code_of(lambda: list(call(field(1) * 14_000_000, timeout=20, compression=grpc.Compression.Gzip)))
                assert code == grpc.StatusCode.RESOURCE_EXHAUSTED

    attacked(server, attack, 4, threads=2)


def test_unfinished_messages_do_not_disturb_another_client(server: ServerProcess) -> None:
    """Hundreds over a few connections; each claims the largest size and sends 100 or 60,000 bytes."""

    def attack(address: str, over: threading.Event) -> None:
        with contextlib.suppress(OSError), Connection(address) as connection:
            for sent in (100, 60_000) * 10:
                for method in (HEALTH, PAINT, "/gramophone.v1.JobService/GetJob"):
                    connection.begin(method, 4_000_000, bytes(sent))
            over.wait(2)

    attacked(server, attack, 6)


@pytest.mark.parametrize("sent", [0, 60_000])
def test_many_calls_without_a_complete_request_do_not_disturb_another_client(server: ServerProcess, sent: int) -> None:
    """Hundreds on each of a few connections, also of reflection."""
    methods = (HEALTH, "/gramophone.v1.JobService/GetJob", REFLECTION, PAINT)

    def attack(address: str, over: threading.Event) -> None:
        with contextlib.suppress(OSError), Connection(address) as connection:
            for number in range(250 if sent == 0 else 150):
                connection.begin(methods[number % len(methods)], 4_000_000, bytes(sent))
            over.wait(2)

    attacked(server, attack, 5, threads=8)


def test_messages_that_claim_too_large_a_size_do_not_disturb_another_client(server: ServerProcess) -> None:
    def attack(address: str, over: threading.Event) -> None:
        with contextlib.suppress(OSError), Connection(address) as connection:
            for _ in range(100):
                connection.begin(HEALTH, 127 << 20, bytes(100))
            over.wait(1)

    attacked(server, attack, 3)


def test_unfinished_uploads_are_closed_and_do_not_disturb_another_client(server: ServerProcess) -> None:
    """Each sends 60 MiB at once and then nothing more."""
    seed = [0]

    def attack(address: str, over: threading.Event) -> None:
        seed[0] += 1
        name = hashlib.sha256(b"%d" % seed[0]).hexdigest()

        def pieces() -> Iterator[job_service_pb2.UploadImageRequest]:
            yield job_service_pb2.UploadImageRequest(sha256=name)
            for _ in range(60):
                yield job_service_pb2.UploadImageRequest(data=bytes(1 << 20))
            over.wait(20)

        with Calls(address) as calls, contextlib.suppress(grpc.RpcError):
            calls.jobs.UploadImage(pieces(), timeout=4)

    attacked(server, attack, 6, threads=8)
    front = psutil.Process(server.process.pid)
    wait_until(lambda: not [f for f in front.open_files() if "staging" in f.path], "the files of uploads to be closed")


def test_an_upload_gets_a_slot_although_stalled_uploads_hold_all(server: ServerProcess) -> None:
    over = threading.Event()

    def stall(number: int) -> None:
        def pieces() -> Iterator[job_service_pb2.UploadImageRequest]:
            yield job_service_pb2.UploadImageRequest(sha256=hashlib.sha256(b"%d" % number).hexdigest())
            yield job_service_pb2.UploadImageRequest(data=b"x")
            over.wait(30)

        with Calls(server.address) as calls, contextlib.suppress(grpc.RpcError):
            calls.jobs.UploadImage(pieces(), timeout=30)

    threads = [threading.Thread(target=stall, args=(number,), daemon=True) for number in range(20)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    data = png(100, 100, seed=7)
    name = hashlib.sha256(data).hexdigest()
    begun = time.monotonic()
    with Calls(server.address) as calls:
        sent = [job_service_pb2.UploadImageRequest(sha256=name), job_service_pb2.UploadImageRequest(data=data)]
        assert calls.jobs.UploadImage(iter(sent), timeout=30).size == len(data)
    assert time.monotonic() - begun < 6
    over.set()
    for thread in threads:
        thread.join(10)


def test_unauthenticated_clients_make_the_server_read_little(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """The request of a call without a token is not read, and a health check may only be small."""
    tokens = tmp_path / "tokens.json"
    from gramophone_server.security.tokens import add_token

    token = add_token(tokens, "alice", admin=False)
    with ServerProcess("--tokens", str(tokens), *WATCHED) as server, Calls(server.address) as calls:
        large = b"\x0a" + b"\xff\xff\x3f" + bytes((1 << 20) - 1)
        assert code_of(lambda: cast(Any, calls.channel).unary_unary(HEALTH)(large)) == grpc.StatusCode.INVALID_ARGUMENT
        request = pb.EstimateJobRequest(style=style_request())
        request.style.styles[0].image.data = bytes(3_000_000)
        assert code_of(lambda: calls.style.EstimateJob(request)) == grpc.StatusCode.UNAUTHENTICATED

        def attack(address: str, over: threading.Event) -> None:
            with contextlib.suppress(OSError), Connection(address) as connection:
                for method in (HEALTH, PAINT) * 50:
                    connection.begin(method, 4_000_000, bytes(60_000))
                over.wait(2)

        over = threading.Event()
        threads = [threading.Thread(target=attack, args=(server.address, over), daemon=True) for _ in range(4)]
        with Bystander(server, token) as client:
            for thread in threads:
                thread.start()
            time.sleep(4)
            over.set()
        client.check()


def test_a_stop_does_not_wait_for_unfinished_requests() -> None:
    """Neither for incomplete requests, nor for stalled uploads, nor for a client that sends refused requests."""
    over = threading.Event()

    def half(address: str) -> None:
        with contextlib.suppress(OSError), Connection(address) as connection:
            for method in (HEALTH, PAINT) * 20:
                connection.begin(method, 4_000_000, bytes(60_000))
            over.wait(30)

    def upload(address: str) -> None:
        def pieces() -> Iterator[job_service_pb2.UploadImageRequest]:
            yield job_service_pb2.UploadImageRequest(sha256=hashlib.sha256(b"stop").hexdigest())
            yield job_service_pb2.UploadImageRequest(data=bytes(1 << 20))
            over.wait(30)

        with Calls(address) as calls, contextlib.suppress(grpc.RpcError):
            calls.jobs.UploadImage(pieces(), timeout=30)

    def repeat(address: str) -> None:
        with Calls(address) as calls:
            while not over.is_set():
                with contextlib.suppress(grpc.RpcError):
                    list(cast(Any, calls.channel).unary_stream(PAINT)(REPEATED["empty styles"][1], timeout=5))

    with ServerProcess("--grace", "2") as server:
        threads = [
            threading.Thread(target=work, args=(server.address,), daemon=True) for work in (half, upload, repeat)
        ]
        for thread in threads:
            thread.start()
        time.sleep(1)
        begun = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(20)
        assert time.monotonic() - begun < 7
        over.set()
        for thread in threads:
            thread.join(10)


def test_ordinary_compressed_requests_are_answered(server: ServerProcess) -> None:
    with Calls(server.address) as calls:
        for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
            assert calls.models.ListModels(model_service_pb2.ListModelsRequest(), compression=compression).models
            request = pb.EstimateJobRequest(style=style_request())
            request.style.styles[0].image.CopyFrom(options_pb2.InputImage(data=png(300, 300)))
            assert calls.style.EstimateJob(request, compression=compression).fits
