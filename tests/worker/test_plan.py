"""Plans that make jobs fit into the available memory: tiles, and the history in host memory."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from gramophone_server.engine.architecture import INPUT, Architecture, Convolution
from gramophone_server.engine.cost import forward_flops
from gramophone_server.messages.spec import JobSpec, LayerWeight, LevelSpec, Mask, StyleLayer, StylePicture
from gramophone_server.models.loading import load_architecture
from gramophone_server.models.store import BUILTIN_MODEL, ModelStore
from gramophone_server.worker import prepared
from gramophone_server.worker.plan import Plan, plan, workload
from tests.messages.specs import PICTURE, make_spec

CPU = torch.device("cpu")
PLENTY = 1 << 50


@pytest.fixture(scope="module")
def architecture(tmp_path_factory) -> Architecture:
    return load_architecture(ModelStore(tmp_path_factory.mktemp("models")).get(BUILTIN_MODEL))


def job(side: int = 1024, **fields: Any) -> JobSpec:
    return make_spec(side, **fields)


def in_tiles(architecture: Architecture, side: int, **fields: Any) -> Plan:
    return plan(job(tile_size=side, **fields), architecture, CPU, PLENTY)


def test_a_job_runs_without_tiles_if_it_fits(architecture):
    got = plan(job(), architecture, CPU, PLENTY)
    assert got.tile is None
    assert got.fits


def test_a_job_runs_in_the_largest_tiles_that_fit(architecture):
    whole = plan(job(), architecture, CPU, PLENTY)
    for side in (512, 256, 128):
        # Enough memory for these tiles with the reserve. Somewhat larger tiles may need hardly more.
        needed = in_tiles(architecture, side).bytes
        got = plan(job(), architecture, CPU, int(needed * 1.06))
        assert got.fits
        assert got.tile is not None
        assert side <= got.tile < 2 * side
        assert got.bytes == in_tiles(architecture, got.tile).bytes < whole.bytes
        assert all(in_tiles(architecture, larger).bytes > 1.005 * needed for larger in TILES if larger > got.tile)


def test_a_plan_keeps_a_reserve_of_memory(architecture):
    needed = plan(job(), architecture, CPU, PLENTY).bytes
    assert plan(job(), architecture, CPU, needed).tile is not None
    assert plan(job(), architecture, CPU, int(needed * 1.1)).tile is None


def test_a_job_that_does_not_fit_says_the_least_memory_it_needs(architecture):
    # On the two smaller canvases the smallest tiles do not need least: with its halo each one covers all of the canvas.
    for side in (128, 192, 512, 1024):
        got = plan(job(side), architecture, CPU, 1 << 20)
        assert not got.fits
        plans = [
            plan(job(side), architecture, CPU, PLENTY),
            *(in_tiles(architecture, tile, **sized(side)) for tile in TILES),
        ]
        assert got.bytes == min(made.bytes for made in plans) > 1 << 20


TILES = (1024, 768, 512, 384, 256, 192, 128, 96, 64)


def sized(side: int) -> dict[str, Any]:
    return {"width": side, "height": side, "size": side, "levels": (LevelSpec(side, side, 10),)}


def test_smaller_tiles_never_need_more_on_a_large_canvas(architecture):
    plans = [plan(job(), architecture, CPU, PLENTY), *(in_tiles(architecture, tile) for tile in TILES)]
    for larger, smaller in pairwise(plans):
        assert smaller.bytes <= larger.bytes
    assert plans[-1].bytes < 0.5 * plans[0].bytes


def test_smaller_tiles_compute_more(architecture):
    """Halos are computed more than once, and the Gram matrices of the whole picture need an additional pass."""
    plans = [plan(job(), architecture, CPU, PLENTY), *(in_tiles(architecture, tile) for tile in (512, 256, 128))]
    for larger, smaller in pairwise(plans):
        assert smaller.iteration_flops > larger.iteration_flops


def test_the_history_moves_to_host_memory_only_if_no_tiles_fit(architecture):
    gpu, spec = torch.device("cuda"), job(optimizer="lbfgs")
    in_smallest_tiles = plan(spec.with_options(tile_size=96), architecture, gpu, PLENTY, graphs=False)
    assert not in_smallest_tiles.host_history
    # With less memory than the smallest tiles need beside the history, the history moves to host memory.
    got = plan(spec, architecture, gpu, int(in_smallest_tiles.bytes * 0.9))
    assert got.fits and got.host_history
    on_cpu = min(in_tiles(architecture, tile, optimizer="lbfgs").bytes for tile in TILES)
    assert not plan(spec, architecture, CPU, int(on_cpu * 0.9)).fits
    assert not plan(job(), architecture, gpu, 1 << 20).host_history, "Adam has no history to move"


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_steps_are_recorded_on_a_gpu_if_the_memory_suffices(architecture, optimizer):
    gpu, spec = torch.device("cuda"), job(optimizer=optimizer)
    recorded, plain = plan(spec, architecture, gpu, PLENTY), plan(spec, architecture, gpu, PLENTY, graphs=False)
    assert recorded.graphs and not plain.graphs
    assert recorded.bytes > plain.bytes
    # A graph is not worth tiles.
    tight = plan(spec, architecture, gpu, int(plain.bytes * 1.06))
    assert (tight.tile, tight.graphs, tight.bytes) == (None, False, plain.bytes)
    assert not plan(spec, architecture, CPU, PLENTY).graphs


def test_a_step_in_very_many_tiles_is_not_recorded(architecture):
    gpu = torch.device("cuda")
    assert plan(job(tile_size=256), architecture, gpu, PLENTY).graphs
    assert not plan(job(tile_size=128), architecture, gpu, PLENTY).graphs


@pytest.mark.parametrize("available", [1 << 20, PLENTY])
def test_a_requested_tile_size_is_kept(architecture, available):
    got = plan(job(tile_size=200), architecture, CPU, available)
    assert got.tile == 200
    assert got.fits == (available == PLENTY)


def test_one_tile_of_the_size_of_the_canvas_needs_as_much_memory_as_no_tiles(architecture):
    assert in_tiles(architecture, 512, **sized(512)).bytes == plan(job(512), architecture, CPU, PLENTY).bytes


def test_flops_are_two_passes_for_each_iteration_of_each_level(architecture):
    levels = (LevelSpec(128, 128, 7), LevelSpec(256, 256, 5))
    got = plan(job(256, levels=levels), architecture, CPU, PLENTY)
    taken = workload(job(256), architecture, CPU)
    coarse, fine = (2 * forward_flops(taken, side, side) for side in (128, 256))
    assert got.iteration_flops == fine
    assert got.flops[""] == 7 * coarse + 5 * fine


@pytest.mark.parametrize(
    "more",
    [
        {"optimizer": "lbfgs"},
        {"averaging": 0.9},
        {"tv_weight": 1.0},
        {"padding": "replicate"},
        {"content": PICTURE, "content_layers": (LayerWeight("conv4_2", 1.0),), "content_weight": 1.0},
    ],
    ids=["L-BFGS", "averaging", "variation", "replicate", "content"],
)
def test_options_that_need_more_memory_are_counted(architecture, more):
    assert plan(job(**more), architecture, CPU, PLENTY).bytes > plan(job(), architecture, CPU, PLENTY).bytes


def test_the_repeated_border_of_a_canvas_that_wraps_is_counted(architecture):
    def planned(side: int, **more: Any) -> Plan:
        return plan(job(**sized(side), **more), architecture, CPU, PLENTY)

    wraps: dict[str, Any] = {"padding": "circular", "wrap": "both"}
    assert planned(512, **wraps).flops[""] == planned(512).flops[""]
    assert planned(512, **wraps).bytes > planned(512).bytes
    # 500 pixels are no multiple of the stride: the network sees a border that repeats them.
    assert planned(500, **wraps).flops[""] > 1.2 * planned(512).flops[""]
    assert planned(500, **wraps).bytes > planned(512, **wraps).bytes


def test_extraction_from_a_large_style_is_counted(architecture):
    large = StylePicture(replace(PICTURE, width=2048, height=2048), 1.0)
    # At least twice its pixels, and the features of the first layer for one tile.
    least = 2 * 3 * 2048 * 2048 + 4 * 16 * 512 * 512
    more = plan(job(64, styles=(large,)), architecture, CPU, PLENTY).bytes
    assert more - plan(job(64), architecture, CPU, PLENTY).bytes > least


def test_average_pooling_and_native_bfloat16_need_less_memory(architecture, monkeypatch):
    most = plan(job(), architecture, CPU, PLENTY).bytes
    assert plan(job(pooling="average"), architecture, CPU, PLENTY).bytes < most
    for native in (True, False):
        monkeypatch.setattr(prepared, "has_native_bfloat16", lambda device, native=native: native)
        needed = plan(job(precision="bfloat16"), architecture, CPU, PLENTY).bytes
        assert needed < 0.75 * most if native else needed == most


def test_transformed_kernels_are_counted(architecture):
    wide = Architecture(
        tuple(
            replace(each, inputs=256 if each.source != INPUT else 3, outputs=256)
            if isinstance(each, Convolution)
            else replace(each, outputs=256)
            for each in architecture.operations
        )
    )
    work = workload(job(), wide, CPU)
    assert work.network_bytes > 3.5 * work.weights_bytes
    assert workload(job(padding="replicate"), wide, CPU).network_bytes == work.weights_bytes
    assert workload(job(), wide, torch.device("cuda")).network_bytes == work.weights_bytes


def test_the_network_ends_at_the_deepest_layer(architecture):
    shallow = job(style_layers=(StyleLayer("conv3_1", 1.0, "gram"), StyleLayer("conv1_1", 1.0, "gram")))
    got = workload(shallow, architecture, CPU)
    used = got.architecture
    assert [(c.inputs, c.outputs, used.stride(c.name)) for c in used.convolutions] == [
        (3, 24, 2), (24, 32, 2), (32, 32, 2), (32, 96, 4)
    ]  # fmt: skip
    assert [got.use(c.name).style for c in used.convolutions] == [True, False, False, True]
    assert not any(got.use(c.name).content for c in used.convolutions)
    # Only the heads of the used layers are computed.
    assert [got.has_head(c) for c in used.convolutions] == [True, False, False, True]


def test_at_most_as_many_curvature_pairs_as_iterations_make_are_counted(architecture):
    assert workload(job(optimizer="lbfgs"), architecture, CPU).pairs == 9
    assert workload(job(optimizer="lbfgs", lbfgs_history=4), architecture, CPU).pairs == 4
    assert workload(job(), architecture, CPU).pairs is None


def test_masks_and_the_weights_of_their_regions_are_counted(architecture):
    side, count = 1024, 8
    regions = tuple(
        StylePicture(PICTURE, 1.0, Mask(side, side, b"", "1" * 64, color=f"#00000{n}")) for n in range(count)
    )
    few, many = (plan(job(side, styles=styles), architecture, CPU, PLENTY).bytes for styles in (regions[:1], regions))
    # A byte per pixel of each mask, and at least the weights of the first layer, whose stride is 2.
    assert many - few > (count - 1) * (side**2 + 4 * (side // 2) ** 2)


def test_alpha_is_counted(architecture):
    content: dict[str, Any] = {
        "content": PICTURE,
        "content_layers": (LayerWeight("conv4_2", 1.0),),
        "content_weight": 1.0,
    }
    opaque = plan(job(**content), architecture, CPU, PLENTY).bytes
    content["content"] = replace(PICTURE, alpha=True)
    assert plan(job(**content), architecture, CPU, PLENTY).bytes - opaque >= 28 * 1024 * 1024


def test_a_style_with_a_mask_makes_the_workload_masked(architecture):
    masked = StylePicture(PICTURE, 1.0, mask=Mask(1, 1, b"\xff", "1" * 64))
    assert workload(job(styles=(StylePicture(PICTURE, 1.0), masked)), architecture, CPU).masked
    assert not workload(job(), architecture, CPU).masked
