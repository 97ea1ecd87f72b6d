"""The synchronous client against a real server."""

import contextlib
import io
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

import gramophone
from gramophone import Options
from tests.harness import ServerProcess, png, wait_until

SMALL: Options = {"size": 32, "iterations": 6, "report_every": 2}
ENDLESS: Options = {"size": 32, "iterations": 1_000_000, "report_every": 2}


@pytest.fixture(scope="module")
def client(server):
    with gramophone.Client(server.address) as connected:
        yield connected


def test_jobs_of_all_kinds_stream_frames_and_return_results(client):
    picture = Image.open(io.BytesIO(png()))
    for job in (
        client.style(png(), layers=2, **SMALL),
        client.content(picture, layer="conv2_1", **SMALL),
        client.transfer(np.asarray(picture), [png(), gramophone.Style(png(seed=1), weight=3)], **SMALL),
    ):
        frames = list(job)
        assert frames
        assert frames[-1].iterations == 6
        result = job.result()
        assert result.image.size == (32, 32)
        assert result.image.mode == "RGB"
        assert result.iterations == 6
        assert result.recipe["iterations"] == 6
        assert job.state == "succeeded"
        # An ended job yields its frames and returns its result again.
        assert list(job)[-1].iteration == 6
        assert job.result() == result


def test_frames_carry_previews_and_losses(client):
    frames = list(client.style(png(), preview_size=16, **SMALL))
    assert frames[-1].preview is not None
    assert frames[-1].preview.size == (16, 16)
    assert frames[-1].loss == pytest.approx(sum(t.loss * t.weight for t in frames[-1].layer_losses), rel=1e-4)
    assert all(frame.preview is None for frame in client.style(png(), preview_every=0, **SMALL))


def test_an_invalid_request_is_an_error_that_names_the_fields(client):
    with pytest.raises(gramophone.InvalidRequestError) as caught:
        client.style(b"hello", size=32)
    assert [v.field for v in caught.value.violations] == ["styles[0].image.data"]
    with pytest.raises(gramophone.InvalidRequestError) as caught:
        client.style(png(), size=7, iterations=0)
    assert {v.field for v in caught.value.violations} == {"options.size", "options.iterations"}
    with pytest.raises(gramophone.NotFoundError, match="vgg99"):
        client.style(png(), model="vgg99")
    with pytest.raises(gramophone.NotFoundError):
        client.job("missing")


def test_a_cancelled_job_raises_on_reading_and_on_result(client):
    job = client.style(png(), **ENDLESS)
    next(iter(job))
    job.cancel()
    with pytest.raises(gramophone.JobCancelledError):
        list(job)
    assert job.state == "cancelled"
    with pytest.raises(gramophone.JobCancelledError):
        job.result()


def test_a_job_is_found_again_by_its_id(client, server):
    with gramophone.Client(server.address) as other:
        job_id = other.style(png(), **(SMALL | {"seed": 5})).id
    job = client.job(job_id)
    assert job.result().recipe["seed"] == 5
    info = job.info()
    assert (info.kind, info.state, info.model) == ("style", "succeeded", "vgg19-slim")
    assert info.created <= info.started <= info.ended
    assert job_id in [listed.id for listed in client.jobs(states=["succeeded"], limit=50)]


def test_leaving_the_loop_leaves_the_job_running(client):
    job = client.style(png(), **ENDLESS)
    for _ in job:
        break
    assert job.info().state == "running"
    iteration = job.info().frame.iteration
    wait_until(lambda: job.info().frame.iteration > iteration, "progress")
    job.cancel()


def test_a_timeout_of_result_leaves_the_job_running(client):
    job = client.style(png(), **ENDLESS)
    with pytest.raises(gramophone.DeadlineError, match="it continues"):
        job.result(timeout=0.5)
    job.cancel()
    with pytest.raises(gramophone.JobCancelledError):
        job.result(timeout=60)


def test_large_pictures_are_accepted(client):
    large = png(1024, 1024)
    large += bytes(2_000_000)  # decoders ignore bytes after the end of a picture
    assert client.style([png(), large], **SMALL).result().iterations == 6


def test_a_list_of_jobs_ends_at_its_limit(client):
    for seed in range(3):
        client.style(png(), seed=seed, **SMALL).result()
    assert len(list(client.jobs(limit=2))) == 2


def test_models_lists_the_default_model_with_its_layers(client):
    default, *_ = client.models()
    assert default.is_default
    assert default.layers[0] == "conv1_1"


def test_a_job_is_read_from_a_given_event_on(client):
    job = client.style(png(), size=32, iterations=6, report_every=1)
    frames = list(job)
    assert [frame.sequence for frame in frames] == sorted({frame.sequence for frame in frames})
    again = list(client.job(job.id))
    middle = again[2].sequence
    rest = client.job(job.id, after=middle)
    assert [frame.iteration for frame in rest] == [frame.iteration for frame in again[3:]]
    assert rest.result().data == job.result().data
    assert client.job(job.id).info().sequence > again[-1].sequence
    for late in (again[-1].sequence, client.job(job.id).info().sequence, 10**6):
        ended = client.job(job.id, after=late)
        assert list(ended) == []
        assert ended.result().data == job.result().data


@pytest.mark.parametrize(
    ("after", "error"), [(-1, ValueError), (2**31, ValueError), ("3", TypeError), (1.5, ValueError)]
)
def test_an_invalid_event_to_read_from_is_an_error(client, after, error):
    with pytest.raises(error, match=r"^after must be "):
        client.job("missing", after=after)


def test_features_are_gram_matrices_or_feature_maps(client):
    grams = client.features(png(), layers=["conv1_1", "conv2_1"])
    assert {name: g.shape for name, g in grams.items()} == {"conv1_1": (24, 24), "conv2_1": (32, 32)}
    maps = client.features(png(), layers=["conv2_1"], kind="map", size=32)
    assert maps["conv2_1"].shape == (32, 16, 16)
    v = client.features(png(), layers=["conv1_1"], kind="map")["conv1_1"].reshape(24, -1)
    np.testing.assert_allclose(grams["conv1_1"], v @ v.T / v.shape[1], rtol=1e-4, atol=1e-6)


def test_features_do_not_wait_for_the_running_job(client):
    job = client.style(png(), **ENDLESS)
    assert client.features(png(), layers=["conv1_1"])
    assert job.info().state in ("queued", "running")
    job.cancel()


def test_a_server_that_does_not_answer_is_an_unavailable_error():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with gramophone.Client(f"127.0.0.1:{port}", retry_for=0.5) as client:
        for call in (client.models, lambda: client.style(png())):
            with pytest.raises(gramophone.UnavailableError, match=f"127.0.0.1:{port} cannot be reached"):
                call()


@pytest.mark.slow
def test_a_job_is_read_to_its_end_over_a_broken_connection(server):
    """A proxy cuts the connection while the job runs."""
    with Proxy(server.address) as proxy, gramophone.Client(proxy.address) as client:
        job = client.style(png(), size=32, iterations=400, report_every=2)
        seen = 0
        for frame in job:
            assert frame.iteration > seen
            seen = frame.iteration
            if proxy.cuts == 0 and seen >= 4:
                proxy.cut()
        assert job.result().iterations == 400
        assert proxy.cuts == 1


def test_a_killed_server_is_an_error_and_no_hang():
    with ServerProcess() as server, gramophone.Client(server.address, retry_for=1) as client:
        job = client.style(png(), **ENDLESS)
        next(iter(job))
        server.process.kill()
        with pytest.raises(gramophone.UnavailableError):
            job.result()


def test_an_embedded_server_runs_for_its_with_block():
    with gramophone.EmbeddedServer("--log-level", "warning") as server, gramophone.Client(server.address) as client:
        assert client.style(png(), **SMALL).result().iterations == 6
        address = server.address
    with gramophone.Client(address, retry_for=0) as client, pytest.raises(gramophone.UnavailableError):
        client.models()
    with (
        pytest.raises(gramophone.UnavailableError, match="nobody"),
        gramophone.EmbeddedServer("--default-model", "nobody"),
    ):
        pass


def test_the_client_needs_only_the_base_install(server):
    """The client paints although no package outside of the base install can be imported."""
    code = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "onnx", "onnxruntime", "gramophone_server", "grpc_health"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocker())
import gramophone
assert not [name for name in ("numpy", "PIL", "click") if name in sys.modules], "the import is not light"
with gramophone.Client({server.address!r}) as client:
    print(client.style({png()!r}, size=32, iterations=2).result().image.size)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "(32, 32)", done.stderr


class Proxy:
    """Forwards connections to an address, and can cut all of them."""

    def __init__(self, target: str) -> None:
        host, port = target.rsplit(":", 1)
        self._target = (host, int(port))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self.cuts = 0

    def __enter__(self) -> "Proxy":
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        self.cuts += 1
        pairs, self._pairs = self._pairs, []
        for end in (end for ends in pairs for end in ends):
            _shut(end)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            upstream = socket.create_connection(self._target)
            self._pairs.append((client, upstream))
            for source, sink in ((client, upstream), (upstream, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        finally:
            _shut(source)
            _shut(sink)


def _shut(end: socket.socket) -> None:
    """Shuts a socket down, unless the other thread of the pair has done so already."""
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
