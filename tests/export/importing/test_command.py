"""The import of a file from the command line: what users state, what is noted, and what a failure leaves behind."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner, Result

from gramophone.cli import main
from gramophone_export.convert import ParityError
from gramophone_export.importing import command

from .graphs import kernel, model, node


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A network of three layers, a to c, with a classifier after them."""
    nodes = [
        node("Conv", "x k1", "p", pads=[1] * 4), node("Relu", "p", "a"),
        node("Conv", "a k2", "q", pads=[1] * 4, strides=[2, 2]), node("Relu", "q", "b"),
        node("Conv", "b k2", "c"), node("GlobalAveragePool", "c", "g"), node("Softmax", "g", "s"),
    ]  # fmt: skip
    onnx.save(model(nodes, "a b c s", k1=kernel(8, 3, 3), k2=kernel(8, 8, 3)), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def run(file: Path, *options: object, name: str = "mine") -> Result:
    arguments = ["models", "import", file, "--name", name, "--models", file.parent / "models", *options]
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def manifest(file: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((file.parent / "models/mine/manifest.json").read_text())
    return values


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--preprocessing", "caffe"), ("BGR", 255, [103.939, 116.779, 123.68], [1, 1, 1])),
        (("--order", "BGR"), ("BGR", 1, [0, 0, 0], [1, 1, 1])),
        (("--mean", "1,-2,3", "--range", "255"), ("RGB", 255, [1, -2, 3], [1, 1, 1])),
        (("--preprocessing", "caffe", "--std", "58,57,57"), ("BGR", 255, [103.939, 116.779, 123.68], [58, 57, 57])),
    ],
)
def test_the_stated_preprocessing_is_in_the_manifest(file, options, expected):
    done = run(file, *options)
    assert done.exit_code == 0, done.output
    given = manifest(file)["preprocessing"]
    assert (given["order"], given["range"], given["mean"], given["std"]) == expected
    assert "note: the network ends at c: the node 'node of g' (GlobalAveragePool)" in done.stderr
    assert "layers: a, b, c" in done.stdout


def test_normalization_in_the_file_is_part_of_the_preprocessing(tmp_path):
    """With 0 to 255 and a mean of 10, the file's own (x - 5) / 2 makes a mean of 15 and a deviation of 2."""
    five, two = np.array(5, np.float32), np.array(2, np.float32)
    nodes = [node("Sub", "x five", "m"), node("Div", "m two", "n"), node("Conv", "n k", "a")]
    file = tmp_path / "net.onnx"
    onnx.save(model(nodes, "a", k=kernel(8, 3, 3), five=five, two=two), file)
    assert run(file, "--range", "255", "--mean", "10,10,10").exit_code == 0
    given = manifest(file)["preprocessing"]
    assert given["mean"] == [15, 15, 15] and given["std"] == [2, 2, 2]


def test_layers_and_defaults_can_be_chosen(file):
    done = run(
        file,
        "--order",
        "RGB",
        "--layers",
        "a,b",
        "--style-layers",
        "a",
        "--content-layers",
        "b",
        "--pooling",
        "average",
    )
    assert done.exit_code == 0, done.output
    values = manifest(file)
    assert [layer["name"] for layer in values["layers"]] == ["a", "b"]
    assert values["style_layers"] == ["a"] and values["content_layers"] == ["b"] and values["pooling"] == "average"
    shown = CliRunner().invoke(main, ["models", "show", "mine", "--models", str(file.parent / "models")]).stdout
    assert "input: RGB, 0 to 1, mean 0, 0, 0" in shown and "pooling: average" in shown
    lines = [line.split() for line in shown.splitlines()]
    assert ["a", "8", "1", "1", "style"] in lines and ["b", "8", "2", "1", "content"] in lines


def test_networks_other_than_vgg_have_relative_losses(file):
    assert run(file, "--order", "RGB").exit_code == 0
    assert manifest(file)["loss_scale"] == "relative" and "tv_weight" not in manifest(file)
    assert run(file, "--order", "RGB", "--layers", "b").exit_code == 0
    assert manifest(file)["tv_weight"] == 1e-5, "no layer has the full resolution"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ((), "preprocessing of the network mine is not known"),
        (("--mean", "1,2", "--order", "RGB"), "is not three numbers with commas"),
        (("--std", "1,0,1", "--order", "RGB"), "three numbers greater than 0"),
        (("--std", "nan,1,1"), "three numbers greater than 0"),
        (("--layers", "z", "--order", "RGB"), "has no layer 'z'; its layers are a, b, c"),
        (("--style-layers", "z", "--order", "RGB"), "--style-layers names 'z', but the layers are a, b, c"),
        (("--name", "vgg19"), "holds a network, but vgg19 is VGG-19; use another --name"),
        (("--name", "vgg19-slim", "--order", "RGB"), "built-in model"),
        (("--name", "A/B", "--order", "RGB"), "cannot be a model's name"),
    ],
)
def test_what_cannot_be_done_is_said_and_leaves_nothing_behind(file, options, reason):
    done = run(file, *options)
    assert done.exit_code != 0
    assert reason in done.stderr and "Traceback" not in done.stderr
    folder = file.parent / "models"
    assert not folder.exists() or not list(folder.iterdir())


def test_a_network_with_other_features_in_torch_leaves_nothing_behind(file, monkeypatch):
    def refuse(*arguments: object, **options: object) -> None:
        raise ParityError("they differ")

    monkeypatch.setattr(command, "convert", refuse)
    done = run(file, "--order", "RGB")
    assert done.exit_code == 1 and "they differ" in done.stderr
    assert not (file.parent / "models").exists()


def test_an_import_replaces_a_model_of_the_same_name_only_if_it_succeeds(file):
    assert run(file, "--order", "RGB").exit_code == 0
    before = manifest(file)
    file.write_bytes(file.read_bytes()[:200])
    assert run(file, "--order", "BGR").exit_code == 1
    assert manifest(file) == before


def test_a_state_dict_can_be_cut_at_a_layer(tmp_path):
    from torchvision.models import vgg16

    torch.manual_seed(0)
    file = tmp_path / "net.pth"
    torch.save(vgg16(weights=None).state_dict(), file)
    done = run(file, "--preprocessing", "torchvision", "--layers", "conv1_1,conv3_3")
    assert done.exit_code == 0, done.output
    values = manifest(file)
    assert [layer["name"] for layer in values["layers"]] == ["conv1_1", "conv3_3"]
    assert values["description"] == "VGG-16 with weights imported from a file."
    assert "loss_scale" not in values, "the paper's losses suit VGG"
    assert "which has no layer 'conv9'" in run(file, "--order", "RGB", "--layers", "conv9").stderr
