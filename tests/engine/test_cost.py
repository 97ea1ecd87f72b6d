"""The cost model compared with the FLOPs and the memory that torch measures."""

from collections.abc import Collection
from dataclasses import replace
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from gramophone_server.engine import losses
from gramophone_server.engine.cost import (
    Copies,
    Use,
    Workload,
    canvas_bytes,
    content_bytes,
    evaluation_bytes,
    extraction_bytes,
    forward_flops,
    gradient_bytes,
    parameter_bytes,
    partition_bytes,
    step_flops,
)
from gramophone_server.engine.device import has_native_bfloat16, narrowest_winograd
from gramophone_server.engine.kernels.padding import REPLICATE, ZEROS
from gramophone_server.engine.losses import GRAM, TOTAL_VARIATION
from gramophone_server.engine.network import Network
from gramophone_server.engine.objective import Evaluation, Objective
from gramophone_server.engine.optimizers.lbfgs import LBFGS
from gramophone_server.engine.term import WeightedTerm
from gramophone_server.engine.tiling import Partition, cut, whole
from gramophone_server.models.vgg import vgg

from .conftest import CHANNELS

STYLE, CONTENT = ("conv1_1", "conv2_1", "conv3_1"), ("conv2_2",)


def work(
    style: tuple[str, ...] = STYLE,
    content: tuple[str, ...] = CONTENT,
    *,
    headed: Collection[str] = (),
    folding: bool = False,
    copies: Copies = Copies(),  # noqa: B008
    channels: dict[str, tuple[int, int]] = CHANNELS,
    **fields: Any,
) -> Workload:
    """Returns the workload of the test network, truncated at the deepest layer used."""
    kernels = {
        name: (np.zeros((outputs, inputs, 3, 3)), np.zeros(outputs)) for name, (inputs, outputs) in channels.items()
    }
    if folding:
        kernels["conv1_1"] = np.zeros((channels["conv1_1"][1], 3, 6, 6)), kernels["conv1_1"][1]
    uses = {
        name: Use(name in style, name in content, copies if name in style else Copies()) for name in style + content
    }
    return Workload(vgg(kernels, headed).upto(style + content), uses, summed=bool(style), **fields)


def terms(
    network: Network,
    canvas: torch.Tensor,
    style: tuple[str, ...],
    content: tuple[str, ...],
    loss: losses.Loss = GRAM,
) -> list[WeightedTerm]:
    features = network(0.5 * canvas)
    one = torch.ones(1)
    targets = {name: loss.target(features[name][0].float().numpy(), 1e-3) for name in style}
    return [
        *(WeightedTerm(loss, name, torch.from_numpy(target)[None], one) for name, target in targets.items()),
        *(WeightedTerm(losses.CONTENT, name, features[name].float(), one) for name in content),
    ]


@pytest.mark.parametrize("size", [(64, 64), (37, 51)])
def test_forward_flops_are_what_torch_counts(weights, size):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        Network(vgg(weights), weights, list(CHANNELS))(torch.rand(1, 3, *size))
    assert forward_flops(work(), *size) == counter.get_total_flops()


@pytest.mark.parametrize(("style", "content"), [(STYLE, ()), ((), CONTENT), (STYLE, CONTENT)])
@pytest.mark.parametrize("side", [None, 40])
def test_step_flops_are_what_torch_counts_of_convolutions(weights, style, content, side):
    network = Network(vgg(weights), weights, style + content)
    canvas = torch.rand(1, 3, 50, 70)
    tiles = (
        cut(50, 70, side, stride=network.architecture.grid, radius=network.architecture.radius)
        if side
        else whole(50, 70)
    )
    objective = Objective(network, terms(network, canvas, style, content), tiles=tiles)
    with FlopCounterMode(display=False) as counter:
        objective.evaluate(canvas)
    counted = sum(flops for name, flops in counter.get_flop_counts()["Global"].items() if "conv" in str(name))
    assert step_flops(work(style, content), Partition(tiles)) == counted


@pytest.mark.parametrize(("style", "content"), [((), CONTENT), (STYLE, CONTENT)])
@pytest.mark.parametrize("at", ["pool1", "pool2"])
def test_step_flops_with_a_cut_are_what_torch_counts_of_convolutions(weights, style, content, at):
    network = Network(vgg(weights), weights, (*style, *content, "conv3_1"))
    canvas = torch.rand(1, 3, 50, 70)
    front = network.architecture.through(at)
    tiles = cut(50, 70, 40, stride=front.grid, radius=front.radius)
    made = terms(network, canvas, style, (*content, "conv3_1"))
    with FlopCounterMode(display=False) as counter:
        Objective(network, made, tiles=tiles, cut=at).evaluate(canvas)
    counted = sum(flops for name, flops in counter.get_flop_counts()["Global"].items() if "conv" in str(name))
    assert step_flops(work(style, (*content, "conv3_1")), Partition(tiles, at)) == counted


@pytest.mark.parametrize("at", ["pool1", "pool2"])
@pytest.mark.parametrize("batch", [1, 2])
def test_partition_bytes_with_a_cut_are_what_torch_allocates(at, batch):
    rng = np.random.default_rng(0)
    weights = {n: (rng.normal(0, 0.1, (o, i, 3, 3)), rng.normal(0, 0.1, o)) for n, (i, o) in WIDE.items()}
    network = Network(vgg(weights), weights, STYLE)
    front = network.architecture.through(at)
    tiles = cut(384, 320, 96, stride=network.architecture.grid, radius=front.radius)
    canvas = torch.rand(batch, 3, 384, 320)
    held = held_bytes(Objective(network, terms(network, canvas, STYLE, ()), tiles=tiles, cut=at), canvas)
    job = work(STYLE, (), channels=WIDE, winograd=narrowest_winograd(), cpu=True, batch=batch)
    assert 0.88 * held < partition_bytes(job, Partition(tiles, at)) < 1.2 * held


def test_step_flops_with_heads_are_what_torch_counts_of_convolutions(weights, heads):
    headed = [name for name in STYLE + CONTENT if name in heads]
    network = Network(vgg(weights), weights, STYLE + CONTENT, heads=heads)
    canvas = torch.rand(1, 3, 37, 51)
    objective = Objective(network, terms(network, canvas, STYLE, CONTENT))
    with FlopCounterMode(display=False) as counter:
        objective.evaluate(canvas)
    counted = sum(flops for name, flops in counter.get_flop_counts()["Global"].items() if "conv" in str(name))
    assert (
        step_flops(work(headed=headed), Partition(whole(37, 51)))
        == counted
        > step_flops(work(), Partition(whole(37, 51)))
    )
    more = sum(4 * heads[name].size for name in headed)
    assert work(headed=headed).weights_bytes == work().weights_bytes + more


def test_heads_take_memory_for_content_layers_only():
    first = ("conv1_1",)
    assert evaluation_bytes(work((), first, headed=first), 64, 96) > evaluation_bytes(work((), first), 64, 96)
    assert gradient_bytes(work(first, (), headed=first), 64, 96) == gradient_bytes(work(first, ()), 64, 96)


def test_step_flops_are_proportional_to_the_batch():
    tiles = Partition(whole(64, 64))
    assert step_flops(work(batch=3), tiles) == 3 * step_flops(work(), tiles)


def test_parameter_bytes_are_the_weights(weights):
    stored = sum(4 * (kernel.size + bias.size) for kernel, bias in weights.values())
    assert parameter_bytes(work().architecture) == work().weights_bytes == stored
    needed = sum(4 * (weights[n][0].size + weights[n][1].size) for n in ("conv1_1", "conv1_2", "conv2_1", "conv2_2"))
    assert work().content_weights_bytes == needed
    assert work(content=()).content_weights_bytes == 0


def test_content_bytes_are_the_feature_maps(weights):
    maps = Network(vgg(weights), weights, CONTENT)(torch.rand(2, 3, 37, 51))
    assert content_bytes(work(batch=2), 37, 51) == sum(f.nbytes for f in maps.values())


WIDE = {"conv1_1": (3, 32), "conv1_2": (32, 32), "conv2_1": (32, 128), "conv2_2": (128, 128), "conv3_1": (128, 192)}


def held_bytes(objective: Objective, canvas: torch.Tensor) -> int:
    """Returns the bytes that torch allocates at most at once while a gradient is computed."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        objective.evaluate(canvas)
    return peak_bytes(recorded)


def peak_bytes(recorded: profile) -> int:
    """Returns the peak of the recorded allocations, in bytes beyond those at the start."""
    changes = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate(event.nbytes() for event in sorted(changes, key=lambda event: event.start_ns())))


@pytest.mark.parametrize(
    ("style", "content", "options"),
    [
        (STYLE, (), {}),
        (STYLE, (), {"itemsize": 2}),
        (("conv3_1",), (), {"max_pooling": False}),
        (STYLE, (), {"copied": True}),
        (STYLE, (), {"paddings": ("circular", "circular")}),
        (STYLE, (), {"paddings": ("zeros", "circular"), "folding": True, "variation": True}),
        (STYLE, (), {"paddings": ("circular", "circular"), "cropped": True}),
        (STYLE, CONTENT, {"batch": 2}),
        ((), CONTENT, {"variation": True}),
        (("conv1_1",), (), {"masked": True}),
        (("conv1_1",), (), {"loss": "mean_covariance"}),
        (("conv1_1",), (), {"loss": "sliced_wasserstein"}),
        (STYLE, CONTENT, {"loss": "sliced_wasserstein"}),
        (STYLE, CONTENT, {"loss": "mean_covariance"}),
        (("conv1_1",), (), {"loss": "nearest_neighbor"}),
        (STYLE, CONTENT, {"loss": "nearest_neighbor"}),
        (STYLE, CONTENT, {"headed": STYLE + CONTENT}),
        (STYLE, CONTENT, {"cropped": True}),
        (STYLE, (), {"folding": True}),
        (STYLE, CONTENT, {"folding": True, "itemsize": 2, "copied": True}),
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [(192, 256), (189, 251)])
def test_gradient_bytes_are_what_torch_allocates(style, content, options, size):
    options = dict(options)
    paddings = options.pop("paddings", REPLICATE if options.get("copied") else ZEROS)
    cropped, headed = bool(options.pop("cropped", False)), options.pop("headed", ())
    folding, loss = bool(options.pop("folding", False)), losses.style_loss(options.pop("loss", "gram"))
    rng = np.random.default_rng(0)
    weights = {n: (rng.normal(0, 0.1, (o, i, 3, 3)), rng.normal(0, 0.1, o)) for n, (i, o) in WIDE.items()}
    if folding:
        weights["conv1_1"] = rng.normal(0, 0.1, (32, 3, 6, 6)), rng.normal(0, 0.1, 32)
    heads = {name: rng.normal(0, 0.1, (WIDE[name][1],) * 2) for name in headed}
    if options.get("itemsize") == 2 and not has_native_bfloat16(torch.device("cpu")):
        pytest.skip("this CPU has no native bfloat16, and torch's fallback allocates additional memory")
    job = work(
        style, content, headed=headed, folding=folding, copies=loss.copies, channels=WIDE,
        winograd=0 if paddings == REPLICATE else narrowest_winograd(), cpu=True,
        **{"copied": paddings != ZEROS, **options},
    )  # fmt: skip
    network = Network(
        vgg(weights), weights, style + content, heads=heads, pool="max" if job.max_pooling else "average",
        paddings=paddings, dtype=torch.bfloat16 if job.itemsize == 2 else torch.float32,
    )  # fmt: skip
    height, width = size
    wraps = (paddings[0] == "circular", paddings[1] == "circular")
    side, architecture = 128 if cropped else None, network.architecture
    tiles = cut(height, width, side, stride=architecture.grid, radius=architecture.radius, wraps=wraps)
    # A canvas that wraps has a halo unless its size is a multiple of the stride.
    cropped = not tiles[0].is_whole
    if cropped:
        size = max(t.rows.seen_pixels for t in tiles), max(t.columns.seen_pixels for t in tiles)
    canvas = torch.rand(job.batch, 3, height, width)
    made = terms(network, canvas, style, content, loss)
    if job.masked:
        shares = torch.rand(1, height, width) / (height * width)
        made = [replace(term, share=shares) for term in made]
    if job.variation:
        made.append(WeightedTerm(TOTAL_VARIATION, "", None, torch.ones(1)))
    held = held_bytes(Objective(network, made, tiles=tiles), canvas)
    predicted = gradient_bytes(job, *size, cropped=cropped)
    # For a tile, the cost model counts the interior as large as the tile with its halo; it does not count the copy of
    # the canvas that a halo at the opposite edge needs.
    assert (0.85 if any(wraps) else 0.88) * held < predicted < (1.3 if cropped else 1.15) * held


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_network_bytes_are_the_bytes_of_the_parameters(dtype):
    """Including the transformed kernels of Winograd in float32, and packed kernels in bfloat16."""
    if dtype == torch.bfloat16 and not has_native_bfloat16(torch.device("cpu")):
        pytest.skip("this CPU has no native bfloat16, so that kernels are not packed")
    rng = np.random.default_rng(0)
    weights = {n: (rng.normal(0, 0.1, (o, i, 3, 3)), rng.normal(0, 0.1, o)) for n, (i, o) in WIDE.items()}
    network = Network(vgg(weights), weights, ("conv3_1",), dtype=dtype)
    job = work(("conv3_1",), (), channels=WIDE, itemsize=dtype.itemsize, winograd=narrowest_winograd(), cpu=True)
    held = sum(tensor.numel() * tensor.element_size() for tensor in network.parameters)
    assert job.network_bytes == pytest.approx(held, rel=0.02)


def test_gradient_bytes_are_fewer_in_bfloat16():
    job = work(content=())
    assert gradient_bytes(replace(job, itemsize=2), 64, 64) < gradient_bytes(job, 64, 64)


@pytest.mark.parametrize(
    "more",
    [{"max_pooling": True}, {"copied": True}, {"variation": True}, {"batch": 2}],
    ids=lambda more: next(iter(more)),
)
def test_gradient_bytes_grow_with_options_that_need_memory(more):
    job = work(max_pooling=False)
    assert gradient_bytes(replace(job, **more), 64, 64) > gradient_bytes(job, 64, 64)


def test_extraction_bytes_grow_with_the_layers_and_the_size():
    assert extraction_bytes(work(), 64, 64) > extraction_bytes(work(("conv3_1",), ()), 64, 64)
    assert extraction_bytes(work(), 128, 64) == pytest.approx(2 * extraction_bytes(work(), 64, 64), abs=1)


def test_evaluation_bytes_are_one_input_and_one_output():
    """At the peak, the input and the output of one convolution are in memory; no activation is kept."""
    assert evaluation_bytes(work(("conv1_2",), ()), 64, 64) == 4 * 64 * 64 * (4 + 4)
    assert evaluation_bytes(work(("conv1_1", "conv1_2"), ()), 64, 64) == 4 * 64 * 64 * (4 + 4)


@pytest.mark.parametrize("stepping", [False, True])
def test_canvas_bytes_grow_by_two_canvases_with_each_pair(stepping):
    canvas = 12 * 1000 * 1500 * 2
    for pairs in (0, 1, 29):
        fewer, more = (
            canvas_bytes(work(batch=2, pairs=number), 1000, 1500, stepping=stepping) for number in (pairs, pairs + 1)
        )
        assert more - fewer == 2 * canvas


@pytest.mark.parametrize("size", [(40, 50), (400, 512), (900, 800)])
def test_canvas_bytes_are_what_lbfgs_allocates(size):
    """The three sizes store curvature pairs in blocks of many pairs, of six pairs and of one pair."""
    history, canvas, target = 20, torch.rand(1, 3, *size), torch.rand(1, 3, *size)

    def step() -> None:
        nonlocal canvas
        apart = canvas - target
        loss = apart.square().sum((1, 2, 3))
        canvas = optimizer.step(canvas, Evaluation(loss[:, None], loss, 2 * apart))

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        optimizer = LBFGS(history=history)
        for _ in range(history + 8):
            step()
    held = peak_bytes(recorded)
    predicted = canvas_bytes(work(pairs=history), *size, stepping=True)
    assert 0.95 * held < predicted < 1.15 * held


def test_canvas_bytes_count_the_average_and_the_step():
    for pairs in (None, 5):
        job = work(pairs=pairs)
        assert canvas_bytes(replace(job, averaging=True), 30, 50) == canvas_bytes(job, 30, 50) + 2 * 12 * 30 * 50
        assert canvas_bytes(job, 30, 50, stepping=True) > canvas_bytes(job, 30, 50)
