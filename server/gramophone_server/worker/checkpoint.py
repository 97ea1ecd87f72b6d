"""Checkpoints of running jobs: files from which a job goes on as if it had never been interrupted."""

import hashlib
import io
import json
import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import torch

from ..files import atomic_file, read_file
from ..messages.spec import JobSpec

log = logging.getLogger(__name__)

_FORMAT = 2
# Least time between checkpoints, in units of what the last one took: a third of a percent of the job's time at most.
_REST = 300.0
# Seconds for which a checkpoint that cannot be read is waited for: without it the job begins anew, to the same bytes.
_PATIENCE = 10.0
_MOST_BYTES = 1 << 40


class UnusableCheckpointError(Exception):
    """The state in a checkpoint is not one that this version can go on from."""


@dataclass(frozen=True)
class Checkpoint:
    """Where a job stands.

    Attributes:
        state: of its Synthesis.
        tile: side of the tiles it ran in; None for none.
        squeeze: how often it had run out of memory by then.
        elapsed: seconds it had run.
    """

    state: dict[str, Any]
    tile: int | None
    squeeze: int
    elapsed: float


def save(path: Path, checkpoint: Checkpoint, fingerprint: str) -> None:
    """Writes a checkpoint, whole or not at all, in place of the one before.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    with atomic_file(path) as file:
        hashing = _Hashing(file)
        try:
            torch.save({"format": _FORMAT, "fingerprint": fingerprint, **vars(checkpoint)}, cast(IO[bytes], hashing))
        except RuntimeError:
            if hashing.failure is None:
                raise
            # Torch ends its archive after a write that failed, too, and then complains of the archive.
            raise hashing.failure from None
        file.write(hashing.sha256.digest())


def load(path: Path, fingerprint: str, *, patient: bool = False) -> Checkpoint | None:
    """The checkpoint in a file; None if there is none, or it is damaged, or another job's. Tensors are on the CPU.

    Args:
        patient: whether to wait some seconds for a folder that is away, or a file that cannot be read for now.
    """
    try:
        data = _read(path, _PATIENCE if patient else 0.0)
    except OSError as error:
        log.warning("the checkpoint %s cannot be read (%s): the job begins anew", path.name, error.strerror)
        return None
    if data is None:
        return None
    content, digest = memoryview(data)[:-32], data[-32:]
    if hashlib.sha256(content).digest() != digest:
        log.warning("the checkpoint %s is damaged: the job begins anew", path.name)
        return None
    try:
        # Nothing but tensors and plain values is let in.
        values = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        if (values.pop("format"), values.pop("fingerprint")) == (_FORMAT, fingerprint):
            return Checkpoint(**values)
    except Exception as error:  # Whatever a version that is not known has written.
        log.warning("the checkpoint %s cannot be read (%s): the job begins anew", path.name, type(error).__name__)
        return None
    log.warning("the checkpoint %s is of another job or version: the job begins anew", path.name)
    return None


def _read(path: Path, patience: float) -> bytes | None:
    """What is in a file; None if its folder is there and it is not."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return read_file(path, _MOST_BYTES)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and path.parent.is_dir():
                return None
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


class _Hashing:
    """A file that knows the hash of what was written: checkpoints are too large to be held in memory for it.

    Attributes:
        sha256: of what was written.
        failure: what a write failed with, if one did.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.failure: OSError | None = None

    def write(self, data: bytes) -> int:
        """Writes and counts in."""
        self.sha256.update(data)
        try:
            return self._file.write(data)
        except OSError as error:
            self.failure = error
            raise

    def flush(self) -> None:
        """As of a file."""
        self._file.flush()


def fingerprint_of(spec: JobSpec, model_sha256: str, precision: str) -> str:
    """What two runs have in common whose states can be exchanged."""
    text = json.dumps([spec.recipe(), model_sha256, precision, torch.__version__], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Checkpoints:
    """Writes a job's checkpoints now and then, in a thread of its own, so that steps go on meanwhile.

    The state's tensors are never changed in place by the optimization, so what is being written stays as it was.

    Args:
        every: least seconds between two.
    """

    def __init__(self, path: Path, fingerprint: str, every: float) -> None:
        self._path = path
        self._fingerprint = fingerprint
        self._every = every
        self._next = time.monotonic() + every
        self._thread: threading.Thread | None = None

    @property
    def due(self) -> bool:
        """Whether it is time for one."""
        return time.monotonic() >= self._next and (self._thread is None or not self._thread.is_alive())

    def begin(self, checkpoint: Checkpoint) -> None:
        """Writes one and comes back at once."""
        self._thread = threading.Thread(target=self._save, args=(checkpoint,), name="checkpoint")
        self._thread.start()

    def finish(self, checkpoint: Checkpoint | None = None) -> None:
        """Waits for what is being written; then writes one more if it is given."""
        if self._thread is not None:
            self._thread.join()
        if checkpoint is not None:
            self._save(checkpoint)

    def _save(self, checkpoint: Checkpoint) -> None:
        begun = time.monotonic()
        try:
            save(self._path, checkpoint, self._fingerprint)
        except OSError as error:
            # The job goes on; it only has no new point to resume from.
            log.warning("no checkpoint could be written: %s", error.strerror or error)
        now = time.monotonic()
        self._next = now + max(self._every, _REST * (now - begun))
