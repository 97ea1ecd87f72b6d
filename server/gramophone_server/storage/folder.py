"""The data folder of a server."""

import contextlib
import json
import os
import secrets
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO

from ..files import atomic_file, atomic_path

if os.name == "posix":
    import fcntl


class DataFolderError(Exception):
    """The folder cannot be used; the message says why."""


class DataFolder:
    """The folder of a server's jobs; only one server at a time can use it, or the fronts of one cluster.

        jobs.sqlite     the database, unless --database names another
        blobs/          pictures and results, named by their SHA-256
        checkpoints/    checkpoints of running jobs, named by job id
        staging/        pictures of requests that are being read; in a cluster, each front has a folder in it
        identity.json   the id of the folder, and of the database that its files belong to
        seal.json       while no server runs: the size and the time of the SQLite file that the last one has closed
        copies/         with --files: copies of pictures and results, and the checkpoints
        lock            locked by the server

    Args:
        path: None for a temporary folder, which `close` removes.
        shared: whether the server is a front of a cluster; without `files`, its fronts use the same folder.
        files: URL of the object store that has the files of the jobs; None if the folder has them.

    Attributes:
        files: the URL of the object store, or None.
        private: whether no other front may use the folder.
        permanent: whether the folder is not temporary.
        staging: the folder of pictures of requests that are being read.
        token: the token of the front of a cluster; None for a server that is alone.

    Raises:
        DataFolderError: the folder cannot be written, or another server uses it.
    """

    def __init__(self, path: Path | None, *, shared: bool = False, files: str | None = None) -> None:
        self.files = files
        self.private = files is not None or not shared
        self.permanent = path is not None
        self.path = path or Path(tempfile.mkdtemp(prefix="gramophone-"))
        self.staging = self.path / "staging" / (f"front-{secrets.token_hex(8)}" if shared else "")
        self.token: int | None = None
        self._lock: IO[str] | None = None
        try:
            # Other users of the machine must not read the clients' pictures.
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.blobs.mkdir(parents=True, exist_ok=True)
            self.checkpoints.mkdir(exist_ok=True)
            self.staging.mkdir(parents=True, exist_ok=True)
            self._lock = self.lock.open("a+")
            if os.name == "posix":
                fcntl.flock(self._lock, (fcntl.LOCK_EX if self.private else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataFolderError(
                f"the folder {self.path} is another server's, which is running; choose another folder with --data"
            ) from None
        except OSError as error:
            raise DataFolderError(
                f"jobs cannot be kept in {self.path}: {error.strerror}; choose another folder with --data"
            ) from error

    @property
    def blobs(self) -> Path:
        """The folder of blobs, or of the copies of those in the object store."""
        return self._parent / "blobs"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self._parent / "checkpoints"

    @property
    def _parent(self) -> Path:
        # Evictions of copies must not touch the files of a server that has used the folder without --files.
        return self.path if self.files is None else self.path / "copies"

    @property
    def database(self) -> Path:
        """The file of the SQLite database."""
        return self.path / "jobs.sqlite"

    @property
    def identity(self) -> Path:
        """The file with the ids of the folder and its database."""
        return self.path / "identity.json"

    @property
    def _seal(self) -> Path:
        return self.path / "seal.json"

    def seal(self) -> None:
        """Notes the state of the SQLite file after all its connections are closed; does nothing if one is open."""
        with contextlib.suppress(OSError):
            if self.permanent and (found := self._database_state()) is not None:
                with atomic_file(self._seal) as file:
                    file.write(json.dumps(found).encode())

    def take_seal(self) -> bool:
        """Returns whether the SQLite file is as `seal` has noted it, and removes the note."""
        try:
            noted = json.loads(self._seal.read_text())
        except (OSError, ValueError):
            noted = None
        # Before the first write: after a crash there must be no note.
        self._seal.unlink(missing_ok=True)
        return noted is not None and noted == self._database_state()

    def _database_state(self) -> list[int] | None:
        """Returns the inode, the size and the time of the SQLite file; None if it is missing or has a log of writes."""
        if self.database.with_name(f"{self.database.name}-wal").exists():
            return None
        try:
            found = self.database.stat()
        except FileNotFoundError:
            return None
        return [found.st_ino, found.st_size, found.st_mtime_ns]

    @property
    def lock(self) -> Path:
        """The file that the server locks; it is never replaced, so that its inode identifies the folder."""
        return self.path / "lock"

    def checkpoint(self, job_id: str) -> Path:
        """Returns the file of a job's latest checkpoint, which only this server writes."""
        return self.checkpoints / (f"{job_id}.pt" if self.token is None else f"{job_id}.{self.token}.pt")

    def adopt_checkpoint(self, job_id: str) -> None:
        """Makes the latest checkpoint of another front that of this one; late writes of the other do not change it.

        Raises:
            OSError: the folder cannot be read or written.
        """
        own = self.checkpoint(job_id)
        found = [path for path in self.checkpoints.glob(f"{job_id}.*") if path != own]
        if not found:
            return
        latest = max(found, key=lambda path: int(path.suffixes[0][1:]) if len(path.suffixes) > 1 else 0)
        with atomic_path(own) as fresh:
            try:
                os.link(latest, fresh)
            except FileNotFoundError:
                raise
            except OSError:
                # A file system without hard links.
                shutil.copyfile(latest, fresh)

    def delete_checkpoints(self, job_id: str) -> None:
        """Deletes a job's checkpoints of all servers."""
        for path in self.checkpoints.glob(f"{job_id}.*"):
            with contextlib.suppress(OSError):
                path.unlink()

    def close(self) -> None:
        """Unlocks the folder, and removes a temporary one."""
        if self._lock is not None:
            self._lock.close()
        if not self.permanent:
            shutil.rmtree(self.path, ignore_errors=True)

    def __enter__(self) -> "DataFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def remove_leftovers(folder: DataFolder, known: frozenset[str]) -> None:
    """Removes files of interrupted writes, staged pictures, and checkpoints of jobs that are not in `known`."""
    # Those in the folder of blobs are removed as files without a row.
    for path in (*folder.path.glob(".*.part"), *folder.checkpoints.glob(".*.part")):
        path.unlink(missing_ok=True)
    for path in (folder.path / "staging").iterdir():
        if path != folder.staging:
            shutil.rmtree(path, ignore_errors=True)
    for path in folder.checkpoints.iterdir():
        if path.name.partition(".")[0] not in known:
            with contextlib.suppress(OSError):
                path.unlink()
