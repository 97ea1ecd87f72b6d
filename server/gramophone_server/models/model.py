"""A model that is there, and its ONNX file, the bytes of which its manifest names by hash. Standard library only."""

import hashlib
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

from ..files import open_file, read_file, read_up_to
from .manifest import Manifest

MOST_BYTES = (2 << 30) - 1
"""Of an ONNX file, which is one message of Protocol Buffers."""


class ModelError(ValueError):
    """A model that is there cannot be used; the message is a sentence that says why and what to do."""

    def __init__(self, name: str, reason: str, remedy: str = "pull or import the model again") -> None:
        super().__init__(f"The model {name!r} cannot be used: {reason}; {remedy}.")


@dataclass(frozen=True)
class Model:
    """A model that is there: its manifest and its ONNX file.

    Attributes:
        file: the file, opened, if whatever replaces it meanwhile is not to matter.
    """

    manifest: Manifest
    path: Path
    file: BufferedReader | None = field(default=None, compare=False, repr=False)

    def read(self) -> bytes:
        """The ONNX file, which is the one that the manifest names by its hash.

        Raises:
            ModelError: it is missing, unreadable or another.
        """
        try:
            if self.file is None:
                data = read_file(self.path, MOST_BYTES)
            else:
                self.file.seek(0)
                data = read_up_to(self.file, MOST_BYTES, self.path)
        except OSError as error:
            raise self.unreadable(error) from error
        self._compare(hashlib.sha256(data).hexdigest())
        return data

    def verify(self) -> None:
        """Compares the file with the hash in the manifest; raises ModelError as `read`, and holds none of it."""
        try:
            with open_file(self.path, MOST_BYTES) as file:
                actual = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise self.unreadable(error) from error
        self._compare(actual)

    def _compare(self, actual: str) -> None:
        if actual != self.manifest.sha256:
            raise ModelError(
                self.manifest.name,
                f"its file model.onnx was changed or damaged, as its SHA-256 is {actual}, and not "
                f"{self.manifest.sha256} as its manifest says",
            )

    def unreadable(self, error: OSError) -> ModelError:
        """The error that the file cannot be read."""
        if isinstance(error, FileNotFoundError):
            return ModelError(self.manifest.name, "its file model.onnx is missing")
        return ModelError(self.manifest.name, f"its file model.onnx cannot be read: {error.strerror}")
