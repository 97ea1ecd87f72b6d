"""SynthesisOptions: their defaults and ranges, written once."""

from dataclasses import dataclass

from gramophone.v1 import options_pb2 as pb

from ..messages.spec import ColorName, FitName, InitName, Kind, OptimizerName, PrecisionName, PreviewSpec, ResultSpec
from ..models.layers import FramingName, LossScaleName, PoolingName
from ..models.manifest import Manifest
from ..rpc.violations import Checker

LEARNING_RATE: dict[OptimizerName, float] = {"lbfgs": 1.0, "adam": 10.0}
FIT: dict[Kind, FitName] = {"style": "square", "content": "longest_side", "transfer": "longest_side"}
# Noise of other colors than the style's stays as colored dots wherever the network hardly sees it.
INIT: dict[Kind, InitName] = {"style": "style_statistics", "content": "noise", "transfer": "content"}
# A texture is the paper's objective itself, which sees zeros around it; a margin's picture is further from that.
PADDING: dict[Kind, FramingName] = {"style": "zeros", "content": "margin", "transfer": "margin"}
AT = "options."


@dataclass(frozen=True)
class Options:
    """The options of a request, checked and with the defaults filled in."""

    size: int
    fit: FitName
    iterations: int
    optimizer: OptimizerName
    learning_rate: float
    init: InitName
    seed: int
    precision: PrecisionName
    pooling: PoolingName
    tv_weight: float
    report_every: int
    paced: bool
    preview: PreviewSpec
    time_limit: float | None
    padding: FramingName
    init_noise: float
    averaging: float
    plateau: float
    color: ColorName
    loss_scale: LossScaleName
    lbfgs_history: int
    result: ResultSpec
    tile_size: int | None


def read_options(options: pb.SynthesisOptions, kind: Kind, model: Manifest, check: Checker) -> Options:
    """Reads the options of a job of that kind, noting what is wrong with them; some defaults are the model's."""
    optimizer: OptimizerName = check.choice(options, "optimizer", pb.Optimizer, "lbfgs", at=AT)
    scale: LossScaleName = check.choice(options, "loss_scale", pb.LossScale, model.loss_scale, at=AT)
    # It is in the units of relative losses.
    smoothing = model.tv_weight if kind != "style" and scale == "relative" else 0.0
    return Options(
        size=check.integer(options, "size", 512, 16, 8192, at=AT),
        fit=check.choice(options, "fit", pb.Fit, FIT[kind], at=AT),
        iterations=check.integer(options, "iterations", 300, 1, 1_000_000, at=AT),
        optimizer=optimizer,
        learning_rate=_learning_rate(options, optimizer, check),
        init=_init(options, kind, check),
        seed=check.integer(options, "seed", 0, 0, 2**32 - 1, at=AT),
        precision=check.choice(options, "precision", pb.Precision, "auto", at=AT),
        pooling=check.choice(options, "pooling", pb.Pooling, model.pooling, at=AT),
        tv_weight=check.number(options, "tv_weight", smoothing, 0.0, at=AT),
        report_every=check.integer(options, "report_every", 10, 1, 1_000_000, at=AT),
        # Who asks for every so many gets them all; who does not say has an eye to follow with, at any speed.
        paced=not options.HasField("report_every"),
        preview=_preview(options.preview, check),
        time_limit=_time_limit(options, check),
        padding=check.choice(options, "padding", pb.Padding, PADDING[kind], at=AT),
        init_noise=check.number(options, "init_noise", 0.5, 0.0, 1.0, at=AT),
        averaging=check.number(options, "averaging", 0.0, 0.0, 0.9999, at=AT),
        plateau=check.number(options, "plateau", 0.0, 0.0, 1.0, at=AT),
        color=_color(options, kind, check),
        loss_scale=scale,
        lbfgs_history=check.integer(options, "lbfgs_history", model.lbfgs_history, 1, 200, at=AT),
        result=_result(options.result, check),
        tile_size=check.integer(options, "tile_size", 0, 64, 8192, at=AT) or None,
    )


def _learning_rate(options: pb.SynthesisOptions, optimizer: OptimizerName, check: Checker) -> float:
    rate = check.number(options, "learning_rate", LEARNING_RATE[optimizer], 0.0, 1000.0, at=AT)
    if rate == 0:
        check.add(AT + "learning_rate", "is 0, but must be greater")
    return rate


def _init(options: pb.SynthesisOptions, kind: Kind, check: Checker) -> InitName:
    has_image = options.HasField("init_image")
    init: InitName = check.choice(options, "init", pb.Init, "image" if has_image else INIT[kind], at=AT)
    if init == "content" and kind == "style":
        check.add(AT + "init", "is INIT_CONTENT, but a style reconstruction has no content picture")
    if init == "style_statistics" and kind == "content":
        check.add(AT + "init", "is INIT_STYLE_STATISTICS, but a content reconstruction has no style")
    if init == "image" and not has_image:
        check.add(AT + "init_image", "is missing, but options.init is INIT_IMAGE")
    if init != "image" and has_image:
        check.add(AT + "init_image", f"is set, but options.init is INIT_{init.upper()}; leave out one of the two")
    return init


def _preview(preview: pb.PreviewOptions, check: Checker) -> PreviewSpec:
    at = AT + "preview."
    read = PreviewSpec(
        every=check.integer(preview, "every", 1, 0, 1_000_000, at=at),
        size=check.integer(preview, "size", 256, 16, 2048, at=at),
        format=check.choice(preview, "format", pb.ImageFormat, "jpeg", at=at),
    )
    if read.format == "tiff":
        check.add(at + "format", "is IMAGE_FORMAT_TIFF, but previews are JPEG, PNG or WebP")
    return read


def _result(result: pb.ResultOptions, check: Checker) -> ResultSpec:
    at = AT + "result."
    read = ResultSpec(
        format=check.choice(result, "format", pb.ImageFormat, "png", at=at),
        bit_depth=check.integer(result, "bit_depth", 8, 8, 16, at=at),
    )
    if read.format not in ("png", "tiff"):
        check.add(at + "format", f"is IMAGE_FORMAT_{read.format.upper()}, but results are PNG or TIFF, without loss")
    if read.bit_depth not in (8, 16):
        check.add(at + "bit_depth", f"is {read.bit_depth}, but must be 8 or 16")
    return read


def _color(options: pb.SynthesisOptions, kind: Kind, check: Checker) -> ColorName:
    color: ColorName = check.choice(options, "color", pb.ColorMode, "style", at=AT)
    if color != "style" and kind != "transfer":
        reason = f"is COLOR_MODE_{color.upper()}, but only a style transfer has a content picture to take colors from"
        check.add(AT + "color", reason)
    return color


def _time_limit(options: pb.SynthesisOptions, check: Checker) -> float | None:
    if not options.HasField("time_limit"):
        return None
    seconds = options.time_limit.seconds + options.time_limit.nanos / 1e9
    if seconds <= 0:
        check.add(AT + "time_limit", f"is {seconds:g} s, but must be greater than 0")
    return seconds
