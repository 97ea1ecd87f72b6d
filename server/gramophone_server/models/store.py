"""Folders of models: `<root>/<name>/model.onnx` and `<root>/<name>/manifest.json`. Standard library only."""

import hashlib
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ..files import FileVersion, open_file, read_file, sync_file, version_of
from .manifest import Manifest, ManifestError
from .model import MAX_ONNX_BYTES, Model, ModelError

log = logging.getLogger(__name__)

BUILTIN_MODEL = "vgg19-slim"
"""Default model of a server."""
BUILTIN_ROOT = Path(__file__).parent / "builtin"
"""Folder of the built-in models."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_MAX_MANIFEST = 1 << 20
# Attempts to open a model while it is being replaced (two renames), and seconds between them.
_OPEN_ATTEMPTS, _PAUSE = 5, 0.02


class UnknownModelError(LookupError):
    """There is no model with this `name`."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(
            f"there is no model {name!r}; the installed models are {', '.join(known)}. "
            "`gramophone models pull` and `gramophone models import` add more"
        )
        self.name = name


class ModelStore:
    """The built-in models and the models in a folder of the user.

    Args:
        root: the folder; by default $GRAMOPHONE_MODELS, else gramophone/models in $XDG_DATA_HOME or ~/.local/share.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or _default_root()
        # Verified SHA-256 by version of the file, so that each version is read only once.
        self._verified: dict[FileVersion, str] = {}
        # Last warning by folder, so that each warning is logged once.
        self._warned: dict[Path, str] = {}

    def list(self) -> list[Model]:
        """Returns all models, sorted by name. Skips invalid folders with a warning."""
        models: dict[str, Model] = {}
        for root in (self.root, BUILTIN_ROOT):
            found = (self._read(folder) for folder in self._folders(root))
            models |= {model.manifest.name: model for model in found if model is not None}
        return [models[name] for name in sorted(models)]

    def get(self, name: str) -> Model:
        """Returns a model by name.

        Raises:
            UnknownModelError: there is no valid model with this name.
        """
        if _NAME.fullmatch(name):
            # Built-in models take precedence over a user's folder of the same name.
            for root in (BUILTIN_ROOT, self.root):
                if (model := self._read(root / name)) is not None:
                    return model
        raise UnknownModelError(name, [model.manifest.name for model in self.list()])

    @contextmanager
    def opened(self, name: str, layers: Collection[str] = ()) -> Iterator[Model]:
        """Opens and verifies a model's file for the length of the block.

        Args:
            layers: layers that the model must have.

        Raises:
            UnknownModelError: there is no valid model with this name.
            ModelError: the file is missing, unreadable or has another SHA-256, or the model lacks a layer.
        """
        model = self._open(name)
        assert model.file is not None
        with model.file:
            known = {layer.name for layer in model.manifest.layers}
            if missing := [layer for layer in layers if layer not in known]:
                reason = f"it has no layer {missing[0]} any more: it was replaced after the request was checked"
                raise ModelError(name, reason, "send the request again with layers that it has")
            self._verify(model)
            yield model

    def add(self, manifest: Manifest, onnx: bytes) -> Model:
        """Writes a model to the folder atomically; replaces a model with the same name.

        Raises:
            ValueError: the name has other characters than lower-case letters, digits, dots, underscores and dashes, or
                is that of a built-in model.
        """
        return write_model(self.root, manifest, onnx)

    def _open(self, name: str) -> Model:
        """Returns a model with its open file; manifest and file belong together even if the model is being replaced."""
        for attempt in range(_OPEN_ATTEMPTS):
            last = attempt == _OPEN_ATTEMPTS - 1
            try:
                model = self.get(name)
                file = open_file(model.path, MAX_ONNX_BYTES)
            except UnknownModelError:
                if last:
                    raise
            except OSError as error:
                if last:
                    raise model.unreadable(error) from error
            else:
                if last or self._is_unchanged(model):
                    return replace(model, file=file)
                file.close()
            time.sleep(_PAUSE)
        raise AssertionError("unreachable")

    def _is_unchanged(self, model: Model) -> bool:
        try:
            return self.get(model.manifest.name) == model
        except UnknownModelError:
            return False

    def _verify(self, model: Model) -> None:
        assert model.file is not None
        state = version_of(os.fstat(model.file.fileno()))
        if self._verified.get(state) != model.manifest.sha256:
            model.read()
            if len(self._verified) > 1000:
                self._verified.clear()
            self._verified[state] = model.manifest.sha256

    def _folders(self, root: Path) -> Sequence[Path]:
        try:
            if not root.is_dir():
                return []
            folders = sorted(folder for folder in root.iterdir() if _NAME.fullmatch(folder.name))
        except OSError as error:
            self._warn(root, f"the folder of models {root} cannot be read: {error.strerror}")
            return []
        self._warned.pop(root, None)
        return folders

    def _read(self, folder: Path) -> Model | None:
        """Returns the model in a folder; None if there is none or, with a warning, if its manifest is invalid."""
        try:
            text = read_file(folder / "manifest.json", _MAX_MANIFEST)
            manifest = Manifest.from_json(text)
            if manifest.name != folder.name:
                raise ManifestError(f"names the model {manifest.name!r}, but the folder has another name")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ManifestError as error:
            self._warn(folder, f"model {folder} is ignored: its manifest {error}")
            return None
        except OSError as error:
            self._warn(folder, f"model {folder} is ignored: its manifest cannot be read: {error.strerror}")
            return None
        self._warned.pop(folder, None)
        return Model(manifest, folder / "model.onnx")

    def _warn(self, folder: Path, what: str) -> None:
        if self._warned.get(folder) != what:
            self._warned[folder] = what
            log.warning("%s", what)


def write_model(root: Path, manifest: Manifest, onnx: bytes) -> Model:
    """Writes a model to a folder of models and sets the manifest's SHA-256; see `ModelStore.add`."""
    check_name(manifest.name, root)
    manifest = replace(manifest, sha256=hashlib.sha256(onnx).hexdigest())
    root.mkdir(parents=True, exist_ok=True)
    folder = root / manifest.name
    # In the same file system, so that the last step is an atomic rename.
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
    """Raises ValueError if a model's name is invalid or belongs to a built-in model."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be a model's name: use lower-case letters, digits, dots, dashes")
    if root != BUILTIN_ROOT and (BUILTIN_ROOT / name).exists():
        raise ValueError(f"{name!r} is the name of a built-in model; choose another")


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        sync_file(file)


def _default_root() -> Path:
    if root := os.environ.get("GRAMOPHONE_MODELS"):
        return Path(root)
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "gramophone" / "models"
