"""The truncated network, compared with torchvision's VGG-19 and with plain torch."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from gramophone_server.engine.network import Network, Pool
from gramophone_server.models.vgg import vgg

CONVOLUTIONS = {"conv1_1": 0, "conv1_2": 2, "conv2_1": 5, "conv2_2": 7, "conv3_1": 10, "conv3_4": 16, "conv4_1": 19}


@pytest.fixture(scope="module")
def torchvision_vgg():
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    return models.vgg19(weights=None).features.eval()


@pytest.fixture(scope="module")
def full_weights(torchvision_vgg):
    blocks = zip(range(1, 6), (2, 2, 4, 4, 4), strict=True)
    names = [f"conv{block}_{i}" for block, count in blocks for i in range(1, count + 1)]
    convolutions = [m for m in torchvision_vgg if isinstance(m, torch.nn.Conv2d)]
    return {
        name: (m.weight.detach().numpy(), m.bias.detach().numpy()) for name, m in zip(names, convolutions, strict=True)
    }


@pytest.mark.parametrize("size", [(64, 64), (37, 51)])
def test_layers_equal_torchvisions_after_relu(torchvision_vgg, full_weights, size):
    canvas = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    got = Network(vgg(full_weights), full_weights, list(CONVOLUTIONS))(canvas)
    with torch.no_grad():
        for name, index in CONVOLUTIONS.items():
            # clone, because torchvision's ReLU works in place.
            expected = torchvision_vgg[: index + 2](canvas.clone())
            torch.testing.assert_close(got[name], expected, rtol=1e-4, atol=1e-5 * expected.max().item())


@pytest.mark.parametrize("size", [(24, 32), (37, 27)])
def test_a_first_layer_with_a_stride_equals_plain_torch(folding_weights, size):
    """The stride of the first layer replaces the pooling before block 2."""
    canvas = torch.rand(2, 3, *size, dtype=torch.float64)
    scale, shift = (2.0, 3.0, 4.0), (-0.5, 0.1, 0.2)
    network = Network(
        vgg(folding_weights),
        folding_weights,
        list(folding_weights),
        order=(2, 1, 0),
        scale=scale,
        shift=shift,
        dtype=torch.float64,
    )
    x = canvas.flip(1) * torch.tensor(scale).view(3, 1, 1) + torch.tensor(shift).view(3, 1, 1)
    for name, activation in network(canvas).items():
        kernel, bias = map(torch.from_numpy, folding_weights[name])
        step = 2 if name == "conv1_1" else 1
        x = F.conv2d(F.max_pool2d(x, 2) if name == "conv3_1" else x, kernel, bias, step, padding=step).relu()
        torch.testing.assert_close(activation, x, rtol=1e-6, atol=1e-6)
    assert [network.architecture.stride(name) for name in folding_weights] == [2, 2, 2, 2, 4]
    assert (network.architecture.grid, network.architecture.radius) == (4, 12)


@pytest.mark.parametrize("paddings", [("circular", "circular"), ("zeros", "circular"), ("circular", "replicate")])
@pytest.mark.parametrize("folding", [False, True])
def test_features_of_a_rolled_torus_are_the_rolled_features(weights, folding_weights, folding, paddings):
    """Rolling by a multiple of the stride along a circular axis moves features and gradients, and changes none."""
    used = folding_weights if folding else weights
    network = Network(vgg(used), used, list(weights), paddings=paddings, dtype=torch.float64)
    canvas = torch.rand(1, 3, 24, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    shifts = [8 if padding == "circular" else 0 for padding in paddings]
    for name, (features, gradient) in _with_gradients(network, canvas).items():
        moved, moved_gradient = _with_gradients(network, canvas.roll(shifts, (2, 3)))[name]
        steps = [shift // network.architecture.stride(name) for shift in shifts]
        torch.testing.assert_close(moved, features.roll(steps, (2, 3)))
        torch.testing.assert_close(moved_gradient, gradient.roll(shifts, (2, 3)))
    still = [0 if padding == "circular" else 8 for padding in paddings]
    if any(still):
        assert not torch.allclose(
            network(canvas.roll(still, (2, 3)))["conv1_1"],
            network(canvas)["conv1_1"].roll([s // network.architecture.stride("conv1_1") for s in still], (2, 3)),
        )


def _with_gradients(network, canvas):
    """Returns the features of each layer, and the gradient of the sum of their squares."""
    canvas = canvas.clone().requires_grad_()
    features = network(canvas)
    return {
        name: (f.detach(), torch.autograd.grad(f.square().sum(), canvas, retain_graph=True)[0])
        for name, f in features.items()
    }


def test_the_network_ends_at_the_deepest_layer(weights):
    for depth, layer in enumerate(["conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1"], start=1):
        assert len(Network(vgg(weights), weights, [layer]).architecture.convolutions) == depth
    assert set(Network(vgg(weights), weights, ["conv2_1"])(torch.rand(1, 3, 16, 16))) == {"conv2_1"}


def test_a_layer_without_weights_is_named(weights):
    with pytest.raises(KeyError, match="conv5_1"):
        Network(vgg(weights), weights, ["conv1_1", "conv5_1"])


def test_preprocessing_reorders_scales_and_shifts():
    identity = np.zeros((3, 3, 3, 3))
    identity[range(3), range(3), 1, 1] = 1
    weights = {"conv1_1": (identity, np.zeros(3))}
    network = Network(vgg(weights), weights, ["conv1_1"], order=(2, 1, 0), scale=(255, 255, 255), shift=(-10, -20, -30))
    color = torch.tensor([0.2, 0.4, 0.8]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    got = network(color)["conv1_1"][0, :, 0, 0].tolist()
    assert got == pytest.approx([255 * 0.8 - 10, 255 * 0.4 - 20, 255 * 0.2 - 30], rel=1e-5)


@pytest.mark.parametrize("size", [(24, 32), (21, 27)])
def test_pooling_before_relu_makes_the_same_values_and_gradients(weights, size):
    """The network pools before ReLU unless the layer before the pooling is requested."""
    canvas = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)).requires_grad_()
    made = []
    for layers in (["conv3_1"], ["conv1_2", "conv2_2", "conv3_1"]):
        features = Network(vgg(weights), weights, layers)(canvas)["conv3_1"]
        made.append((features, *torch.autograd.grad(features.square().sum(), canvas)))
    for got, expected in zip(*made, strict=True):
        assert torch.equal(got, expected)


def test_average_pooling_differs_from_max_pooling_except_for_one_color(weights):
    flat = torch.full((1, 3, 16, 16), 0.5)
    canvas = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    middle = (..., slice(2, 4), slice(2, 4))  # away from the zero padding
    pools: tuple[Pool, ...] = ("max", "average")
    pooled = {pool: Network(vgg(weights), weights, ["conv2_1"], pool=pool) for pool in pools}
    torch.testing.assert_close(pooled["max"](flat)["conv2_1"][middle], pooled["average"](flat)["conv2_1"][middle])
    assert not torch.allclose(pooled["max"](canvas)["conv2_1"], pooled["average"](canvas)["conv2_1"])


def test_a_head_is_a_matrix_product_at_each_position_that_later_layers_do_not_use(weights, heads):
    canvas = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    bare = Network(vgg(weights), weights, list(weights), dtype=torch.float64)(canvas)
    got = Network(vgg(weights), weights, list(weights), heads=heads, dtype=torch.float64)(canvas)
    for name, activation in bare.items():
        head = torch.tensor(heads[name]) if name in heads else torch.eye(activation.shape[1], dtype=torch.float64)
        torch.testing.assert_close(got[name], torch.einsum("oc,nchw->nohw", head, activation))
    assert min(got["conv1_1"].min(), got["conv2_1"].min()) < 0


def test_heads_of_unused_layers_are_dropped(weights, heads):
    assert list(Network(vgg(weights), weights, ["conv2_1", "conv3_1"], heads=heads).heads) == ["conv2_1"]


def test_bfloat16_is_close_to_float32(weights):
    canvas = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    exact = Network(vgg(weights), weights, ["conv3_1"])(canvas)["conv3_1"]
    reduced = Network(vgg(weights), weights, ["conv3_1"], dtype=torch.bfloat16)(canvas)["conv3_1"]
    assert reduced.dtype == torch.bfloat16
    assert (reduced.float() - exact).norm() / exact.norm() < 0.02
