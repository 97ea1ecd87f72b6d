"""The commands `gramophone export` and `gramophone models`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gramophone_server.models.store import ModelStore, UnknownModelError

if TYPE_CHECKING:
    import numpy as np

    from gramophone_server.models.manifest import Preprocessing
    from gramophone_server.models.model import Model

_folder = click.option(
    "--models",
    "root",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of models.  [default: the user's folder]",
)
_url = click.option("--url", envvar="GRAMOPHONE_WEIGHTS_URL", help="Address of a mirror to download the weights from.")
_preprocessing = click.option(
    "--preprocessing",
    type=click.Choice(["torchvision", "caffe"]),
    help="Preprocessing that the network expects; not needed for vgg19 and vgg19-caffe.",
)


@click.command()
@click.option("--model", "name", default="vgg19", show_default=True, help="Name of the model.")
@click.option("--from", "weights", type=click.Path(dir_okay=False, path_type=Path), help="A local file of weights.")
@_preprocessing
@_url
@_folder
def export(name: str, weights: Path | None, preprocessing: str | None, url: str | None, root: Path | None) -> None:
    """Convert VGG-19's weights to an ONNX file and a manifest, and check it against torch.

    Without --from, torchvision's weights are downloaded and verified.
    """
    if weights is None:
        _pull(name, url, root)
    else:
        _import(weights, name, preprocessing, root)


@click.group()
def models() -> None:
    """List, pull, import and verify the models on this machine."""


@models.command("list")
@_folder
def list_models(root: Path | None) -> None:
    """List the models on this machine."""
    store = ModelStore(root)
    for model in store.list():
        manifest = model.manifest
        layers = f"{manifest.layers[0].name}…{manifest.layers[-1].name}"
        click.echo(f"{manifest.name:16} {layers:18} {manifest.description}")
    click.echo(f"models that you add are stored in {store.root}", err=True)


@models.command("import")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--name", required=True, help="vgg19, vgg19-caffe, or a name of your own.")
@_preprocessing
@_folder
def import_model(file: Path, name: str, preprocessing: str | None, root: Path | None) -> None:
    """Create a model from FILE: VGG-19's weights in the layout of torchvision, Gatys or neural-style-pt."""
    _import(file, name, preprocessing, root)


@models.command()
@click.argument("name")
@_url
@_folder
def pull(name: str, url: str | None, root: Path | None) -> None:
    """Download the weights of NAME and create a model from them."""
    _pull(name, url, root)


@models.command("verify")
@click.argument("names", nargs=-1)
@_folder
def verify_models(names: tuple[str, ...], root: Path | None) -> None:
    """Verify the checksums and the preprocessing of the models NAMES, or of all models."""
    store = ModelStore(root)
    failed = False
    try:
        for model in [store.get(name) for name in names] if names else store.list():
            try:
                model.verify()
                _verify_origin(model)
                click.echo(f"{model.manifest.name}: good")
            except ValueError as error:
                failed = True
                click.echo(f"{model.manifest.name}: {error}", err=True)
    except UnknownModelError as error:
        raise click.ClickException(str(error)) from error
    if failed:
        raise SystemExit(1)


def _import(file: Path, name: str, preprocessing: str | None, root: Path | None, *, checked: bool = False) -> None:
    """Creates a model from a file; `checked` means that the file is known to contain the weights of that name."""
    from gramophone_server.models.graph import Parameters

    from .catalog import CATALOG, PREPROCESSING
    from .convert import ParityError, convert
    from .origin import has_published_weights
    from .weights import WeightsError, read_weights

    known = CATALOG.get(name)
    wanted = PREPROCESSING[preprocessing] if preprocessing else known.preprocessing if known else None
    if wanted is None:
        raise click.ClickException(
            f"the preprocessing of the network {name} is not known: add --preprocessing torchvision (RGB, 0 to 1, "
            "ImageNet's mean and deviation) or --preprocessing caffe (BGR, 0 to 255, mean subtracted)"
        )
    try:
        weights = read_weights(file)
        kernel, _ = weights["conv1_1"]
        if not checked:
            _check_origin(file, kernel, wanted, name)
        if known is not None and not checked and not has_published_weights(name, kernel):
            click.echo(f"note: these are not the published weights of {name}; the manifest records this", err=True)
            known = None
        model = convert(
            ModelStore(root).root,
            Parameters.of_vgg(weights),
            name=name,
            preprocessing=wanted,
            description=known.description if known else "VGG-19 with weights imported from a file.",
            source=known.source if known else f"imported from {file.name}",
            license=known.license if known else "not known",
        )
    except (WeightsError, ParityError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    _report(model)


def _pull(name: str, url: str | None, root: Path | None) -> None:
    from .catalog import CATALOG
    from .download import DownloadError, download, hash_prefix

    known = CATALOG.get(name)
    if known is None or known.torchvision is None:
        raise click.ClickException(
            f"no download address is known for {name}; if you have its weights, "
            f"use `gramophone models import FILE --name {name}`"
        )
    from torchvision.models import get_weight

    weights = get_weight(known.torchvision)
    official: str = weights.url
    url = url or official
    store = ModelStore(root)
    file = store.root / ".downloads" / Path(official).name
    if not file.exists():
        click.echo(f"downloading {url}", err=True)
        try:
            with click.progressbar(length=0, label=name) as bar:

                def progress(have: int, total: int) -> None:
                    bar.length = total or have
                    bar.update(have - bar.pos)

                # A mirror must serve the same file: torchvision's file name contains the checksum.
                download(url, file, sha256=hash_prefix(official), progress=progress, most=_max_bytes(weights.meta))
        except DownloadError as error:
            raise click.ClickException(str(error)) from error
    _import(file, name, None, root, checked=True)
    file.unlink()


def _verify_origin(model: Model) -> None:
    """Raises ValueError if a model has the weights of a published network but another preprocessing."""
    from gramophone_server.models.graph import load_parameters

    from .origin import mismatch

    manifest = model.manifest
    kernel, _ = load_parameters(model.path).weights[manifest.layers[0].name]
    if reason := mismatch(kernel, manifest.preprocessing, manifest.name):
        raise ValueError(f"its weights {reason}, and import it again")


def _check_origin(file: Path, kernel: np.ndarray, wanted: Preprocessing, name: str) -> None:
    """Checks that the weights match the preprocessing and the name, given their kernel of conv1_1.

    If the name is not in the catalog, a likely mismatch only prints a note.

    Raises:
        WeightsError: the weights need another preprocessing or another name.
    """
    from .catalog import CATALOG
    from .origin import likely_mismatch, mismatch
    from .weights import WeightsError

    if reason := mismatch(kernel, wanted, name):
        raise WeightsError(f"{file}: the weights {reason}")
    if reason := likely_mismatch(kernel, wanted, name):
        if name in CATALOG:
            raise WeightsError(f"{file}: the weights {reason}")
        click.echo(f"note: the weights {reason}", err=True)


def _max_bytes(meta: Mapping[str, Any]) -> int:
    """Returns the maximum size in bytes of a file, from the size in MiB that torchvision states."""
    return int(1.1 * 2**20 * meta["_file_size"])


def _report(model: Model) -> None:
    manifest = model.manifest
    worst = max(manifest.parity.values())
    size = model.path.stat().st_size / 1e6
    click.echo(f"{manifest.name}: {size:.0f} MB at {model.path}; ONNX Runtime agrees with torch to {worst:.0e}")
