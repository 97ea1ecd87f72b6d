"""Losses, one per module. To add one, write a module with a subclass of `Loss` or `StyleLoss` here."""

from importlib import import_module
from inspect import isabstract
from pkgutil import iter_modules

from .content import Content
from .gram import Gram
from .loss import Layer, LayerView, Loss, LossKind, StyleLoss
from .total_variation import TotalVariation

__all__ = [
    "CONTENT",
    "GRAM",
    "TOTAL_VARIATION",
    "Layer",
    "LayerView",
    "Loss",
    "LossKind",
    "StyleLoss",
    "style_loss",
    "style_losses",
]

CONTENT, GRAM, TOTAL_VARIATION = Content(), Gram(), TotalVariation()


def style_loss(name: str) -> Loss:
    """Returns the style loss of that name.

    Raises:
        KeyError: no module of this package has it.
    """
    return style_losses()[name]


def style_losses() -> dict[str, Loss]:
    """Returns all losses that can transfer a style, by name: those of the modules of this package."""
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    classes = {kind for module in modules for kind in vars(module).values() if isinstance(kind, type)}
    losses = [kind() for kind in classes if issubclass(kind, Loss) and not isabstract(kind)]
    return {loss.name: loss for loss in losses if loss.kind == "style"}
