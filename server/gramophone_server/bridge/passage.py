"""Passes messages between the front and one actor."""

import contextlib
import logging
import pickle
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayError

from ..messages.bridge import Lost
from ..messages.pipe import Delayed, DeviceFailed, Placed, WorkerConfig
from ..scheduling.link import shut_down
from .cluster import ClusterError, Place
from .relay import POLL, Relay

log = logging.getLogger(__name__)

# Threads of the actor for each kind of calls. A call of `messages` whose answer was lost can still wait in one.
_GROUPS = {"messages": 4, "send": 1, "control": 2}
# Seconds after which a worker without a place is reported.
_DELAY = 5.0
# Seconds until a call is repeated: after the actor could not be reached, and when there is no answer.
_PAUSE, _NO_ANSWER = 0.5, POLL + 5.0
# Seconds an actor has to end its worker, before the actor is killed.
_CLOSE_TIMEOUT = 5.0


class Passage:
    """A worker on the cluster, from its start to its end, which is also the end of the link to the front.

    Args:
        end: the bridge's end of the front's link.
        place: what the worker takes of its node.
        data: the folder of the jobs.
        delay: returns why a worker has no place yet.
    """

    def __init__(self, end: Connection, place: Place, data: Path, delay: Callable[[], str]) -> None:
        self._end = end
        self._place = place
        self._data = data
        self._delay = delay
        self._actor: Any = None
        self._started, self._closed = threading.Event(), threading.Event()

    def run(self) -> None:
        """Runs the worker until it or the front ends it."""
        sender = threading.Thread(target=self._pass_to_actor, daemon=True)
        with self._end:
            with contextlib.suppress(EOFError, OSError):
                config: WorkerConfig = self._end.recv()
                self._actor = _start_actor(self._place)
                sender.start()
                ending = self._run_worker(replace(config, device=self._place.device))
                # The front starts another worker as soon as it knows, which needs the place.
                _remove(self._actor)
                self._end.send(Lost(ending))
            # Closing does not wake the sender.
            shut_down(self._end)
            if self._actor is not None:
                sender.join()
                _remove(self._actor)

    def _run_worker(self, config: WorkerConfig) -> str:
        """Starts the worker and passes its messages on until it has ended; returns how."""
        try:
            self._open(config)
            return self._pass_to_front()
        except ClusterError as error:
            self._end.send(DeviceFailed("the Ray cluster", str(error)))
            return "could not be started"
        except RayError as error:
            return _cause(error)

    def _open(self, config: WorkerConfig) -> None:
        """Waits until the actor has a place, and starts the worker there.

        Raises:
            ClusterError: the worker cannot be started there.
            EOFError: the front has closed its end.
        """
        probe = self._data / f".{secrets.token_hex(8)}.part"
        probe.touch()
        try:
            node, trouble = self._wait_for(self._call("control", "start", str(probe)))
        finally:
            probe.unlink(missing_ok=True)
        if trouble is not None:
            raise ClusterError(trouble)
        self._end.send(Placed(node))
        ray.get(self._call("send", "send", 1, pickle.dumps(config)))
        self._started.set()

    def _wait_for(self, answer: Any) -> tuple[str, str | None]:
        """Returns the answer of the actor's start, however long it takes to find a place."""
        begun, told = time.monotonic(), ""
        while not ray.wait([answer], timeout=0.2)[0]:
            if self._closed.is_set():
                raise EOFError
            if time.monotonic() - begun > _DELAY and (reason := self._delay()) != told:
                self._end.send(Delayed(reason))
                told = reason
        node, trouble = ray.get(answer)
        return node, trouble

    def _pass_to_front(self) -> str:
        """Passes the worker's messages on until it has ended; returns how."""
        after = 0
        while True:
            try:
                messages, ending = ray.get(self._call("messages", "messages", after), timeout=_NO_ANSWER)
            except (GetTimeoutError, ActorUnavailableError):
                # The front replaces the worker if this goes on.
                if self._closed.wait(_PAUSE):
                    return "was stopped"
                continue
            for number, message in messages:
                self._end.send_bytes(message)
                after = number
            if ending is not None:
                return str(ending)

    def _pass_to_actor(self) -> None:
        """Passes the front's messages on until it closes its end, and then ends the worker."""
        number = 1  # of the configuration
        with contextlib.suppress(EOFError, OSError):
            while True:
                message = self._end.recv_bytes()
                # A worker that has not started has no job that a message could be about.
                if self._started.is_set():
                    number += 1
                    self._send(number, message)
        self._closed.set()
        _remove(self._actor)

    def _send(self, number: int, message: bytes) -> None:
        while not self._closed.is_set():
            try:
                ray.get(self._call("send", "send", number, message))
                return
            except ActorUnavailableError:
                time.sleep(_PAUSE)
            except RayError:
                return  # The other thread reports it.

    def _call(self, group: str, method: str, *args: object) -> Any:
        return getattr(self._actor, method).options(concurrency_group=group).remote(*args)


def _start_actor(place: Place) -> Any:
    # Ray must not start it again: the front does, with the configuration and its jobs. Nor may Ray repeat calls.
    return ray.remote(
        num_gpus=place.gpus, num_cpus=place.cpus, max_restarts=0, max_task_retries=0, concurrency_groups=_GROUPS
    )(Relay).remote()


def _remove(actor: Any) -> None:
    """Ends an actor and its worker."""
    with contextlib.suppress(RayError):
        ray.get(actor.close.options(concurrency_group="control").remote(), timeout=_CLOSE_TIMEOUT)
    with contextlib.suppress(RayError):
        ray.kill(actor)


def _cause(error: BaseException) -> str:
    """Returns how Ray has lost an actor, beginning with a verb."""
    text = " ".join(str(error).split())
    found = re.search(r"[Tt]he actor (?:is dead|died) because (?:of )?(.*?)\.(?: |$)", text)
    return f"was lost by Ray: {found[1] if found else text[:200]}"
