"""Published weights are recognized in any file, and refused for the wrong model or preprocessing."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from gramophone.cli import main
from gramophone_export.catalog import CAFFE, TORCHVISION
from gramophone_export.origin import (
    _CAFFE_CHANNELS,
    _CAFFE_NORM,
    _CAFFE_SPECTRUM,
    _TORCHVISION_RED,
    likely_mismatch,
    mismatch,
)

DEVIATION = np.array(TORCHVISION.std).reshape(1, 3, 1, 1)


@cache
def caffe() -> np.ndarray:
    """A random first kernel with the singular values and the channel norms of the Caffe model's kernel."""
    generator = np.random.default_rng(1)
    values = np.zeros(27)
    values[:6] = _CAFFE_SPECTRUM
    values[6:] = np.sqrt((1 - np.square(values).sum()) / 21)
    left, _ = np.linalg.qr(generator.normal(size=(64, 27)))
    # Rotating pairs of columns changes the norms of channels, but no singular value.
    matrix = left * values
    wanted = np.square(_CAFFE_CHANNELS)
    for _ in range(400):
        norms = np.square(matrix).reshape(64, 3, 9).sum((0, 2))
        low, high = np.argmin(norms - wanted), np.argmax(norms - wanted)
        i, j = 9 * low + generator.integers(9), 9 * high + generator.integers(9)
        best, least = 0.0, np.inf
        for angle in np.linspace(0, np.pi / 2, 91):
            turned = np.cos(angle) * matrix[:, i] + np.sin(angle) * matrix[:, j]
            other = np.cos(angle) * matrix[:, j] - np.sin(angle) * matrix[:, i]
            gained = turned @ turned - matrix[:, i] @ matrix[:, i]
            lost = matrix[:, j] @ matrix[:, j] - other @ other
            off = abs(norms[low] + gained - wanted[low]) + abs(norms[high] - lost - wanted[high])
            if off < least:
                best, least = angle, off
        turned = np.cos(best) * matrix[:, i] + np.sin(best) * matrix[:, j]
        matrix[:, j] = np.cos(best) * matrix[:, j] - np.sin(best) * matrix[:, i]
        matrix[:, i] = turned
    return (_CAFFE_NORM * matrix).reshape(64, 3, 3, 3).astype(np.float32)


@cache
def torchvisions() -> np.ndarray:
    """A random first kernel with the scale of torchvision's kernel and the known part of its first filter."""
    kernel = np.random.default_rng(2).normal(0, 0.25, (64, 3, 3, 3)).astype(np.float32)
    kernel[0, 0] = np.reshape(_TORCHVISION_RED, (3, 3))
    return kernel


def rounded(kernel: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    return torch.from_numpy(kernel).to(dtype).float().numpy()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_published_weights_are_recognized(dtype):
    ours, theirs = rounded(caffe(), dtype), rounded(torchvisions(), dtype)
    assert mismatch(ours, CAFFE, "vgg19-caffe") is None
    assert mismatch(ours, CAFFE, "mine") is None
    assert mismatch(theirs, TORCHVISION, "vgg19") is None
    assert mismatch(theirs, TORCHVISION, "mine") is None
    assert "use --name vgg19-caffe" in str(mismatch(ours, TORCHVISION, "vgg19"))
    assert "use --name vgg19-caffe" in str(mismatch(ours, CAFFE, "vgg19"))
    assert "use --name vgg19, " in str(mismatch(theirs, CAFFE, "vgg19-caffe"))
    assert str(mismatch(ours, TORCHVISION, "mine")).endswith("; use --preprocessing caffe")
    assert str(mismatch(theirs, CAFFE, "mine")).endswith("; use --preprocessing torchvision")


@pytest.mark.parametrize(("kernel", "own"), [(caffe, CAFFE), (torchvisions, TORCHVISION)])
def test_channels_in_the_wrong_order_are_noticed(kernel, own):
    name = "vgg19-caffe" if own is CAFFE else "vgg19"
    for preprocessing in (CAFFE, TORCHVISION):
        reason = mismatch(kernel()[:, ::-1], preprocessing, name)
        assert f"in the order {'RGB' if own is CAFFE else 'BGR'}" in str(reason)
        assert "weight.flip(1)" in str(reason)


def test_weights_converted_to_other_preprocessing_are_not_the_published_ones():
    converted = caffe()[:, ::-1] * 255 * DEVIATION
    assert "--preprocessing torchvision" in str(mismatch(converted, TORCHVISION, "vgg19"))
    assert "--preprocessing torchvision" in str(mismatch(converted, CAFFE, "vgg19-caffe"))
    assert mismatch(converted, TORCHVISION, "mine") is None
    assert "255 times" in str(mismatch(255 * caffe(), CAFFE, "vgg19-caffe"))


def test_unknown_weights_are_judged_only_by_their_scale():
    kernel = np.random.default_rng(3).normal(0, 1, (64, 3, 3, 3)).astype(np.float32)
    for scale in (0.03, 0.06, 0.25, 1.0):  # From the scale of an untrained network to large weights.
        assert (
            mismatch(scale * kernel, TORCHVISION, "vgg19")
            is likely_mismatch(scale * kernel, TORCHVISION, "vgg19")
            is None
        )
        assert mismatch(scale * kernel, CAFFE, "mine") is likely_mismatch(scale * kernel, CAFFE, "mine") is None
    assert "vgg19-caffe" in str(likely_mismatch(0.25 / 57 * kernel, TORCHVISION, "vgg19"))
    assert "use --name vgg19, " in str(likely_mismatch(15 * kernel, CAFFE, "vgg19-caffe"))
    assert (
        likely_mismatch(0.25 / 57 * kernel, CAFFE, "mine") is likely_mismatch(15 * kernel, TORCHVISION, "mine") is None
    )


def gramophone(*arguments: object) -> Result:
    """Runs a command in this process, because loading torch again would take longer than the command."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def write(path: Path, kernel: np.ndarray) -> Path:
    """Saves an untrained VGG-19 with this first kernel."""
    from torchvision.models import vgg19

    torch.manual_seed(0)
    features = vgg19(weights=None).features.state_dict()
    torch.save(features | {"0.weight": torch.from_numpy(kernel.copy())}, path)
    return path


def test_the_command_line_refuses_wrong_weights_and_says_what_to_write(tmp_path):
    file, models = write(tmp_path / "vgg19-d01eb7cb.pth", caffe()), tmp_path / "models"
    for command in (("models", "import", file, "--name", "vgg19"), ("export", "--model", "vgg19", "--from", file)):
        refused = gramophone(*command, "--models", models)
        assert refused.exit_code == 1
        assert refused.stderr.count("\n") == 1
        assert f"{file}: the weights are those of the paper's VGG-19" in refused.stderr
        assert "use --name vgg19-caffe" in refused.stderr
    assert not models.exists()
    assert gramophone("models", "import", file, "--name", "vgg19-caffe", "--models", models).exit_code == 0
    # An earlier version could convert the weights with the wrong preprocessing.
    manifest = models / "vgg19-caffe" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"BGR"', '"RGB"').replace("255.0", "1.0"))
    verified = gramophone("models", "verify", "vgg19-caffe", "--models", models)
    assert verified.exit_code == 1
    assert "its weights are those of the paper's VGG-19" in verified.stderr


def test_unknown_weights_are_accepted_with_a_note(tmp_path):
    kernel = np.random.default_rng(3).normal(0, 0.004, (64, 3, 3, 3)).astype(np.float32)
    file, models = write(tmp_path / "own.pth", kernel), tmp_path / "models"
    refused = gramophone("models", "import", file, "--name", "vgg19", "--models", models)
    assert refused.exit_code == 1 and "look like Caffe's" in refused.stderr
    taken = gramophone("models", "import", file, "--name", "own", "--preprocessing", "torchvision", "--models", models)
    assert taken.exit_code == 0 and "note: the weights look like Caffe's" in taken.stderr
    named = gramophone("models", "import", file, "--name", "vgg19-caffe", "--models", models)
    assert named.exit_code == 0 and "not the published weights of vgg19-caffe" in named.stderr
    manifest = (models / "vgg19-caffe" / "manifest.json").read_text()
    assert "imported from own.pth" in manifest and "Visual Geometry Group" not in manifest


def test_the_weights_of_the_paper(assets, tmp_path):
    """The published weights, and the same weights as users import them by mistake."""
    from gramophone_export.importing.state_dict import read_weights

    kernel, _ = read_weights(assets / "weights/vgg19-caffe-conv.pth")["conv1_1"]
    assert mismatch(kernel, CAFFE, "vgg19-caffe") is None
    assert "use --name vgg19-caffe" in str(mismatch(kernel, TORCHVISION, "vgg19"))
    assert "in the order RGB" in str(mismatch(kernel[:, ::-1], CAFFE, "vgg19-caffe"))
    assert mismatch(kernel[:, ::-1] * 255 * DEVIATION, TORCHVISION, "mine") is None
