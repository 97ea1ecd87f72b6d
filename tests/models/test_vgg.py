"""The architecture of VGG networks: names, order, poolings and strides of the layers."""

import numpy as np
import pytest

from gramophone_server.engine.architecture import Pooling
from gramophone_server.models.vgg import VGG16_BLOCKS, VGG19_BLOCKS, VGG19_LAYERS, layer_names, position, vgg


def weights(blocks, side=3):
    """Returns weights of two channels for the convolutions of each block; `side` is that of the first kernel."""
    sides = {"conv1_1": side}
    names = layer_names(blocks)
    return {
        name: (np.zeros((2, 3 if name == "conv1_1" else 2, *[sides.get(name, 3)] * 2)), np.zeros(2)) for name in names
    }


def test_the_16_layers_of_vgg19_are_named_in_order():
    assert len(VGG19_LAYERS) == 16
    assert VGG19_LAYERS[0] == "conv1_1"
    assert VGG19_LAYERS[-1] == "conv5_4"
    assert sorted(VGG19_LAYERS, key=position) == list(VGG19_LAYERS)


def test_a_name_that_is_not_a_layer_is_an_error():
    with pytest.raises(ValueError, match="'pool3' is not the name of a layer"):
        position("pool3")


@pytest.mark.parametrize(("blocks", "count"), [(VGG16_BLOCKS, 13), (VGG19_BLOCKS, 16)])
def test_the_stride_doubles_with_each_block(blocks, count):
    network = vgg(weights(blocks))
    assert len(network.convolutions) == count
    assert [network.stride(f"conv{block}_1") for block in range(1, 6)] == [1, 2, 4, 8, 16]
    assert [operation.name for operation in network.operations if isinstance(operation, Pooling)] == [
        "pool1", "pool2", "pool3", "pool4"
    ]  # fmt: skip
    assert network.size("conv5_1", 97, 131) == (6, 8)
    assert network.min_side("conv5_1") == 16


def test_a_first_layer_of_stride_2_replaces_the_first_pooling():
    network = vgg(weights(VGG19_BLOCKS, side=6), heads=["conv1_1"])
    assert [network.stride(f"conv{block}_1") for block in range(1, 6)] == [2, 2, 4, 8, 16]
    assert network.size("conv2_1", 97, 131) == (48, 65)
    assert [convolution.head for convolution in network.convolutions[:2]] == [True, False]


def test_the_radius_adds_one_position_of_each_layer():
    network = vgg(weights((1, 1, 1), side=6))
    assert [network.upto([layer]).radius for layer in network.layers] == [2, 4, 8]
