"""Copies of checkpoints in an object store, from which other servers continue the jobs."""

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ...files import FileVersion, atomic_path, file_version
from ..errors import reason_of
from ..folder import DataFolder
from .remote import ObjectStore

log = logging.getLogger(__name__)

# Seconds between two looks for new checkpoints.
_EVERY = 1.0
_FOLDER = "checkpoints/"


class ObjectCheckpoints:
    """Copies the checkpoints of running jobs to an object store, in the background; no step waits for that.

    Each server writes copies of its own, named by its token, so that late writes of a lost one replace nothing.

    Args:
        running: returns the ids of the jobs that this server runs.
    """

    def __init__(self, folder: DataFolder, objects: ObjectStore, running: Callable[[], Iterable[str]]) -> None:
        self._folder = folder
        self._objects = objects
        self._running = running
        # One thread, so that a copy and a deletion of the same checkpoint happen in order.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._sent: dict[str, FileVersion] = {}
        # Ids of ended jobs whose copies could not be deleted yet.
        self._ended: set[str] = set()
        self._is_away = False

    async def run(self) -> None:
        """Copies new checkpoints until it is canceled."""
        while True:
            await asyncio.sleep(_EVERY)
            await asyncio.wrap_future(self._thread.submit(self._look, list(self._running())))

    async def send(self, job_id: str, patience: float) -> None:
        """Copies the latest checkpoint of a job; gives up after `patience` seconds, and after an error."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(self._thread.submit(self._try, self._send, job_id)), patience)

    def adopt(self, job_id: str) -> None:
        """Makes the latest checkpoint of a job that of this server. Blocks.

        Raises:
            OSError: the object store or the folder cannot be used.
        """
        own = self._folder.checkpoint(job_id)
        found = self._objects.list(f"{_FOLDER}{job_id}.")
        if not found:
            return
        latest = max(found, key=lambda one: (one.modified, one.name))
        if latest.name == _FOLDER + own.name and own.exists():
            return
        with atomic_path(own) as fresh:
            self._objects.read_file(latest.name, fresh)
            fresh.chmod(0o600)

    def delete_soon(self, job_id: str) -> None:
        """Deletes the copies of a job's checkpoints in the background; tries again until that succeeds."""
        self._ended.add(job_id)
        self._thread.submit(self._try, self._delete_ended)

    def remove_unknown(self, known: frozenset[str]) -> None:
        """Removes the copies of jobs that are not in `known`. Blocks."""
        found = [one.name for one in self._objects.list(_FOLDER)]
        self._objects.delete([name for name in found if _job_of(name) not in known])

    def close(self) -> None:
        """Ends the thread after what it does at the moment; waits only a moment. Blocks."""
        done = self._thread.submit(self._try, self._delete_ended)
        with contextlib.suppress(TimeoutError):
            done.result(2.0)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _look(self, running: list[str]) -> None:
        for job_id in self._sent.keys() - set(running):
            del self._sent[job_id]
        for job_id in running:
            self._try(self._send, job_id)
        self._try(self._delete_ended)

    def _try(self, act: Callable[..., None], *args: str) -> None:
        """Calls a function; logs the first of several failures."""
        try:
            act(*args)
            self._is_away = False
        except OSError as error:
            if not self._is_away:
                log.warning("checkpoints cannot be copied to the object store for now: %s", reason_of(error))
            self._is_away = True

    def _send(self, job_id: str) -> None:
        own = self._folder.checkpoint(job_id)
        version = file_version(own)
        if version is None or self._sent.get(job_id) == version or job_id in self._ended:
            return
        # The worker may replace the file during the copy.
        still = own.with_name(f".{own.name}.sent")
        still.unlink(missing_ok=True)
        try:
            _link(own, still)
            self._objects.write_file(_FOLDER + own.name, still)
        except FileNotFoundError:
            return
        finally:
            still.unlink(missing_ok=True)
        self._sent[job_id] = version

    def _delete_ended(self) -> None:
        for job_id in list(self._ended):
            self._objects.delete([one.name for one in self._objects.list(f"{_FOLDER}{job_id}.")])
            self._ended.discard(job_id)


def _link(file: Path, fresh: Path) -> None:
    try:
        os.link(file, fresh)
    except FileNotFoundError:
        raise
    except OSError:
        # A file system without hard links.
        shutil.copyfile(file, fresh)


def _job_of(name: str) -> str:
    return name.removeprefix(_FOLDER).partition(".")[0]
