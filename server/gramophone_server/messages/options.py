"""The options of a job, with every default filled in. Generated from proto/ by `make proto`; do not edit."""

from dataclasses import dataclass, field
from typing import Literal

Fit = Literal["longest_side", "square"]
"""How pictures are resized to `size`."""
Optimizer = Literal["lbfgs", "adam"]
"""The algorithm that updates the canvas."""
Init = Literal["noise", "content", "image", "style_statistics", "blend"]
"""Content of the canvas before the first iteration."""
Precision = Literal["float32", "bfloat16", "auto"]
"""Floating-point type of the network's convolutions. Gram matrices, losses, the canvas and the optimizer always
use float32.
"""
Pooling = Literal["max", "average", "average_rescaled"]
"""Pooling between the network's blocks."""
Padding = Literal["zeros", "replicate", "margin", "circular"]
"""Padding of the picture and of its feature maps before each convolution."""
Wrap = Literal["none", "x", "y", "both"]
"""The axes along which the result tiles without a seam."""
ColorMode = Literal["style", "luminance", "match", "histogram"]
"""Source of the colors of a style transfer. If all pictures of a job are gray, its result is gray, too."""
LossScale = Literal["paper", "relative"]
"""Scaling of the layers' losses before they are added."""
StyleLoss = Literal["gram", "mean_covariance", "sliced_wasserstein", "nearest_neighbor", "spectrum"]
"""What the style losses compare."""
Outside = Literal["paint", "keep"]
"""What happens to the canvas outside all masks of a style transfer."""
Transparency = Literal["keep", "white"]
"""What happens to the transparent parts of contents and styles."""
ImageFormat = Literal["png", "jpeg", "webp", "tiff"]
"""File format of an encoded picture."""
OnDisconnect = Literal["cancel", "continue"]
"""What the server does with a job when the client that submitted it closes or loses its stream. The server cannot
tell a client that leaves from a proxy that restarts, so it waits for the client to reconnect: 10 seconds by
default. A client reconnects by submitting again with the same request_id, or by calling WatchJob, if both calls
carry the same metadata value "gramophone-client": a name that the client chooses and no other client has.
Streams of other clients that watch the job do not count. To stop a job at once, call CancelJob.
"""
JobKind = Literal["style", "content", "transfer"]
"""Kind of a job."""
JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
"""State of a job. A job is QUEUED, then RUNNING, and ends in exactly one of the other three states, which are
final. A running job returns to QUEUED when its worker is lost; a queued job may also end directly.
"""
LossKind = Literal["style", "content", "total_variation"]
"""Kind of a loss term."""
JobOrder = Literal["newest_first", "oldest_first"]
"""Order of jobs."""
FeatureKind = Literal["gram", "map"]
"""Kind of features to extract from a layer."""
ComputeMode = Literal["whole", "tiled"]
"""How the gradient is computed."""


@dataclass(frozen=True, kw_only=True)
class PreviewOptions:
    """Previews of the canvas, sent with progress events while a job runs."""

    every: int = 1
    size: int = 256
    format: Literal["png", "jpeg", "webp"] = "jpeg"


@dataclass(frozen=True, kw_only=True)
class ResultOptions:
    """The file of a finished job's result. It contains the sRGB ICC profile."""

    format: Literal["png", "tiff"] = "png"
    bit_depth: int = 8


@dataclass(frozen=True, kw_only=True)
class StyleLossWeight:
    """One of several style losses, with its weight."""

    loss: StyleLoss
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class SynthesisOptions:
    """How a picture is optimized. The server uses the default for an unset field; the job's recipe lists all
    values used.
    """

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
    style_loss: StyleLoss = "gram"
    style_losses: tuple[StyleLossWeight, ...] = ()
    outside: Outside = "paint"
    transparency: Transparency = "keep"
    wrap: Wrap = "none"
    reproducible: bool = True
    warm_start: bool
