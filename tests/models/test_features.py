"""Features from ONNX Runtime, compared with the engine's torch network with the same weights."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from gramophone_server.engine.canvas import from_pictures
from gramophone_server.engine.kernels.gram import gram_matrix
from gramophone_server.engine.losses import GRAM
from gramophone_server.engine.losses.gram import averaged_gram
from gramophone_server.models import features
from gramophone_server.models.features import FeatureExtractor, shares
from gramophone_server.models.layers import STYLE_LAYERS
from gramophone_server.models.networks import open_network
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
def test_all_layers_equal_the_torch_network(model, extractor, size, pooling):
    layers = [layer.name for layer in model.manifest.layers]
    network = open_network(model, layers, pooling=pooling)
    with torch.no_grad():
        expected = network(from_pictures([picture(*size)]))
    got = extractor.extract(picture(*size), layers, pooling=pooling)
    for layer in layers:
        theirs = expected[layer][0].numpy()
        assert got[layer].shape == theirs.shape
        assert np.linalg.norm(got[layer] - theirs) <= 1e-4 * np.linalg.norm(theirs), layer


def test_the_manifest_has_the_channels_and_strides_of_the_layers(model, extractor):
    features = extractor.extract(picture(64, 80), [layer.name for layer in model.manifest.layers])
    for layer in model.manifest.layers:
        assert features[layer.name].shape == (layer.channels, 64 // layer.stride, 80 // layer.stride)


def test_the_session_stops_at_the_deepest_layer(extractor):
    """A layer that the session cannot return has been cut off, so that it is not computed."""
    session = extractor.session(["conv2_1", "conv1_1"])
    assert [output.name for output in session.get_outputs()] == ["conv1_1", "conv2_1"]
    with pytest.raises(Exception, match="conv3_1"):
        session.run(["conv3_1"], {"input": np.zeros((1, 3, 32, 32), np.float32)})


def test_a_picture_too_small_for_a_layer_is_refused(extractor):
    with pytest.raises(ValueError, match="40x9 is too small for conv5_1: it needs 16"):
        extractor.extract(picture(9, 40), ["conv1_1", "conv5_1"])


def test_gram_equals_the_engines_gram_matrix():
    features = np.random.default_rng(0).normal(size=(5, 7, 9)).astype(np.float32)
    expected = gram_matrix(torch.from_numpy(features)[None])[0].numpy()
    np.testing.assert_allclose(averaged_gram(features), expected, rtol=1e-5, atol=1e-6)


def test_all_style_layers_of_the_random_model_contribute_to_the_loss(tmp_path):
    """The loss between two pictures is not dominated by one layer, and no layer is negligible, unlike raw VGG-19."""
    extractor = FeatureExtractor(ModelStore(tmp_path).get("vgg19-random"), threads=2)
    a, b = (np.asarray(Image.open(io.BytesIO(png(96, 96, seed)))) for seed in (1, 2))
    first, second = (extractor.extract(p, STYLE_LAYERS) for p in (a, b))
    losses = [((averaged_gram(first[n]) - averaged_gram(second[n])) ** 2).mean() / 4 for n in STYLE_LAYERS]
    assert min(losses) > 0.01 * sum(losses)
    assert max(losses) < 0.7 * sum(losses)


@pytest.mark.parametrize("pooling", ["average", "average_rescaled"])
def test_the_extractor_uses_pooling_and_padding(model, extractor, pooling):
    network = open_network(
        model,
        STYLE_LAYERS,
        pooling=pooling,
        paddings=("replicate", "replicate"),
    )
    with torch.no_grad():
        expected = network(from_pictures([picture(65, 50)]))
    got = extractor.extract(picture(65, 50), STYLE_LAYERS, pooling=pooling, padding="replicate")
    for layer in STYLE_LAYERS:
        theirs = expected[layer][0].numpy()
        assert np.linalg.norm(got[layer] - theirs) <= 1e-5 * np.linalg.norm(theirs), layer


def mask(height: int, width: int) -> np.ndarray:
    """A random mask with values from 0 (outside) to 1 (inside)."""
    return np.random.default_rng(1).random((height, width), dtype=np.float32)


def boxes(values: np.ndarray, k: int) -> np.ndarray:
    """Returns the means of k x k squares, computed by loops."""
    height, width = (side // k for side in values.shape)
    means = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            means[y, x] = values[k * y : k * y + k, k * x : k * x + k].astype(np.float64).mean()
    return means


@pytest.mark.parametrize("k", [1, 2, 4, 8])
def test_shares_are_the_squares_of_the_mask_scaled_down(k):
    got = shares(mask(48, 32), 48 // k, 32 // k)
    squares = boxes(mask(48, 32), k) ** 2
    np.testing.assert_allclose(got, squares / squares.sum(), rtol=1e-5)


@pytest.mark.parametrize("size", [(48, 32), (37, 51), (16, 16)])
@pytest.mark.parametrize("k", [1, 2, 16])
def test_shares_sum_to_1(size, k):
    assert shares(mask(*size), size[0] // k, size[1] // k).sum(dtype=np.float64) == pytest.approx(1, abs=1e-6)


def test_shares_of_an_empty_mask_are_zero():
    assert not shares(np.zeros((16, 16), np.float32), 4, 4).any()


def test_guided_grams_equal_the_loop_over_positions(extractor):
    layers = ("conv1_1", "conv2_1", "conv3_1")
    got = extractor.targets(GRAM, picture(32, 24), layers, mask=mask(32, 24))
    maps = extractor.extract(picture(32, 24), layers)
    for layer, k in zip(layers, (2, 2, 4), strict=True):
        squares = boxes(mask(32, 24), k) ** 2
        expected = np.zeros(got[layer].shape)
        for y, x in np.ndindex(squares.shape):
            f = maps[layer][:, y, x].astype(np.float64)
            expected += squares[y, x] / squares.sum() * np.outer(f, f)
        assert np.linalg.norm(got[layer] - expected) <= 1e-5 * np.linalg.norm(expected), layer


def test_a_mask_of_half_the_picture_uses_only_that_half(extractor):
    left = np.zeros((64, 64), np.float32)
    left[:, :32] = 1
    other = picture(64, 64).copy()
    # The receptive field of conv2_1 reaches 4 pixels to each side.
    other[:, 36:] = 255 - other[:, 36:]
    for region, same in ((left, True), (None, False)):
        first, second = (
            extractor.targets(GRAM, p, ["conv2_1"], mask=region)["conv2_1"] for p in (picture(64, 64), other)
        )
        assert (np.linalg.norm(first - second) <= 1e-6 * np.linalg.norm(first)) == same


def test_grams_without_a_mask_average_over_all_positions(extractor):
    got = extractor.targets(GRAM, picture(40, 56), ["conv2_1"])["conv2_1"]
    f = extractor.extract(picture(40, 56), ["conv2_1"])["conv2_1"].astype(np.float64).reshape(len(got), -1)
    expected = f @ f.T / (20 * 28)
    assert np.linalg.norm(got - expected) <= 1e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize("padding", ["zeros", "replicate"])
@pytest.mark.parametrize("size", [(150, 96), (131, 101), (70, 33)])
def test_features_in_tiles_equal_those_of_the_whole_picture(extractor, monkeypatch, size, padding):
    layers = ("conv3_1", "conv1_1", "conv4_2")

    def found() -> list[dict[str, np.ndarray]]:
        return [
            extractor.extract(picture(*size), layers, padding=padding),
            extractor.targets(GRAM, picture(*size), layers, padding=padding),
            extractor.targets(GRAM, picture(*size), layers, mask=mask(*size), padding=padding),
        ]

    expected = found()
    runs = []
    monkeypatch.setattr(features, "TILE", 32)
    monkeypatch.setattr(features, "release_free_memory", lambda: runs.append(1))
    for got, whole in zip(found(), expected, strict=True):
        for layer in layers:
            assert got[layer].shape == whole[layer].shape
            assert np.linalg.norm(got[layer] - whole[layer]) <= 1e-5 * np.linalg.norm(whole[layer]), layer
    # Check that there were several tiles.
    assert len(runs) >= 3 * 2
