"""Reads and writes objects of an S3-compatible store, with bounded waits and errors that the storage understands."""

import contextlib
import errno
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ObjectStoreError
from ..folder import DataFolderError

# Seconds to connect, and between two pieces of a response; and how often an operation is tried.
_CONNECT_TIMEOUT, _READ_TIMEOUT, _TRIES = 2.0, 5.0, 2
# More connections than the threads of the storage use.
_CONNECTIONS = 16
_CREDENTIALS = {"key": "AWS_ACCESS_KEY_ID", "secret": "AWS_SECRET_ACCESS_KEY", "token": "AWS_SESSION_TOKEN"}


@dataclass(frozen=True)
class StoredObject:
    """An object in the store.

    Attributes:
        name: its name below the prefix of the store.
        modified: when it was stored, by the clock of the store, in seconds since 1970.
    """

    name: str
    modified: float


class ObjectStore:
    """The objects below a prefix of a bucket. All methods block, and any thread may call them.

    An object appears or is replaced as a whole: readers never see a part of it.

    Args:
        url: such as s3://bucket/prefix. Credentials and endpoint are those of the environment (AWS_ACCESS_KEY_ID,
            AWS_ENDPOINT_URL, …), which loses the secrets, so that child processes do not get them.

    Raises:
        DataFolderError: the packages are not installed.

    Raises, from any method:
        ObjectStoreError: the store cannot be reached, or denies the access.
    """

    def __init__(self, url: str) -> None:
        try:
            from s3fs import S3FileSystem
        except ImportError as error:
            raise DataFolderError(
                f"--files needs a package that is not installed ({error}): pip install 'gramophone[s3]'"
            ) from error
        self.url = url.rstrip("/")
        self._root = self.url.removeprefix("s3://")
        # Their messages at lower levels contain signatures of requests.
        for library in ("aiobotocore", "botocore", "fsspec", "s3fs"):
            logging.getLogger(library).setLevel(logging.WARNING)
        given = {name: os.environ.pop(variable, None) for name, variable in _CREDENTIALS.items()}
        self._fs: Any = S3FileSystem(
            **given,
            config_kwargs={
                "connect_timeout": _CONNECT_TIMEOUT,
                "read_timeout": _READ_TIMEOUT,
                "retries": {"total_max_attempts": 1},
                "max_pool_connections": _CONNECTIONS,
            },
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        self._fs.retries = _TRIES

    def write(self, name: str, data: bytes) -> None:
        """Stores bytes; they are stored when this returns."""
        with self._errors():
            self._fs.pipe_file(self._path(name), data)

    def write_file(self, name: str, file: Path) -> None:
        """Stores the content of a file; it is stored when this returns."""
        with self._errors():
            self._fs.put_file(str(file), self._path(name))

    def read(self, name: str) -> bytes:
        """Returns the bytes of an object.

        Raises:
            FileNotFoundError: there is no such object.
        """
        with self._errors():
            return bytes(self._fs.cat_file(self._path(name)))

    def read_file(self, name: str, file: Path) -> None:
        """Writes the bytes of an object into a file.

        Raises:
            FileNotFoundError: there is no such object.
        """
        with self._errors():
            self._fs.get_file(self._path(name), str(file))

    def size(self, name: str) -> int | None:
        """Returns the number of bytes of an object; None if there is none."""
        try:
            with self._errors():
                return int(self._fs.info(self._path(name))["size"])
        except FileNotFoundError:
            return None

    def list(self, prefix: str) -> list[StoredObject]:
        """Returns the objects in a folder whose names begin with a prefix, such as blobs/ab."""
        folder, _, begin = prefix.rpartition("/")
        with self._errors():
            found = self._fs.find(self._path(folder), prefix=begin, detail=True)
        return [
            StoredObject(path.removeprefix(f"{self._root}/"), info["LastModified"].timestamp())
            for path, info in found.items()
        ]

    def delete(self, names: Sequence[str]) -> None:
        """Deletes objects, if they exist."""
        if names:
            with self._errors():
                self._fs.rm([self._path(name) for name in names])

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Replaces the errors of the client by those of files, whose message has no address."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

        try:
            yield
        except FileNotFoundError as error:
            if "bucket" in str(error).lower():
                raise ObjectStoreError("the bucket of the files does not exist", _said(error), lasting=True) from error
            raise
        except (PermissionError, NoCredentialsError, PartialCredentialsError) as error:
            reason = "the object store denies the access to the files"
            raise ObjectStoreError(reason, _said(error), lasting=True) from error
        except (OSError, BotoCoreError, ClientError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise ObjectStoreError("the object store of the files cannot be reached", _said(error)) from error


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
