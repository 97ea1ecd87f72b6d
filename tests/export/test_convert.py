"""The conversion of weights to an ONNX model with a manifest, and its comparison with torch."""

import numpy as np
import onnxruntime
import pytest
import torch

from gramophone_export import random_vgg
from gramophone_export.catalog import CAFFE, TORCHVISION
from gramophone_export.convert import ParityError, convert, measure_parity
from gramophone_export.importing.state_dict import read_weights
from gramophone_server.models.graph import Parameters, build_graph, load_parameters
from gramophone_server.models.store import ModelStore
from gramophone_server.models.vgg import VGG19_LAYERS

POSITIONS = dict(zip(VGG19_LAYERS, (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34), strict=True))


@pytest.fixture(scope="module")
def weights() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return random_vgg.random_weights(seed=3)


def make(folder, weights, name="mine"):
    return convert(
        folder, Parameters.of_vgg(weights), name=name, preprocessing=CAFFE, description="d", source="s", license="l"
    )


def test_convert_writes_a_model_and_its_manifest(tmp_path, weights):
    model = make(tmp_path, weights)
    model.verify()
    assert ModelStore(tmp_path).get("mine") == model
    assert list(model.manifest.parity) == [layer.name for layer in model.manifest.layers] == list(weights)
    assert max(model.manifest.parity.values()) < 1e-4
    assert model.manifest.preprocessing == CAFFE
    for name, (kernel, bias) in load_parameters(model.path).weights.items():
        assert np.array_equal(kernel, weights[name][0])
        assert np.array_equal(bias, weights[name][1])


def test_a_model_that_differs_from_torch_is_not_written(tmp_path, weights, monkeypatch):
    other = random_vgg.random_weights(seed=4)
    graph = build_graph(Parameters.of_vgg(other))
    monkeypatch.setattr("gramophone_export.convert.build_graph", lambda network, half: graph)
    with pytest.raises(ParityError, match="not written"):
        make(tmp_path, weights)
    assert not list(tmp_path.iterdir())


def test_the_random_model_equals_the_weights_of_its_script(tmp_path):
    shipped = load_parameters(ModelStore(tmp_path).get(random_vgg.NAME).path).weights
    for name, (kernel, _) in random_vgg.random_weights().items():
        np.testing.assert_allclose(shipped[name][0], kernel.astype(np.float16), rtol=2e-2, atol=1e-4)


def test_real_weights_equal_torchvisions_network(assets):
    """Compares all layers at three sizes with torchvision's network, which shares no code with ours."""
    from torchvision.models import vgg19

    path = assets / "weights/vgg19-caffe-conv.pth"
    weights = read_weights(path)
    network = vgg19(weights=None).features.eval()
    state = torch.load(path, weights_only=True)
    network.load_state_dict({key.removeprefix("features."): value for key, value in state.items()})
    for module in network:
        if isinstance(module, torch.nn.ReLU):
            module.inplace = False
    graph = build_graph(Parameters.of_vgg(weights)).SerializeToString()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for height, width in ((224, 224), (97, 131), (512, 300)):
        x = 255 * torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)) - 110
        ours = dict(zip(VGG19_LAYERS, session.run(list(VGG19_LAYERS), {"input": x.numpy()}), strict=True))
        with torch.no_grad():
            for index, module in enumerate(network):
                x = module(x)
                for name in (n for n, position in POSITIONS.items() if position + 1 == index):
                    error = np.linalg.norm(ours[name] - x.numpy()) / np.linalg.norm(x.numpy())
                    assert error <= 1e-4, (name, height, width)


def test_parity_is_measured_at_all_layers(weights):
    made = Parameters.of_vgg(weights)
    parity = measure_parity(build_graph(made), made, TORCHVISION, sizes=((33, 47),))
    assert list(parity) == list(weights)
    assert 0 < max(parity.values()) < 1e-4
