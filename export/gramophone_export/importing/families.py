"""Families of networks whose state dicts are recognized by their keys: VGG, NIN and AlexNet.

A state dict has weights but no topology. The topologies are those of Simonyan & Zisserman 2014 (VGG), Lin, Chen & Yan
2013 (NIN, as trained on ImageNet in Caffe), and Krizhevsky 2014 (AlexNet, as in torchvision).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from gramophone_server.engine.architecture import INPUT, Architecture, Convolution, Operation, Pooling, Window
from gramophone_server.models.vgg import VGG16_BLOCKS, VGG19_BLOCKS, layer_names, vgg

Weights = Mapping[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Family:
    """Networks of one topology.

    Attributes:
        name: name of the network.
        places: index of each convolution in the sequence of modules `features`, by layer.
        sides: side of the kernel of each layer.
        build: makes the architecture from the weights of each layer.
        normalized: whether batch normalization follows each convolution; its index is one more.
    """

    name: str
    places: Mapping[str, int]
    sides: Sequence[int]
    build: Callable[[Weights], Architecture]
    normalized: bool = False

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers, in order."""
        return tuple(self.places)


def _vgg_family(name: str, blocks: Sequence[int], *, normalized: bool = False) -> Family:
    """Returns a VGG; `features` has a ReLU after each convolution and a pooling after each block."""
    step = 3 if normalized else 2
    # The modules before each block: those of the earlier blocks.
    starts = [0, *accumulate(step * count + 1 for count in blocks)]
    indices = [start + step * i for start, count in zip(starts, blocks, strict=False) for i in range(count)]
    names = layer_names(blocks)
    return Family(name, dict(zip(names, indices, strict=True)), (3,) * len(names), vgg, normalized)


# Each convolution as (name, index, window), and each pooling as its window.
_Step = tuple[str, int, Window] | Window
_NIN: tuple[_Step, ...] = (
    ("conv1", 0, Window(11, 4)), ("cccp1", 2, Window(1)), ("cccp2", 4, Window(1)), Window(3, 2, ceil=True),
    ("conv2", 7, Window(5, 1, 2, 2)), ("cccp3", 9, Window(1)), ("cccp4", 11, Window(1)), Window(3, 2, ceil=True),
    ("conv3", 14, Window(3, 1, 1, 1)), ("cccp5", 16, Window(1)), ("cccp6", 18, Window(1)), Window(3, 2, ceil=True),
    ("conv4", 22, Window(3, 1, 1, 1)), ("cccp7", 24, Window(1)), ("cccp8", 26, Window(1)),
)  # fmt: skip
_ALEXNET: tuple[_Step, ...] = (
    ("conv1", 0, Window(11, 4, 2, 2)), Window(3, 2), ("conv2", 3, Window(5, 1, 2, 2)), Window(3, 2),
    ("conv3", 6, Window(3, 1, 1, 1)), ("conv4", 8, Window(3, 1, 1, 1)), ("conv5", 10, Window(3, 1, 1, 1)),
)  # fmt: skip


def _chain_family(name: str, steps: Sequence[_Step]) -> Family:
    convolutions = [step for step in steps if not isinstance(step, Window)]
    places = {layer: index for layer, index, _ in convolutions}
    return Family(name, places, [w.side for _, _, w in convolutions], lambda weights: _chain(steps, weights))


def _chain(steps: Sequence[_Step], weights: Weights) -> Architecture:
    operations: list[Operation] = []
    for number, step in enumerate(steps):
        source = operations[-1].name if operations else INPUT
        if isinstance(step, Window):
            operations.append(Pooling(f"pool{number}", source, operations[-1].outputs, step))
        else:
            outputs, inputs = weights[step[0]][0].shape[:2]
            operations.append(Convolution(step[0], source, inputs, outputs, step[2]))
    return Architecture(tuple(operations))


VGG19 = _vgg_family("VGG-19", VGG19_BLOCKS)
FAMILIES = (
    VGG19,
    _vgg_family("VGG-16", VGG16_BLOCKS),
    _vgg_family("VGG-13", (2, 2, 2, 2, 2)),
    _vgg_family("VGG-11", (1, 1, 2, 2, 2)),
    _vgg_family("VGG-19 with batch normalization", VGG19_BLOCKS, normalized=True),
    _vgg_family("VGG-16 with batch normalization", VGG16_BLOCKS, normalized=True),
    _vgg_family("VGG-13 with batch normalization", (2, 2, 2, 2, 2), normalized=True),
    _vgg_family("VGG-11 with batch normalization", (1, 1, 2, 2, 2), normalized=True),
    _chain_family("NIN", _NIN),
    _chain_family("AlexNet", _ALEXNET),
)
