"""Event files for TensorBoard, read with TensorBoard's own reader and compared with the events of the job."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gramophone.v1 import job_pb2, job_service_pb2, options_pb2
from gramophone_server.messages.events import EncodedPicture, Progress, Result
from gramophone_server.worker.event_file import EventFile
from tests.harness import ServerProcess, events, style_request, wait_until
from tests.observability.test_tracing import hide


@pytest.fixture
def read() -> Any:
    """A function that reads the event files of a folder."""
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )

    def reading(folder: Path) -> Any:
        everything = accumulator.EventAccumulator(str(folder), {"scalars": 0, "images": 0})
        return everything.Reload()

    return reading


def scalars(read: Any, tag: str) -> dict[int, float]:
    return {event.step: event.value for event in read.Scalars(tag)}


def test_the_event_file_of_a_job(read, tmp_path):
    previews = options_pb2.PreviewOptions(every=1, format=options_pb2.IMAGE_FORMAT_WEBP)
    with ServerProcess("--tensorboard", str(tmp_path)) as server:
        history = list(events(server.style.ReconstructStyle(style_request(iterations=6, preview=previews))))
    result = history[-1].result
    (folder,) = tmp_path.iterdir()
    assert folder.name == history[0].job_id
    assert folder.stat().st_mode & 0o077 == 0
    found = read(folder)
    losses = scalars(found, "loss")
    assert list(losses) == [1, 2, 3, 4, 5, 6]
    for event in history:
        if event.HasField("progress"):
            progress = event.progress
            assert losses[progress.iteration] == pytest.approx(progress.loss)
            for term in progress.layer_losses:
                assert scalars(found, f"loss/style/{term.layer}")[progress.iteration] == pytest.approx(term.loss)
    assert all(speed > 0 for speed in scalars(found, "iterations_per_second").values())
    assert scalars(found, "result/loss") == {6: pytest.approx(result.loss)}
    (image,) = found.Images("result")
    assert image.encoded_image_string == result.image.data
    previews_found = found.Images("preview")
    assert previews_found
    assert all(image.encoded_image_string.startswith(b"\x89PNG") for image in previews_found)


def test_a_resumed_job_continues_in_its_folder(read, tmp_path):
    args = ["--tensorboard", str(tmp_path / "events"), "--data", str(tmp_path / "data"), "--checkpoint-every", "0.5"]
    with ServerProcess(*args) as server:
        stream = events(server.style.ReconstructStyle(style_request(iterations=1_000_000)))
        for event in stream:
            if event.progress.elapsed.ToTimedelta().total_seconds() > 2:
                break
        (worker,) = server.workers()
        worker.kill()
        (folder,) = (tmp_path / "events").iterdir()
        wait_until(lambda: len(list(folder.iterdir())) == 2, "the second file")
        for count, _ in enumerate(stream):
            if count > 5:
                break
        server.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=event.job_id))
        assert list(stream)[-1].state == job_pb2.JOB_STATE_CANCELLED
    steps = [event.step for event in read(folder).Scalars("loss")]
    assert steps == sorted(set(steps))
    assert steps[0] == 1


def test_a_16_bit_result_is_shown_with_8_bits(read, tmp_path):
    import numpy as np

    from gramophone_server.messages.options import ResultOptions
    from gramophone_server.worker.encode import encode_result

    pixels = np.full((4, 5, 3), 0xABCD, np.uint16)
    image, recipe = encode_result(pixels, ResultOptions(format="tiff", bit_depth=16), {})
    with EventFile(tmp_path, "job", None) as file:
        file.result(Result(image, 1.0, (), 3, "model", recipe, 0.0, 0.0))
    (shown,) = read(tmp_path / "job").Images("result")
    assert (shown.width, shown.height) == (5, 4)
    assert shown.encoded_image_string.startswith(b"\x89PNG")


def test_an_event_file_that_cannot_be_written_is_logged(tmp_path, caplog):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    (tmp_path / "file").touch()
    with EventFile(tmp_path / "file", "job", None) as file:
        file.progress(Progress(1, 2, 1.0, (), 1.0, 1.0, 1.0))
        file.preview(1, EncodedPicture(b"", "png", 1, 1))
    assert "writing for TensorBoard stops" in caplog.text


def test_no_event_file_is_written_by_default(tmp_path):
    with EventFile(None, "job", None) as file:
        file.progress(Progress(1, 2, 1.0, (), 1.0, 1.0, 1.0))
    assert not list(tmp_path.iterdir())


def test_the_server_says_that_the_package_is_missing(tmp_path, monkeypatch):
    hide(tmp_path, monkeypatch, "tensorboard")
    command = [sys.executable, "-m", "gramophone_server", "--port", "0", "--tensorboard", str(tmp_path / "events")]
    done = subprocess.run([*command, "--data", str(tmp_path / "data")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "--tensorboard needs tensorboard: pip install 'gramophone[tensorboard]'" in done.stderr
    assert "Traceback" not in done.stderr
