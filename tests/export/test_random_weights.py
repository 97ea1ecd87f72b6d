"""Random weights of any architecture: every filter has the same mean activation."""

import numpy as np
import torch

from gramophone_export.catalog import TORCHVISION
from gramophone_export.convert import torch_activations
from gramophone_export.random_weights import ACTIVATION, dead_leaves, normalized_weights
from gramophone_server.engine.architecture import INPUT, Architecture, Convolution, Pooling, Sum, Window
from gramophone_server.models.graph import Parameters

ARCHITECTURE = Architecture(
    (
        Convolution("a", INPUT, 3, 12, Window(7, 2, 3, 2)),
        Pooling("p", "a", 12, Window(3, 2, ceil=True)),
        Convolution("b", "p", 12, 12, Window(3, 1, 1, 1), groups=3),
        Convolution("c", "b", 12, 12, Window(3, 1, 2, 2, 2), relu=False),
        Sum("d", ("b", "c"), 12),
        Convolution("e", "d", 12, 20, Window(1)),
    )
)


def test_filters_have_the_same_mean_activation():
    weights = normalized_weights(ARCHITECTURE, 2)
    rng = np.random.default_rng(2)
    pictures = np.stack([dead_leaves(rng) for _ in range(6)])
    _, scale, shift = TORCHVISION.affine
    x = torch.from_numpy(pictures / 255 * scale + shift).permute(0, 3, 1, 2).float()
    found = torch_activations(Parameters(ARCHITECTURE, weights), x)
    for layer in ("a", "b", "e"):
        np.testing.assert_allclose(found[layer].mean((0, 2, 3)), ACTIVATION, rtol=0.02)
    np.testing.assert_allclose(found["c"].std((0, 2, 3)), ACTIVATION, rtol=0.02)


def test_the_same_seed_gives_the_same_weights():
    first, again, other = (normalized_weights(ARCHITECTURE, seed) for seed in (1, 1, 2))
    for layer, (kernel, bias) in first.items():
        assert np.array_equal(kernel, again[layer][0]) and np.array_equal(bias, again[layer][1])
        assert not np.array_equal(kernel, other[layer][0])
