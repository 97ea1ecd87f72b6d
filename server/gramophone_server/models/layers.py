"""Names of VGG-19's layers. `conv4_2` is the activation after the ReLU of that convolution."""

import re
from typing import Literal

PoolingName = Literal["max", "average", "average_rescaled"]
PaddingName = Literal["zeros", "replicate"]
LossScaleName = Literal["paper", "relative"]

BLOCKS = (2, 2, 4, 4, 4)
"""Convolutions in each block of VGG-19, with 2x2 pooling between blocks (Simonyan & Zisserman 2014)."""

VGG19_LAYERS = tuple(
    f"conv{block}_{index}" for block, count in enumerate(BLOCKS, start=1) for index in range(1, count + 1)
)
STYLE_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
"""The style layers of the paper."""
CONTENT_LAYERS = ("conv4_2",)
"""The content layer of the paper."""

_LAYER = re.compile(r"(?:conv|relu)([1-9])_([1-9])")


def canonical_layer(name: str) -> str:
    """Returns the canonical name of a layer: relu4_1 becomes conv4_1; other names are unchanged."""
    match = _LAYER.fullmatch(name)
    return f"conv{match[1]}_{match[2]}" if match else name


def position(layer: str) -> tuple[int, int]:
    """Returns (block, index) of a layer: the sort key from shallow to deep.

    Raises:
        ValueError: the name is not that of a layer.
    """
    match = _LAYER.fullmatch(layer)
    if match is None:
        raise ValueError(f"{layer!r} is not the name of a layer, such as conv4_2")
    return int(match[1]), int(match[2])


def stride(layer: str, first: int = 1) -> int:
    """Returns pixels of the picture per position of a layer's feature map, along each axis.

    Args:
        first: stride of the first layer. A block has no pooling before it while the first layer's stride suffices.
    """
    return max(first, 1 << (position(layer)[0] - 1))
