import os
from pathlib import Path

import numpy as np
import pytest
import torch

from gramophone_export.weights import WeightsError, read_weights
from gramophone_server.models.layers import VGG19_LAYERS


@pytest.fixture(scope="module")
def vgg19() -> torch.nn.Sequential:
    from torchvision.models import vgg19

    torch.manual_seed(0)
    return vgg19(weights=None).features


def by_name(features: torch.nn.Sequential, prefix: str = "") -> dict[str, torch.Tensor]:
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
    "float16": lambda f: {k: v.half().float() for k, v in by_name(f).items()},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(vgg19, tmp_path, layout):
    path = tmp_path / "weights.pth"
    torch.save(LAYOUTS[layout](vgg19), path)
    weights = read_weights(path)
    assert list(weights) == list(VGG19_LAYERS)
    np.testing.assert_allclose(weights["conv1_1"][0], vgg19[0].weight.detach().numpy(), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(weights["conv5_4"][1], vgg19[34].bias.detach().numpy(), rtol=1e-3, atol=1e-6)


class Code:
    def __reduce__(self):
        return (print, ("code ran",))


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
        (lambda state: state | {"x": Code()}, "not a file of PyTorch weights"),
    ],
    ids=["missing", "shape", "NaN", "another network", "a list", "code"],
)
def test_what_is_refused(vgg19, tmp_path, capsys, make, reason):
    path = tmp_path / "weights.pth"
    torch.save(make(by_name(vgg19)), path)
    with pytest.raises(WeightsError, match=reason):
        read_weights(path)
    assert "code ran" not in capsys.readouterr().out


def test_no_file_and_no_weights(tmp_path):
    with pytest.raises(WeightsError, match="there is no file"):
        read_weights(tmp_path / "nothing.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(WeightsError, match="not a file of PyTorch weights"):
        read_weights(tmp_path / "text.pth")


def test_what_is_no_file(tmp_path):
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
