"""The front's side of a Ray cluster that is not there, with the real bridge. tests/cluster tests real clusters."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from gramophone_server.messages.pipe import Delayed
from gramophone_server.scheduling.ray_cluster import RayCluster, RayError, RayLink
from gramophone_server.settings import WorkerSettings
from tests.harness import wait_until

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed")


@pytest.fixture
def address() -> Iterator[str]:
    """An address where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
async def cluster(address, tmp_path) -> AsyncIterator[RayCluster]:
    cluster = RayCluster(WorkerSettings(devices=("cpu",), threads=1, ray_address=address), tmp_path, "text")
    await cluster.start()
    yield cluster
    await cluster.stop()
    assert not bridges()


def bridges() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "gramophone_server.bridge" in " ".join(child.cmdline()):
                found.append(child)
    return found


async def reason(link: RayLink) -> str:
    message = await asyncio.wait_for(asyncio.to_thread(link.receive), 60)
    assert isinstance(message, Delayed)
    return message.reason


@needs_ray
async def test_a_worker_waits_for_a_cluster_and_says_why(cluster, address):
    link = cluster.launch()
    reasons = [await reason(link)]
    if "not been reached yet" in reasons[0]:
        reasons.append(await reason(link))
    assert reasons[-1] == f"the Ray cluster at {address} cannot be reached: Connection refused"
    assert link.running
    # A later one is told at once.
    other = cluster.launch()
    assert await reason(other) == reasons[-1]
    for ended in (link, other):
        ended.stop()
        with pytest.raises((EOFError, OSError)):
            ended.receive()
        assert ended.wait() == "was lost with the connection to the Ray cluster"
        assert not ended.running


@needs_ray
async def test_a_killed_bridge_is_started_again(cluster):
    def known() -> set[int]:
        return {bridge.pid for bridge in bridges()}

    await asyncio.to_thread(wait_until, lambda: bool(known()), "a bridge")
    first = known()
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(wait_until, lambda: bool(known() - first), "another bridge")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"devices": ("cuda:1",)}, "cannot use --device cuda:1; write --device cuda"),
        ({"devices": ("cpu", "cpu"), "threads": 1}, "cannot use --device cpu --device cpu"),
        ({"devices": ("cpu",)}, "needs --threads"),
    ],
)
@needs_ray
def test_settings_that_ray_cannot_have_are_refused(settings, message):
    with pytest.raises(RayError, match=message):
        RayCluster(WorkerSettings(executor="ray", **settings), Path(), "text")


def test_without_ray_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RayError, match=r"pip install 'gramophone\[ray\]'"):
        RayCluster(WorkerSettings(executor="ray"), Path(), "text")
