"""The speed of a device is measured once and stored in the user's cache folder."""

import json
from pathlib import Path

import pytest
import torch

from gramophone_server.engine.losses import style_losses
from gramophone_server.models.model import Model
from gramophone_server.models.store import BUILTIN_MODEL, ModelStore
from gramophone_server.worker.speed import Speeds
from gramophone_server.worker.speed_file import SpeedFile
from tests.marks import slow

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Model:
    return ModelStore(tmp_path_factory.mktemp("models")).get(BUILTIN_MODEL)


@pytest.fixture
def file(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "gramophone" / "speeds.json"


def speed(model: Model, precision: str = "float32", side: int = 256) -> float:
    """Returns the speed in FLOP/s as a new worker gets it."""
    return Speeds(CPU).flops_per_second(model, precision, side**2)


def learned(model: Model, speed: float, side: int = 256, iterations: int = 10, precision: str = "float32") -> None:
    """Corrects the speed by a job of that speed."""
    flops = 1e9
    Speeds(CPU).learn(model, precision, side**2, flops, iterations, flops * iterations / speed)


def test_the_speed_is_measured_and_cached(model, file):
    got = speed(model)
    # From one slow core to many fast cores.
    assert 1e8 < got < 1e15
    assert list(json.loads(file.read_text()).values()) == [got]
    assert [entry.name for entry in file.parent.iterdir()] == [file.name]


def test_a_cached_speed_is_not_measured_again(model, file):
    speed(model)
    # A speed that no measurement gives.
    file.write_text(json.dumps(dict.fromkeys(json.loads(file.read_text()), 1.25e6)))
    assert speed(model) == 1.25e6


@pytest.mark.parametrize("name", sorted(name for name, loss in style_losses().items() if loss.operations(8, 16, 16)))
def test_the_speed_of_each_style_loss_is_measured_and_cached(name, file):
    speeds = Speeds(CPU)
    got = speeds.loss_operations_per_second(name)
    assert 1e8 < got < 1e15
    assert list(json.loads(file.read_text()).values()) == [got]
    file.write_text(json.dumps(dict.fromkeys(json.loads(file.read_text()), 1.25e6)))
    assert speeds.loss_operations_per_second(name) == 1.25e6


@pytest.mark.slow
def test_other_precisions_and_numbers_of_threads_are_measured_separately(model, file):
    speed(model)
    (first,) = json.loads(file.read_text())
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        speed(model)
    finally:
        torch.set_num_threads(threads)
    speed(model, "bfloat16")
    kept = json.loads(file.read_text())
    assert len(kept) == 3
    assert first in kept


BROKEN = [b"{", *map(slow, (b"\xff\xfe", b"[]", b'{"KEY": null}', b'{"KEY": 0.0}', b'{"KEY": 1e30}'))]


@pytest.mark.parametrize("content", BROKEN)
def test_a_corrupt_cache_file_is_replaced(model, file, content):
    key = f"{Speeds(CPU)._key(model, 'float32')}, measured at 256"
    file.parent.mkdir()
    file.write_bytes(content.replace(b"KEY", key.encode()))
    got = speed(model)
    assert got > 0
    assert json.loads(file.read_text()) == {key: got}


def test_a_cache_folder_that_cannot_be_written_is_no_error(model, tmp_path, monkeypatch):
    # A file in place of the folder: even root cannot write there.
    (tmp_path / "cache").write_text("mine")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert speed(model) > 0
    assert (tmp_path / "cache").read_text() == "mine"


def test_without_the_variable_the_cache_is_in_the_home_folder(model, tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    speed(model)
    assert (tmp_path / ".cache" / "gramophone" / "speeds.json").is_file()


class Clock:
    """A clock that the test sets: each reading is one step later."""

    def __init__(self, *steps: float) -> None:
        self._steps = iter(steps)
        self._now = 0.0

    def perf_counter(self) -> float:
        """Returns the next time."""
        self._now += next(self._steps)
        return self._now


def test_the_first_steps_warm_up_and_do_not_count(model, file, monkeypatch):
    monkeypatch.setattr("gramophone_server.worker.speed.time", Clock(90, 70, 2, 1, 4))
    slow_start = speed(model)
    file.unlink()
    monkeypatch.setattr("gramophone_server.worker.speed.time", Clock(1, 1, 1, 1, 1))
    assert speed(model) == slow_start


def test_a_gpu_is_measured_at_a_size_at_which_it_is_busy(model, file, monkeypatch):
    sides: list[int] = []

    def measure(self: Speeds, model: Model, precision: str, side: int) -> float:
        sides.append(side)
        return 1e12

    monkeypatch.setattr(Speeds, "_measure", measure)
    monkeypatch.setattr("gramophone_server.worker.speed.device_name", lambda device: "a GPU")
    for side in (128, 512, 1024, 4096):
        Speeds(torch.device("cuda")).flops_per_second(model, "bfloat16", side**2)
    assert sides == [256, 1024], "each measured once"


def test_a_gpu_without_memory_is_measured_at_a_smaller_size(model, file, monkeypatch):
    def measure(self: Speeds, model: Model, precision: str, side: int) -> float:
        if side > 256:
            raise torch.OutOfMemoryError
        return 1e12

    monkeypatch.setattr(Speeds, "_measure", measure)
    monkeypatch.setattr("gramophone_server.worker.speed.device_name", lambda device: "a GPU")
    assert Speeds(torch.device("cuda")).flops_per_second(model, "bfloat16", 4096**2) == 1e12


def test_a_job_replaces_the_measurement_of_its_size(model, file):
    measured = speed(model, side=1024)
    learned(model, 3e9, side=1024)
    assert speed(model, side=1024) == pytest.approx(3e9)
    # Half and twice the side are like it; others are not.
    assert speed(model, side=512) == speed(model, side=2000) == pytest.approx(3e9)
    assert speed(model, side=256) == speed(model, side=4096) == measured


def test_jobs_are_averaged_and_one_odd_job_does_little(model, file):
    learned(model, 2e9)
    for _ in range(30):
        learned(model, 4e9)
    assert speed(model) == pytest.approx(4e9, rel=0.01)
    # A job that was stopped for a day.
    learned(model, 1e7)
    assert 2.5e9 < speed(model) < 4e9


def test_a_job_of_another_precision_or_size_teaches_nothing(model, file):
    learned(model, 2e9)
    learned(model, 5e9, precision="bfloat16")
    learned(model, 7e9, side=2048)
    assert speed(model) == pytest.approx(2e9)


def test_a_short_job_teaches_nothing(model, file):
    learned(model, 2e9)
    learned(model, 8e9, iterations=4)
    learned(model, 8e10)  # ten iterations in an eighth of a second
    assert speed(model) == pytest.approx(2e9)


def test_a_job_overwrites_a_damaged_file(model, file):
    file.parent.mkdir()
    file.write_bytes(b"\xff{")
    learned(model, 2e9)
    assert list(json.loads(file.read_text()).values()) == [pytest.approx(2e9)]


def test_the_file_stays_small_and_keeps_the_latest_entries(file):
    kept = SpeedFile()
    for number in range(300):
        kept.add(str(number), 1e9)
    kept.add("299", 2e9)
    assert list(kept.read()) == [str(number) for number in range(44, 300)]
    assert kept.read()["299"] == 2e9
