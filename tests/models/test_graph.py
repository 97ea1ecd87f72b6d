"""ONNX graphs of VGG networks: building, loading, truncating, and comparison with the engine."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from gramophone_server.engine.architecture import INPUT
from gramophone_server.engine.network import Network
from gramophone_server.models.graph import Parameters, build_graph, load_parameters, truncate
from gramophone_server.models.layers import PaddingName
from gramophone_server.models.vgg import VGG19_LAYERS, position, vgg


@pytest.fixture(scope="module")
def weights() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The weights of a VGG-19 with four channels in all layers."""
    rng = np.random.default_rng(0)
    return {
        name: (
            rng.normal(0, 0.3, (4, 3 if name == "conv1_1" else 4, 3, 3)).astype(np.float32),
            rng.normal(0, 0.1, 4).astype(np.float32),
        )
        for name in VGG19_LAYERS
    }


@pytest.mark.parametrize("half", [False, True])
def test_weights_are_loaded_as_saved(weights, tmp_path, half):
    path = tmp_path / "model.onnx"
    onnx.save(build_graph(Parameters.of_vgg(weights), half=half), path)
    loaded = load_parameters(path).weights
    assert list(loaded) == list(VGG19_LAYERS)
    for name, (kernel, bias) in loaded.items():
        stored = [part.astype(np.float16) if half else part for part in weights[name]]
        assert kernel.dtype == bias.dtype == np.float32
        assert np.array_equal(kernel, stored[0].astype(np.float32))
        assert np.array_equal(bias, stored[1].astype(np.float32))


def test_same_weights_same_bytes(weights):
    first, second = (build_graph(Parameters.of_vgg(weights)).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_batch_height_and_width_are_dynamic(weights):
    model = build_graph(Parameters.of_vgg(weights)).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    for shape in ((1, 3, 16, 16), (3, 3, 37, 51)):
        (got,) = session.run(["conv5_1"], {INPUT: np.zeros(shape, np.float32)})
        assert got.shape == (shape[0], 4, shape[2] // 16, shape[3] // 16)


@pytest.mark.parametrize("layer", ["conv1_1", "conv3_1", "conv5_4"])
def test_truncate_keeps_only_the_layers_that_the_outputs_need(weights, layer):
    cut = truncate(build_graph(Parameters.of_vgg(weights)), [layer])
    convolutions = [node.name for node in cut.graph.node if node.op_type == "Conv"]
    assert convolutions == [name for name in VGG19_LAYERS if position(name) <= position(layer)]
    assert len(cut.graph.initializer) == 2 * len(convolutions)
    assert [output.name for output in cut.graph.output] == [layer]


def test_average_pooling_replaces_max_pooling(weights):
    model = build_graph(Parameters.of_vgg(weights))
    assert {n.op_type for n in truncate(model, ["conv2_1"]).graph.node} == {"Conv", "Relu", "MaxPool"}
    assert {n.op_type for n in truncate(model, ["conv2_1"], pooling="average").graph.node} == {
        "Conv",
        "Relu",
        "AveragePool",
    }
    # `truncate` does not change its argument.
    assert "MaxPool" in {n.op_type for n in model.graph.node}


@pytest.mark.parametrize("padding", ["zeros", "replicate"])
@pytest.mark.parametrize("pooling", ["max", "average", "average_rescaled"])
@pytest.mark.parametrize("size", [(64, 48), (37, 51)])
def test_pooling_and_padding_equal_the_engines(weights, size, pooling, padding):
    # No deeper layers: there the four channels nearly cancel, and float32 differs from float64 by 1e-5.
    layers = ["conv1_1", "conv2_1", "conv3_4", "conv4_1"]
    cut = truncate(build_graph(Parameters.of_vgg(weights)), layers, pooling=pooling, padding=padding)
    session = onnxruntime.InferenceSession(cut.SerializeToString(), providers=["CPUExecutionProvider"])
    canvas = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    got = dict(zip(layers, session.run(layers, {INPUT: canvas.numpy()}), strict=True))
    with torch.no_grad():
        expected = Network(vgg(weights), weights, layers, pool=pooling, paddings=(padding, padding))(canvas)
    for layer in layers:
        theirs = expected[layer].numpy()
        assert got[layer].shape == theirs.shape
        assert np.linalg.norm(theirs) > 0
        assert np.linalg.norm(got[layer] - theirs) <= 1e-5 * np.linalg.norm(theirs), layer


@pytest.fixture(scope="module")
def folding_weights(weights) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The same weights, except that the first layer is 6x6 with a stride of 2."""
    kernel = np.random.default_rng(2).normal(0, 0.2, (4, 3, 6, 6)).astype(np.float32)
    return {**weights, "conv1_1": (kernel, weights["conv1_1"][1])}


@pytest.mark.parametrize("padding", ["zeros", "replicate"])
@pytest.mark.parametrize("size", [(64, 48), (37, 51)])
def test_a_first_layer_with_a_stride_equals_the_engines(folding_weights, size, padding, tmp_path):
    layers, path = ["conv1_1", "conv2_1", "conv3_4"], tmp_path / "model.onnx"
    onnx.save(build_graph(Parameters.of_vgg(folding_weights)), path)
    assert np.array_equal(load_parameters(path).weights["conv1_1"][0], folding_weights["conv1_1"][0])
    cut = truncate(onnx.load(path), layers, padding=padding)
    session = onnxruntime.InferenceSession(cut.SerializeToString(), providers=["CPUExecutionProvider"])
    canvas = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = Network(vgg(folding_weights), folding_weights, layers, paddings=(padding, padding))(canvas)
    for layer, got in zip(layers, session.run(layers, {INPUT: canvas.numpy()}), strict=True):
        theirs = expected[layer].numpy()
        assert got.shape == theirs.shape
        assert np.linalg.norm(got - theirs) <= 1e-5 * np.linalg.norm(theirs), layer


@pytest.fixture(scope="module")
def heads() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {name: rng.normal(0, 0.5, (4, 4)).astype(np.float32) for name in ("conv1_1", "conv2_1", "conv4_1")}


@pytest.mark.parametrize("half", [False, True])
def test_heads_are_loaded_as_saved(weights, heads, tmp_path, half):
    path = tmp_path / "model.onnx"
    onnx.save(build_graph(Parameters.of_vgg(weights, heads), half=half), path)
    loaded = load_parameters(path)
    assert list(loaded.heads) == list(heads)
    for name, head in heads.items():
        assert loaded.heads[name].dtype == np.float32
        assert np.array_equal(loaded.heads[name], (head.astype(np.float16) if half else head).astype(np.float32))
    assert list(loaded.weights) == list(VGG19_LAYERS)
    assert np.array_equal(load_parameters(path).weights["conv3_1"][0], loaded.weights["conv3_1"][0])


@pytest.mark.parametrize("padding", ["zeros", "replicate"])
def test_heads_equal_the_engines(weights, heads, padding):
    layers = ["conv1_1", "conv2_1", "conv2_2", "conv4_1"]
    cut = truncate(build_graph(Parameters.of_vgg(weights, heads)), layers, padding=padding)
    session = onnxruntime.InferenceSession(cut.SerializeToString(), providers=["CPUExecutionProvider"])
    canvas = torch.rand(2, 3, 37, 51, generator=torch.Generator().manual_seed(0))
    got = dict(zip(layers, session.run(layers, {INPUT: canvas.numpy()}), strict=True))
    with torch.no_grad():
        expected = Network(vgg(weights), weights, layers, heads=heads, paddings=(padding, padding))(canvas)
        bare = Network(vgg(weights), weights, layers, paddings=(padding, padding))(canvas)
    for layer in layers:
        theirs = expected[layer].numpy()
        assert np.linalg.norm(got[layer] - theirs) <= 1e-5 * np.linalg.norm(theirs), layer
        assert np.allclose(theirs, bare[layer].numpy()) == (layer not in heads)


def test_heads_of_unused_layers_are_removed(weights, heads):
    cut = truncate(build_graph(Parameters.of_vgg(weights, heads)), ["conv2_1"])
    assert [n.name for n in cut.graph.node if n.op_type == "Conv"] == [
        "conv1_1", "conv1_2", "conv2_1", "conv2_1.head"
    ]  # fmt: skip


def test_an_empty_dictionary_of_heads_adds_no_nodes(weights):
    model = build_graph(Parameters.of_vgg(weights))
    assert build_graph(Parameters.of_vgg(weights, {})).SerializeToString() == model.SerializeToString()
    assert {node.name for node in model.graph.node if node.op_type == "Conv"} == set(VGG19_LAYERS)


def test_replicated_padding_leaves_no_frame_around_one_color(weights):
    """Padding with zeros gives a picture of one color a frame; replicated padding keeps it uniform at each depth."""
    flat = np.full((1, 3, 32, 32), 0.5, np.float32)
    paddings: dict[PaddingName, bool] = {"zeros": True, "replicate": False}
    for padding, has_frame in paddings.items():
        cut = truncate(build_graph(Parameters.of_vgg(weights)), ["conv3_1"], padding=padding)
        session = onnxruntime.InferenceSession(cut.SerializeToString(), providers=["CPUExecutionProvider"])
        (got,) = session.run(["conv3_1"], {INPUT: flat})
        assert (np.ptp(got, axis=(2, 3)).max() > 1e-3 * got.max()) == has_frame


def test_a_graph_that_is_no_network_is_refused(tmp_path):
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"])
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph([node], "g", [value("x", 1, None), value("w", 1, None)], [value("y", 1, None)])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "other.onnx")
    with pytest.raises(ValueError, match="not a network that gramophone can use"):
        load_parameters(tmp_path / "other.onnx")
