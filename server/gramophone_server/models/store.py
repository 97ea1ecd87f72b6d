"""Where models are kept: `<root>/<name>/model.onnx` beside `manifest.json`. Standard library only."""

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

from ..files import FileVersion, open_file, read_file, version_of
from .manifest import Manifest, ManifestError
from .model import MOST_BYTES, Model, ModelError

log = logging.getLogger(__name__)

BUILTIN_MODEL = "vgg19-slim"
"""The built-in model that a server uses unless it is told otherwise."""
BUILTIN_ROOT = Path(__file__).parent / "builtin"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_MOST_MANIFEST = 1 << 20
# How often, and for how many seconds in between, a model is looked for that is being replaced: two renames.
_LOOKS, _PAUSE = 5, 0.02


class UnknownModelError(LookupError):
    """There is no model of that `name`."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(
            f"there is no model {name!r} here; there are {', '.join(known)}. "
            "`gramophone models pull` and `gramophone models import` add more"
        )
        self.name = name


class ModelStore:
    """The built-in models and those in a folder of the user's.

    Args:
        root: that folder; by default $GRAMOPHONE_MODELS, else gramophone/models in $XDG_DATA_HOME or ~/.local/share.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or _default_root()
        # States of files that were found to have the hash, so that each is read for it once.
        self._good: dict[FileVersion, str] = {}
        # What was said last of a folder that is no model, so that it is said once.
        self._said: dict[Path, str] = {}

    def list(self) -> list[Model]:
        """All models, by name. A folder that is no model is passed over with a warning."""
        models: dict[str, Model] = {}
        for root in (self.root, BUILTIN_ROOT):
            found = (self._read(folder) for folder in self._folders(root))
            models |= {model.manifest.name: model for model in found if model is not None}
        return [models[name] for name in sorted(models)]

    def get(self, name: str) -> Model:
        """The model of that name.

        Raises:
            UnknownModelError: there is none that can be read.
        """
        if _NAME.fullmatch(name):
            # The built-in models first: a folder cannot take their place.
            for root in (BUILTIN_ROOT, self.root):
                if (model := self._read(root / name)) is not None:
                    return model
        raise UnknownModelError(name, [model.manifest.name for model in self.list()])

    @contextmanager
    def opened(self, name: str, layers: Collection[str] = ()) -> Iterator[Model]:
        """The model of that name with its file open and verified, to be used within.

        Args:
            layers: those that it must have.

        Raises:
            UnknownModelError: there is none that can be read.
            ModelError: its file is missing, unreadable or not the manifest's, or it lacks a layer.
        """
        model = self._open(name)
        assert model.file is not None
        with model.file:
            known = {layer.name for layer in model.manifest.layers}
            if missing := [layer for layer in layers if layer not in known]:
                reason = f"it has no layer {missing[0]} any more, as it was replaced meanwhile"
                raise ModelError(name, reason, "ask again for layers that it has")
            self._verify(model)
            yield model

    def add(self, manifest: Manifest, onnx: bytes) -> Model:
        """Puts a model into the folder, whole or not at all, in place of one of the same name.

        Raises:
            ValueError: its name is not lower-case letters, digits, dots and dashes, or belongs to a built-in model.
        """
        return write_model(self.root, manifest, onnx)

    def _open(self, name: str) -> Model:
        """A model with its file open, both of the same making although it may be replaced at that moment."""
        for look in range(_LOOKS):
            last = look == _LOOKS - 1
            try:
                model = self.get(name)
                file = open_file(model.path, MOST_BYTES)
            except UnknownModelError:
                if last:
                    raise
            except OSError as error:
                if last:
                    raise model.unreadable(error) from error
            else:
                if last or self._is_still(model):
                    return replace(model, file=file)
                file.close()
            time.sleep(_PAUSE)
        raise AssertionError("unreachable")

    def _is_still(self, model: Model) -> bool:
        try:
            return self.get(model.manifest.name) == model
        except UnknownModelError:
            return False

    def _verify(self, model: Model) -> None:
        assert model.file is not None
        state = version_of(os.fstat(model.file.fileno()))
        if self._good.get(state) != model.manifest.sha256:
            model.read()
            if len(self._good) > 1000:
                self._good.clear()
            self._good[state] = model.manifest.sha256

    def _folders(self, root: Path) -> Sequence[Path]:
        try:
            if not root.is_dir():
                return []
            folders = sorted(folder for folder in root.iterdir() if _NAME.fullmatch(folder.name))
        except OSError as error:
            self._say(root, f"the folder of models {root} cannot be read: {error.strerror}")
            return []
        self._said.pop(root, None)
        return folders

    def _read(self, folder: Path) -> Model | None:
        """The model in a folder; None if there is none, with a warning if there should be one."""
        try:
            text = read_file(folder / "manifest.json", _MOST_MANIFEST)
            manifest = Manifest.from_json(text)
            if manifest.name != folder.name:
                raise ManifestError(f"names the model {manifest.name!r}, unlike its folder")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ManifestError as error:
            self._say(folder, f"model {folder} is passed over: its manifest {error}")
            return None
        except OSError as error:
            self._say(folder, f"model {folder} is passed over: its manifest cannot be read: {error.strerror}")
            return None
        self._said.pop(folder, None)
        return Model(manifest, folder / "model.onnx")

    def _say(self, folder: Path, what: str) -> None:
        if self._said.get(folder) != what:
            self._said[folder] = what
            log.warning("%s", what)


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
