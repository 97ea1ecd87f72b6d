"""Networks other than VGG-19, from the import of a file to jobs on a real server."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

import gramophone
from gramophone import Style
from gramophone.cli import main
from gramophone.requests import estimate_request
from gramophone_export.importing.families import FAMILIES, Family
from gramophone_export.random_weights import normalized_weights
from gramophone_server.models.store import ModelStore
from tests.export.importing.graphs import FiveLayers, Residual, export
from tests.harness import ServerProcess, encode, peak_memory, png

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PICTURE = png(131, 97)
MASK = encode(Image.fromarray(np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))))

# Relative difference of losses with and without tiles: a Winograd convolution rounds by 1e-5 of the largest value, and
# the rounding of each position depends on where the tile begins.
ROUNDING = 3e-4


@dataclass(frozen=True)
class Case:
    """A network for an import.

    Attributes:
        write: writes its file into a folder, and returns the path and a function of preprocessed pictures (N, 3, H, W)
            that computes features by torch alone, by layer.
    """

    name: str
    write: Callable[[Path], tuple[Path, Callable[[torch.Tensor], dict[str, torch.Tensor]]]]


def family(name: str) -> Family:
    return next(family for family in FAMILIES if family.name == name)


def shapes(name: str) -> list[int]:
    """Returns the real numbers of channels of a network."""
    return {
        "VGG-16": [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6,
        "NIN": [96] * 3 + [256] * 3 + [384] * 3 + [1024, 1024, 1000],
        "AlexNet": [64, 192, 384, 256, 256],
    }[name]


def sequence(name: str) -> torch.nn.Sequential:
    """Returns the modules of a network in the order of its published state dict, without the classifier."""
    import torchvision.models

    if name != "NIN":
        features = getattr(torchvision.models, name.replace("-", "").lower())(weights=None).features
        assert isinstance(features, torch.nn.Sequential)
        return features
    modules: list[torch.nn.Module] = []
    before = 3
    for number, width in enumerate(shapes(name)):
        side, stride, pad = {0: (11, 4, 0), 3: (5, 1, 2), 6: (3, 1, 1), 9: (3, 1, 1)}.get(number, (1, 1, 0))
        modules += [torch.nn.Conv2d(before, width, side, stride, pad), torch.nn.ReLU()]
        if number in (2, 5, 8):
            modules.append(torch.nn.MaxPool2d(3, 2, ceil_mode=True))
        if number == 8:
            modules.append(torch.nn.Dropout())
        before = width
    return torch.nn.Sequential(*modules).eval()


def published(name: str) -> Case:
    """Returns a network with random, normalized weights of its real shape, in the layout of its published file."""

    def write(folder: Path) -> tuple[Path, Callable[[torch.Tensor], dict[str, torch.Tensor]]]:
        known, modules = family(name), sequence(name)
        state = modules.state_dict()
        dummies = {
            layer: (state[f"{place}.weight"].numpy(), state[f"{place}.bias"].numpy())
            for layer, place in known.places.items()
        }
        weights = normalized_weights(known.build(dummies), 1)
        for layer, place in known.places.items():
            for part, values in zip(("weight", "bias"), weights[layer], strict=True):
                state[f"{place}.{part}"] = torch.from_numpy(values)
        modules.load_state_dict(state)
        torch.save({f"features.{key}": value for key, value in state.items()}, folder / "net.pth")
        layers = {place + 1: layer for layer, place in known.places.items()}

        def compute(x: torch.Tensor) -> dict[str, torch.Tensor]:
            found = {}
            for index, module in enumerate(modules):
                x = module(x)
                if index in layers:
                    found[layers[index]] = x.clone()
            return found

        return folder / "net.pth", compute

    return Case(name.replace("-", "").lower(), write)


def users(name: str, network: Callable[[], torch.nn.Module], outputs: str) -> Case:
    """Returns a network of a user's ONNX file, with normalized weights."""

    def write(folder: Path) -> tuple[Path, Callable[[torch.Tensor], dict[str, torch.Tensor]]]:
        made = network().eval()
        path = export(made, folder / "net.onnx", outputs.split())

        def compute(x: torch.Tensor) -> dict[str, torch.Tensor]:
            found = made(x)
            return dict(zip(outputs.split(), found if isinstance(found, tuple) else (found,), strict=True))

        return path, compute

    return Case(name, write)


CASES = [
    *(pytest.param(published(name), marks=pytest.mark.slow) for name in ("VGG-16", "NIN", "AlexNet")),
    users("five", FiveLayers, "a b c d e"),
    pytest.param(users("residual", Residual, "last"), marks=pytest.mark.slow),
]


def gramophone_command(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@dataclass(frozen=True)
class Served:
    """A server with an imported model, and the network by torch alone."""

    name: str
    server: ServerProcess
    client: gramophone.Client
    store: ModelStore
    compute: Callable[[torch.Tensor], dict[str, torch.Tensor]]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    case: Case = request.param
    folder = tmp_path_factory.mktemp(case.name)
    path, compute = case.write(folder)
    store = ModelStore(folder / "models")
    options = ("--name", case.name, "--models", store.root, "--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225")
    made = gramophone_command("models", "import", path, *options)
    assert made.exit_code == 0, made.output
    arguments = ("--models", str(store.root), "--data", str(folder / "data"), "--threads", "1")
    with ServerProcess(*arguments, "--default-model", case.name) as server:
        with gramophone.Client(server.address) as client:
            yield Served(case.name, server, client, store, compute)


def job(served: Served, kind: str = "style", **options: Any) -> gramophone.Result:
    """Runs a small job in float32."""
    settings: dict[str, Any] = {"size": 112, "iterations": 4, "precision": "float32", "seed": 3} | options
    if kind == "transfer":
        styles = settings.pop("styles", png(112, 112, 5))
        return served.client.transfer(PICTURE, styles, **settings).result()
    result: gramophone.Result = getattr(served.client, kind)(PICTURE, **settings).result()
    return result


def test_the_import_is_verified(served):
    verified = gramophone_command("models", "verify", served.name, "--models", served.store.root)
    assert verified.exit_code == 0 and f"{served.name}: good" in verified.output
    shown = gramophone_command("models", "show", served.name, "--models", served.store.root)
    manifest = served.store.get(served.name).manifest
    assert all(layer.name in shown.output for layer in manifest.layers)
    assert max(manifest.parity.values()) < 1e-4
    listed = {model.name: model for model in served.client.models()}[served.name]
    assert list(listed.layers) == [layer.name for layer in manifest.layers]


@pytest.mark.parametrize("size", [(97, 131), (151, 113)])
def test_extracted_features_are_those_of_torch(served, size):
    height, width = size
    picture = png(width, height, 4)
    rgb = torch.from_numpy(np.array(Image.open(io.BytesIO(picture)))).permute(2, 0, 1)[None].float() / 255
    x = (rgb - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    with torch.no_grad():
        expected = {name: features[0].numpy() for name, features in served.compute(x).items()}
    known = [layer.name for layer in served.store.get(served.name).manifest.layers]
    # The last layer of the residual network has the name of the output.
    assert set(expected) <= set(known)
    found = served.client.features(picture, layers=list(expected), kind="map")
    for layer, features in expected.items():
        assert found[layer].shape == features.shape, layer
        assert np.linalg.norm(found[layer] - features) <= 1e-4 * np.linalg.norm(features), layer


@pytest.mark.parametrize("kind", ["style", "content", "transfer"])
def test_jobs_lower_the_loss(served, kind):
    first, last = (job(served, kind, iterations=iterations) for iterations in (1, 8))
    assert last.loss < first.loss
    assert last.image.size[0] == 112


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adam", "pooling": "average"},
        {"optimizer": "lbfgs", "iterations": 1},
        {"pooling": "average"},
        {"pooling": "average", "padding": "replicate"},
        {"pooling": "average", "wrap": "both"},
        {"tv_weight": 1e-4, "style_loss": "mean_covariance", "iterations": 1},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_tiles_give_the_loss_of_the_whole_picture(served, options):
    """Where a job has more than one update, pooling averages: rounding changes which value is a window's maximum."""
    options = {"size": 160, "iterations": 2, "init": "noise"} | options
    whole, tiled = (job(served, "transfer", tile_size=side, **options) for side in (4096, 64))
    assert tiled.loss == pytest.approx(whole.loss, rel=ROUNDING)


def test_masks_select_regions(served):
    style = Style(png(112, 112, 5), mask=MASK)
    options: dict[str, Any] = {"pooling": "average", "init": "noise", "iterations": 2}
    masked, tiled = (
        job(served, "transfer", styles=[style, Style(png(112, 112, 6))], tile_size=side, **options)
        for side in (4096, 64)
    )
    assert tiled.loss == pytest.approx(masked.loss, rel=ROUNDING)
    assert masked.loss != job(served, "transfer", styles=[png(112, 112, 5), png(112, 112, 6)], **options).loss


def test_errors_name_the_layer_and_what_it_needs(served):
    manifest = served.store.get(served.name).manifest
    with pytest.raises(gramophone.InvalidRequestError, match=f"the model {served.name} has the layers"):
        job(served, layers=["conv9_9"])
    deepest = max(manifest.layers, key=lambda layer: layer.min_side)
    if deepest.min_side > 16:
        with pytest.raises(gramophone.InvalidRequestError, match=f"needs {deepest.min_side} pixels a side"):
            job(served, layers=[deepest.name], size=16)


@pytest.mark.parametrize("options", [{}, {"tile_size": 192}, {"optimizer": "adam"}], ids=["whole", "tiles", "adam"])
def test_the_estimate_of_memory_is_within_15_percent(served, options):
    request = estimate_request(
        "style",
        [png(448, 448, 7)],
        size=448,
        iterations=4,
        report_every=2,
        precision="float32",
        model=served.name,
        **options,
    )
    with ServerProcess("--models", str(served.store.root), "--threads", "1", "--default-model", served.name) as server:
        predicted = server.style.EstimateJob(request)
        peak = peak_memory(server, request)
    print(served.name, options, predicted.peak_memory_bytes / 1e6, peak / 1e6, predicted.peak_memory_bytes / peak - 1)
    assert predicted.peak_memory_bytes == pytest.approx(peak, rel=0.15)
    assert predicted.duration.ToTimedelta().total_seconds() > 0
