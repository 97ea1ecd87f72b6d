"""Reads SynthesisOptions: defaults and checks that need code. `rules` reads all that the contract describes."""

import typing
from functools import cache
from typing import Any

from gramophone.v1 import options_pb2 as pb

from ..messages.options import JobKind, StyleLossWeight, SynthesisOptions
from ..models.manifest import Manifest
from ..rpc.violations import Checker
from .rules import read_fields
from .style_losses import check_style_losses, default_loss_scale, read_style_losses

# Default learning rates by optimizer.
LEARNING_RATE = {"lbfgs": 1.0, "adam": 10.0}
PREFIX = "options."
"""Path of the options in a request."""


def read_options(options: pb.SynthesisOptions, kind: JobKind, model: Manifest, check: Checker) -> SynthesisOptions:
    """Reads the options of a job, and adds violations to `check`. Some defaults come from the model's manifest."""
    unset: dict[str, Any] = {
        "pooling": model.pooling,
        "loss_scale": default_loss_scale(options, model),
        "lbfgs_history": model.lbfgs_history,
    }
    read = read_fields(options, check, kind=kind, unset=unset, prefix=PREFIX)
    read["model"] = model.name
    if read["learning_rate"] is None:
        read["learning_rate"] = LEARNING_RATE[read["optimizer"]]
    if read["tv_weight"] is None:
        # The model's default weight is in the units of relative losses.
        read["tv_weight"] = model.tv_weight if kind != "style" and read["loss_scale"] == "relative" else 0.0
    if options.HasField("init_image") and not options.init:
        read["init"] = "image"
    _read_wrap(options, read, check)
    _check_init(options, read["init"], kind, check)
    _check_color(read["color"], kind, check)
    read["style_losses"] = losses = read_style_losses(options, check, PREFIX)
    if losses:
        read["style_loss"] = losses[0].loss
    check_style_losses(losses or (StyleLossWeight(loss=read["style_loss"]),), read["tile_size"], check, PREFIX)
    if read["outside"] == "keep" and kind != "transfer":
        check.add(PREFIX + "outside", "is OUTSIDE_KEEP, but only a style transfer has a content picture to keep")
    return SynthesisOptions(**{name: _built(name, value) for name, value in read.items()})


def _built(name: str, value: Any) -> Any:
    """Returns an option's value; converts a nested message, which is a dict, to its class."""
    return _types()[name](**value) if isinstance(value, dict) else value


@cache
def _types() -> dict[str, Any]:
    return typing.get_type_hints(SynthesisOptions)


def _read_wrap(options: pb.SynthesisOptions, read: dict[str, Any], check: Checker) -> None:
    """Completes `wrap` and `padding`: an axis that wraps has circular padding, and circular padding wraps an axis."""
    if read["wrap"] == "none":
        read["wrap"] = "both" if read["padding"] == "circular" else "none"
    elif not options.padding:
        read["padding"] = "circular"
    elif read["padding"] != "circular":
        padding = f"PADDING_{read['padding'].upper()}"
        reason = f"is WRAP_{read['wrap'].upper()}, but options.padding is {padding}; leave out one of the two"
        check.add(PREFIX + "wrap", reason)


def _check_init(options: pb.SynthesisOptions, init: str, kind: JobKind, check: Checker) -> None:
    has_image = options.HasField("init_image")
    if init == "content" and kind == "style":
        check.add(PREFIX + "init", "is INIT_CONTENT, but a style reconstruction has no content picture")
    if init == "style_statistics" and kind == "content":
        check.add(PREFIX + "init", "is INIT_STYLE_STATISTICS, but a content reconstruction has no style")
    if init == "image" and not has_image:
        check.add(PREFIX + "init_image", "is missing, but options.init is INIT_IMAGE")
    if init != "image" and has_image:
        check.add(PREFIX + "init_image", f"is set, but options.init is INIT_{init.upper()}; leave out one of the two")


def _check_color(color: str, kind: JobKind, check: Checker) -> None:
    if color != "style" and kind != "transfer":
        reason = f"is COLOR_MODE_{color.upper()}, but only a style transfer has a content picture to take colors from"
        check.add(PREFIX + "color", reason)
