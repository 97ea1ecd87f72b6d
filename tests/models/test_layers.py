"""The names of layers."""

from gramophone_server.models.layers import canonical_layer


def test_relu_is_a_synonym():
    assert canonical_layer("relu4_2") == "conv4_2"
    assert canonical_layer("conv4_2") == "conv4_2"
    assert canonical_layer("pool4") == "pool4"
