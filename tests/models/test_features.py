"""ONNX Runtime against the engine's torch network, which loads the ONNX file's initialisers."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from gramophone_server.engine.canvas import from_pictures
from gramophone_server.engine.losses import gram_matrix
from gramophone_server.engine.vgg import TruncatedVGG
from gramophone_server.models.features import FeatureExtractor, gram
from gramophone_server.models.graph import load_weights
from gramophone_server.models.layers import STYLE_LAYERS
from gramophone_server.models.store import BUILTIN_MODEL, ModelStore
from tests.harness import png


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return ModelStore(tmp_path_factory.mktemp("models")).get(BUILTIN_MODEL)


@pytest.fixture(scope="module")
def extractor(model):
    return FeatureExtractor(model, threads=2)


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("pooling", ["max", "average"])
@pytest.mark.parametrize("size", [(224, 224), (97, 131), (512, 300)])
def test_every_layer_is_torchs(model, extractor, size, pooling):
    layers = [layer.name for layer in model.manifest.layers]
    indices, scale, shift = model.manifest.preprocessing.affine
    weights = load_weights(model.path)
    network = TruncatedVGG(weights, layers, order=indices, scale=scale, shift=shift, pool=pooling)
    with torch.no_grad():
        expected = network(from_pictures([picture(*size)]))
    got = extractor.extract(picture(*size), layers, pooling=pooling)
    for layer in layers:
        theirs = expected[layer][0].numpy()
        assert got[layer].shape == theirs.shape
        assert np.linalg.norm(got[layer] - theirs) <= 1e-4 * np.linalg.norm(theirs), layer


def test_manifest_tells_the_truth_of_layers(model, extractor):
    features = extractor.extract(picture(64, 80), [layer.name for layer in model.manifest.layers])
    for layer in model.manifest.layers:
        assert features[layer.name].shape == (layer.channels, 64 // layer.stride, 80 // layer.stride)


def test_the_session_stops_at_the_deepest_layer(extractor):
    """What was cut off can not be asked for any more, so it cannot have been computed."""
    session = extractor.session(["conv2_1", "conv1_1"])
    assert [output.name for output in session.get_outputs()] == ["conv1_1", "conv2_1"]
    with pytest.raises(Exception, match="conv3_1"):
        session.run(["conv3_1"], {"input": np.zeros((1, 3, 32, 32), np.float32)})


def test_too_small_a_picture(extractor):
    with pytest.raises(ValueError, match="40x9 is too small for conv5_1: it needs 16"):
        extractor.extract(picture(9, 40), ["conv1_1", "conv5_1"])


def test_gram_is_the_engines():
    features = np.random.default_rng(0).normal(size=(5, 7, 9)).astype(np.float32)
    expected = gram_matrix(torch.from_numpy(features)[None])[0].numpy()
    np.testing.assert_allclose(gram(features), expected, rtol=1e-5, atol=1e-6)


def test_every_style_layer_of_the_built_in_model_carries_weight(extractor):
    """Between two pictures no layer's loss is lost beside the others, nor drowns them, as in raw VGG-19."""
    a, b = (np.asarray(Image.open(io.BytesIO(png(96, 96, seed)))) for seed in (1, 2))
    first, second = (extractor.extract(p, STYLE_LAYERS) for p in (a, b))
    losses = [((gram(first[n]) - gram(second[n])) ** 2).mean() / 4 for n in STYLE_LAYERS]
    assert min(losses) > 0.01 * sum(losses)
    assert max(losses) < 0.7 * sum(losses)
