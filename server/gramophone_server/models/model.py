"""An installed model: its manifest, and its ONNX file, which is verified by SHA-256. Standard library only."""

import hashlib
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

from ..files import open_file, read_file, read_up_to
from .manifest import Manifest

MAX_ONNX_BYTES = (2 << 30) - 1
"""Maximum number of bytes of an ONNX file: it is a single protobuf message."""


class ModelError(ValueError):
    """An installed model cannot be used; the message says why and what to do, as a sentence."""

    def __init__(self, name: str, reason: str, remedy: str = "pull or import the model again") -> None:
        super().__init__(f"The model {name!r} cannot be used: {reason}; {remedy}.")


@dataclass(frozen=True)
class Model:
    """An installed model.

    Attributes:
        path: path of the ONNX file.
        file: the open ONNX file, which stays the same if the file is replaced; None to open `path` on each read.
    """

    manifest: Manifest
    path: Path
    file: BufferedReader | None = field(default=None, compare=False, repr=False)

    def read(self) -> bytes:
        """Returns the bytes of the ONNX file, verified by SHA-256.

        Raises:
            ModelError: the file is missing, unreadable, or has another SHA-256.
        """
        try:
            if self.file is None:
                data = read_file(self.path, MAX_ONNX_BYTES)
            else:
                self.file.seek(0)
                data = read_up_to(self.file, MAX_ONNX_BYTES, self.path)
        except OSError as error:
            raise self.unreadable(error) from error
        self._compare(hashlib.sha256(data).hexdigest())
        return data

    def verify(self) -> None:
        """Verifies the file's SHA-256 without holding the file in memory; raises ModelError as `read` does."""
        try:
            with open_file(self.path, MAX_ONNX_BYTES) as file:
                actual = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise self.unreadable(error) from error
        self._compare(actual)

    def _compare(self, actual: str) -> None:
        if actual != self.manifest.sha256:
            raise ModelError(
                self.manifest.name,
                f"its file model.onnx was changed or damaged: its SHA-256 is {actual}, but its manifest says "
                f"{self.manifest.sha256}",
            )

    def unreadable(self, error: OSError) -> ModelError:
        """Returns the ModelError for an OSError of the file."""
        if isinstance(error, FileNotFoundError):
            return ModelError(self.manifest.name, "its file model.onnx is missing")
        return ModelError(self.manifest.name, f"its file model.onnx cannot be read: {error.strerror}")
