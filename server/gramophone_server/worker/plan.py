"""Decides how a job runs, whole or in tiles, from what it needs and what there is."""

from dataclasses import dataclass, replace
from itertools import product

import torch

from ..engine import cost
from ..engine.tiling import Tile, cut, whole
from ..messages.spec import JobSpec, LevelSpec
from ..models.features import TILE as EXTRACTION_TILE
from ..models.layers import position
from ..models.manifest import Manifest
from .margin import with_margin
from .prepared import JUDGING_TILE, precision_of

# Sides to choose tiles from, and what to keep free: the estimate is good to some percent.
_SIDES = (2048, 1536, 1024, 768, 512, 384, 256, 192, 128, 96, 64)
_MARGIN = 0.05
# Measured: code and work space that the libraries load with the first job, and what a session of ONNX Runtime holds
# for each byte of its parameters (as they are, packed, and its graph).
_LIBRARIES = 80 << 20
_SESSION = 3.2
# Likewise: what the C library's heap grows to, per byte of the blocks that it keeps.
_GAPS = 1.8


@dataclass(frozen=True)
class Plan:
    """How a job runs.

    Attributes:
        tile: side of the tiles; None for the whole canvas.
        host_history: whether L-BFGS keeps its curvature pairs in the host's memory rather than the device's.
        bytes: what it needs beyond what the worker holds before its first job.
        flops: of the convolutions, level by level.
        iteration_flops: of one iteration at full size.
        fits: whether that is available.
    """

    tile: int | None
    host_history: bool
    bytes: int
    flops: float
    iteration_flops: float
    fits: bool


def plan(spec: JobSpec, manifest: Manifest, device: torch.device, available: int) -> Plan:
    """The way to run a job within `available` bytes: whole if it fits, else in the largest tiles that do.

    If none do, the plan is the smallest there is. A tile size that the spec asks for is kept to. A device with memory
    of its own lends that of its host for the history of L-BFGS, which is slower, so that is the last resort.
    """
    spec = with_margin(spec)
    work = workload(spec, manifest, device)
    sides = [spec.options.tile_size] if spec.options.tile_size else [None, *_SIDES]
    can_lend = device.type != "cpu" and work.pairs is not None
    ways = []
    for host, side in product((False, True) if can_lend else (False,), sides):
        needed = _bytes(replace(work, pairs=0) if host else work, spec, manifest, side)
        ways.append((needed, side, host))
        if fits := needed * (1 + _MARGIN) <= available:
            break
    else:
        # Not always the last: of a small canvas, small tiles see nearly all with their halos.
        needed, side, host = min(ways, key=lambda way: way[0])
        # What is kept free is for choosing between ways; the last one may have it.
        fits = needed <= available
    flops = sum(level.iterations * _step_flops(work, level, side) for level in spec.levels)
    return Plan(side, host, needed, flops, _step_flops(work, spec.levels[-1], side), fits)


def workload(spec: JobSpec, manifest: Manifest, device: torch.device) -> cost.Workload:
    """The job as the cost model sees it."""
    options = spec.options
    style, content = ({w.layer for w in layers} for layers in (spec.style_layers, spec.content_layers))
    deepest = max(style | content, key=position)
    needed = [c for c, layer in _convolutions(manifest) if position(layer) <= position(deepest)]
    names = [layer.name for layer in manifest.layers]
    taken = [
        replace(c, style=name in style, content=name in content, head=c.head and name in style | content)
        for c, name in zip(needed, names, strict=False)
    ]
    return cost.Workload(
        tuple(taken),
        itemsize=2 if precision_of(spec, device) == "bfloat16" else 4,
        max_pooling=options.pooling == "max",
        replicate=options.padding == "replicate",
        masked=any(style.mask for style in spec.styles),
        variation=bool(options.tv_weight),
        # The first comes with the second iteration.
        pairs=min(options.lbfgs_history, spec.levels[-1].iterations - 1) if options.optimizer == "lbfgs" else None,
        averaging=bool(options.averaging),
        winograd=device.type == "cpu" and spec.map_padding == "zeros",
        cpu=device.type == "cpu",
        gaps=_GAPS if device.type == "cpu" else 1.0,
    )


def _bytes(work: cost.Workload, spec: JobSpec, manifest: Manifest, side: int | None) -> int:
    full = spec.levels[-1]
    tiles = _tiles(work, full, side)
    crop = _largest(tiles)
    judged = _largest(_tiles(work, full, min(side or JUDGING_TILE, JUDGING_TILE)))
    content = [spec.content] if spec.content and spec.content_layers else []
    extracted = [
        _largest(cut(p.height, p.width, EXTRACTION_TILE, **_reach(spec, manifest)))
        for p in (*content, *(style.picture for style in spec.styles))
    ]
    # As they arrive and as they are kept.
    pictures = 2 * sum(3 * p.height * p.width for p in (*content, *(style.picture for style in spec.styles)))
    # The style layers' session, and the content layers'.
    sessions = (work.weights_bytes if spec.styles else 0) + work.content_weights_bytes
    network = work.network_bytes
    # The finished picture is judged in float32, by a network of its own if the job ran in less. To make it, a model's
    # file is read whole, and there are two copies of it then.
    exact = 0 if work.itemsize == 4 else replace(work, itemsize=4).network_bytes
    loading = 2 * cost.parameter_bytes([convolution for convolution, _ in _convolutions(manifest)]) if exact else 0
    content_targets = cost.content_bytes(work, full.height, full.width)
    canvas = cost.canvas_bytes(work, full.height, full.width) + content_targets
    # What is judged is the picture, made into a canvas again.
    picture = 12 * full.height * full.width
    stepping = cost.canvas_bytes(work, full.height, full.width, stepping=True) + content_targets
    return int(
        _LIBRARIES
        + pictures
        + _SESSION * sessions
        + network
        + max(
            *(cost.extraction_bytes(work, *size) for size in extracted),
            canvas + cost.gradient_bytes(work, *crop, cropped=len(tiles) > 1),
            stepping,
            canvas + exact + loading,
            canvas + exact + picture + cost.judging_bytes(work, *judged),
        )
    )


def _convolutions(manifest: Manifest) -> list[tuple[cost.Convolution, str]]:
    """A model's convolutions and the layers they end in."""
    # A first one with a stride is one over the pixels of each of its positions.
    inputs = [3 * manifest.layers[0].stride ** 2, *(layer.channels for layer in manifest.layers)]
    return [
        (cost.Convolution(i, layer.channels, layer.stride, head=layer.head), layer.name)
        for i, layer in zip(inputs, manifest.layers, strict=False)
    ]


def _reach(spec: JobSpec, manifest: Manifest) -> dict[str, int]:
    deepest = max((w.layer for w in (*spec.style_layers, *spec.content_layers)), key=position)
    return {"stride": manifest.stride(deepest), "radius": manifest.radius(deepest)}


def _tiles(work: cost.Workload, level: LevelSpec, side: int | None) -> list[Tile]:
    if side is None:
        return whole(level.height, level.width)
    reach = sum(c.stride for c in work.convolutions)
    return cut(level.height, level.width, side, stride=work.convolutions[-1].stride, radius=reach)


def _largest(tiles: list[Tile]) -> tuple[int, int]:
    return max(t.rows.seen_pixels for t in tiles), max(t.columns.seen_pixels for t in tiles)


def _step_flops(work: cost.Workload, level: LevelSpec, side: int | None) -> float:
    return cost.step_flops(work, _tiles(work, level, side))
