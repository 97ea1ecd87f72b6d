"""The options of a job, with every default filled in. Generated from proto/ by `make proto`; do not edit."""

from dataclasses import dataclass, field
from typing import Literal

Fit = Literal["longest_side", "square"]
"""How the pictures are fitted to `size`."""
Optimizer = Literal["lbfgs", "adam"]
"""The algorithm that updates the canvas."""
Init = Literal["noise", "content", "image", "style_statistics", "blend"]
"""What the canvas holds before the first iteration."""
Precision = Literal["float32", "bfloat16", "auto"]
"""The arithmetic of the network. Gram matrices, losses, the canvas and the optimizer are float32 in every case."""
Pooling = Literal["max", "average", "average_rescaled"]
"""How the network pools between blocks."""
Padding = Literal["zeros", "replicate", "margin"]
"""What the convolutions see around the picture and around its feature maps."""
ColorMode = Literal["style", "luminance", "match", "histogram"]
"""Whose colors a style transfer has."""
LossScale = Literal["paper", "relative"]
"""The units in which the layers' losses are added."""
ImageFormat = Literal["png", "jpeg", "webp", "tiff"]
"""An encoded picture's file format."""
OnDisconnect = Literal["cancel", "continue"]
"""What becomes of a job when the client that submitted it closes or loses its stream. A proxy that is restarted
ends streams as a client does that leaves, so the job is given 10 seconds: a client that comes back by then is
taken not to have left. It does so by submitting again with the same request_id, or by WatchJob if both calls
have the same metadata "gramophone-client", any name that no other client has. Others that watch the job do not
keep it. A client that leaves for good and wants the device free at once calls CancelJob.
"""
JobKind = Literal["style", "content", "transfer"]
"""What a job makes."""
JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
"""Where a job stands. QUEUED and RUNNING lead to exactly one of the three others, which are final."""
LossKind = Literal["style", "content", "total_variation"]
"""Which of the two losses of the paper a figure belongs to."""
JobOrder = Literal["newest_first", "oldest_first"]
"""An order of jobs."""
FeatureKind = Literal["gram", "map"]
"""What is extracted from a layer."""
ComputeMode = Literal["whole", "tiled"]
"""How the gradient is computed."""


@dataclass(frozen=True, kw_only=True)
class PreviewOptions:
    """Previews of the canvas, sent with progress while a job runs."""

    every: int = 1
    size: int = 256
    format: Literal["png", "jpeg", "webp"] = "jpeg"


@dataclass(frozen=True, kw_only=True)
class ResultOptions:
    """The file that a finished job delivers; it carries the ICC profile of sRGB."""

    format: Literal["png", "tiff"] = "png"
    bit_depth: int = 8


@dataclass(frozen=True, kw_only=True)
class SynthesisOptions:
    """How a picture is optimized. A field left unset means its default; the job's recipe shows what was used."""

    size: int = 512
    fit: Fit
    iterations: int = 300
    optimizer: Optimizer = "lbfgs"
    learning_rate: float
    init: Init
    seed: int = 0
    precision: Precision = "auto"
    pooling: Pooling
    tv_weight: float
    report_every: int = 0
    preview: PreviewOptions = field(default_factory=PreviewOptions)
    time_limit: float | None = None
    model: str
    scales: int = 0
    padding: Padding
    init_noise: float = 0.5
    averaging: float = 0.0
    plateau: float = 0.0
    color: ColorMode = "style"
    loss_scale: LossScale
    lbfgs_history: int
    result: ResultOptions = field(default_factory=ResultOptions)
    tile_size: int = 0
