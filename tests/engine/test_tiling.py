"""Tiles partition the picture, and their gradients add up to the gradient of the whole picture."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gramophone_server.engine.architecture import Architecture
from gramophone_server.engine.kernels.padding import ZEROS
from gramophone_server.engine.losses import CONTENT, TOTAL_VARIATION, Loss, style_loss, style_losses
from gramophone_server.engine.network import Network
from gramophone_server.engine.objective import Objective
from gramophone_server.engine.term import WeightedTerm
from gramophone_server.engine.tiling import cut, whole
from gramophone_server.models.vgg import vgg

from .conftest import CHANNELS

TILED_LOSSES = sorted(name for name, loss in style_losses().items() if loss.tiling)


@settings(deadline=None)
@given(st.integers(16, 300), st.integers(16, 300), st.integers(1, 200), st.sampled_from([1, 2, 4, 8, 16]))
def test_interiors_partition_every_feature_map(height, width, side, stride):
    tiles = cut(height, width, side, stride=stride, radius=5)
    for layer_stride in (1, stride):
        owned = np.zeros((height // layer_stride, width // layer_stride), int)
        for tile in tiles:
            owned[tile.positions(layer_stride)] += 1
        assert (owned == 1).all()


@settings(deadline=None)
@given(st.integers(16, 300), st.integers(1, 200), st.integers(1, 80))
def test_a_tile_with_its_halo_reaches_the_radius_or_the_edge(length, side, radius):
    for tile in cut(length, 16, side, stride=4, radius=radius):
        rows = tile.rows
        assert rows.first == 0 or rows.first <= rows.start - radius
        assert rows.last == length or rows.last >= rows.end + radius
        assert rows.first % 4 == 0


@settings(deadline=None)
@given(st.integers(1, 300), st.none() | st.integers(1, 200), st.integers(1, 80), st.booleans())
def test_halos_continue_at_the_opposite_edge_of_an_axis_that_wraps(length, side, radius, always):
    tiles = cut(length, 4, side, stride=4, radius=radius, wraps=(True, False), always_halo=always)
    spans = [tile.rows for tile in tiles]
    assert [rows.start for rows in spans] == [0, *(rows.end for rows in spans[:-1])]
    for rows in spans:
        assert rows.first % 4 == 0
        seen = np.concatenate([np.arange(length)[piece] for piece in rows.pieces])
        assert np.array_equal(seen, np.arange(rows.first, rows.last) % length)
        if always or len(tiles) > 1 or length % 4:
            assert rows.first <= rows.start - radius and rows.last >= rows.end + radius
        else:
            assert rows.is_whole


def test_a_picture_smaller_than_a_tile_has_one_tile():
    assert cut(30, 50, 64, stride=16, radius=9) == whole(30, 50)
    assert cut(30, 50, None, stride=16, radius=9) == whole(30, 50)


@st.composite
def jobs(draw):
    """Draws a job: its size, side of tiles, layers for style and content, and options."""
    padding = st.sampled_from(["zeros", "replicate", "circular"])
    layers = st.lists(st.sampled_from(list(CHANNELS)), unique=True)
    return {
        "height": draw(st.integers(9, 70)),
        "width": draw(st.integers(9, 70)),
        "side": draw(st.integers(4, 40)),
        "style": draw(layers.filter(len)),
        "loss": draw(st.sampled_from(TILED_LOSSES)),
        "content": draw(layers),
        "masked": draw(st.booleans()),
        "variation": draw(st.booleans()),
        "pool": draw(st.sampled_from(["max", "average", "average_rescaled"])),
        "paddings": (draw(padding), draw(padding)),
        "batch": draw(st.integers(1, 2)),
        "seed": draw(st.integers(0, 999)),
        "folding": draw(st.booleans()),
        "cut": draw(st.integers(0, 3)),
    }


@pytest.fixture(scope="session")
def networks(weights, folding_weights) -> tuple[dict, dict]:
    """(weights, weights whose first layer has a stride of 2)."""
    return weights, folding_weights


def target(loss: Loss, features: torch.Tensor, share: torch.Tensor | None) -> torch.Tensor:
    """Returns the loss's targets for features (N, C, H, W)."""
    weights = 1 / features[0, 0].numel() if share is None else share[0].numpy()
    return torch.stack([torch.from_numpy(loss.target(f.numpy(), weights)) for f in features]).to(features.dtype)


def build(job, networks, dtype) -> tuple[Objective, Objective, torch.Tensor]:
    """Returns (the objective of the whole picture, the same in tiles, a canvas)."""
    generator = torch.Generator().manual_seed(job["seed"])

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype)

    network = Network(
        vgg(networks[job["folding"]]),
        networks[job["folding"]],
        job["style"] + job["content"],
        pool=job["pool"],
        paddings=job["paddings"],
        dtype=dtype,
    )
    wraps = (job["paddings"][0] == "circular", job["paddings"][1] == "circular")
    n, height, width, loss = job["batch"], job["height"], job["width"], style_loss(job["loss"])
    # The target is half as bright as the canvas: the loss must not be a small difference of large numbers.
    # Along an axis that wraps, the last positions may extend beyond the canvas.
    grid, size = network.architecture.grid, (height, width)
    grown = [-(-side // grid) * grid if wrap else side for side, wrap in zip(size, wraps, strict=True)]
    features = network(rand(n, 3, *grown) / 2)
    for name, values in features.items():
        rows, columns = network.architecture.size(name, height, width, wraps)
        features[name] = values[:, :, :rows, :columns]
    terms = []
    for name in job["style"]:
        share = None
        if job["masked"]:
            share = rand(1, *features[name].shape[2:])
            share = share / share.sum()
        terms.append(WeightedTerm(loss, name, target(loss, features[name], share), rand(n) + 0.5, share))
    for name in job["content"]:
        visible = rand(1, *features[name].shape[2:]) if job["masked"] else None
        weight = (rand(n) + 0.5) / features[name][0].numel()
        terms.append(WeightedTerm(CONTENT, name, features[name], weight, visible))
    if job["variation"]:
        pixels = rand(1, height, width) / (height * width) if job["masked"] else None
        terms.append(WeightedTerm(TOTAL_VARIATION, "", None, 1e-6 * (rand(n) + 0.5), pixels))
    at = cut_of(network.architecture, job, wraps)
    whole, tiles = (
        cut(height, width, side, stride=network.architecture.grid, radius=reach.radius, wraps=wraps)
        for side, reach in (
            (None, network.architecture),
            (job["side"], network.architecture.through(at) if at else network.architecture),
        )
    )
    objectives = Objective(network, terms, tiles=whole), Objective(network, terms, tiles=tiles, cut=at)
    return *objectives, rand(n, 3, height, width)


def cut_of(architecture: Architecture, job, wraps) -> str | None:
    """Returns the cut of a job; none on a torus whose size is no multiple of the grid, as in `partition`."""
    cuts: list[str | None] = [None, *architecture.cuts]
    sides = (job["height"], job["width"])
    if any(wrap and side % architecture.grid for wrap, side in zip(wraps, sides, strict=True)):
        return None
    return cuts[job.get("cut", 0) % len(cuts)]


@settings(max_examples=60, deadline=None)
@given(jobs())
def test_tiled_gradient_equals_the_whole_gradient(networks, job):
    by_whole, by_tiles, canvas = build(job, networks, torch.float32)
    expected, got = by_whole.evaluate(canvas), by_tiles.evaluate(canvas)
    torch.testing.assert_close(got.terms, expected.terms, rtol=1e-4, atol=1e-7 * expected.terms.abs().max().item())
    error = (got.gradient - expected.gradient).abs().max() / expected.gradient.abs().max()
    assert error <= 1e-4


@settings(max_examples=15, deadline=None)
@given(jobs())
def test_tiled_gradient_equals_the_whole_gradient_in_float64(networks, job):
    by_whole, by_tiles, canvas = build(job, networks, torch.float64)
    expected, got = by_whole.evaluate(canvas), by_tiles.evaluate(canvas)
    torch.testing.assert_close(
        got.gradient, expected.gradient, rtol=1e-9, atol=1e-12 * expected.gradient.abs().max().item()
    )
    with torch.no_grad():
        torch.testing.assert_close(by_tiles.losses(canvas), expected.terms, rtol=1e-9, atol=0)


@pytest.mark.parametrize("folding", [False, True])
@pytest.mark.parametrize("paddings", [("circular", "circular"), ("zeros", "circular"), ("circular", "zeros")])
@pytest.mark.parametrize("size", [(24, 32), (23, 30)])
def test_the_loss_of_a_torus_is_that_of_its_repetition(networks, folding, paddings, size):
    """The features equal those of a copy in the middle of a plane of copies; so do losses and gradients."""
    wraps = (paddings[0] == "circular", paddings[1] == "circular")
    torus, plane = (
        Network(vgg(networks[folding]), networks[folding], list(CHANNELS), paddings=p, dtype=torch.float64)
        for p in (paddings, ZEROS)
    )
    canvas = torch.rand(1, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    one, least = torch.ones(1, dtype=torch.float64), 1e-6
    terms = [
        *(WeightedTerm(style_loss("gram"), name, torch.zeros(1, n, n), one) for name, (_, n) in CHANNELS.items()),
        WeightedTerm(TOTAL_VARIATION, "", None, least * one),
    ]
    architecture = torus.architecture
    tiles = cut(size[0], size[1], None, stride=architecture.grid, radius=architecture.radius, wraps=wraps)
    got = Objective(torus, terms, tiles=tiles).evaluate(canvas)

    leaf = canvas.clone().requires_grad_()
    # Four copies before the middle one are a multiple of the stride at any size.
    starts = [4 * side if wrap else 0 for wrap, side in zip(wraps, size, strict=True)]
    expected = []
    for name, features in plane(leaf.tile([9 if wrap else 1 for wrap in wraps])).items():
        stride = architecture.stride(name)
        counts = [-(-side // stride) if wrap else side // stride for wrap, side in zip(wraps, size, strict=True)]
        rows, columns = (slice(s // stride, s // stride + n) for s, n in zip(starts, counts, strict=True))
        v = features[0, :, rows, columns].flatten(1)
        expected.append((v @ v.T / v.shape[1]).square().sum() / (4 * len(v) ** 2))
    variation = torch.zeros((), dtype=torch.float64)
    for axis, wrap in ((2, wraps[0]), (3, wraps[1])):
        steps = 255 * (leaf.roll(-1, axis) - leaf)
        variation = variation + (steps if wrap else steps.narrow(axis, 0, size[axis - 2] - 1)).square().mean()
    torch.testing.assert_close(got.terms[0], torch.stack([*expected, variation]))
    total = torch.stack(expected).sum() + least * variation
    torch.testing.assert_close(got.gradient, torch.autograd.grad(total, leaf)[0])


@pytest.mark.parametrize("side", [None, 16])
@pytest.mark.parametrize("folding", [False, True])
@pytest.mark.parametrize("paddings", [("circular", "circular"), ("zeros", "circular"), ("circular", "replicate")])
def test_loss_and_gradient_move_with_a_rolled_torus(networks, paddings, folding, side):
    job = {"height": 48, "width": 32, "side": side, "style": ["conv1_1", "conv3_1"], "loss": "gram", "content": []}
    job |= {"masked": False, "variation": True, "pool": "max", "paddings": paddings, "batch": 1, "seed": 0}
    _, objective, canvas = build(job | {"folding": folding}, networks, torch.float64)
    shifts = [8 if padding == "circular" else 0 for padding in paddings]
    still, moved = objective.evaluate(canvas), objective.evaluate(canvas.roll(shifts, (2, 3)))
    torch.testing.assert_close(moved.loss, still.loss)
    torch.testing.assert_close(moved.gradient, still.gradient.roll(shifts, (2, 3)))


@pytest.mark.parametrize(("at", "radius"), [(None, 4), ("pool2", 4)])
def test_half_a_halo_changes_the_gradient(networks, at, radius):
    """The tests above can fail: with half the halo the gradients differ."""
    job = {"height": 64, "width": 64, "side": 16, "style": ["conv3_1"], "loss": "gram", "content": [], "masked": False}
    job |= {"variation": False, "pool": "max", "paddings": ZEROS, "batch": 1, "seed": 0, "folding": False}
    by_whole, _, canvas = build(job, networks, torch.float64)
    tiles = cut(64, 64, 16, stride=4, radius=radius)
    by_tiles = Objective(by_whole.network, by_whole.terms, tiles=tiles, cut=at)
    expected, got = by_whole.evaluate(canvas).gradient, by_tiles.evaluate(canvas).gradient
    assert (got - expected).abs().max() > 1e-4 * expected.abs().max()


@pytest.mark.parametrize("layer", ["conv1_1", "conv2_2", "conv3_1"])
@pytest.mark.parametrize("folding", [False, True])
def test_radius_bounds_the_receptive_field(networks, layer, folding):
    network = Network(vgg(networks[folding]), networks[folding], [layer], dtype=torch.float64, pool="average")
    generator = torch.Generator().manual_seed(1)
    canvas = torch.rand(1, 3, 64, 64, dtype=torch.float64, generator=generator).requires_grad_()
    stride = network.architecture.stride(layer)
    at = 32 // stride
    # A sum over channels: with random weights the gradients of the channels do not cancel exactly.
    network(canvas)[layer][0, :, at, at].sum().backward()
    rows = canvas.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert rows.min() >= 32 - network.architecture.radius
    assert rows.max() <= 32 + stride - 1 + network.architecture.radius
