import numpy as np
import onnx
import onnxruntime
import pytest

from gramophone_server.models.graph import INPUT, build_vgg, load_weights, truncate
from gramophone_server.models.layers import VGG19_LAYERS, position


@pytest.fixture(scope="module")
def weights() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """A VGG-19 of four channels throughout."""
    rng = np.random.default_rng(0)
    return {
        name: (
            rng.normal(0, 0.3, (4, 3 if name == "conv1_1" else 4, 3, 3)).astype(np.float32),
            rng.normal(0, 0.1, 4).astype(np.float32),
        )
        for name in VGG19_LAYERS
    }


@pytest.mark.parametrize("half", [False, True])
def test_weights_survive_the_file(weights, tmp_path, half):
    path = tmp_path / "model.onnx"
    onnx.save(build_vgg(weights, half=half), path)
    loaded = load_weights(path)
    assert list(loaded) == list(VGG19_LAYERS)
    for name, (kernel, bias) in loaded.items():
        stored = [part.astype(np.float16) if half else part for part in weights[name]]
        assert kernel.dtype == bias.dtype == np.float32
        assert np.array_equal(kernel, stored[0].astype(np.float32))
        assert np.array_equal(bias, stored[1].astype(np.float32))


def test_same_weights_same_bytes(weights):
    first, second = (build_vgg(weights).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_batch_height_and_width_are_dynamic(weights):
    session = onnxruntime.InferenceSession(build_vgg(weights).SerializeToString(), providers=["CPUExecutionProvider"])
    for shape in ((1, 3, 16, 16), (3, 3, 37, 51)):
        (got,) = session.run(["conv5_1"], {INPUT: np.zeros(shape, np.float32)})
        assert got.shape == (shape[0], 4, shape[2] // 16, shape[3] // 16)


@pytest.mark.parametrize("layer", ["conv1_1", "conv3_1", "conv5_4"])
def test_only_what_the_outputs_need_is_left(weights, layer):
    cut = truncate(build_vgg(weights), [layer])
    convolutions = [node.name for node in cut.graph.node if node.op_type == "Conv"]
    assert convolutions == [name for name in VGG19_LAYERS if position(name) <= position(layer)]
    assert len(cut.graph.initializer) == 2 * len(convolutions)
    assert [output.name for output in cut.graph.output] == [layer]


def test_average_pooling_replaces_the_maximum(weights):
    model = build_vgg(weights)
    assert {n.op_type for n in truncate(model, ["conv2_1"]).graph.node} == {"Conv", "Relu", "MaxPool"}
    assert {n.op_type for n in truncate(model, ["conv2_1"], pooling="average").graph.node} == {
        "Conv",
        "Relu",
        "AveragePool",
    }
    # The model itself is not touched.
    assert "MaxPool" in {n.op_type for n in model.graph.node}


def test_another_graph_is_refused(tmp_path):
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"])
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph([node], "g", [value("x", 1, None), value("w", 1, None)], [value("y", 1, None)])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "other.onnx")
    with pytest.raises(ValueError, match="not a VGG"):
        load_weights(tmp_path / "other.onnx")
