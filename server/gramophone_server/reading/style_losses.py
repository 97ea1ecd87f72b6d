"""Reads the style losses of a job, alone or in a combination, and their layers.

The front process has no torch and cannot ask the losses themselves, so what it must know of them is here.
"""

from collections.abc import Sequence

from gramophone.v1 import options_pb2 as pb

from ..messages.options import StyleLoss, StyleLossWeight, SynthesisOptions
from ..messages.spec import LayerWeight, StyleLayer
from ..models.layers import LossScaleName
from ..models.manifest import Manifest
from ..rpc.violations import Checker
from .rules import read_field

WHOLE_CANVAS_LOSSES: frozenset[StyleLoss] = frozenset({"sliced_wasserstein"})
"""Style losses that cannot be computed in tiles."""
CANVAS_LOSSES: frozenset[StyleLoss] = frozenset({"spectrum"})
"""Style losses of the canvas itself, which need another one beside them."""


def read_style_losses(options: pb.SynthesisOptions, check: Checker, prefix: str) -> tuple[StyleLossWeight, ...]:
    """Reads `style_losses`, and adds violations to `check`; empty if the request has a single style loss."""
    field = f"{prefix}style_losses"
    read: list[StyleLossWeight] = []
    if options.style_losses and options.style_loss:
        check.add(field, "is set, but so is options.style_loss; name all losses here, and leave out options.style_loss")
    for i, given in enumerate(options.style_losses):
        loss = read_field(given, "loss", check, prefix=f"{field}[{i}].")
        weight = read_field(given, "weight", check, prefix=f"{field}[{i}].")
        if not given.loss:
            check.add(f"{field}[{i}].loss", "is missing; name a style loss, such as STYLE_LOSS_GRAM")
        if loss is None or weight is None:
            continue
        if loss in (known.loss for known in read):
            check.add(f"{field}[{i}].loss", f"is STYLE_LOSS_{loss.upper()} again; name each loss once")
        read.append(StyleLossWeight(loss=loss, weight=weight))
    return tuple(read)


def losses_of(options: SynthesisOptions) -> tuple[StyleLossWeight, ...]:
    """Returns the style losses of a job with their weights."""
    return options.style_losses or (StyleLossWeight(loss=options.style_loss),)


def default_loss_scale(options: pb.SynthesisOptions, model: Manifest) -> LossScaleName:
    """Returns the scale of losses if a request sets none: that of the paper is a scale for Gram matrices only."""
    names = {given.loss for given in options.style_losses} or {options.style_loss or pb.STYLE_LOSS_GRAM}
    return model.loss_scale if names == {pb.STYLE_LOSS_GRAM} else "relative"


def check_style_losses(losses: Sequence[StyleLossWeight], tile_size: int, check: Checker, prefix: str) -> None:
    """Adds violations of losses that cannot be alone, or not in tiles, to `check`."""
    names = [f"STYLE_LOSS_{known.loss.upper()}" for known in losses if known.loss in CANVAS_LOSSES]
    if names and len(names) == len(losses):
        field = "style_losses" if len(losses) > 1 else "style_loss"
        reason = f"is {names[0]}, which leaves the phases free; combine it with another loss in options.style_losses"
        check.add(prefix + field, reason)
    whole = [f"STYLE_LOSS_{known.loss.upper()}" for known in losses if known.loss in WHOLE_CANVAS_LOSSES]
    if whole and tile_size:
        check.add(f"{prefix}tile_size", f"is {tile_size}, but {whole[0]} needs the whole canvas at once; leave it out")


def default_layers(loss: StyleLoss, layers: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the layers that a style loss compares by default.

    Args:
        layers: the style layers of Gram matrices by default, from shallow to deep.
    """
    match loss:
        case "nearest_neighbor":
            # Li & Wand 2016: conv3_1 and conv4_1. The neighbors at shallower layers do not show structure, and there
            # are too many of them to compare.
            return layers[2:4] or layers[-1:]
        case "sliced_wasserstein":
            # Heitz et al. 2021 use the layers up to conv4_4.
            return layers[:4]
        case _:
            return layers


def layers_of(
    losses: Sequence[StyleLossWeight], given: Sequence[LayerWeight], usual: tuple[str, ...]
) -> tuple[StyleLayer, ...]:
    """Returns the layers of all style losses.

    Args:
        given: layers of the request; if there are none, each loss has its own, with equal weights that sum to 1.
        usual: the style layers of Gram matrices by default.
    """
    found: list[StyleLayer] = []
    for known in losses:
        if known.loss in CANVAS_LOSSES:
            found.append(StyleLayer("", known.weight, known.loss))
            continue
        names = default_layers(known.loss, usual)
        layers = given or [LayerWeight(name, 1 / len(names)) for name in names]
        found += [StyleLayer(layer.layer, known.weight * layer.weight, known.loss) for layer in layers]
    return tuple(found)
