"""Checkpoint files: saving, loading, a full disk, and files that are damaged or of another version."""

import hashlib
import io
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from gramophone_server.worker.checkpoint import Checkpoint, load, save


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """Makes writes beyond `size` bytes of a file fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def checkpoint(iteration: int = 7, side: int = 128) -> Checkpoint:
    return Checkpoint({"iteration": iteration, "canvas": torch.rand(1, 3, side, side)}, None, 0, 1.5)


def test_a_checkpoint_is_loaded_as_saved(tmp_path):
    path, saved = tmp_path / "job.pt", checkpoint()
    save(path, saved, "a job")
    loaded = load(path, "a job")
    assert loaded is not None
    assert loaded.elapsed == 1.5
    assert loaded.state["iteration"] == 7
    assert torch.equal(loaded.state["canvas"], saved.state["canvas"])
    assert load(path, "another job") is None
    assert load(tmp_path / "none.pt", "a job") is None


# A small file fails when it is flushed; a large one while a tensor is written, where torch raises another error.
@pytest.mark.parametrize("side", [8, 256])
def test_a_failed_save_raises_an_error_and_keeps_the_earlier_checkpoint(tmp_path: Path, side: int):
    path = tmp_path / "job.pt"
    save(path, checkpoint(1, side=4), "a job")
    with no_file_larger_than(2000), pytest.raises(OSError, match="File too large"):
        save(path, checkpoint(2, side), "a job")
    assert list(tmp_path.iterdir()) == [path]
    kept = load(path, "a job")
    assert kept is not None
    assert kept.state["iteration"] == 1


def test_a_damaged_checkpoint_is_ignored(tmp_path):
    path = tmp_path / "job.pt"
    save(path, checkpoint(), "a job")
    data = path.read_bytes()
    for damaged in (data[:-100], data[:500] + bytes(8) + data[508:], b""):
        path.write_bytes(damaged)
        assert load(path, "a job") is None


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"format": 99, "fingerprint": "a job", "state": {}},
        {"format": 2, "fingerprint": "a job", "state": {}, "speed": 3},
        [1, 2],
    ],
    ids=["nothing", "a later format", "other fields", "a list"],
)
def test_a_checkpoint_of_another_version_is_ignored(tmp_path, values):
    buffer = io.BytesIO()
    torch.save(values, buffer)
    path = tmp_path / "job.pt"
    path.write_bytes(buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest())
    assert load(path, "a job") is None
    path.write_bytes(b"no archive" + hashlib.sha256(b"no archive").digest())
    assert load(path, "a job") is None
