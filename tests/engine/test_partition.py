"""The choice of the parts in which a gradient is computed."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from gramophone_server.engine.architecture import INPUT, Architecture, Convolution, Pooling, Sum, Window
from gramophone_server.engine.cost import Workload, keeps_tiles, partition_bytes, path_flops, step_flops
from gramophone_server.engine.network import Network
from gramophone_server.engine.partition import in_tiles, partition
from gramophone_server.models.loading import load_architecture
from gramophone_server.models.store import BUILTIN_MODEL, ModelStore
from gramophone_server.models.vgg import vgg

from .architectures import architectures, random_weights

SIDES = (1024, 768, 512, 384, 256, 128, 64)


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Architecture:
    return load_architecture(ModelStore(tmp_path_factory.mktemp("models")).get(BUILTIN_MODEL)).upto(["conv5_1"])


def test_a_canvas_no_larger_than_a_tile_is_one_tile_without_a_cut(network):
    for side in (None, 304, 512):
        made = partition(network, 300, 200, side)
        assert len(made.tiles) == 1 and made.tiles[0].is_whole
        assert made.cut is None


def test_tiles_of_half_a_side_of_vgg19_need_a_fifth_more_operations_and_no_more_memory_than_a_tile():
    channels = {1: (3, 64, 64), 2: (64, 128, 128), 3: (128, *[256] * 4), 4: (256, *[512] * 4), 5: (512, 512)}
    kernels = {
        f"conv{block}_{number}": (np.broadcast_to(np.float32(0), (outputs, inputs, 3, 3)), np.zeros(outputs))
        for block, counts in channels.items()
        for number, (inputs, outputs) in enumerate(pairwise(counts), 1)
    }
    network = vgg(kernels)
    work = Workload(network)
    made, alone, whole = (
        partition(network, 1024, 1024, 512),
        in_tiles(network, 1024, 1024, 512),
        in_tiles(network, 1024, 1024, None),
    )
    assert made.cut == "pool2"
    assert partition_bytes(work, made) < 1.05 * partition_bytes(work, alone)
    assert step_flops(work, made) < 1.2 * step_flops(work, whole)
    assert step_flops(work, alone) > 1.9 * step_flops(work, whole)


@pytest.mark.parametrize("side", SIDES)
def test_a_partition_needs_no_more_memory_and_no_more_operations_than_tiles_alone(network, side):
    work = Workload(network)
    made, alone = partition(network, 1536, 1024, side), in_tiles(network, 1536, 1024, side)
    reach = side + 2 * 48  # the halo of this network
    tile = in_tiles(network, min(1536, reach), min(1024, reach), None)
    assert partition_bytes(work, made) <= 1.05 * partition_bytes(work, tile)
    assert step_flops(work, made) <= step_flops(work, alone)


def test_large_tiles_leave_memory_for_a_cut_and_save_operations(network):
    work = Workload(network)
    made, alone = partition(network, 1024, 1024, 768), in_tiles(network, 1024, 1024, 768)
    assert made.cut == "pool2"
    assert step_flops(work, made) < 0.7 * step_flops(work, alone)


def test_the_interiors_meet_at_the_grid_of_the_whole_network(network):
    made = partition(network, 1024, 1024, 768)
    assert made.cut is not None
    for tile in made.tiles:
        assert all(span.first % network.grid == 0 for span in (tile.rows, tile.columns))


def test_one_pass_over_tiles_wins_over_a_cut_that_computes_twice(network):
    """Losses that are sums over positions need no statistics: then a deep cut saves nothing."""
    twice, once = (partition(network, 1024, 1024, 256, summed=summed) for summed in (True, False))
    work = Workload(network, summed=False)
    assert twice.cut is not None
    assert step_flops(work, once) <= step_flops(work, twice)


def test_a_torus_is_cut_only_if_its_size_is_a_multiple_of_the_grid(network):
    wraps = (False, True)
    assert partition(network, 1000, 1024, 768, wraps=wraps).cut is not None
    assert partition(network, 1024, 1000, 768, wraps=wraps).cut is None


def test_cuts_are_operations_with_a_stride_whose_output_is_all_that_later_ones_read():
    down = Window(3, 2, 1, 1)
    network = Architecture(
        (
            Convolution("first", INPUT, 3, 4, Window(3, 1, 1, 1)),
            Pooling("pool1", "first", 4, Window(2, 2)),
            Convolution("branch", "pool1", 4, 4, Window(3, 1, 1, 1)),
            Sum("sum1", ("pool1", "branch"), 4),
            # The next sum reads two maps of half the size, both made of the first sum.
            Convolution("main", "sum1", 4, 4, down),
            Convolution("side", "sum1", 4, 4, Window(1, 2)),
            Sum("sum2", ("main", "side"), 4),
            Convolution("third", "sum2", 4, 4, down),
            Convolution("fourth", "third", 4, 4, Window(3, 1, 1, 1)),
            Pooling("last", "fourth", 4, Window(2, 2)),
        )
    )
    assert network.cuts == ("pool1", "third")
    assert [operation.name for operation in network.through("pool1").operations] == ["first", "pool1"]


@settings(max_examples=30, deadline=None)
@given(architectures())
def test_a_network_continues_from_the_output_of_a_cut(architecture):
    layers = architecture.layers[-1:]
    network = Network(architecture, random_weights(architecture), layers, dtype=torch.float64)
    side = network.architecture.least + 16
    canvas = torch.rand(1, 3, side, side + 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = network(canvas)[layers[0]]
    for name in network.architecture.cuts:
        seen: dict[str, torch.Tensor] = {}
        middle = network.visit(canvas, seen.setdefault, until=name)
        assert not seen
        assert torch.equal(network.visit(middle, seen.setdefault, after=name), expected)
        assert torch.equal(seen[layers[0]], expected)


@pytest.mark.parametrize("devices", [2, 3, 4])
def test_several_devices_divide_a_canvas_that_one_could_compute(network, devices):
    work = Workload(network)
    made, alone = (partition(network, 1024, 1024, None, devices=count) for count in (devices, 1))
    assert len(alone.tiles) == 1
    assert len(made.tiles) == devices
    assert keeps_tiles(made, devices)
    assert path_flops(work, made, devices) < 0.8 * path_flops(work, alone, 1)
    # Each tile is computed once: only halos are computed by two devices.
    assert step_flops(work, made, devices) < 1.5 * step_flops(work, alone)


@pytest.mark.parametrize(("side", "devices"), [(224, 2), (480, 2), (512, 4)])
def test_several_devices_do_not_divide_a_small_canvas(network, side, devices):
    assert len(partition(network, side, side, None, devices=devices).tiles) == 1


def test_the_busiest_device_counts_for_tiles_on_several_devices(network):
    work = Workload(network)
    one, four = (partition(network, 1024, 1024, 256, devices=devices) for devices in (1, 4))
    assert path_flops(work, four, 4) <= path_flops(work, one, 4) < path_flops(work, one, 1)


def test_two_parts_of_a_cpu_need_the_memory_of_both_and_two_gpus_that_of_one(network):
    made = partition(network, 1024, 1024, 256, devices=2)
    cpu, gpu = Workload(network, cpu=True), Workload(network)
    assert partition_bytes(cpu, made, 2) > 1.2 * partition_bytes(cpu, made)
    assert partition_bytes(gpu, made, 2) == partition_bytes(gpu, made)
