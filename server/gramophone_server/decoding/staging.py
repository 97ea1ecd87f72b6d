"""Temporary folders for the picture files and pixels of one request."""

import asyncio
import contextlib
import shutil
import tempfile
from pathlib import Path
from types import TracebackType


class Staging:
    """A temporary folder, made on first use and deleted when the last `with` block on it ends.

    Args:
        root: folder in which the temporary folder is made.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path: Path | None = None
        self._users = 0
        self._files = 0

    @property
    def path(self) -> Path:
        """The folder; made if it does not exist.

        Raises:
            OSError: the folder cannot be made.
        """
        if self._path is None:
            self._path = Path(tempfile.mkdtemp(dir=self._root))
        return self._path

    async def keep(self, data: bytes) -> Path:
        """Writes bytes to a new file in the folder and returns its path.

        Raises:
            OSError: the disk is full, or cannot be written.
        """
        self._files += 1
        path = self.path / f"file-{self._files}"
        await asyncio.to_thread(path.write_bytes, data)
        return path

    def __enter__(self) -> "Staging":
        self._users += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._users -= 1
        if not self._users and self._path is not None:
            # Rename now and delete in a thread: deleting large files takes time.
            gone = self._path.with_name(f"{self._path.name}.gone")
            with contextlib.suppress(OSError):
                self._path.rename(gone)
                asyncio.get_running_loop().run_in_executor(None, lambda: shutil.rmtree(gone, ignore_errors=True))
            self._path = None
