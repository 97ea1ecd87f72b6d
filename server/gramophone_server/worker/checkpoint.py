"""Checkpoints of running jobs: files from which an interrupted job resumes with the same result."""

import hashlib
import io
import json
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import torch

from ..files import atomic_file, read_file
from ..messages.spec import JobSpec

log = logging.getLogger(__name__)

_FORMAT = 2
# Minimum interval between checkpoints, as a multiple of the time that writing the last one took: so checkpoints take at
# most a third of a percent of the job's time.
_MIN_INTERVAL_FACTOR = 300.0
# Seconds to retry reading a checkpoint. If it stays unreadable, the job starts over and still produces the same bytes.
_READ_TIMEOUT = 10.0
_MOST_BYTES = 1 << 40


class UnusableCheckpointError(Exception):
    """This version cannot resume from the state in a checkpoint."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a running job.

    Attributes:
        state: the state of its Synthesis.
        tile: side in pixels of the tiles that the job used; None for no tiles.
        squeeze: how often the job had run out of memory.
        elapsed: seconds that the job had run.
    """

    state: dict[str, Any]
    tile: int | None
    squeeze: int
    elapsed: float


def save(path: Path, checkpoint: Checkpoint, fingerprint: str) -> None:
    """Writes a checkpoint atomically, and replaces the previous one.

    Args:
        path: the checkpoint's file.
        fingerprint: from `fingerprint_of`; only a job with the same fingerprint can load the checkpoint.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    with atomic_file(path) as file:
        hashing = _HashingFile(file)
        try:
            torch.save({"format": _FORMAT, "fingerprint": fingerprint, **vars(checkpoint)}, cast(IO[bytes], hashing))
        except RuntimeError:
            if hashing.failure is None:
                raise
            # After a failed write, torch still finalizes its archive and raises an error about the archive.
            raise hashing.failure from None
        file.write(hashing.sha256.digest())


def load(path: Path, fingerprint: str, *, retry: bool = False) -> Checkpoint | None:
    """Returns the checkpoint in a file, with its tensors on the CPU; None without a usable one.

    The result is None if there is no file, if the file is damaged, or if it belongs to another job or version.

    Args:
        path: the checkpoint's file.
        fingerprint: the fingerprint of the job that will resume.
        retry: whether to retry for some seconds if the folder is missing or the file cannot be read.
    """
    try:
        data = _read(path, _READ_TIMEOUT if retry else 0.0)
    except OSError as error:
        log.warning("the checkpoint %s cannot be read (%s): the job starts over", path.name, error.strerror)
        return None
    if data is None:
        return None
    content, digest = memoryview(data)[:-32], data[-32:]
    if hashlib.sha256(content).digest() != digest:
        log.warning("the checkpoint %s is damaged: the job starts over", path.name)
        return None
    try:
        # `weights_only` accepts only tensors and plain values.
        values = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        if (values.pop("format"), values.pop("fingerprint")) == (_FORMAT, fingerprint):
            return Checkpoint(**values)
    except Exception as error:  # Another version may have written any content.
        log.warning("the checkpoint %s cannot be read (%s): the job starts over", path.name, type(error).__name__)
        return None
    log.warning("the checkpoint %s belongs to another job or version: the job starts over", path.name)
    return None


def _read(path: Path, timeout: float) -> bytes | None:
    """Returns the content of a file; None if the folder exists but the file does not. Retries for `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return read_file(path, _MOST_BYTES)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and path.parent.is_dir():
                return None
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


class _HashingFile:
    """A file that hashes the data while it is written: a checkpoint is too large to be serialized in memory first.

    Attributes:
        sha256: hash of the data written so far.
        failure: the error of a failed write; None if no write failed.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.failure: OSError | None = None

    def write(self, data: bytes) -> int:
        """Writes data and updates the hash."""
        self.sha256.update(data)
        try:
            return self._file.write(data)
        except OSError as error:
            self.failure = error
            raise

    def flush(self) -> None:
        """Flushes the file."""
        self._file.flush()


def fingerprint_of(spec: JobSpec, models: Sequence[str], precision: str, device: str) -> str:
    """Returns a hash that is equal for two runs if one can resume from a checkpoint of the other.

    Args:
        models: SHA-256 of each model that the job uses.
        device: model name of a GPU, because other devices round differently; empty for the CPU.
    """
    parts = [spec.recipe(), *models, precision, torch.__version__, *([device] if device else [])]
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Checkpoints:
    """Writes a job's checkpoints periodically in a background thread, while the optimization continues.

    This is safe because the optimization never changes the tensors of a state in place.

    Args:
        path: the checkpoint's file.
        fingerprint: from `fingerprint_of`.
        every: minimum seconds between two checkpoints.
    """

    def __init__(self, path: Path, fingerprint: str, every: float) -> None:
        self._path = path
        self._fingerprint = fingerprint
        self._every = every
        self._next = time.monotonic() + every
        self._thread: threading.Thread | None = None

    @property
    def due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        return time.monotonic() >= self._next and (self._thread is None or not self._thread.is_alive())

    def begin(self, checkpoint: Checkpoint) -> None:
        """Starts writing a checkpoint and returns at once."""
        self._thread = threading.Thread(target=self._save, args=(checkpoint,), name="checkpoint")
        self._thread.start()

    def finish(self, checkpoint: Checkpoint | None = None) -> None:
        """Waits until the current write is done, then writes the given checkpoint, if any."""
        if self._thread is not None:
            self._thread.join()
        if checkpoint is not None:
            self._save(checkpoint)

    def _save(self, checkpoint: Checkpoint) -> None:
        begun = time.monotonic()
        try:
            save(self._path, checkpoint, self._fingerprint)
        except OSError as error:
            # The job continues; only its checkpoint is not updated.
            log.warning("a checkpoint could not be written: %s", error.strerror or error)
        now = time.monotonic()
        self._next = now + max(self._every, _MIN_INTERVAL_FACTOR * (now - begun))
