"""Where models are kept: `<root>/<name>/model.onnx` beside `manifest.json`. Standard library only."""

import hashlib
import logging
import os
import re
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from .manifest import Manifest, ManifestError

log = logging.getLogger(__name__)

BUILTIN_MODEL = "vgg19-slim"
"""The built-in model that a server uses unless it is told otherwise."""
BUILTIN_ROOT = Path(__file__).parent / "builtin"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class UnknownModelError(LookupError):
    """There is no model of that `name`."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(
            f"there is no model {name!r} here; there are {', '.join(known)}. "
            "`gramophone models pull` and `gramophone models import` add more"
        )
        self.name = name


@dataclass(frozen=True)
class Model:
    """A model that is there: its manifest and its ONNX file."""

    manifest: Manifest
    path: Path


class ModelStore:
    """The built-in models and those in a folder of the user's.

    Args:
        root: that folder; by default $GRAMOPHONE_MODELS, else gramophone/models in $XDG_DATA_HOME or ~/.local/share.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or _default_root()

    def list(self) -> list[Model]:
        """All models, by name. A folder that is no model is passed over with a warning."""
        models: dict[str, Model] = {}
        for root in (self.root, BUILTIN_ROOT):
            for folder in sorted(root.iterdir()) if root.is_dir() else ():
                if (folder / "manifest.json").is_file() and _NAME.fullmatch(folder.name):
                    try:
                        models[folder.name] = _read(folder)
                    except (ManifestError, OSError) as error:
                        log.warning("model %s is passed over: its manifest %s", folder, error)
        return [models[name] for name in sorted(models)]

    def get(self, name: str) -> Model:
        """The model of that name.

        Raises:
            UnknownModelError: there is none that can be read.
        """
        if _NAME.fullmatch(name):
            # The built-in models first: a folder cannot take their place.
            for root in (BUILTIN_ROOT, self.root):
                if (root / name / "manifest.json").is_file():
                    try:
                        return _read(root / name)
                    except (ManifestError, OSError) as error:
                        log.warning("model %s cannot be used: its manifest %s", root / name, error)
        raise UnknownModelError(name, [model.manifest.name for model in self.list()])

    def add(self, manifest: Manifest, onnx: bytes) -> Model:
        """Puts a model into the folder, whole or not at all, in place of one of the same name.

        Raises:
            ValueError: its name is not lower-case letters, digits, dots and dashes, or belongs to a built-in model.
        """
        return write_model(self.root, manifest, onnx)


def write_model(root: Path, manifest: Manifest, onnx: bytes) -> Model:
    """Writes a model into a folder of models, with the checksum of its file; see ModelStore.add."""
    check_name(manifest.name, root)
    manifest = replace(manifest, sha256=hashlib.sha256(onnx).hexdigest())
    root.mkdir(parents=True, exist_ok=True)
    folder = root / manifest.name
    # Beside its place, so that the last step is a rename within one file system.
    fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=root))
    try:
        _write(fresh / "model.onnx", onnx)
        _write(fresh / "manifest.json", manifest.to_json().encode())
        fresh.chmod(0o755)
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=".old-", dir=root))
            folder.rename(old / manifest.name)
            fresh.rename(folder)
            shutil.rmtree(old)
        else:
            fresh.rename(folder)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return Model(manifest, folder / "model.onnx")


def check_name(name: str, root: Path) -> None:
    """Raises ValueError if no model of that name can be put into a folder of models."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be a model's name: use lower-case letters, digits, dots, dashes")
    if root != BUILTIN_ROOT and (BUILTIN_ROOT / name).exists():
        raise ValueError(f"{name!r} is the name of a built-in model; choose another")


def verify(model: Model) -> None:
    """Compares a model's file with the checksum in its manifest.

    Raises:
        ValueError: they differ, or the file is missing.
    """
    try:
        with model.path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise ValueError(f"{model.path} is missing; pull or import the model again") from None
    if actual != model.manifest.sha256:
        raise ValueError(
            f"{model.path} has the SHA-256 {actual}, but its manifest says {model.manifest.sha256}: "
            "the file was changed or damaged; pull or import the model again"
        )


def _read(folder: Path) -> Model:
    manifest = Manifest.from_json((folder / "manifest.json").read_text())
    if manifest.name != folder.name:
        raise ManifestError(f"names the model {manifest.name!r}, unlike its folder")
    return Model(manifest, folder / "model.onnx")


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _default_root() -> Path:
    if root := os.environ.get("GRAMOPHONE_MODELS"):
        return Path(root)
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "gramophone" / "models"
