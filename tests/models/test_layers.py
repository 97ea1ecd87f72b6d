"""The names, the order and the strides of layers."""

import pytest

from gramophone_server.models.layers import VGG19_LAYERS, canonical_layer, position, stride


def test_the_16_layers_are_named_in_order():
    assert len(VGG19_LAYERS) == 16
    assert VGG19_LAYERS[0] == "conv1_1"
    assert VGG19_LAYERS[-1] == "conv5_4"
    assert sorted(VGG19_LAYERS, key=position) == list(VGG19_LAYERS)


def test_relu_is_a_synonym():
    assert canonical_layer("relu4_2") == "conv4_2"
    assert canonical_layer("conv4_2") == "conv4_2"
    assert canonical_layer("pool4") == "pool4"


def test_stride_doubles_with_each_block():
    assert [stride(f"conv{block}_1") for block in range(1, 6)] == [1, 2, 4, 8, 16]
    assert [stride(f"conv{block}_1", first=2) for block in range(1, 6)] == [2, 2, 4, 8, 16]


def test_a_name_that_is_not_a_layer_is_an_error():
    with pytest.raises(ValueError, match="'pool3' is not the name of a layer"):
        position("pool3")
