"""The actor, with a real worker process but without Ray, which only calls its methods."""

import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from gramophone_server.bridge.relay import Relay, folder_trouble
from gramophone_server.messages.pipe import (
    DeviceFailed,
    EstimateRequest,
    EstimateResponse,
    FromWorker,
    Heartbeat,
    Ready,
    WorkerConfig,
)
from gramophone_server.settings import ObservabilitySettings, WorkerSettings
from tests.messages.specs import make_spec


@pytest.fixture
def probe(tmp_path) -> Path:
    (tmp_path / "checkpoints").mkdir()
    (probe := tmp_path / ".probe.part").touch()
    return probe


@pytest.fixture
def relay(probe) -> Iterator[Relay]:
    relay = Relay()
    assert relay.start(str(probe))[1] is None
    config = WorkerConfig("cpu", WorkerSettings(threads=1), None, ObservabilitySettings())
    for _ in range(2):  # The second call repeats the first.
        relay.send(1, pickle.dumps(config))
    yield relay
    relay.close()


def received(relay: Relay, until: Callable[[FromWorker], bool], after: int = 0) -> list[tuple[int, FromWorker]]:
    """Returns the messages up to the first that fits."""
    found: list[tuple[int, FromWorker]] = []
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        messages, ending = relay.messages(found[-1][0] if found else after)
        assert ending is None
        for number, message in messages:
            found.append((number, pickle.loads(message)))
            if until(found[-1][1]):
                return found
    pytest.fail(f"only these messages have arrived: {found}")


def test_a_repeated_call_reaches_the_worker_once(relay):
    last, _ = received(relay, lambda message: isinstance(message, Ready))[-1]
    for number in (2, 2, 3, 2):
        relay.send(number, pickle.dumps(EstimateRequest(number, make_spec(), timed=False)))
    answers = received(relay, lambda m: isinstance(m, EstimateResponse) and m.request_id == 3, last)
    # Two more heartbeats: nothing was left to answer.
    more = received(relay, lambda message: isinstance(message, Heartbeat), answers[-1][0])
    everything = [message for _, message in (*answers, *more)]
    assert [message.request_id for message in everything if isinstance(message, EstimateResponse)] == [2, 3]


def test_the_death_of_the_worker_is_reported_after_its_last_message(relay):
    received(relay, lambda message: isinstance(message, Ready))
    for child in psutil.Process().children():
        if "gramophone_server.worker" in " ".join(child.cmdline()):
            child.send_signal(signal.SIGKILL)
    after, ending = 0, None
    while ending is None:
        messages, ending = relay.messages(after)
        after = messages[-1][0] if messages else after
    assert ending == "was killed by signal 9"


def test_why_a_device_cannot_be_used_is_delivered_before_the_death(probe):
    relay = Relay()
    relay.start(str(probe))
    # There is no such GPU.
    config = WorkerConfig("cuda:99", WorkerSettings(), None, ObservabilitySettings())
    relay.send(1, pickle.dumps(config))
    found: list[FromWorker] = []
    after, ending = 0, None
    while ending is None:
        messages, ending = relay.messages(after)
        after = messages[-1][0] if messages else after
        found += [pickle.loads(message) for _, message in messages]
    relay.close()
    assert [(type(message), message.device) for message in found] == [(DeviceFailed, "cuda:99")]
    assert ending == "exited with status 3"


def test_a_node_must_see_and_write_the_folder_of_the_jobs(probe):
    assert folder_trouble(probe) is None
    assert "does not see" in (folder_trouble(probe.parent / "other" / probe.name) or "")
    probe.unlink()
    assert "--data" in (folder_trouble(probe) or "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_node_must_write_into_the_checkpoints(probe):
    (probe.parent / "checkpoints").chmod(0o500)
    assert "cannot write into" in (folder_trouble(probe) or "")
