"""The SDK behind a real nginx that is drained, reloaded or killed while jobs run, or has too strict limits."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import gramophone
from gramophone import Options, aio
from gramophone.v1 import style_transfer_service_pb2 as pb
from tests.harness import ServerProcess, options, png, wait_until
from tests.proxies.nginx import Nginx
from tests.sdk.conftest import connect  # noqa: F401 - a fixture
from tests.sdk.flaky_server import ITERATIONS, FlakyServer

ALL = list(range(1, ITERATIONS + 1))
ENDLESS: Options = {"size": 32, "iterations": 1_000_000, "report_every": 2, "time_limit": 60}


@pytest.fixture
def slow(tmp_path) -> Iterator[FlakyServer]:
    """A server whose jobs take about a second."""
    with FlakyServer(tmp_path / "slow", pace=0.08) as server:
        yield server


@pytest.fixture
def nginx(tmp_path, slow) -> Iterator[Nginx]:
    """nginx in front of the server `slow`, with a short drain time."""
    with Nginx(tmp_path / "nginx", slow.address, main="worker_shutdown_timeout 200ms;") as running:
        yield running


def kill(nginx: Nginx) -> None:
    nginx.kill()
    time.sleep(0.3)
    nginx.start()


def drain(nginx: Nginx) -> None:
    nginx.quit()
    nginx.start()


DISRUPTIONS: dict[str, Callable[[Nginx], None]] = {"killed": kill, "drained": drain, "reloaded": Nginx.reload}


def during(act: Callable[[], None], work: Callable[[], Any]) -> Any:
    """Runs `work`, calls `act` after 0.4 seconds, and returns the result of `work`."""
    timer = threading.Timer(0.4, act)
    timer.start()
    result = work()
    timer.join()
    return result


@pytest.mark.parametrize("disruption", [*DISRUPTIONS, "its server killed"])
def test_a_job_is_read_to_its_end_while_the_proxy_restarts(slow, nginx, connect, disruption):  # noqa: F811
    client = connect(nginx.address)
    job = client.style(b"picture")
    act = slow.kill if disruption == "its server killed" else lambda: DISRUPTIONS[disruption](nginx)
    assert during(act, lambda: [frame.iteration for frame in job]) == ALL
    assert job.result().data.endswith(job.id.encode())
    assert slow.jobs() == [job.id]
    # Other calls work as before.
    assert job.info().id == job.id
    assert len(job.download()) > 3_000_000


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_errors_of_the_proxy_are_retried(slow, tmp_path, connect, status):  # noqa: F811
    with Nginx(tmp_path / "nginx", slow.address, location=f"return {status};") as nginx:
        client = connect(nginx.address)

        def heal() -> None:
            nginx.configure(location="")
            nginx.reload()

        job = during(heal, lambda: client.style(b"picture"))
        assert job.result()
        assert len(slow.jobs()) == 1


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (400, gramophone.ServerError, "HTTP 400"),
        (401, gramophone.UnauthenticatedError, "HTTP 401"),
        (403, gramophone.UnauthenticatedError, "HTTP 403"),
        (404, gramophone.ServerError, "is this the address of a Gramophone server"),
        (413, gramophone.InvalidRequestError, "client_max_body_size"),
        (502, gramophone.UnavailableError, "cannot reach the Gramophone server"),
        (429, gramophone.OverloadedError, "no more calls for now"),
    ],
)
def test_lasting_errors_of_the_proxy_are_reported(slow, tmp_path, connect, status, error, words):  # noqa: F811
    with Nginx(tmp_path / "nginx", slow.address, location=f"return {status};") as nginx:
        client = connect(nginx.address, retry_for=0.3)
        for call in (client.models, lambda: client.style(b"picture"), lambda: client.upload(b"picture")):
            began = time.monotonic()
            # If nginx responds before the request is complete, gRPC may report the broken stream instead.
            with pytest.raises((error, gramophone.UnavailableError), match=f"{words}|interrupted") as caught:
                call()
            assert nginx.address in str(caught.value)
            assert time.monotonic() - began < 5


def test_ordinary_pictures_pass_a_proxy_with_its_defaults(slow, nginx, connect):  # noqa: F811
    client = connect(nginx.address)
    for sizes in ((1_000_000,), (999_000, 998_000), (600_000, 500_000, 400_000, 300_000)):
        first, *others = [bytes([number]) * size for number, size in enumerate(sizes)]
        assert client.transfer(first, others or [b"style"]).result()
        assert client.estimate("style", [first, *others]).fits


def test_a_picture_that_is_too_large_for_a_proxy_names_its_setting(slow, nginx, tmp_path, connect):  # noqa: F811
    client = connect(nginx.address)
    for call in (client.upload, client.style, lambda picture: client.estimate("style", picture)):
        with pytest.raises(gramophone.InvalidRequestError, match="`client_max_body_size 128m;`"):
            call(bytes(3_000_000))
    with Nginx(tmp_path / "other", slow.address, server="client_max_body_size 128m;") as wide:
        assert connect(wide.address).style(bytes(3_000_000)).result()


def test_the_longest_refusal_fits_the_buffers_of_a_proxy(server, tmp_path):
    """nginx would replace a longer response by HTTP 502."""
    with Nginx(tmp_path / "nginx", server.address) as nginx, gramophone.Client(nginx.address, retry_for=0) as client:
        for model in ("nobody" * 900, "é" * 5000, "名" * 5000):
            with pytest.raises(gramophone.NotFoundError):
                client.style(png(), model=model)
        request = pb.ReconstructStyleRequest(options=options(size=1, iterations=-1, scales=99, tile_size=1))
        request.options.tv_weight = request.options.plateau = request.options.averaging = -1
        request.options.preview.size = request.options.preview.every = -1
        request.style_layers.add(layer="名" * 900)
        for _ in range(15):
            request.styles.add(weight=-1, scale=99)
        with pytest.raises(gramophone.InvalidRequestError) as caught:
            client._connection.submit(client._connection.style.ReconstructStyle, request)
        assert len(caught.value.violations) > 3


@pytest.fixture(scope="module")
def real_server(tmp_path_factory) -> Iterator[tuple[ServerProcess, Path]]:
    """(real server, folder for nginx)."""
    with ServerProcess() as running:
        yield running, tmp_path_factory.mktemp("nginx")


def running(server: ServerProcess, job_id: str) -> bool:
    with gramophone.Client(server.address) as client:
        return client.job(job_id).info().state in ("queued", "running")


@pytest.mark.slow
@pytest.mark.parametrize("read", [True, False])
@pytest.mark.parametrize("disruption", DISRUPTIONS)
def test_a_restart_of_the_proxy_does_not_cancel_a_job_that_ends_with_its_client(real_server, connect, disruption, read):  # noqa: F811
    """The client reconnects by itself, with and without a reader; the job ends when the client is closed."""
    server, folder = real_server
    with Nginx(folder / f"{disruption}{read}", server.address, main="worker_shutdown_timeout 200ms;") as nginx:
        client = connect(nginx.address)
        job = client.style(png(), on_disconnect="cancel", **ENDLESS)
        if read:
            frames = iter(job)
            next(frames)
            during(lambda: DISRUPTIONS[disruption](nginx), lambda: [next(frames) for _ in range(20)])
            assert next(frames)
        else:
            DISRUPTIONS[disruption](nginx)
        began = time.monotonic()
        while time.monotonic() - began < 12:
            if read:
                next(frames)
            else:
                time.sleep(0.1)
        assert running(server, job.id)
        client.close()
        wait_until(lambda: not running(server, job.id), "the end of the job", timeout=5)


def test_a_waiting_job_survives_the_read_timeout_of_a_proxy(real_server, connect):  # noqa: F811
    """nginx closes a stream without messages, such as that of a job in the queue."""
    server, folder = real_server
    with (
        gramophone.Client(server.address) as other,
        Nginx(folder / "impatient", server.address, location="grpc_read_timeout 500ms;") as nginx,
    ):
        busy = other.style(png(), **ENDLESS)
        job = connect(nginx.address).style(png(), size=32, iterations=6, report_every=2, on_disconnect="cancel")

        def cancel_later() -> None:
            time.sleep(1.2)
            busy.cancel()

        during(cancel_later, lambda: job.result())
        assert job.result().iterations == 6


@pytest.mark.slow
async def test_a_waiting_job_without_a_reader_survives_the_read_timeout_of_a_proxy(real_server):
    server, folder = real_server
    with (
        gramophone.Client(server.address) as other,
        Nginx(folder / "impatient2", server.address, location="grpc_read_timeout 500ms;") as nginx,
    ):
        busy = other.style(png(), **ENDLESS)
        async with aio.Client(nginx.address) as client:
            job = await client.style(png(), size=32, iterations=6, report_every=2, on_disconnect="cancel")
            import asyncio

            await asyncio.sleep(13)
            assert (await job.info()).state == "queued"
            busy.cancel()
            assert (await job.result()).iterations == 6
