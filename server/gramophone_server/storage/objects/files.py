"""The files of a server in an object store: blobs and copies of checkpoints."""

from collections.abc import Callable, Iterable

from ..folder import DataFolder
from .blobs import ObjectBlobs
from .checkpoints import ObjectCheckpoints
from .remote import ObjectStore


class RemoteFiles:
    """Makes the parts of a job store that keep its files in an object store.

    Args:
        url: such as s3://bucket/prefix; see `ObjectStore`.
        cache: bytes of the local copies of blobs.

    Raises:
        DataFolderError: the packages are not installed.
    """

    def __init__(self, url: str, cache: int) -> None:
        self._objects = ObjectStore(url)
        self._cache = cache

    def blobs(self, folder: DataFolder, needed: Callable[[], Iterable[str]]) -> ObjectBlobs:
        """Returns the blobs, with copies in the data folder; `needed` as of `ObjectBlobs`."""
        return ObjectBlobs(folder.blobs, self._objects, self._cache, needed)

    def checkpoints(self, folder: DataFolder, running: Callable[[], Iterable[str]]) -> ObjectCheckpoints:
        """Returns the copies of the data folder's checkpoints; `running` as of `ObjectCheckpoints`."""
        return ObjectCheckpoints(folder, self._objects, running)
