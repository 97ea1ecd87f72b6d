"""The commands `gramophone export` and `gramophone models`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gramophone_server.models.store import ModelStore, UnknownModelError

if TYPE_CHECKING:
    from gramophone_server.models.model import Model


def _numbers(context: click.Context, option: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """Parses three numbers with commas between them; those of --std are greater than 0."""
    if value is None:
        return None
    try:
        numbers = tuple(float(part) for part in value.split(","))
    except ValueError:
        numbers = ()
    low = 1e-6 if option.name == "std" else -1e6
    if len(numbers) != 3 or not all(low <= number <= 1e6 for number in numbers):
        what = "three numbers greater than 0" if low > 0 else "three numbers"
        raise click.BadParameter(f"{value!r} is not {what} with commas between them, such as 0.5,0.5,0.5")
    return numbers


def _names(context: click.Context, option: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Parses names with commas between them."""
    return tuple(filter(None, map(str.strip, (value or "").split(","))))


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
    help="Preprocessing of the network: RGB of 0 to 1 with ImageNet's statistics, or BGR of 0 to 255 minus the mean.",
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
        _import(weights, root, name=name, preprocessing=preprocessing)


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


@models.command("show")
@click.argument("name")
@_folder
def show_model(name: str, root: Path | None) -> None:
    """Show the layers of the model NAME and its defaults."""
    try:
        manifest = ModelStore(root).get(name).manifest
    except UnknownModelError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{manifest.name}: {manifest.description}")
    click.echo(f"source: {manifest.source}; license: {manifest.license}")
    given = manifest.preprocessing
    mean, std = (", ".join(f"{number:g}" for number in values) for values in (given.mean, given.std))
    click.echo(f"input: {given.order}, 0 to {given.range:g}, mean {mean}, standard deviation {std}")
    click.echo(f"pooling: {manifest.pooling}")
    click.echo(f"{'layer':24} channels  stride  smallest picture")
    for layer in manifest.layers:
        uses = [use for use in ("style", "content") if layer.name in getattr(manifest, f"{use}_layers")]
        text = f"{layer.name:24} {layer.channels:8} {layer.stride:7} {layer.min_side:17}  {', '.join(uses)}"
        click.echo(text.rstrip())


@models.command("import")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--name", required=True, help="vgg19, vgg19-caffe, or a name of your own.")
@_preprocessing
@click.option(
    "--mean",
    metavar="A,B,C",
    callback=_numbers,
    help="Mean of the channels, in the network's order and range.  [default: 0,0,0]",
)
@click.option(
    "--std", metavar="A,B,C", callback=_numbers, help="Standard deviation of the channels, likewise.  [default: 1,1,1]"
)
@click.option("--order", type=click.Choice(["RGB", "BGR"]), help="Order of the channels.  [default: RGB]")
@click.option("--range", type=click.Choice(["1", "255"]), help="Largest value of a pixel.  [default: 1]")
@click.option(
    "--layers", metavar="A,B,C", callback=_names, help="Layers to offer; the network ends at the last.  [default: all]"
)
@click.option(
    "--style-layers", metavar="A,B,C", callback=_names, help="Default style layers.  [default: the first of each size]"
)
@click.option(
    "--content-layers",
    metavar="A,B,C",
    callback=_names,
    help="Default content layers.  [default: one in the deeper half]",
)
@click.option(
    "--pooling",
    type=click.Choice(["max", "average", "average_rescaled"]),
    help="Default pooling.  [default: the network's own]",
)
@_folder
def import_model(file: Path, name: str, root: Path | None, **choices: Any) -> None:
    """Create a model from FILE.

    FILE is a PyTorch state dict or a safetensors file of VGG-11 to VGG-19 (with or without batch normalization), NIN or
    AlexNet, in the layout of torchvision, Gatys or neural-style-pt; or an ONNX file (.onnx) of any network of
    convolutions, ReLU, pooling, batch normalization and sums. What follows the last convolution is cut off.

    The preprocessing must be stated, except for vgg19 and vgg19-caffe.

    \b
    gramophone models import vgg_conv.pth --name vgg19-caffe
    gramophone models import nin_imagenet.pth --name nin --preprocessing caffe
    gramophone models import net.onnx --name mine --range 255 --mean 104,117,124 --order BGR
    """
    _import(file, root, name=name, **choices)


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


def _import(file: Path, root: Path | None, **choices: Any) -> None:
    """Creates a model from a file; `choices` are fields of `Choices`."""
    from .convert import ParityError
    from .importing.command import Choices, import_model, summary

    if choices.get("range") is not None:
        choices["range"] = float(choices["range"])
    made = Choices(**{key: value for key, value in choices.items() if value is not None})
    try:
        model = import_model(ModelStore(root).root, file, made, lambda text: click.echo(f"note: {text}", err=True))
    except (ParityError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(summary(model))


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
    _import(file, root, name=name, checked=True)
    file.unlink()


def _verify_origin(model: Model) -> None:
    """Raises ValueError if a model has the weights of a published network but another preprocessing."""
    from gramophone_server.models.loading import load_network

    from .importing.command import first_kernel
    from .origin import mismatch

    manifest = model.manifest
    if reason := mismatch(first_kernel(load_network(model)), manifest.preprocessing, manifest.name):
        raise ValueError(f"its weights {reason}, and import it again")


def _max_bytes(meta: Mapping[str, Any]) -> int:
    """Returns the maximum size in bytes of a file, from the size in MiB that torchvision states."""
    return int(1.1 * 2**20 * meta["_file_size"])
