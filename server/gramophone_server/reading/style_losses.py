"""What the front process, which has no torch and cannot ask the losses themselves, must know of the style losses."""

from ..messages.options import StyleLoss

WHOLE_CANVAS_LOSSES: frozenset[StyleLoss] = frozenset({"sliced_wasserstein"})
"""Style losses that cannot be computed in tiles."""


def default_layers(loss: StyleLoss, layers: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the layers that a style loss compares by default.

    Args:
        layers: the style layers of Gram matrices by default, from shallow to deep.
    """
    # Li & Wand 2016 compare neighbors at conv3_1 and conv4_1: at shallower layers the neighbors do not show structure,
    # and there are too many positions to compare.
    return layers[2:4] or layers[-1:] if loss == "nearest_neighbor" else layers
