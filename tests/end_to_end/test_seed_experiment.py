"""The seed's experiment with the paper's network; this module computes the paper's loss without the project's code."""

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import gramophone
from gramophone_server.models.layers import STYLE_LAYERS
from gramophone_server.models.vgg import VGG19_LAYERS
from tests.harness import ServerProcess
from tests.marks import slow

SIDE = 224


@pytest.fixture(scope="module")
def models(assets, tmp_path_factory) -> Path:
    """A folder with a model that the command line has imported from the real weights."""
    folder = tmp_path_factory.mktemp("models")
    command = [sys.executable, "-m", "gramophone", "models", "import", str(assets / "weights/vgg19-caffe-conv.pth")]
    subprocess.run([*command, "--name", "vgg19-caffe", "--models", str(folder)], check=True)
    return folder


@pytest.fixture(scope="module")
def client(models) -> Iterator[gramophone.Client]:
    with ServerProcess("--models", str(models)) as server, gramophone.Client(server.address) as connected:
        yield connected


@pytest.fixture(scope="module")
def network(assets) -> torch.nn.Sequential:
    from torchvision.models import vgg19

    features = vgg19(weights=None).features.eval()
    state = torch.load(assets / "weights/vgg19-caffe-conv.pth", weights_only=True)
    features.load_state_dict({key.removeprefix("features."): value for key, value in state.items()})
    return features


def activations(network: torch.nn.Sequential, image: Image.Image, count: int) -> list[np.ndarray]:
    """Returns the float64 activations (C, M) of the first `count` style layers."""
    bgr = torch.from_numpy(np.asarray(image)[..., ::-1].copy()).permute(2, 0, 1).float()[None]
    x = bgr - torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1)
    wanted = [VGG19_LAYERS.index(layer) for layer in STYLE_LAYERS[:count]]
    found: list[np.ndarray] = []
    seen = -1
    with torch.no_grad():
        for module in network:
            x = module(x)
            if isinstance(module, torch.nn.ReLU):
                seen += 1
                if seen in wanted:
                    found.append(x[0].flatten(1).double().numpy().copy())
                if len(found) == count:
                    break
    return found


def papers_loss(network: torch.nn.Sequential, image: Image.Image, target: Image.Image, count: int) -> float:
    """Returns the paper's style loss, equations 3 to 5 with w_l = 1 / L."""
    total = 0.0
    for f, p in zip(activations(network, image, count), activations(network, target, count), strict=True):
        channels, positions = f.shape
        total += ((f @ f.T - p @ p.T) ** 2).sum() / (4 * channels**2 * positions**2)
    return total / count


@pytest.mark.parametrize(("layers", "bar"), [(1, 150), slow(2, 6e5), slow(3, 2.2e6), slow(4, 1.2e8), slow(5, 1.0e8)])
def test_the_loss_after_100_iterations_of_adam_is_below_the_bar(client, network, assets, layers, bar):
    path = assets / "data/images/starry_night.jpg"
    job = client.style(path, layers=layers, model="vgg19-caffe", size=SIDE, iterations=100, optimizer="adam", seed=0)
    result = job.result()
    target = Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    loss = papers_loss(network, result.image, target, layers)
    assert loss <= bar
    # The service reports nearly the same loss.
    assert result.loss == pytest.approx(loss, rel=0.02)


@pytest.mark.parametrize(("name", "bar"), [slow("starry_night", 1.0e9), slow("coastal_scene", 3e8)])
def test_the_shipped_models_picture_has_a_low_loss_in_the_papers_network(client, network, assets, name, bar):
    """As in `make demo`, no model is named: the server uses the shipped one."""
    path = assets / f"data/images/{name}.jpg"
    result = client.style(path, size=SIDE, iterations=250, seed=0).result()
    assert result.model == "vgg19-slim"
    target = Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    loss = papers_loss(network, result.image, target, 5)
    assert loss <= bar


def test_content_of_a_shallow_layer_reconstructs_the_picture(client, assets):
    path = assets / "data/images/coastal_scene.jpg"
    result = client.content(path, layer="conv1_2", model="vgg19-caffe", size=96, iterations=150).result()
    original = Image.open(path).convert("RGB").resize(result.image.size, Image.Resampling.BILINEAR)
    error = np.asarray(result.image, float) - np.asarray(original, float)
    assert 10 * np.log10(255**2 / (error**2).mean()) >= 30


def test_the_command_line_repeats_a_picture_for_the_same_seed_only(assets, models, tmp_path):
    def paint(name: str, seed: int) -> bytes:
        command = [sys.executable, "-m", "gramophone", "style", str(assets / "data/images/starry_night.jpg")]
        command += ["--model", "vgg19-caffe", "--size", "64", "--layers", "2", "--iterations", "10"]
        command += ["--optimizer", "adam", "--seed", str(seed), "-o", str(tmp_path / name)]
        environment = {"GRAMOPHONE_MODELS": str(models), "PATH": ""}
        subprocess.run(command, check=True, env=environment)
        return (tmp_path / name).read_bytes()

    first = paint("a.png", 0)
    assert paint("b.png", 0) == first
    assert paint("c.png", 1) != first
    assert Image.open(io.BytesIO(first)).size == (64, 64)
