"""The cost model against what torch counts and saves."""

from collections.abc import Collection
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gramophone_server.engine.cost import (
    Convolution,
    Workload,
    canvas_bytes,
    content_bytes,
    extraction_bytes,
    forward_flops,
    gradient_bytes,
    judging_bytes,
    parameter_bytes,
    step_flops,
)
from gramophone_server.engine.losses import gram_matrix
from gramophone_server.engine.objective import Objective, Term
from gramophone_server.engine.tiling import cut, whole
from gramophone_server.engine.vgg import TruncatedVGG

from .conftest import CHANNELS

STYLE, CONTENT = ("conv1_1", "conv2_1", "conv3_1"), ("conv2_2",)


def work(
    style: tuple[str, ...] = STYLE,
    content: tuple[str, ...] = CONTENT,
    *,
    headed: Collection[str] = (),
    **fields: object,
) -> Workload:
    """The test network as the cost model sees it, as far as the deepest layer needed."""
    names = list(CHANNELS)[: 1 + max(map(list(CHANNELS).index, style + content))]
    taken = [Convolution(*CHANNELS[n], TruncatedVGG.stride(n), n in style, n in content, n in headed) for n in names]
    return Workload(tuple(taken), **fields)  # type: ignore[arg-type]


def terms(network: TruncatedVGG, canvas: torch.Tensor, style: tuple[str, ...], content: tuple[str, ...]) -> list[Term]:
    features = network(0.5 * canvas)
    one = torch.ones(1)
    return [
        *(Term("style", name, gram_matrix(features[name]), one) for name in style),
        *(Term("content", name, features[name].float(), one) for name in content),
    ]


@pytest.mark.parametrize("size", [(64, 64), (37, 51)])
def test_forward_flops_are_what_torch_counts(weights, size):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        TruncatedVGG(weights, list(CHANNELS))(torch.rand(1, 3, *size))
    assert forward_flops(work().convolutions, *size) == counter.get_total_flops()


@pytest.mark.parametrize(("style", "content"), [(STYLE, ()), ((), CONTENT), (STYLE, CONTENT)])
@pytest.mark.parametrize("side", [None, 40])
def test_step_flops_are_what_torch_counts_of_convolutions(weights, style, content, side):
    network = TruncatedVGG(weights, style + content)
    canvas = torch.rand(1, 3, 50, 70)
    tiles = cut(50, 70, side, stride=network.grid, radius=network.radius) if side else whole(50, 70)
    objective = Objective(network, terms(network, canvas, style, content), tiles=tiles)
    with FlopCounterMode(display=False) as counter:
        objective.evaluate(canvas)
    counted = sum(flops for name, flops in counter.get_flop_counts()["Global"].items() if "conv" in str(name))
    assert step_flops(work(style, content), tiles) == counted


def test_heads_are_counted_as_torch_counts_them(weights, heads):
    headed = [name for name in STYLE + CONTENT if name in heads]
    network = TruncatedVGG(weights, STYLE + CONTENT, heads=heads)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.rand(1, 3, 37, 51))
    counted = counter.get_total_flops()
    assert forward_flops(work(headed=headed).convolutions, 37, 51) == counted == network.flops(37, 51)
    assert counted > forward_flops(work().convolutions, 37, 51)
    more = sum(4 * heads[name].size for name in headed)
    assert work(headed=headed).weights_bytes == work().weights_bytes + more


@pytest.mark.parametrize("itemsize", [4, 2])
def test_gradient_bytes_have_room_for_what_heads_make(weights, heads, itemsize):
    headed = [name for name in STYLE + CONTENT if name in heads]
    job = work(headed=headed, itemsize=itemsize)
    saved = saved_bytes(weights, job, "max", "zeros", heads)
    assert saved > saved_bytes(weights, job, "max", "zeros")
    assert saved < gradient_bytes(job, 64, 96) < 2 * saved
    first = ("conv1_1",)
    assert judging_bytes(work(first, (), headed=first), 64, 96) > judging_bytes(work(first, ()), 64, 96)


def test_step_flops_are_those_of_each_canvas():
    tiles = whole(64, 64)
    assert step_flops(work(batch=3), tiles) == 3 * step_flops(work(), tiles)


def test_parameter_bytes_are_the_weights(weights):
    stored = sum(4 * (kernel.size + bias.size) for kernel, bias in weights.values())
    assert parameter_bytes(work().convolutions) == work().weights_bytes == stored
    needed = sum(4 * (weights[n][0].size + weights[n][1].size) for n in ("conv1_1", "conv1_2", "conv2_1", "conv2_2"))
    assert work().content_weights_bytes == needed
    assert work(content=()).content_weights_bytes == 0


def test_content_bytes_are_the_feature_maps(weights):
    maps = TruncatedVGG(weights, CONTENT)(torch.rand(2, 3, 37, 51))
    assert content_bytes(work(batch=2), 37, 51) == sum(f.nbytes for f in maps.values())


def saved_bytes(weights, job: Workload, pooling: str, padding: str, heads=None) -> int:
    """What autograd keeps of a forward pass for the backward pass, but for the weights."""
    dtype = torch.bfloat16 if job.itemsize == 2 else torch.float32
    network = TruncatedVGG(weights, STYLE + CONTENT, heads=heads, dtype=dtype, pool=pooling, padding=padding)
    canvas = torch.rand(1, 3, 64, 96)
    objective = Objective(network, terms(network, canvas, STYLE, CONTENT))
    constant = {t.untyped_storage().data_ptr() for t in network.parameters}
    storages = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        objective.losses(canvas.requires_grad_())
    return sum(t.untyped_storage().nbytes() for at, t in storages.items() if at not in constant)


@pytest.mark.parametrize("itemsize", [4, 2])
@pytest.mark.parametrize("pooling", ["max", "average"])
@pytest.mark.parametrize("padding", ["zeros", "replicate"])
def test_gradient_bytes_have_room_for_what_autograd_saves_and_not_for_twice_that(weights, itemsize, pooling, padding):
    job = work(itemsize=itemsize, max_pooling=pooling == "max", replicate=padding == "replicate")
    saved = saved_bytes(weights, job, pooling, padding)
    assert saved < gradient_bytes(job, 64, 96) < 2 * saved


def test_gradient_bytes_are_fewer_in_bfloat16():
    job = work(content=())
    assert gradient_bytes(replace(job, itemsize=2), 64, 64) < gradient_bytes(job, 64, 64)


@pytest.mark.parametrize(
    "more",
    [{"max_pooling": True}, {"replicate": True}, {"variation": True}, {"batch": 2}],
    ids=lambda more: next(iter(more)),
)
def test_gradient_bytes_grow_with_what_is_kept(more):
    job = work(max_pooling=False)
    assert gradient_bytes(replace(job, **more), 64, 64) > gradient_bytes(job, 64, 64)


def test_gradient_bytes_of_a_crop_count_the_interiors_cut_out():
    maps = 4 * sum(CHANNELS[n][1] * (64 // TruncatedVGG.stride(n)) ** 2 for n in STYLE)
    assert gradient_bytes(work(), 64, 64, cropped=True) == gradient_bytes(work(), 64, 64) + maps


def test_a_masked_gram_matrix_is_weighed_in_a_copy():
    # In float32 the gradients of the same layer take as much again, later; in bfloat16 the copy is the peak.
    job = work(("conv1_1",), (), itemsize=2)
    copy = 4 * CHANNELS["conv1_1"][1] * 64 * 64
    assert gradient_bytes(replace(job, masked=True), 64, 64) == gradient_bytes(job, 64, 64) + copy


@pytest.mark.parametrize("bytes_of", [extraction_bytes, judging_bytes])
def test_forward_passes_hold_the_layers_asked_for(bytes_of):
    assert bytes_of(work(), 64, 64) > bytes_of(work(("conv3_1",), ()), 64, 64)
    assert bytes_of(work(), 128, 64) == pytest.approx(2 * bytes_of(work(), 64, 64), abs=1)


def test_judging_bytes_at_their_peak_written_out():
    """Of conv1_2's input, its output and what is kept of conv1_1, the first two are the most."""
    assert judging_bytes(work(("conv1_2",), ()), 64, 64) == 4 * 64 * 64 * (4 + 4)
    assert judging_bytes(work(("conv1_1", "conv1_2"), ()), 64, 64) == 4 * 64 * 64 * (4 + 4 + 4)


@pytest.mark.parametrize("stepping", [False, True])
def test_canvas_bytes_grow_by_two_canvases_with_each_pair(stepping):
    canvas = 12 * 30 * 50 * 2
    for pairs in (0, 1, 29):
        fewer, more = (
            canvas_bytes(work(batch=2, pairs=number), 30, 50, stepping=stepping) for number in (pairs, pairs + 1)
        )
        assert more - fewer == 2 * canvas


def test_canvas_bytes_count_the_average_and_the_step():
    for pairs in (None, 5):
        job = work(pairs=pairs)
        assert canvas_bytes(replace(job, averaging=True), 30, 50) == canvas_bytes(job, 30, 50) + 2 * 12 * 30 * 50
        assert canvas_bytes(job, 30, 50, stepping=True) > canvas_bytes(job, 30, 50)
