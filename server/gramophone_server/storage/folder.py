"""The folder in which a server keeps its jobs."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO

if os.name == "posix":
    import fcntl


class DataFolderError(Exception):
    """The folder cannot be used; the message says why."""


class DataFolder:
    """A folder that one server at a time keeps its jobs in.

        jobs.sqlite     the database, unless it is elsewhere
        blobs/          pictures and results by their SHA-256
        checkpoints/    of running jobs, by their ids; one folder each
        staging/        pictures of requests that are being read
        identity.json   which folder it is, and whose its files are
        lock            held by the server

    Args:
        path: None for a temporary folder that is removed with `close`.

    Raises:
        DataFolderError: it cannot be written to, or another server has it.
    """

    def __init__(self, path: Path | None) -> None:
        self.lasting = path is not None
        self.path = path or Path(tempfile.mkdtemp(prefix="gramophone-"))
        self._lock: IO[str] | None = None
        try:
            # Clients' pictures are in it, which other users of the machine have no business with.
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.blobs.mkdir(exist_ok=True)
            self.checkpoints.mkdir(exist_ok=True)
            self.staging.mkdir(exist_ok=True)
            self._lock = self.lock.open("w")
            if os.name == "posix":
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataFolderError(
                f"the folder {self.path} is another server's, which is running; give this one its own with --data"
            ) from None
        except OSError as error:
            raise DataFolderError(
                f"jobs cannot be kept in {self.path}: {error.strerror}; choose another folder with --data"
            ) from error

    @property
    def blobs(self) -> Path:
        """Where blobs are."""
        return self.path / "blobs"

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are."""
        return self.path / "checkpoints"

    @property
    def staging(self) -> Path:
        """Where pictures of requests are while these are being read."""
        return self.path / "staging"

    @property
    def database(self) -> Path:
        """Where the database is."""
        return self.path / "jobs.sqlite"

    @property
    def identity(self) -> Path:
        """What the folder says of itself."""
        return self.path / "identity.json"

    @property
    def lock(self) -> Path:
        """What the server of the folder holds locked; it is never made anew."""
        return self.path / "lock"

    def checkpoint(self, job_id: str) -> Path:
        """The file of a job's latest checkpoint."""
        return self.checkpoints / f"{job_id}.pt"

    def close(self) -> None:
        """Lets another server have the folder, or removes a temporary one."""
        if self._lock is not None:
            self._lock.close()
        if not self.lasting:
            shutil.rmtree(self.path, ignore_errors=True)

    def __enter__(self) -> "DataFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def default_data_folder() -> Path:
    """gramophone/jobs in $XDG_DATA_HOME, or in ~/.local/share."""
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "gramophone" / "jobs"


def remove_leftovers(folder: DataFolder, known: frozenset[str]) -> None:
    """Removes what writes that were cut off have left, and the checkpoints of all jobs but the `known` ones."""
    for path in folder.path.glob("**/.*.part"):
        path.unlink(missing_ok=True)
    for path in folder.staging.iterdir():
        shutil.rmtree(path, ignore_errors=True)
    for path in folder.checkpoints.iterdir():
        if path.stem not in known:
            with contextlib.suppress(OSError):
                path.unlink()
