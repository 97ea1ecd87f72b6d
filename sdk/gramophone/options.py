"""The options of jobs, and the words of the enums. Generated from proto/ by `make proto`; do not edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from typing_extensions import TypedDict

from .option import Option

if TYPE_CHECKING:
    from .images import ImageLike
else:
    # A web framework that validates a request by these types must accept bytes only: a path in a request
    # would make it read a file of this machine.
    ImageLike = bytes

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
PreviewFormat = Literal["png", "jpeg", "webp"]
"""File format of previews."""
ResultFormat = Literal["png", "tiff"]
"""File format of the result; both are lossless."""


class Options(TypedDict, total=False):
    """The options that all three kinds of job share. Missing options get the server's defaults."""

    size: int
    """Size of the canvas. `fit` determines which side has this size. 16 to 8,192 pixels. Default 512."""
    fit: Fit
    """How pictures are resized to `size`. Default square for style, longest_side for content and transfer."""
    iterations: int
    """Number of updates of the canvas; each takes one gradient evaluation. 1 to 1,000,000 updates. Default 300."""
    optimizer: Optimizer
    """The optimizer. Default lbfgs."""
    learning_rate: float
    """Step size; for Adam in units of the 0-255 pixel range, for L-BFGS a factor on the quasi-Newton step. Greater
    than 0, at most 1,000. Default 10 for Adam, 1 for L-BFGS.
    """
    init: Literal["noise", "content", "style_statistics", "blend"] | ImageLike
    """Content of the canvas before the first iteration. Default style_statistics for style, noise for content,
    content for transfer.
    """
    seed: int
    """Seed of the noise of the initial canvas; with `init` content or image, which have no noise, it changes
    nothing. The same request with the same seed on the same device gives a result with the same bytes. 0 to
    4,294,967,295. Default 0.
    """
    precision: Precision
    """Floating-point type of the network's convolutions. Default auto."""
    pooling: Pooling
    """Pooling of the network. Default the model's own, which is max for VGG-19."""
    tv_weight: float
    """Weight of the total variation of the canvas (mean squared difference of neighboring pixels, 0-255 range). A
    higher weight makes the picture smoother. At least 0. Default 0; models may set their own value for content
    and transfer with relative losses.
    """
    report_every: int
    """Iterations per progress event; 0 for a rate that a person can follow: at most two events per second at the
    start of a job and, later, when less changes, at most one in two seconds. 0 to 1,000,000 iterations. Default
    0.
    """
    preview_every: int
    """Number of progress events per preview: 1 sends a preview with every event, 0 sends none. 0 to 1,000,000
    events. Default 1.
    """
    preview_size: int
    """Longest side of a preview; a smaller canvas is not enlarged. A preview is reduced further if its file would
    be larger than 3 MiB. 16 to 2,048 pixels. Default 256.
    """
    preview_format: PreviewFormat
    """File format of previews. Default jpeg."""
    time_limit: float
    """Maximum running time; after it the job ends successfully with the best picture so far. With a pyramid, each
    level except the last takes at most an eighth of it. Greater than 0 seconds. Default none.
    """
    model: str
    """Name of the model. ListModels lists the names. Default the server's default model, normally the built-in
    one.
    """
    scales: int
    """Maximum number of levels of the image pyramid, coarse to fine, each with half the size of the next; 0
    chooses the number. Each level except the last gets an eighth of the iterations. Levels whose shorter side
    is too small for the deepest layer are left out. With 0 and L-BFGS, there are as many levels as keep the
    longer side of the coarsest level at least 56 pixels for style reconstruction and 128 pixels for transfer;
    with 0, content reconstruction and Adam use one level. 0 to 8 levels. Default 0.
    """
    padding: Padding
    """Padding of the picture and of its feature maps. Default zeros for style, margin for content and transfer."""
    init_noise: float
    """Share of noise in the initial canvas when init is `blend`. 0 to 1. Default 0.5."""
    averaging: float
    """Decay of an exponential average of the iterates, which then is the result; 0 for the last iterate. 0 to
    0.9999. Default 0.
    """
    plateau: float
    """Early stopping: the job ends successfully when its loss fell by less than this fraction over 50 iterations;
    0 disables it. With a pyramid, this applies to each level. 0 to 1. Default 0.
    """
    color: ColorMode
    """Source of the result's colors; only for style transfer. Default style."""
    loss_scale: LossScale
    """Scaling of the layers' losses. Default the model's own, which is paper for VGG-19 and relative for
    vgg19-slim; relative if style_loss is not gram.
    """
    lbfgs_history: int
    """Number of curvature pairs that L-BFGS keeps. Each needs the memory of two float32 canvases. 1 to 200 pairs.
    Default the model's own, which is 20 for VGG-19.
    """
    result_format: ResultFormat
    """File format of the result; both are lossless. Default png."""
    bit_depth: int
    """Bits per channel of the result. 8 or 16 bits. Default 8."""
    tile_size: int
    """Side of the tiles in which the gradient is computed; 0 for the whole picture at once if it fits into memory,
    else the largest tiles that fit. The gradient is the same as that of the whole picture, and memory is that
    of one tile. Deep layers are computed without tiles where this needs no more memory. Tiles of half the
    picture's side take about 1.2 times as long; smaller tiles take longer. 0, or 64 to 8,192 pixels. Default 0.
    """
    style_loss: StyleLoss | Sequence[StyleLoss] | Mapping[StyleLoss, float]
    """What the style losses compare: one loss, or several with weights, such as gram=1,spectrum=0.5. Default gram."""
    outside: Outside
    """What happens to the canvas outside all masks of a style transfer. Default paint."""
    canvas_map: ImageLike
    """Color-coded map of the regions of the canvas, each in one flat color, at most 16 colors; every style needs a
    map of its own picture in the same colors. In the same shape as the content. For style reconstruction it
    determines the aspect ratio of the canvas (then `longest_side` is the default). Colors that differ slightly
    are the same color, and pixels at antialiased edges belong to one of the regions beside them. A color must
    be in the map of a style, unless `outside` is `keep`; in the maps of several styles, it mixes them by their
    weights. Each region counts by its area. Default none.
    """
    transparency: Transparency
    """What happens to the transparent parts of contents and styles. Default keep."""
    wrap: Wrap
    """The axes along which the result tiles without a seam. An axis implies `circular`; `circular` alone implies
    both axes. Default none.
    """
    reproducible: bool
    """Whether the job gives the same bytes again, with the same request, version and device. Such a job runs alone
    on its device. With false, the server may compute it together with other such jobs, which gives more jobs an
    hour; the result then differs by rounding, as that of another device does. Default true.
    """
    warm_start: bool
    """Whether all levels of the pyramid but the coarsest and the last run through the small built-in model
    vgg19-slim, whose steps cost a tenth, and the last size begins with another such level. In short jobs these
    levels get more than an eighth of the iterations. The small model needs layers of the same names. It has no
    effect if the job's model is vgg19-slim, and in jobs of fewer than 8 iterations. Default true for style
    reconstruction from noise with L-BFGS, if vgg19-slim has the layers; else false.
    """
    on_disconnect: OnDisconnect
    """What the server does with the job when the submitting stream ends early. An unset field means `cancel`, as
    usual for a gRPC call. Client libraries send `continue`, because they reconnect. Default continue.
    """
    request_id: str
    """Name of this submission, which makes retries safe. A second request with the same name streams the events of
    the first job instead of creating another (https://google.aip.dev/155). For example a UUID; 1 to 128
    printable ASCII characters without spaces. Default each submission creates a job.
    """
    priority: int
    """Priority among the queued jobs of the same client: the highest runs first. Between clients the server shares
    fairly and ignores priorities. -10 to 10. Default 0.
    """


OPTIONS: tuple[Option, ...] = (
    Option(
        name="size",
        path="options.size",
        type="integer",
        group="Canvas",
        help="Size of the canvas. `fit` determines which side has this size.",
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
        help="How pictures are resized to `size`.",
        default="square for style, longest_side for content and transfer",
        example="longest_side",
        choices={"longest_side": 1, "square": 2},
    ),
    Option(
        name="iterations",
        path="options.iterations",
        type="integer",
        group="Optimization",
        help="Number of updates of the canvas; each takes one gradient evaluation.",
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
        help="Content of the canvas before the first iteration.",
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
        help=(
            "Seed of the noise of the initial canvas; with `init` content or image, which have no "
            "noise, it changes nothing. The same request with the same seed on the same device gives a "
            "result with the same bytes."
        ),
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
        help="Floating-point type of the network's convolutions.",
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
            "pixels, 0-255 range). A higher weight makes the picture smoother."
        ),
        default="0; models may set their own value for content and transfer with relative losses",
        range="at least 0",
        example="0.1",
    ),
    Option(
        name="report_every",
        path="options.report_every",
        type="integer",
        group="Job",
        help=(
            "Iterations per progress event; 0 for a rate that a person can follow: at most two events "
            "per second at the start of a job and, later, when less changes, at most one in two "
            "seconds."
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
        help="Number of progress events per preview: 1 sends a preview with every event, 0 sends none.",
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
            "Longest side of a preview; a smaller canvas is not enlarged. A preview is reduced further "
            "if its file would be larger than 3 MiB."
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
        help=(
            "Maximum running time; after it the job ends successfully with the best picture so far. "
            "With a pyramid, each level except the last takes at most an eighth of it."
        ),
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
        help="Name of the model. ListModels lists the names.",
        default="the server's default model, normally the built-in one",
        example="1",
    ),
    Option(
        name="scales",
        path="options.scales",
        type="integer",
        group="Canvas",
        help=(
            "Maximum number of levels of the image pyramid, coarse to fine, each with half the size of "
            "the next; 0 chooses the number. Each level except the last gets an eighth of the "
            "iterations. Levels whose shorter side is too small for the deepest layer are left out. "
            "With 0 and L-BFGS, there are as many levels as keep the longer side of the coarsest level "
            "at least 56 pixels for style reconstruction and 128 pixels for transfer; with 0, content "
            "reconstruction and Adam use one level."
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
        help="Padding of the picture and of its feature maps.",
        default="zeros for style, margin for content and transfer",
        example="zeros",
        choices={"zeros": 1, "replicate": 2, "margin": 3, "circular": 4},
    ),
    Option(
        name="init_noise",
        path="options.init_noise",
        type="number",
        group="Canvas",
        help="Share of noise in the initial canvas when init is `blend`.",
        default="0.5",
        range="0 to 1",
        example="0.5",
    ),
    Option(
        name="averaging",
        path="options.averaging",
        type="number",
        group="Optimization",
        help=("Decay of an exponential average of the iterates, which then is the result; 0 for the last iterate."),
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
            "Early stopping: the job ends successfully when its loss fell by less than this fraction "
            "over 50 iterations; 0 disables it. With a pyramid, this applies to each level."
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
        help="Source of the result's colors; only for style transfer.",
        default="style",
        example="style",
        choices={"style": 1, "luminance": 2, "match": 3, "histogram": 4},
    ),
    Option(
        name="loss_scale",
        path="options.loss_scale",
        type="choice",
        group="Loss and color",
        help="Scaling of the layers' losses.",
        default=(
            "the model's own, which is paper for VGG-19 and relative for vgg19-slim; relative if style_loss is not gram"
        ),
        example="paper",
        choices={"paper": 1, "relative": 2},
    ),
    Option(
        name="lbfgs_history",
        path="options.lbfgs_history",
        type="integer",
        group="Optimization",
        help=("Number of curvature pairs that L-BFGS keeps. Each needs the memory of two float32 canvases."),
        default="the model's own, which is 20 for VGG-19",
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
        help="File format of the result; both are lossless.",
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
            "Side of the tiles in which the gradient is computed; 0 for the whole picture at once if it"
            " fits into memory, else the largest tiles that fit. The gradient is the same as that of "
            "the whole picture, and memory is that of one tile. Deep layers are computed without tiles "
            "where this needs no more memory. Tiles of half the picture's side take about 1.2 times as "
            "long; smaller tiles take longer."
        ),
        default="0",
        range="0, or 64 to 8,192 pixels",
        example="512",
        unit="pixels",
        bounds=(-2147483648, 2147483647),
    ),
    Option(
        name="style_loss",
        path="options.style_loss",
        type="choice",
        group="Loss and color",
        help=("What the style losses compare: one loss, or several with weights, such as gram=1,spectrum=0.5."),
        default="gram",
        example="gram",
        choices={"gram": 1, "mean_covariance": 2, "sliced_wasserstein": 3, "nearest_neighbor": 4, "spectrum": 5},
        weights_path="options.style_losses",
    ),
    Option(
        name="outside",
        path="options.outside",
        type="choice",
        group="Canvas",
        help="What happens to the canvas outside all masks of a style transfer.",
        default="paint",
        example="paint",
        choices={"paint": 1, "keep": 2},
    ),
    Option(
        name="canvas_map",
        path="options.canvas_map",
        type="image",
        group="Canvas",
        help=(
            "Color-coded map of the regions of the canvas, each in one flat color, at most 16 colors; "
            "every style needs a map of its own picture in the same colors. In the same shape as the "
            "content. For style reconstruction it determines the aspect ratio of the canvas (then "
            "`longest_side` is the default). Colors that differ slightly are the same color, and pixels"
            " at antialiased edges belong to one of the regions beside them. A color must be in the map"
            " of a style, unless `outside` is `keep`; in the maps of several styles, it mixes them by "
            "their weights. Each region counts by its area."
        ),
        default="none",
        example="1",
    ),
    Option(
        name="transparency",
        path="options.transparency",
        type="choice",
        group="Canvas",
        help="What happens to the transparent parts of contents and styles.",
        default="keep",
        example="keep",
        choices={"keep": 1, "white": 2},
    ),
    Option(
        name="wrap",
        path="options.wrap",
        type="choice",
        group="Canvas",
        help=(
            "The axes along which the result tiles without a seam. An axis implies `circular`; "
            "`circular` alone implies both axes."
        ),
        default="none",
        example="none",
        choices={"none": 1, "x": 2, "y": 3, "both": 4},
    ),
    Option(
        name="reproducible",
        path="options.reproducible",
        type="boolean",
        group="Job",
        help=(
            "Whether the job gives the same bytes again, with the same request, version and device. "
            "Such a job runs alone on its device. With false, the server may compute it together with "
            "other such jobs, which gives more jobs an hour; the result then differs by rounding, as "
            "that of another device does."
        ),
        default="true",
        example="false",
    ),
    Option(
        name="warm_start",
        path="options.warm_start",
        type="boolean",
        group="Optimization",
        help=(
            "Whether all levels of the pyramid but the coarsest and the last run through the small "
            "built-in model vgg19-slim, whose steps cost a tenth, and the last size begins with another"
            " such level. In short jobs these levels get more than an eighth of the iterations. The "
            "small model needs layers of the same names. It has no effect if the job's model is "
            "vgg19-slim, and in jobs of fewer than 8 iterations."
        ),
        default=("true for style reconstruction from noise with L-BFGS, if vgg19-slim has the layers; else false"),
        example="1",
    ),
    Option(
        name="on_disconnect",
        path="submission.on_disconnect",
        type="choice",
        group="Job",
        help=(
            "What the server does with the job when the submitting stream ends early. An unset field "
            "means `cancel`, as usual for a gRPC call. Client libraries send `continue`, because they "
            "reconnect."
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
            "Name of this submission, which makes retries safe. A second request with the same name "
            "streams the events of the first job instead of creating another "
            "(https://google.aip.dev/155). For example a UUID; 1 to 128 printable ASCII characters "
            "without spaces."
        ),
        default="each submission creates a job",
        example="1",
    ),
    Option(
        name="priority",
        path="submission.priority",
        type="integer",
        group="Job",
        help=(
            "Priority among the queued jobs of the same client: the highest runs first. Between clients"
            " the server shares fairly and ignores priorities."
        ),
        default="0",
        range="-10 to 10",
        example="0",
        bounds=(-2147483648, 2147483647),
    ),
)
"""The same options as a table, for programs."""
