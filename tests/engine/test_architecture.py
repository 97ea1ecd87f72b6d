"""Sizes, strides and receptive fields of random networks, compared with torch."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from gramophone_server.engine.architecture import INPUT, Architecture, Convolution, Pooling, Sum, Window
from gramophone_server.engine.kernels.padding import CIRCULAR, ZEROS
from gramophone_server.engine.network import Network
from gramophone_server.engine.tiling import cut

from .architectures import architectures, plain_features, random_weights

sides = st.integers(1, 60)


@settings(deadline=None)
@given(architectures(), sides, sides)
def test_sizes_are_those_of_torch(architecture, height, width):
    assume(min(height, width) >= architecture.least)
    maps = plain_features(architecture, random_weights(architecture), torch.zeros(1, 3, height, width))
    assert {name: tuple(x.shape[2:]) for name, x in maps.items()} == architecture.sizes(height, width)


@settings(deadline=None)
@given(architectures())
def test_the_smallest_side_is_the_first_with_a_position(architecture):
    for layer in architecture.layers:
        needed = architecture.upto([layer])
        counts = [
            min(map(min, needed.sizes(side, side).values())) for side in range(1, architecture.min_side(layer) + 1)
        ]
        assert counts[-1] > 0 and not any(count > 0 for count in counts[:-1])


@settings(deadline=None)
@given(architectures(), st.integers(0, 40))
def test_a_position_depends_only_on_its_receptive_field(architecture, extra):
    """A value that is not a number spreads to each position that reads it; a dilated window may skip it."""
    side, pixel = architecture.least + extra, (architecture.least + extra) // 2
    weights = {name: (np.ones_like(kernel), bias) for name, (kernel, bias) in random_weights(architecture).items()}
    x = torch.zeros(1, 3, side, side, dtype=torch.float64)
    x[:, :, pixel, pixel] = torch.nan
    for layer, features in plain_features(architecture, weights, x, "average").items():
        if layer == INPUT:
            continue
        reached, field = features.isnan()[0, 0].any(1).nonzero().flatten(), architecture._fields[layer]
        for position in reached.tolist():
            assert position * field.stride - field.before <= pixel < (position + 1) * field.stride + field.after


def test_a_receptive_field_is_as_small_as_possible():
    """The first and the last pixel of the field of an undilated network matter."""
    operations = (
        Convolution("a", INPUT, 3, 1, Window(5, 2, 1, 1)),
        Pooling("p", "a", 1, Window(3, 2)),
        Convolution("b", "p", 1, 1, Window(3, 1, 2, 0)),
    )
    architecture = Architecture(operations)
    field = architecture._fields["b"]
    weights = {c.name: (np.ones((1, c.inputs, *[c.window.side] * 2)), np.zeros(1)) for c in architecture.convolutions}
    x = torch.rand(1, 3, 80, 80, requires_grad=True)
    plain_features(architecture, weights, x, "average")["b"][0, 0, 9, 9].backward()
    assert x.grad is not None
    seen = x.grad[0, 0].any(1).nonzero().flatten()
    assert seen.min() == 9 * field.stride - field.before
    assert seen.max() == 10 * field.stride - 1 + field.after


@settings(deadline=None)
@given(architectures(), sides, sides, st.integers(1, 40), st.sampled_from(["max", "average"]))
@example(Architecture((Convolution("a", INPUT, 3, 4, Window(4, 4)),)), 13, 17, 8, "max")
@example(Architecture((Convolution("a", INPUT, 3, 4, Window(5, 3, 0, 0, 2)),)), 28, 29, 3, "max")
def test_tiles_have_exactly_the_features_of_the_whole_picture(architecture, height, width, side, pool):
    assume(min(height, width) >= architecture.least)
    layers = architecture.layers
    network = Network(architecture, random_weights(architecture), layers, pool=pool, dtype=torch.float64)
    needed = network.architecture
    canvas = torch.rand(1, 3, height, width, dtype=torch.float64)
    whole = network(canvas)
    found = {layer: torch.full_like(whole[layer], torch.nan) for layer in layers}
    for tile in cut(height, width, side, stride=needed.grid, radius=needed.radius, least=needed.least):
        (rows,), (columns,) = tile.rows.pieces, tile.columns.pieces
        parts = network(canvas[:, :, rows, columns])
        for layer in layers:
            stride = needed.stride(layer)
            found[layer][:, :, *tile.positions(stride)] = parts[layer][:, :, *tile.seen(stride)]
    for layer in layers:
        torch.testing.assert_close(found[layer], whole[layer], rtol=1e-9, atol=1e-9)


@settings(deadline=None)
@given(architectures(), sides, sides)
def test_a_canvas_that_wraps_has_the_features_of_its_repetition(architecture, height, width):
    layers, weights = architecture.layers, random_weights(architecture)
    torus, plane = (
        Network(architecture, weights, layers, paddings=paddings, dtype=torch.float64) for paddings in (CIRCULAR, ZEROS)
    )
    needed = torus.architecture
    grid, radius, least = needed.grid, needed.radius, needed.least
    canvas = torch.rand(1, 3, height, width, dtype=torch.float64)

    def repeated(first: int, last: int) -> torch.Tensor:
        rows, columns = (torch.arange(first, side + last) % side for side in (height, width))
        return canvas[:, :, rows][:, :, :, columns]

    (tile,) = cut(
        height, width, None, stride=grid, radius=radius, least=least, wraps=(True, True),
        always_halo=not needed.makes_torus,
    )  # fmt: skip
    rows, columns = (
        torch.arange(span.first, span.last) % side
        for span, side in zip((tile.rows, tile.columns), (height, width), strict=True)
    )
    found = torus(canvas[:, :, rows][:, :, :, columns])
    before = (radius // grid + 2) * grid
    expected = plane(repeated(-before, before + grid + least))
    for layer in layers:
        stride = needed.stride(layer)
        start, (high, wide) = before // stride, needed.size(layer, height, width, (True, True))
        torch.testing.assert_close(
            found[layer][:, :, *tile.seen(stride)], expected[layer][:, :, start : start + high, start : start + wide],
            rtol=1e-9, atol=1e-9,
        )  # fmt: skip


@settings(deadline=None)
@given(
    architectures(), sides, sides, st.sampled_from(["max", "average"]),
    st.sampled_from(["zeros", "replicate", "circular"]), st.data(),
)  # fmt: skip
def test_features_and_gradients_are_those_of_torch(architecture, height, width, pool, padding, data):
    assume(min(height, width) >= architecture.least)
    layers = data.draw(st.lists(st.sampled_from(architecture.layers), min_size=1, unique=True))
    weights = random_weights(architecture)
    network = Network(architecture, weights, layers, pool=pool, paddings=(padding, padding), dtype=torch.float64)
    first, second = (torch.rand(2, 3, height, width, dtype=torch.float64).requires_grad_() for _ in range(2))
    with torch.no_grad():
        second.copy_(first)
    ours, theirs = network(first), plain_features(architecture, weights, second, pool, padding)
    for layer in layers:
        torch.testing.assert_close(ours[layer], theirs[layer], rtol=1e-9, atol=1e-9)
    sum((ours[layer] ** 2).sum() for layer in layers).backward()
    sum((theirs[layer] ** 2).sum() for layer in layers).backward()
    torch.testing.assert_close(first.grad, second.grad, rtol=1e-6, atol=1e-6 * float(second.grad.abs().max()) + 1e-12)


def convolution(name: str, source: str, window: Window) -> Convolution:
    return Convolution(name, source, 3, 3, window)


def test_the_grid_is_a_multiple_of_all_strides():
    branches = (convolution("a", INPUT, Window(2, 2)), convolution("b", INPUT, Window(3, 3)))
    assert Architecture(branches).grid == 6


@pytest.mark.parametrize(
    ("operations", "reason"),
    [
        ((convolution("a", INPUT, Window(1)),) * 2, "two operations have the name 'a'"),
        ((convolution("a", "b", Window(1)),), "reads 'b', which is not computed before it"),
        ((Pooling("a", INPUT, 3, Window(2, 2)),), "reads the picture"),
        ((convolution("a", INPUT, Window(1)), Convolution("b", "a", 5, 3, Window(1))), "b expects 5 channels"),
        (
            (convolution("a", INPUT, Window(1)), convolution("b", "a", Window(2, 2)), Sum("c", ("a", "b"), 3)),
            "adds feature maps of strides 1 and 2",
        ),
    ],
)  # fmt: skip
def test_operations_that_do_not_fit_are_refused(operations, reason):
    with pytest.raises(ValueError, match=reason):
        Architecture(operations)


def test_sums_of_maps_whose_sizes_differ_for_some_pictures_are_refused():
    start, rounded_up = convolution("a", INPUT, Window(1)), Window(3, 2, 1, 1)
    halves = (convolution("b", "a", rounded_up), convolution("c", "a", Window(2, 2)))
    with pytest.raises(ValueError, match="different sizes, 2 and 1 positions a side, for a picture of 3"):
        Architecture((start, *halves, Sum("d", ("b", "c"), 3))).check_sums()
    same = (halves[0], convolution("c", "a", Window(1, 2)))
    Architecture((start, *same, Sum("d", ("b", "c"), 3))).check_sums()


def test_a_network_that_no_picture_is_large_enough_for_is_refused():
    operations = [convolution("0", INPUT, Window(64, 64))]
    operations += [convolution(str(n), str(n - 1), Window(64, 64)) for n in (1, 2)]
    with pytest.raises(ValueError, match="2 needs pictures of more than 65,536 pixels"):
        Architecture(tuple(operations)).min_side("2")


def test_the_count_of_places_grows_with_the_length():
    for window in (Window(3, 2, 1, 1, ceil=True), Window(2, 3, 0, 0, ceil=True), Window(5, 1, 0, 0, 2)):
        counts = [window.count(length) for length in range(1, 40)]
        assert all(0 <= second - first <= 1 for first, second in pairwise(counts))
