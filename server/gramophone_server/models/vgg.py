"""The architecture of VGG networks (Simonyan & Zisserman 2014): blocks of 3x3 convolutions with poolings between them.

This module imports only the standard library.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from ..engine.architecture import INPUT, Architecture, Convolution, Operation, Pooling, Window


class Shaped(Protocol):
    """An array of any library."""

    @property
    def shape(self) -> Sequence[int]:
        """Its lengths along each axis."""


VGG16_BLOCKS = (2, 2, 3, 3, 3)
"""Convolutions in each block of VGG-16."""
VGG19_BLOCKS = (2, 2, 4, 4, 4)
"""Convolutions in each block of VGG-19."""

_LAYER = re.compile(r"conv([1-9])_([1-9])")


def layer_names(blocks: Sequence[int]) -> tuple[str, ...]:
    """Returns the names of a VGG's convolutions, such as conv4_2, in order, given their number in each block."""
    return tuple(f"conv{block}_{index}" for block, count in enumerate(blocks, 1) for index in range(1, count + 1))


VGG19_LAYERS = layer_names(VGG19_BLOCKS)


def position(layer: str) -> tuple[int, int]:
    """Returns (block, index) of a layer of a VGG: the sort key from shallow to deep.

    Raises:
        ValueError: the name is not that of a layer.
    """
    match = _LAYER.fullmatch(layer)
    if match is None:
        raise ValueError(f"{layer!r} is not the name of a layer, such as conv4_2")
    return int(match[1]), int(match[2])


def vgg(weights: Mapping[str, tuple[Shaped, Shaped]], heads: Collection[str] = ()) -> Architecture:
    """Returns the architecture of a VGG with the given weights.

    Args:
        weights: kernel (C_out, C_in, k, k) and bias (C_out,) of each layer `conv{block}_{index}`. A 2x2 pooling with
            stride 2 precedes each block but the first. If the first kernel is 6x6, its convolution has stride 2, and no
            pooling precedes block 2.
        heads: layers with a head.

    Raises:
        ValueError: a name is not that of a layer, or channels do not fit.
    """
    operations: list[Operation] = []
    source, stride = INPUT, 1
    for name in sorted(weights, key=position):
        outputs, inputs, side, _ = weights[name][0].shape
        step, block = side // 3, position(name)[0]
        if 1 << (block - 1) > step * stride:
            operations.append(Pooling(f"pool{block - 1}", source, inputs, Window(2, 2)))
            source, stride = operations[-1].name, 2 * stride
        window = Window(side, step, step, step)
        operations.append(Convolution(name, source, inputs, outputs, window, head=name in heads))
        source, stride = name, step * stride
    return Architecture(tuple(operations))
