"""Decides how a job runs, whole or in tiles, given its memory needs and the available memory."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from itertools import product

import torch

from ..engine import cost
from ..engine.architecture import Architecture
from ..engine.device import narrowest_winograd
from ..engine.losses import style_loss
from ..engine.partition import in_tiles, partition
from ..engine.tiling import FLAT, Partition
from ..messages.spec import JobSpec, LevelSpec
from ..models.features import TILE as EXTRACTION_TILE
from .margin import with_margin
from .prepared import devices_of, evaluation_tile, has_sums, needs_whole_canvas, precision_of

# Candidate sides of tiles, and the fraction of memory to keep free: the estimate is accurate to a few percent.
_SIDES = (
    *range(4096, 1024, -256), *range(1024, 512, -64), *range(512, 256, -32), 256, 224, 192, 160, 128, 96, 64
)  # fmt: skip
_MARGIN = 0.05
# Measured: bytes of code and work space that the libraries load with the first job, and bytes that a session of ONNX
# Runtime holds per byte of its parameters (original, packed, and in the graph).
_LIBRARIES = 80 << 20
_SESSION = 3.2
# Measured: bytes of the C library's heap per byte of the blocks that it keeps.
_GAPS = 1.8
# Measured: bytes that torch's allocator holds of a GPU per byte that is allocated at the peak.
_HELD = 1.2
# Measured: bytes of a GPU per byte that the gradient needs, if nothing that is kept lies in the gaps between its
# blocks: neither curvature pairs, which have memory of their own, nor anything of a CUDA graph.
_APART = 1.35
# Tensors as large as the canvas that a CUDA graph needs beyond those of a step: copies of the variables.
_VARIABLES = 6
# Maximum number of tiles whose kernels are recorded as one graph: with more, the device is busy for long enough anyway.
_MOST_RECORDED_TILES = 32


@dataclass(frozen=True)
class Plan:
    """How a job runs, and its cost.

    Attributes:
        tile: side of the tiles in pixels; None for the whole canvas.
        host_history: whether L-BFGS keeps its curvature pairs in the host's memory rather than the device's.
        bytes: peak memory beyond what the worker holds before its first job.
        flops: operations of the convolutions in all iterations of all levels on the busiest device, by the model of
            the level; "" is the job's own model.
        iteration_flops: operations of the convolutions in one iteration at full size, on the busiest device.
        fits: whether `bytes` are available.
        graphs: whether steps are recorded as CUDA graphs, which needs more memory, and gives the same result.
        total_flops: operations of the convolutions in all iterations of all levels on all devices.
        devices: number of devices that compute the picture at full size.
    """

    tile: int | None
    host_history: bool
    bytes: int
    flops: Mapping[str, float]
    iteration_flops: float
    fits: bool
    graphs: bool = False
    total_flops: float = 0.0
    devices: int = 1


def plan(
    spec: JobSpec,
    architecture: Architecture,
    device: torch.device,
    available: int,
    others: Mapping[str, Architecture] | None = None,
    *,
    graphs: bool = True,
    devices: int = 1,
) -> Plan:
    """Returns how to run a job within `available` bytes: whole if it fits, else in the largest tiles that fit.

    If no tiles fit, the plan is the one with the smallest memory. A tile size in the spec is never changed. On a GPU,
    keeping the curvature pairs of L-BFGS in the host's memory is the last resort, because it is slower. If `graphs` is
    true and the memory suffices, a GPU's steps are recorded as CUDA graphs.

    Args:
        others: the architectures of the models of levels that use another one, by name.
        devices: number of devices of the worker. `available` are the bytes of each GPU, or of the CPU.
    """
    spec, devices = with_margin(spec), devices_of(spec, devices)
    architectures = {"": architecture, **(others or {})}
    works = {name: workload(spec, one, device) for name, one in architectures.items()}
    work = works[""]
    sides: list[int | None] = [spec.options.tile_size] if spec.options.tile_size else [None, *_SIDES]
    if needs_whole_canvas(spec):
        sides = [None]
    has_host_memory = device.type != "cpu" and work.pairs is not None
    candidates = []
    for host, side in product((False, True) if has_host_memory else (False,), sides):
        needed = _most_bytes(works, architectures, spec, side, host=host, devices=devices)
        candidates.append((needed, side, host))
        if fits := needed * (1 + _MARGIN) <= available:
            break
    else:
        # The smallest tiles do not always need the least memory: on a small canvas, their halos cover nearly all of it.
        needed, side, host = min(candidates, key=lambda candidate: candidate[0])
        # The reserve only serves to choose between plans; the last one may use it.
        fits = needed <= available
    recorded = _most_bytes(works, architectures, spec, side, host=host, recorded=True, devices=devices)
    tiles = len(_partition(work, spec, spec.levels[-1], side, devices).tiles)
    # A graph cannot contain the work of other threads.
    used = min(devices, tiles)
    graphs = graphs and device.type == "cuda" and used == 1 and tiles <= _MOST_RECORDED_TILES
    graphs = graphs and recorded * (1 + _MARGIN) <= available
    flops: defaultdict[str, float] = defaultdict(float)
    total = 0.0
    for level in spec.levels:
        parts = _partition(works[level.model], spec, level, side, devices)
        flops[level.model] += level.iterations * cost.path_flops(works[level.model], parts, devices)
        total += level.iterations * cost.step_flops(works[level.model], parts, devices)
    iteration = cost.path_flops(work, _partition(work, spec, spec.levels[-1], side, devices), devices)
    return Plan(side, host, recorded if graphs else needed, flops, iteration, fits, graphs, total, used)


def workload(spec: JobSpec, architecture: Architecture, device: torch.device) -> cost.Workload:
    """Returns the job as a workload for the cost model."""
    options = spec.options
    style, content = ({w.layer for w in layers if w.layer} for layers in (spec.style_layers, spec.content_layers))
    uses = {layer: cost.Use(layer in style, layer in content, _copies(spec, layer)) for layer in style | content}
    return cost.Workload(
        architecture.upto(style | content),
        uses,
        itemsize=2 if precision_of(spec, device) == "bfloat16" else 4,
        max_pooling=options.pooling == "max",
        copied=options.padding in ("replicate", "circular"),
        masked=any(style.mask for style in spec.styles) or (spec.content is not None and spec.content.alpha),
        variation=bool(options.tv_weight),
        # The second iteration creates the first pair.
        pairs=min(options.lbfgs_history, spec.levels[-1].iterations - 1) if options.optimizer == "lbfgs" else None,
        averaging=bool(options.averaging),
        winograd=narrowest_winograd() if device.type == "cpu" and options.padding != "replicate" else 0,
        cpu=device.type == "cpu",
        gaps=_GAPS if device.type == "cpu" else 1.0,
        summed=has_sums(spec),
    )


def _most_bytes(
    works: Mapping[str, cost.Workload],
    architectures: Mapping[str, Architecture],
    spec: JobSpec,
    side: int | None,
    *,
    host: bool,
    recorded: bool = False,
    devices: int = 1,
) -> int:
    """Returns the peak memory of a job that uses several models one after the other.

    The networks of all models, and the sessions that extract its targets, exist at the same time.

    Args:
        host: whether the curvature pairs of L-BFGS are in the host's memory.
        recorded: whether steps are recorded as CUDA graphs.
        devices: number of devices that compute the picture.
    """
    held = {name: _session_bytes(work, spec) + work.network_bytes for name, work in works.items()}
    return max(
        sum(held.values()) - held[name]
        + _bytes(replace(work, pairs=0) if host else work, spec, architectures[name], side, recorded, devices)
        for name, work in works.items()
    )  # fmt: skip


def _session_bytes(work: cost.Workload, spec: JobSpec) -> int:
    """Returns the bytes of the sessions of ONNX Runtime: one for the style layers, and one for the content layers."""
    return int(_SESSION * ((work.weights_bytes if spec.styles else 0) + work.content_weights_bytes))


def _bytes(
    work: cost.Workload, spec: JobSpec, architecture: Architecture, side: int | None, recorded: bool, devices: int
) -> int:
    full = spec.levels[-1]
    network = work.architecture
    evaluated = in_tiles(network, full.height, full.width, evaluation_tile(spec, side), wraps=spec.wraps).largest
    content = [spec.content] if spec.content and spec.content_layers else []
    extracted = [
        in_tiles(network, p.height, p.width, EXTRACTION_TILE, wraps=wraps, always_halo=True).largest
        for pictures, wraps in ((content, spec.wraps), ([style.picture for style in spec.styles], FLAT))
        for p in pictures
    ]
    # Each picture exists twice: as received in the spec, and as an array for the computation.
    own = {(p.sha256, p.width, p.height): p.size for p in (*content, *(style.picture for style in spec.styles))}
    pictures = 2 * sum(own.values()) + _mask_bytes(spec, architecture)
    parameters = work.network_bytes
    # The loss of the finished picture is computed in float32, with a second network if the job used a lower precision.
    # Creating that network reads the whole file of the model and temporarily holds two copies of it.
    exact = 0 if work.itemsize == 4 else replace(work, itemsize=4).network_bytes
    loading = 2 * cost.parameter_bytes(architecture) if exact else 0
    content_targets = cost.content_bytes(work, full.height, full.width)
    # The content, also with its own transparent pixels if it has any, and the painted part of each pixel.
    transparent = spec.content is not None and spec.content.alpha
    kept = 36 if transparent else 16 if spec.options.outside == "keep" else 0
    outside = kept * full.height * full.width
    # Losses of the canvas itself hold copies of it.
    copies = 12 * full.height * full.width * sum(vars(_copies(spec, "")).values())
    canvas = cost.canvas_bytes(work, full.height, full.width) + content_targets + outside + copies
    # The picture is converted back to a canvas for its loss.
    picture = 12 * full.height * full.width
    stepping = cost.canvas_bytes(work, full.height, full.width, stepping=True) + content_targets + outside
    gradient = cost.partition_bytes(work, _partition(work, spec, full, side, devices), devices)
    if recorded or (work.pairs and not work.cpu):
        gradient = int(_APART * gradient)
    variables = _VARIABLES * 12 * full.height * full.width
    evaluating = gradient + (stepping + variables if recorded else canvas)
    # A GPU's allocator holds more than what is allocated.
    holding = 1.0 if work.cpu else _HELD
    return int(
        _LIBRARIES
        + pictures
        + _session_bytes(work, spec)
        + parameters
        + holding
        * max(
            *(cost.extraction_bytes(work, *size) for size in extracted),
            evaluating,
            stepping,
            canvas + exact + loading,
            canvas + exact + picture + cost.evaluation_bytes(work, *evaluated),
        )
    )


def _copies(spec: JobSpec, layer: str) -> cost.Copies:
    """Returns the memory of all style losses at a layer; without a name, at the canvas itself."""
    copies = [style_loss(w.loss).copies for w in spec.style_layers if w.layer == layer]
    return cost.Copies(*(sum(counts) for counts in zip(*map(astuple, copies), strict=True)))


def _mask_bytes(spec: JobSpec, architecture: Architecture) -> int:
    """Returns the bytes of all masks, and of the weights of the positions of all style layers for each region."""
    masks = [mask for style in spec.styles for mask in (style.mask, style.source_mask) if mask is not None]
    regions = {style.mask.key for style in spec.styles if style.mask is not None}
    strides = [architecture.stride(layer.layer) if layer.layer else 1 for layer in spec.style_layers]
    weights = sum(4 * (spec.height // stride) * (spec.width // stride) for stride in strides)
    return sum(mask.size for mask in masks) + len(regions) * weights


def _partition(work: cost.Workload, spec: JobSpec, level: LevelSpec, side: int | None, devices: int) -> Partition:
    return partition(
        work.architecture, level.height, level.width, side, wraps=spec.wraps, summed=work.summed, devices=devices
    )
