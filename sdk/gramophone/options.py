"""The options of jobs, and words for values of enums. Generated from proto/ by `make proto`; do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from typing_extensions import TypedDict

from .option import Option

if TYPE_CHECKING:
    from .images import ImageLike
else:
    # What a request from elsewhere may hold: bytes, and no path of a file of this machine.
    ImageLike = bytes

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
PreviewFormat = Literal["png", "jpeg", "webp"]
"""File format of previews."""
ResultFormat = Literal["png", "tiff"]
"""File format of the result, without loss."""


class Options(TypedDict, total=False):
    """The options that all three kinds of job share. What is left out is the server's default."""

    size: int
    """Size of the canvas, by the rule of `fit`. 16 to 8,192 pixels. Default 512."""
    fit: Fit
    """How pictures are fitted to `size`. Default square for style, longest_side for content and transfer."""
    iterations: int
    """Number of updates of the canvas, each one gradient evaluation. 1 to 1,000,000 updates. Default 300."""
    optimizer: Optimizer
    """The optimizer. Default lbfgs."""
    learning_rate: float
    """Step size; for Adam in units of the 0-255 pixel range, for L-BFGS a factor on the quasi-Newton step. Greater
    than 0, at most 1,000. Default 10 for Adam, 1 for L-BFGS.
    """
    init: Literal["noise", "content", "style_statistics", "blend"] | ImageLike
    """What the canvas starts from. Default style_statistics for style, noise for content, content for transfer."""
    seed: int
    """Seed of the noise. The same request with the same seed on the same device gives the same bytes. 0 to
    4,294,967,295. Default 0.
    """
    precision: Precision
    """Arithmetic of the network. Default auto."""
    pooling: Pooling
    """Pooling of the network. Default the model's own, which is max for VGG-19."""
    tv_weight: float
    """Weight of the total variation of the canvas (mean squared difference of neighboring pixels, 0-255 range),
    which smooths. At least 0. Default 0, but for models that ask for a little beside relative losses of
    content.
    """
    report_every: int
    """A progress event every this many iterations; canceling and the time limit act at these. 0 suits an eye:
    every 10 iterations, and of these at most two events a second, and later in a job, where less changes, at
    most one in two seconds. 0 to 1,000,000 iterations. Default 0.
    """
    preview_every: int
    """One preview every this many progress events; 0 sends none. 0 to 1,000,000 events. Default 1."""
    preview_size: int
    """Longest side of a preview; a canvas smaller than that is sent as it is. A preview whose file would have more
    than 3 MiB is sent smaller. 16 to 2,048 pixels. Default 256.
    """
    preview_format: PreviewFormat
    """File format of previews. Default jpeg."""
    time_limit: float
    """Running time after which the job ends successfully with the best picture so far. Greater than 0 seconds.
    Default none.
    """
    model: str
    """Name of the model, of those that ListModels tells. Default the server's default model, normally the built-in
    one.
    """
    scales: int
    """Most levels of the pyramid, coarse to fine, each half as large as the next. Each level but the last gets an
    eighth of the iterations. A level whose shorter side would be too small for the deepest layer is left out. 0
    suits the job: with L-BFGS as many as keep the coarsest level's longer side at 56 pixels or more for a style
    reconstruction, at 128 for a transfer; 1 for a content reconstruction and with Adam. 0 to 8 levels. Default
    0.
    """
    padding: Padding
    """What stands around the picture and its feature maps. Default zeros for style, margin for content and
    transfer.
    """
    init_noise: float
    """Share of noise in the start when init is `blend`. 0 to 1. Default 0.5."""
    averaging: float
    """Decay of an exponential average of the iterates, which is then the result instead of the last iterate; 0
    makes none. 0 to 0.9999. Default 0.
    """
    plateau: float
    """The job ends successfully, with the picture it has, when its loss fell by less than this fraction over 50
    iterations; with a pyramid, each level does. 0 never ends it. 0 to 1. Default 0.
    """
    color: ColorMode
    """Whose colors the result has; only for style transfer. Default style."""
    loss_scale: LossScale
    """Units of the layers' losses. Default the model's own, which is paper for VGG-19 and relative for vgg19-slim."""
    lbfgs_history: int
    """Curvature pairs that L-BFGS keeps, each as large as two float32 canvases. 1 to 200 pairs. Default the
    model's own, 20 of VGG-19.
    """
    result_format: ResultFormat
    """File format of the result, without loss. Default png."""
    bit_depth: int
    """Bits per channel of the result. 8 or 16 bits. Default 8."""
    tile_size: int
    """Side of the tiles in which the gradient is computed: memory is that of a tile, the gradient that of the
    whole picture, and a step takes up to about twice as long. 0 is the whole picture where it fits into memory,
    else the largest tiles that do. 0, or 64 to 8,192 pixels. Default 0.
    """
    on_disconnect: OnDisconnect
    """What happens to the job when the stream of its submission ends early. The default on the wire is the usual
    meaning of canceling a call; libraries know how to come back. Default continue.
    """
    request_id: str
    """Names this submission, so that sending it again makes no second job but answers with the first one's events
    (https://google.aip.dev/155). A UUID will do; 1 to 128 printable ASCII characters without spaces. Default
    every submission is a job of its own.
    """
    priority: int
    """Which of a client's own waiting jobs run first: those of the highest priority. Between clients the server
    shares fairly, whatever their priorities. -10 to 10. Default 0.
    """


OPTIONS: tuple[Option, ...] = (
    Option(
        name="size",
        path="options.size",
        type="integer",
        group="Canvas",
        help="Size of the canvas, by the rule of `fit`.",
        default="512",
        range="16 to 8,192 pixels",
        example="512",
        unit="pixels",
        bounds=(-2147483648, 2147483647),
    ),
    Option(
        name="fit",
        path="options.fit",
        type="choice",
        group="Canvas",
        help="How pictures are fitted to `size`.",
        default="square for style, longest_side for content and transfer",
        example="longest_side",
        choices={"longest_side": 1, "square": 2},
    ),
    Option(
        name="iterations",
        path="options.iterations",
        type="integer",
        group="Optimization",
        help="Number of updates of the canvas, each one gradient evaluation.",
        default="300",
        range="1 to 1,000,000 updates",
        example="300",
        unit="updates",
        bounds=(-2147483648, 2147483647),
    ),
    Option(
        name="optimizer",
        path="options.optimizer",
        type="choice",
        group="Optimization",
        help="The optimizer.",
        default="lbfgs",
        example="lbfgs",
        choices={"lbfgs": 1, "adam": 2},
    ),
    Option(
        name="learning_rate",
        path="options.learning_rate",
        type="number",
        group="Optimization",
        help=("Step size; for Adam in units of the 0-255 pixel range, for L-BFGS a factor on the quasi-Newton step."),
        default="10 for Adam, 1 for L-BFGS",
        range="greater than 0, at most 1,000",
        example="1",
    ),
    Option(
        name="init",
        path="options.init",
        type="choice",
        group="Canvas",
        help="What the canvas starts from.",
        default="style_statistics for style, noise for content, content for transfer",
        example="noise",
        choices={"noise": 1, "content": 2, "style_statistics": 4, "blend": 5},
        image_path="options.init_image",
    ),
    Option(
        name="seed",
        path="options.seed",
        type="integer",
        group="Canvas",
        help=("Seed of the noise. The same request with the same seed on the same device gives the same bytes."),
        default="0",
        range="0 to 4,294,967,295",
        example="0",
        bounds=(0, 4294967295),
    ),
    Option(
        name="precision",
        path="options.precision",
        type="choice",
        group="Network",
        help="Arithmetic of the network.",
        default="auto",
        example="auto",
        choices={"float32": 1, "bfloat16": 2, "auto": 3},
    ),
    Option(
        name="pooling",
        path="options.pooling",
        type="choice",
        group="Network",
        help="Pooling of the network.",
        default="the model's own, which is max for VGG-19",
        example="max",
        choices={"max": 1, "average": 2, "average_rescaled": 3},
    ),
    Option(
        name="tv_weight",
        path="options.tv_weight",
        type="number",
        group="Loss and color",
        help=(
            "Weight of the total variation of the canvas (mean squared difference of neighboring "
            "pixels, 0-255 range), which smooths."
        ),
        default="0, but for models that ask for a little beside relative losses of content",
        range="at least 0",
        example="0.1",
    ),
    Option(
        name="report_every",
        path="options.report_every",
        type="integer",
        group="Job",
        help=(
            "A progress event every this many iterations; canceling and the time limit act at these. 0 "
            "suits an eye: every 10 iterations, and of these at most two events a second, and later in "
            "a job, where less changes, at most one in two seconds."
        ),
        default="0",
        range="0 to 1,000,000 iterations",
        example="10",
        unit="iterations",
        bounds=(-2147483648, 2147483647),
    ),
    Option(
        name="preview_every",
        path="options.preview.every",
        type="integer",
        group="Previews and result",
        help="One preview every this many progress events; 0 sends none.",
        default="1",
        range="0 to 1,000,000 events",
        example="1",
        unit="events",
        bounds=(-2147483648, 2147483647),
    ),
    Option(
        name="preview_size",
        path="options.preview.size",
        type="integer",
        group="Previews and result",
        help=(
            "Longest side of a preview; a canvas smaller than that is sent as it is. A preview whose "
            "file would have more than 3 MiB is sent smaller."
        ),
        default="256",
        range="16 to 2,048 pixels",
        example="256",
        unit="pixels",
        bounds=(-2147483648, 2147483647),
    ),
    Option(
        name="preview_format",
        path="options.preview.format",
        type="choice",
        group="Previews and result",
        help="File format of previews.",
        default="jpeg",
        example="jpeg",
        choices={"png": 1, "jpeg": 2, "webp": 3},
    ),
    Option(
        name="time_limit",
        path="options.time_limit",
        type="duration",
        group="Job",
        help="Running time after which the job ends successfully with the best picture so far.",
        default="none",
        range="greater than 0 seconds",
        example="60",
        unit="seconds",
    ),
    Option(
        name="model",
        path="options.model",
        type="text",
        group="Network",
        help="Name of the model, of those that ListModels tells.",
        default="the server's default model, normally the built-in one",
        example="1",
    ),
    Option(
        name="scales",
        path="options.scales",
        type="integer",
        group="Canvas",
        help=(
            "Most levels of the pyramid, coarse to fine, each half as large as the next. Each level but"
            " the last gets an eighth of the iterations. A level whose shorter side would be too small "
            "for the deepest layer is left out. 0 suits the job: with L-BFGS as many as keep the "
            "coarsest level's longer side at 56 pixels or more for a style reconstruction, at 128 for a"
            " transfer; 1 for a content reconstruction and with Adam."
        ),
        default="0",
        range="0 to 8 levels",
        example="3",
        unit="levels",
        bounds=(-2147483648, 2147483647),
    ),
    Option(
        name="padding",
        path="options.padding",
        type="choice",
        group="Network",
        help="What stands around the picture and its feature maps.",
        default="zeros for style, margin for content and transfer",
        example="zeros",
        choices={"zeros": 1, "replicate": 2, "margin": 3},
    ),
    Option(
        name="init_noise",
        path="options.init_noise",
        type="number",
        group="Canvas",
        help="Share of noise in the start when init is `blend`.",
        default="0.5",
        range="0 to 1",
        example="0.5",
    ),
    Option(
        name="averaging",
        path="options.averaging",
        type="number",
        group="Optimization",
        help=(
            "Decay of an exponential average of the iterates, which is then the result instead of the "
            "last iterate; 0 makes none."
        ),
        default="0",
        range="0 to 0.9999",
        example="0.99",
    ),
    Option(
        name="plateau",
        path="options.plateau",
        type="number",
        group="Optimization",
        help=(
            "The job ends successfully, with the picture it has, when its loss fell by less than this "
            "fraction over 50 iterations; with a pyramid, each level does. 0 never ends it."
        ),
        default="0",
        range="0 to 1",
        example="0.001",
    ),
    Option(
        name="color",
        path="options.color",
        type="choice",
        group="Loss and color",
        help="Whose colors the result has; only for style transfer.",
        default="style",
        example="style",
        choices={"style": 1, "luminance": 2, "match": 3, "histogram": 4},
    ),
    Option(
        name="loss_scale",
        path="options.loss_scale",
        type="choice",
        group="Loss and color",
        help="Units of the layers' losses.",
        default="the model's own, which is paper for VGG-19 and relative for vgg19-slim",
        example="paper",
        choices={"paper": 1, "relative": 2},
    ),
    Option(
        name="lbfgs_history",
        path="options.lbfgs_history",
        type="integer",
        group="Optimization",
        help="Curvature pairs that L-BFGS keeps, each as large as two float32 canvases.",
        default="the model's own, 20 of VGG-19",
        range="1 to 200 pairs",
        example="20",
        unit="pairs",
        bounds=(-2147483648, 2147483647),
    ),
    Option(
        name="result_format",
        path="options.result.format",
        type="choice",
        group="Previews and result",
        help="File format of the result, without loss.",
        default="png",
        example="png",
        choices={"png": 1, "tiff": 4},
    ),
    Option(
        name="bit_depth",
        path="options.result.bit_depth",
        type="integer",
        group="Previews and result",
        help="Bits per channel of the result.",
        default="8",
        range="8 or 16 bits",
        example="8",
        unit="bits",
        values=(8, 16),
        bounds=(-2147483648, 2147483647),
    ),
    Option(
        name="tile_size",
        path="options.tile_size",
        type="integer",
        group="Job",
        help=(
            "Side of the tiles in which the gradient is computed: memory is that of a tile, the "
            "gradient that of the whole picture, and a step takes up to about twice as long. 0 is the "
            "whole picture where it fits into memory, else the largest tiles that do."
        ),
        default="0",
        range="0, or 64 to 8,192 pixels",
        example="512",
        unit="pixels",
        bounds=(-2147483648, 2147483647),
    ),
    Option(
        name="on_disconnect",
        path="submission.on_disconnect",
        type="choice",
        group="Job",
        help=(
            "What happens to the job when the stream of its submission ends early. The default on the "
            "wire is the usual meaning of canceling a call; libraries know how to come back."
        ),
        default="continue",
        example="cancel",
        sent="continue",
        choices={"cancel": 1, "continue": 2},
    ),
    Option(
        name="request_id",
        path="submission.request_id",
        type="text",
        group="Job",
        help=(
            "Names this submission, so that sending it again makes no second job but answers with the "
            "first one's events (https://google.aip.dev/155). A UUID will do; 1 to 128 printable ASCII "
            "characters without spaces."
        ),
        default="every submission is a job of its own",
        example="1",
    ),
    Option(
        name="priority",
        path="submission.priority",
        type="integer",
        group="Job",
        help=(
            "Which of a client's own waiting jobs run first: those of the highest priority. Between "
            "clients the server shares fairly, whatever their priorities."
        ),
        default="0",
        range="-10 to 10",
        example="0",
        bounds=(-2147483648, 2147483647),
    ),
)
"""The same, for programs."""
