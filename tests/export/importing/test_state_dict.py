"""Weight files in all common layouts, and files that are refused."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from gramophone_export.importing.state_dict import read_weights
from gramophone_export.weights import WeightsError
from gramophone_server.models.vgg import VGG19_LAYERS


@pytest.fixture(scope="module")
def vgg19() -> torch.nn.Sequential:
    from torchvision.models import vgg19

    torch.manual_seed(0)
    return vgg19(weights=None).features


def by_name(features: torch.nn.Sequential, prefix: str = "") -> dict[str, torch.Tensor]:
    """The state of the convolutions with names such as "conv1_1.weight"."""
    convolutions = [module for module in features if isinstance(module, torch.nn.Conv2d)]
    return {
        f"{prefix}{name}.{part}": value
        for name, module in zip(VGG19_LAYERS, convolutions, strict=True)
        for part, value in module.state_dict().items()
    }


LAYOUTS = {
    "torchvision": lambda f: {f"features.{k}": v for k, v in f.state_dict().items()},
    "torchvision with a classifier": lambda f: (
        {f"features.{k}": v for k, v in f.state_dict().items()} | {"classifier.0.weight": torch.zeros(2, 2)}
    ),
    "features alone": lambda f: f.state_dict(),
    "Gatys": by_name,
    "named features": lambda f: by_name(f, "features."),
    "in a checkpoint": lambda f: {"state_dict": by_name(f), "epoch": 3},
    "float16": lambda f: {k: v.half() for k, v in by_name(f).items()},
    "bfloat16": lambda f: {k: v.bfloat16() for k, v in by_name(f).items()},
    "float64": lambda f: {k: v.double() for k, v in by_name(f).items()},
    "parameters": lambda f: dict(f.named_parameters()),
    "DataParallel": lambda f: {f"module.features.{k}": v for k, v in f.state_dict().items()},
    "compiled": lambda f: {f"_orig_mod.module.features.{k}": v for k, v in f.state_dict().items()},
    "a part of a model": lambda f: (
        {f"loss.vgg.{k}": v for k, v in f.state_dict().items()} | {"a.0.weight": torch.ones(2)}
    ),
    "an odd prefix": lambda f: {f"{{x}}.{k}": v for k, v in f.state_dict().items()},
    "model": lambda f: {"model": by_name(f), "optimizer": {"state": {0: {"step": 1}}, "param_groups": [{"lr": 1.0}]}},
    "net": lambda f: {"epoch": 1, "net": {"module": f.state_dict()}},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_layouts_are_read(vgg19, tmp_path, layout):
    path = tmp_path / "weights.pth"
    torch.save(LAYOUTS[layout](vgg19), path)
    weights = read_weights(path)
    assert list(weights) == list(VGG19_LAYERS)
    assert_same(weights, vgg19)


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_safetensors_files_are_read(vgg19, tmp_path, name):
    from safetensors.torch import save_file

    save_file({f"features.{k}": v.bfloat16() for k, v in vgg19.state_dict().items()}, tmp_path / name)
    assert_same(read_weights(tmp_path / name), vgg19)


def assert_same(weights: dict[str, tuple[np.ndarray, np.ndarray]], vgg19: torch.nn.Sequential) -> None:
    """Compares the first kernel and the last bias, with the precision of bfloat16."""
    assert {part.dtype for layer in weights.values() for part in layer} == {np.dtype(np.float32)}
    np.testing.assert_allclose(weights["conv1_1"][0], vgg19[0].weight.detach().numpy(), rtol=1e-2, atol=1e-6)
    np.testing.assert_allclose(weights["conv5_4"][1], vgg19[34].bias.detach().numpy(), rtol=1e-2, atol=1e-6)


def other(name: str) -> dict[str, torch.Tensor]:
    """The state dict of another network of torchvision: zeros, or meta tensors if large."""
    import torchvision.models

    with torch.device("meta"):
        network = getattr(torchvision.models, name)(weights=None)
    return {
        key: torch.zeros(value.shape) if value.numel() < 4e6 else value for key, value in network.state_dict().items()
    }


def without(state: dict, key: str) -> dict:
    return {k: v for k, v in state.items() if k != key}


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda state: without(state, "conv3_2.bias"), "lacks conv3_2.bias"),
        (lambda state: state | {"conv3_2.weight": torch.zeros(8, 8, 3, 3)}, r"shape \(8, 8, 3, 3\)"),
        (lambda state: state | {"conv1_2.bias": torch.full((64,), torch.nan)}, "not finite"),
        (lambda state: {"layer1.weight": torch.zeros(1)}, "no layer conv1_1 .* begin with layer1.weight"),
        (lambda state: [1, 2], "holds a list"),
        (lambda state: without(state, "conv1_1.bias"), "lacks conv1_1.bias, which is conv1_1"),
        (
            lambda state: {k: v for k, v in state.items() if "5_" not in k},
            r"lacks conv5_1.weight, .* and more.*conv5_4 of",
        ),
        (lambda state: state | {"conv3_2.bias": torch.zeros(8)}, r"conv3_2.bias has the shape \(8,\)"),
        (lambda state: {k: v.to(torch.int8) for k, v in state.items()}, "conv1_1.weight is int8; floating"),
        (lambda state: state | {"conv2_1.weight": torch.zeros(128, 64, 3, 3, device="meta")}, "no values"),
        (lambda state: state | {"conv2_1.weight": [1.0]}, "conv2_1.weight is a list, not a tensor"),
        (lambda state: torch.zeros(3), "holds a Tensor"),
        (lambda state: {}, "begin with nothing"),
        (lambda state: other("vgg16"), "holds VGG-16, with 13 convolutions"),
        (lambda state: {f"module.{k}": v for k, v in other("vgg13").items()}, "holds VGG-13"),
        (lambda state: other("vgg19_bn"), "holds VGG-19 with batch normalization, with 16"),
        (lambda state: other("resnet18"), "another network's; its keys begin with conv1.weight"),
        (lambda state: {"0.weight": torch.zeros(3, 3, 1, 1), "2.weight": torch.zeros(64, 3, 3, 3)}, "AdaIN"),
    ],
    ids=[
        "missing",
        "shape",
        "NaN",
        "another network",
        "a list",
        "no bias",
        "cut short",
        "shape of a bias",
        "integers",
        "meta",
        "no tensor",
        "a tensor",
        "empty",
        "VGG-16",
        "VGG-13",
        "batch normalization",
        "ResNet",
        "normalized",
    ],
)
def test_invalid_weights_are_refused(vgg19, tmp_path, make, reason):
    path = tmp_path / "weights.pth"
    torch.save(make(by_name(vgg19)), path)
    with pytest.raises(WeightsError, match=reason):
        read_weights(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="there is no file"):
        read_weights(tmp_path / "nothing.pth")


def test_special_files_and_huge_files_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(WeightsError, match="cannot be read: it is a pipe"):
        read_weights(tmp_path / "pipe.pth")
    with pytest.raises(WeightsError, match="cannot be read: it is a device"):
        read_weights(Path("/dev/zero"))
    with pytest.raises(WeightsError, match="cannot be read: it is a folder"):
        read_weights(tmp_path)
    with (tmp_path / "huge.pth").open("wb") as file:
        file.truncate(10 << 30)
    with pytest.raises(WeightsError, match="it has more than 4,294,967,296 bytes"):
        read_weights(tmp_path / "huge.pth")
