"""Graphs of random networks: they are read as they were written, compute what torch computes, and damage is refused."""

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gramophone_server.engine.architecture import INPUT, Architecture, Convolution, Pooling, Sum, Window
from gramophone_server.models.graph import Parameters, architecture_of, build_graph, parameters_of, parse, truncate
from tests.engine.architectures import architectures, plain_features, random_weights

RESIDUAL = Architecture(
    (
        Convolution("a", INPUT, 3, 4, Window(7, 2, 3, 3)),
        Pooling("p", "a", 4, Window(3, 2, 1, 1)),
        Convolution("b", "p", 4, 4, Window(3, 1, 2, 2, 2), groups=2),
        Convolution("c", "b", 4, 4, Window(3, 1, 1, 1), relu=False),
        Sum("d", ("c", "p"), 4),
    )
)


@settings(deadline=None)
@given(architectures())
def test_a_network_is_read_as_it_was_written(architecture):
    weights = random_weights(architecture)
    model = parse(build_graph(Parameters(architecture, weights)).SerializeToString())
    assert architecture_of(model) == architecture
    read = parameters_of(model).weights
    for name, (kernel, bias) in weights.items():
        assert np.array_equal(read[name][0], kernel.astype(np.float32))
        assert np.array_equal(read[name][1], bias.astype(np.float32))


@settings(deadline=None, max_examples=50)
@given(
    architectures(), st.integers(1, 50), st.integers(1, 50), st.sampled_from(["max", "average"]),
    st.sampled_from(["zeros", "replicate"]),
)  # fmt: skip
def test_onnx_runtime_computes_the_features_of_torch(architecture, height, width, pooling, padding):
    assume(min(height, width) >= architecture.least)
    weights, layers = random_weights(architecture), architecture.layers
    graph = truncate(build_graph(Parameters(architecture, weights)), layers, pooling=pooling, padding=padding)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    x = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    expected = plain_features(architecture, weights, x, pooling, padding)
    for layer, found in zip(layers, session.run(layers, {INPUT: x.numpy()}), strict=True):
        np.testing.assert_allclose(found, expected[layer].numpy(), rtol=1e-3, atol=1e-4, err_msg=layer)


def test_damaged_graphs_are_refused_or_read():
    """Bytes at random places are changed: whatever is read is a network, and nothing but ValueError is raised."""
    data = build_graph(Parameters(RESIDUAL, random_weights(RESIDUAL))).SerializeToString()
    rng, refused, read = np.random.default_rng(0), 0, 0
    for _ in range(400):
        changed = bytearray(data)
        for place in rng.integers(0, len(data), rng.integers(1, 6)):
            changed[place] = rng.integers(256)
        try:
            read += bool(parameters_of(parse(bytes(changed))).architecture.operations)
        except ValueError:
            refused += 1
    assert read > 10 and refused > 10


@pytest.mark.parametrize(
    ("operations", "reason"),
    [
        (
            (Convolution("a", INPUT, 3, 4, Window(3)), Pooling("p", "a", 4, Window(2, 2, 1, 1, ceil=True))),
            "wholly in its padding",
        ),
        (
            (
                Convolution("a", INPUT, 3, 4, Window(1)), Convolution("b", "a", 4, 4, Window(3, 2, 1, 1)),
                Pooling("p", "a", 4, Window(2, 2)), Sum("d", ("b", "p"), 4),
            ),
            "adds feature maps of different sizes",
        ),
    ],
)  # fmt: skip
def test_networks_whose_sizes_would_be_ambiguous_are_refused(operations, reason):
    architecture = Architecture(operations)
    graph = build_graph(Parameters(architecture, random_weights(architecture)))
    with pytest.raises(ValueError, match=reason):
        architecture_of(graph)
