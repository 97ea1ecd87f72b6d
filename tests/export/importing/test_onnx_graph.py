"""Networks from ONNX files of other programs: each computes what the file computes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from gramophone_export.importing.files import read_network
from gramophone_export.importing.imported import Imported
from gramophone_export.importing.onnx_graph import read_onnx
from gramophone_export.weights import WeightsError
from gramophone_server.engine.network import Network

from .graphs import FiveLayers, Residual, export, kernel, model, node

K1, K2, BIAS = kernel(4, 3, 3), kernel(4, 4, 3, 1), np.array([0.1, -0.2, 0.3, 0.0], np.float32)
SIZES = ((64, 64), (41, 59), (37, 52))


def ours(found: Imported, x: np.ndarray, pool: str | None = None) -> dict[str, np.ndarray]:
    """Returns the features of all layers that were read, for the network's own input x."""
    network = Network(
        found.network.architecture, found.network.weights, found.layers, scale=found.scale, shift=found.shift,
        pool=found.pooling, dtype=torch.float64,
    )  # fmt: skip
    with torch.no_grad():
        return {name: features.numpy() for name, features in network(torch.from_numpy(x)).items()}


def theirs(path: Path, tensors: list[str], x: np.ndarray) -> list[np.ndarray]:
    """Returns tensors of an ONNX file, computed by ONNX Runtime."""
    loaded = onnx.load(path)
    known = {output.name for output in loaded.graph.output}
    loaded.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in tensors if name not in known)
    session = onnxruntime.InferenceSession(loaded.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(tensors, {session.get_inputs()[0].name: x})
    return [np.asarray(array) for array in found]


def assert_same(path: Path, tensors: dict[str, str], layers: tuple[str, ...] = ()) -> Imported:
    """Compares layers with the tensors of the file, at odd sizes."""
    found = read_onnx(path, layers)
    for height, width in SIZES:
        x = np.random.default_rng(height).normal(0, 1, (2, 3, height, width)).astype(np.float32)
        features = ours(found, x)
        for (layer, _), expected in zip(tensors.items(), theirs(path, list(tensors.values()), x), strict=True):
            assert features[layer].shape == expected.shape, layer
            assert np.linalg.norm(features[layer] - expected) <= 1e-5 * np.linalg.norm(expected), layer
    return found


def saved(tmp_path: Path, made: onnx.ModelProto) -> Path:
    onnx.save(made, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_the_names_of_outputs_are_the_names_of_layers(tmp_path):
    dynamic = {"x": {0: "n", 2: "h", 3: "w"}}
    path = export(FiveLayers(), tmp_path / "net.onnx", "abcde", input_names=["x"], dynamic_axes=dynamic)
    found = assert_same(path, {layer: layer for layer in "abcde"})
    assert found.layers == tuple("abcde")
    assert found.notes == []
    assert [found.network.architecture.min_side(layer) for layer in "abcde"] == [3, 5, 5, 21, 21]


def test_a_network_for_pictures_of_one_size_is_read_for_all_sizes(tmp_path):
    network = FiveLayers()
    found = read_onnx(export(network, tmp_path / "net.onnx", "abcde"))
    x = np.random.default_rng(0).normal(0, 1, (1, 3, 61, 83)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(x))
    for layer, features in zip("abcde", expected, strict=True):
        np.testing.assert_allclose(ours(found, x)[layer], features.numpy(), rtol=1e-3, atol=1e-5)


def test_a_residual_network_is_read_with_its_batch_normalization_folded(tmp_path):
    network = Residual()
    found = read_onnx(export(network, tmp_path / "net.onnx"))
    architecture = found.network.architecture
    assert found.layers == ("start.0", "main1.0", "main1.3", "sum1", "main2.0", "main2.3", "down2.0", "sum2")
    assert len(architecture.convolutions) == 6
    assert [architecture.stride(layer) for layer in found.layers][-1] == 8
    for height, width in SIZES:
        x = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected = network(x).numpy()
        last = ours(found, x.numpy())[found.layers[-1]]
        assert np.linalg.norm(last - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize(
    "name", ["resnet18", *(pytest.param(n, marks=pytest.mark.slow) for n in ("alexnet", "vgg11_bn"))]
)
def test_networks_of_torchvision_are_read(tmp_path, name):
    import torchvision.models

    torch.manual_seed(0)
    network = getattr(torchvision.models, name)(weights=None).eval()
    path = export(network, tmp_path / "net.onnx", side=224)
    found = read_onnx(path)
    assert "is cut off" in found.notes[0]
    last = {"alexnet": "features.11", "resnet18": "layer4", "vgg11_bn": "features.27"}[name]
    x = torch.rand(1, 3, 127, 161, generator=torch.Generator().manual_seed(0))
    kept: list[torch.Tensor] = []
    network.get_submodule(last).register_forward_hook(lambda module, inputs, output: kept.append(output))
    with torch.no_grad():
        network(x)
    features = ours(found, x.numpy())[found.layers[-1]]
    assert np.linalg.norm(features - kept[0].numpy()) <= 1e-4 * np.linalg.norm(kept[0].numpy())


POOLS: dict[str, dict[str, Any]] = {
    "max": {},
    "ceil": {"ceil_mode": 1},
    "padded": {"pads": [1, 1, 1, 1]},
    "padded at one side": {"pads": [0, 0, 1, 1]},
    "wide": {"kernel_shape": [3, 3], "strides": [3, 3]},
}


@pytest.mark.parametrize("options", POOLS.values(), ids=POOLS)
@pytest.mark.parametrize("relu", [False, True])
def test_max_poolings_of_all_kinds(tmp_path, options, relu):
    """Also of maps with negative values, which padding by zeros would change."""
    nodes = [
        node("Conv", "x k1", "a", pads=[1] * 4),
        node("Relu" if relu else "Identity", "a", "b"),
        node("MaxPool", "b", "p", **{"kernel_shape": [3, 3], "strides": [2, 2], **options}),
        node("Conv", "p k2 bias", "c", pads=[2, 2, 1, 1]),
    ]
    assert_same(saved(tmp_path, model(nodes, "b c", k1=K1, k2=K2, bias=BIAS)), {"b": "b", "c": "c"})


@pytest.mark.parametrize("counts", [0, 1])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("pads", [[0] * 4, [1] * 4])
def test_average_poolings(tmp_path, counts, mixed, pads):
    average = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": pads, "count_include_pad": counts}
    nodes = [
        node("Conv", "x k1", "a"),
        node("AveragePool", "a", "p", **average),
        node("Conv", "p k2", "c"),
        node("MaxPool" if mixed else "AveragePool", "c", "q", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "q k2 bias", "e"),
    ]
    path = saved(tmp_path, model(nodes, "e", k1=K1, k2=K2, bias=BIAS))
    if mixed and any(pads) and not counts:
        with pytest.raises(WeightsError, match=r"'node of p' .* partly outside"):
            read_onnx(path)
        return
    found = assert_same(path, {"e": "e"})
    assert found.pooling == ("max" if mixed else "average")
    assert len(found.layers) == 3, "an average pooling that became a convolution is no layer"


NORMALIZATION: dict[str, Any] = {
    "gamma": np.array([1.5, -0.5, 2, 1], np.float32),
    "beta": np.array([0.1, 0.2, -0.3, 0], np.float32),
    "mean": np.array([0.2, 0, -0.1, 0.5], np.float32),
    "var": np.array([0.5, 2, 1, 1.5], np.float32),
}


def test_normalization_is_folded_into_the_convolution_before_it(tmp_path):
    nodes = [
        node("Conv", "x k1 bias", "a", pads=[1] * 4),
        node("BatchNormalization", "a gamma beta mean var", "n", epsilon=1e-3),
        node("Relu", "n", "r"),
    ]
    path = saved(tmp_path, model(nodes, "r", k1=K1, bias=BIAS, **NORMALIZATION))
    found = assert_same(path, {"r": "r"})
    assert found.layers == ("r",)


def test_normalization_elsewhere_and_values_read_before_relu_become_convolutions(tmp_path):
    nodes = [
        node("Conv", "x k1", "a", pads=[1] * 4),
        node("Relu", "a", "r"),
        node("BatchNormalization", "r gamma beta mean var", "n"),
        node("Add", "a n", "s"),
        node("Conv", "s k2", "c", pads=[1] * 4),
    ]
    path = saved(tmp_path, model(nodes, "c", k1=K1, k2=K2, **NORMALIZATION))
    found = assert_same(path, {"c": "c"})
    assert [c.groups for c in found.network.architecture.convolutions] == [1, 4, 4, 1]


def test_arithmetic_with_constants_is_folded(tmp_path):
    column, one = np.array([[[2.0]], [[0.5]], [[1.0]], [[-1.0]]], np.float32), np.array(3.0, np.float32)
    nodes = [
        node("Conv", "x k1", "a"),
        node("Mul", "a column", "b"),
        node("Sub", "one b", "c"),
        node("Add", "c column", "d"),
        node("Div", "d one", "e"),
        node("Relu", "e", "r"),
    ]
    found = assert_same(saved(tmp_path, model(nodes, "r", k1=K1, column=column, one=one)), {"r": "r"})
    assert found.layers == ("r",)


def test_normalization_of_the_picture_becomes_preprocessing(tmp_path):
    mean, std = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in ([0.5, 0.4, 0.3], [0.2, 0.3, 0.4]))
    nodes = [node("Sub", "x mean", "m"), node("Div", "m std", "n"), node("Conv", "n k1", "a", pads=[1] * 4)]
    found = assert_same(saved(tmp_path, model(nodes, "a", k1=K1, mean=mean, std=std)), {"a": "a"})
    np.testing.assert_allclose(found.scale, 1 / std.reshape(-1), rtol=1e-6)


def test_padding_nodes_join_the_next_window(tmp_path):
    pads, zero = np.array([0, 0, 1, 1, 0, 0, 2, 2]), np.array(0, np.float32)
    nodes = [
        node("Conv", "x k1", "a"), node("Relu", "a", "r"),
        node("Pad", "r pads zero", "p"), node("Conv", "p k2", "b"), node("Relu", "b", "s"),
        node("Pad", "s pads", "q"), node("MaxPool", "q", "m", kernel_shape=[5, 5], strides=[2, 2]),
        node("Conv", "m k2", "c"),
    ]  # fmt: skip
    assert_same(saved(tmp_path, model(nodes, "s c", k1=K1, k2=K2, pads=pads, zero=zero)), {"s": "s", "c": "c"})


@pytest.mark.parametrize(("automatic", "side"), [("VALID", 3), ("SAME_UPPER", 4), ("SAME_LOWER", 4), ("NOTSET", 3)])
def test_automatic_padding(tmp_path, automatic, side):
    nodes = [node("Conv", "x k", "a", auto_pad=automatic)]
    assert_same(saved(tmp_path, model(nodes, "a", k=kernel(4, 3, side))), {"a": "a"})


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_weights_of_other_types_and_from_constants(tmp_path, kind):
    """The numbers of a Constant node, cast twice, equal those of an initializer."""
    stored = helper.make_node("Constant", [], ["stored"], value=numpy_helper.from_array(K1.astype(kind)))
    nodes = [stored, node("Cast", "stored", "k", to=TensorProto.FLOAT), node("Conv", "x k", "a")]
    found = assert_same(saved(tmp_path, model(nodes, "a")), {"a": "a"})
    assert np.array_equal(found.network.weights["a"][0], K1.astype(kind).astype(np.float32))


def test_old_files_are_read(tmp_path):
    """Opset 6 has attributes for broadcasting, padding and clipping that later versions replaced by inputs."""
    nodes = [
        node("Conv", "x k1", "a"),
        node("Add", "a bias", "b", axis=1, broadcast=1),
        node("Clip", "b", "r", min=0.0),
        node("Pad", "r", "p", mode="constant", pads=[0, 0, 1, 1, 0, 0, 1, 1]),
        node("Conv", "p k2", "c"),
        node("Dropout", "c", "d", is_test=1, ratio=0.5),
        node("Conv", "d k2", "e"),
    ]
    made = model(nodes, "e", opset=6, k1=K1, k2=K2, bias=BIAS)
    made.ir_version = 3
    made.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims) for tensor in made.graph.initializer
    )
    found = read_onnx(saved(tmp_path, made))
    x = torch.rand(1, 3, 20, 24, dtype=torch.float64)
    k1, k2, bias = (torch.from_numpy(array).double() for array in (K1, K2, BIAS))
    r = nn.functional.conv2d(x, k1, bias).relu()
    e = nn.functional.conv2d(nn.functional.conv2d(r, k2, padding=1), k2)
    np.testing.assert_allclose(ours(found, x.numpy())["e"], e.numpy(), rtol=1e-6, atol=1e-6)


def test_weights_in_another_file_are_read_from_its_folder(tmp_path):
    made = model([node("Conv", "x k", "a")], "a", k=kernel(64, 3, 5))
    onnx.save(made, tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    assert np.array_equal(read_onnx(tmp_path / "net.onnx").network.weights["a"][0], kernel(64, 3, 5))
    (tmp_path / "net.data").unlink()
    with pytest.raises(WeightsError, match=r"keeps its weights in the file 'net.data', .* copy it there"):
        read_onnx(tmp_path / "net.onnx")


@pytest.mark.parametrize("link", [False, True])
def test_weights_outside_of_the_folder_are_not_read(tmp_path, link):
    """The file names a path outside, or a link in its folder leads there."""
    folder, secret = tmp_path / "folder", tmp_path / "secret"
    folder.mkdir()
    made = model([node("Conv", "x k", "a")], "a", k=kernel(64, 3, 5))
    onnx.save(made, folder / "net.onnx", save_as_external_data=True, location="inside", size_threshold=0)
    (folder / "inside").rename(secret)
    if link:
        (folder / "inside").symlink_to(secret)
    else:
        (folder / "net.onnx").write_bytes((folder / "net.onnx").read_bytes().replace(b"inside", b"../sec"))
        secret.rename(tmp_path / "sec")
    with pytest.raises(WeightsError, match=r"keeps its weights in the file .* cannot be read"):
        read_onnx(folder / "net.onnx")


def test_functions_are_inlined(tmp_path):
    made = model([helper.make_node("Block", ["x", "k"], ["a"], domain="own")], "a", k=K1)
    made.functions.append(
        helper.make_function(
            "own", "Block", ["i", "w"], ["o"], [node("Conv", "i w", "o")], [helper.make_opsetid("", 17)]
        )
    )
    made.opset_import.append(helper.make_opsetid("own", 1))
    assert read_onnx(saved(tmp_path, made)).layers == ("a",)


def chain(*more: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Returns two convolutions with other nodes between them; these read r and compute t."""
    return [node("Conv", "x k1", "a"), node("Relu", "a", "r"), *more, node("Conv", "t k2", "e")]


REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "an operator": (lambda: small(chain(node("Sigmoid", "r", "t"))), r"of t' \(Sigmoid\) is not .* --layers node_of_a"),
    "a clip": (lambda: small(chain(node("Clip", "r", "t", min=0.0, max=6.0))), r"'node of t' \(Clip\) clips values"),
    "a product": (lambda: small(chain(node("Mul", "r r", "t"))), "combines two feature maps"),
    "reflection": (
        lambda: small(chain(node("Pad", "r pads", "t", mode="reflect")), pads=np.array([0, 0, 1, 1] * 2)),
        "other values than zeros",
    ),
    "a reshape": (lambda: small(chain(node("Flatten", "r", "t"))), "reads what the node 'node of t'"),
    "gray": (lambda: small([node("Conv", "x k1", "a")], shape=("n", 1, 8, 8)), r"has the shape \?x1x8x8"),
    "channels last": (lambda: small([node("Conv", "x k1", "a")], shape=(1, 8, 8, 3)), "channels first"),
    "no convolution": (lambda: model([node("Relu", "x", "a")], "a"), "no convolution that reads the picture"),
    "channels": (lambda: small([node("Conv", "x k2", "a")]), "kernel of 4x4x3x3 in 1 groups for 3 channels"),
    "groups": (lambda: small([node("Conv", "x k1", "a", group=3)]), "in 3 groups"),
    "no groups": (lambda: small([node("Conv", "x k1", "a", group=-1)]), "in -1 groups"),
    "a bias": (lambda: small([node("Conv", "x k1 k1", "a")]), "has a bias of 4x3x3x3 for 4 channels"),
    "strides of 0": (lambda: small([node("Conv", "x k1", "a", strides=[0, 0])]), r"has the strides \[0, 0\]"),
    "two strides": (lambda: small([node("Conv", "x k1", "a", strides=[1, 2])]), r"has the strides \[1, 2\]"),
    "huge strides": (lambda: small([node("Conv", "x k1", "a", strides=[999, 999])]), "of more than 64"),
    "huge pads": (lambda: small([node("Conv", "x k1", "a", pads=[1 << 40] * 4)]), "not smaller than its window"),
    "negative pads": (lambda: small([node("Conv", "x k1", "a", pads=[-1] * 4)]), r"has the pads \[-1"),
    "automatic": (
        lambda: small([node("Conv", "x k1", "a", auto_pad="SAME_UPPER", strides=[2, 2])]), "on the picture's size"
    ),
    "kernel shape": (lambda: small([node("Conv", "x k1", "a", kernel_shape=[5, 5])]), r"kernel_shape 5, .* of 3x3"),
    "weights": (lambda: small([node("Conv", "x w", "a")]), "reads 'w', which no node before"),
    "a cycle": (
        lambda: small([node("Add", "x b", "a"), node("Relu", "a", "b"), node("Conv", "b k1", "e")]), "reads 'b', which"
    ),
    "twice": (lambda: small([node("Conv", "x k1", "a"), node("Conv", "x k1", "a")]), "'a', which another node"),
    "pooling first": (
        lambda: small([node("MaxPool", "x", "p", kernel_shape=[2, 2]), node("Conv", "p k1", "a")]), "pools the picture"
    ),
    "no inputs": (lambda: small([node("Conv", "", "a")]), "has no input"),
    "no kernel": (lambda: small([node("Conv", "x", "a")]), "is damaged"),
    "sizes": (
        lambda: small(
            [
                node("Conv", "x k1", "a", pads=[1] * 4), node("Conv", "a k2", "b", strides=[2, 2], pads=[1] * 4),
                node("MaxPool", "a", "c", kernel_shape=[2, 2], strides=[2, 2]), node("Add", "b c", "d"),
                node("Conv", "d k2", "e"),
            ]
        ),
        "adds feature maps of different sizes",
    ),
    "not a number": (lambda: model([node("Conv", "x k1", "a")], "a", k1=K1 * np.nan), "not finite"),
    "no picture is large enough": (
        lambda: small(
            [node("Conv", "x wide", "a", strides=[64, 64])]
            + [node("MaxPool", source, name, kernel_shape=[64, 64], strides=[64, 64]) for source, name in ("ab", "bc")]
            + [node("Conv", "c k2", "e")],
            wide=kernel(4, 3, 64),
        ),
        "more than 65,536 pixels",
    ),
    "large strides": (
        lambda: small([node("Conv", "x k1", "a", strides=[64, 64]), node("Conv", "a k2", "b", strides=[64, 64])]),
        "b has a stride of 4096 pixels",
    ),
}  # fmt: skip


def small(nodes: list[onnx.NodeProto], **options: Any) -> onnx.ModelProto:
    """Returns a model with the kernels k1 and k2; its output is that of the last node."""
    return model(nodes, nodes[-1].output[0], **{"k1": K1, "k2": K2, **options})


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_named(tmp_path, case):
    make, reason = REFUSED[case]
    with pytest.raises(WeightsError, match=reason) as refused:
        read_network(saved(tmp_path, make()))
    assert "\n" not in str(refused.value) and str(tmp_path) in str(refused.value)


def test_layers_before_an_operator_that_cannot_be_used_can_be_chosen(tmp_path):
    nodes = [node("Conv", "x k1", "a"), node("Conv", "a k2", "b"), node("Sigmoid", "b", "s"), node("Conv", "s k2", "c")]
    path = saved(tmp_path, small(nodes))
    found = read_onnx(path, ["node_of_b"])
    assert found.layers == ("node_of_b",)
    assert found.network.architecture.layers == ["node_of_a", "node_of_b"]
    with pytest.raises(
        WeightsError, match="has no layer 'c'; its layers are node_of_a, node_of_b; the node 'node of s'"
    ):
        read_onnx(path, ["c"])


@pytest.mark.parametrize("data", [b"", b"\x08\x07", b"\x00" * 100, b"onnx", K1.tobytes()])
def test_files_that_are_not_onnx_are_refused(tmp_path, data):
    (tmp_path / "net.onnx").write_bytes(data)
    with pytest.raises(WeightsError, match=r"net\.onnx"):
        read_network(tmp_path / "net.onnx")


def test_damaged_files_are_refused_or_read(tmp_path):
    """Bytes at random places are changed: whatever is read is a network, and nothing but WeightsError is raised."""
    path = export(FiveLayers(), tmp_path / "net.onnx", "abcde")
    data, rng, read = path.read_bytes(), np.random.default_rng(0), 0
    refusals: list[str] = []
    # The weights are a large part of the file; changes of the structure matter more.
    structure = [i for i in range(len(data)) if i < 2000 or i > len(data) - 2000]
    for _ in range(150):
        changed = bytearray(data)
        for place in rng.choice(structure, rng.integers(1, 4)):
            changed[place] = rng.integers(256)
        path.write_bytes(changed[: rng.integers(len(data) // 2, len(data))] if rng.random() < 0.2 else changed)
        try:
            read += bool(read_network(path).layers)
        except WeightsError as error:
            refusals.append(str(error))
    assert read > 10 and refusals
    assert not any("\n" in refusal for refusal in refusals)
