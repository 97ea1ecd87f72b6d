"""What one picture over several machines would send over the network in each step, from the sizes of its tiles.

Each machine has a tile of the canvas. Two ways are compared, both in float32:

* All machines have the whole canvas and the state of the optimizer; they sum the gradient of the canvas in each step.
* Each machine has only its tile, and its part of the optimizer's state. It gets the halo around its tile from its
  neighbors, and sends them the gradient of the halo.

In both, the Gram matrices of the style layers are summed over the machines before the backward pass. A sum over k
machines sends 2 (k - 1) / k times its size from each machine (a ring all-reduce: Patarasuk & Yuan 2009).
"""

from dataclasses import dataclass

import numpy as np

from gramophone_server.engine.architecture import Architecture, Convolution
from gramophone_server.engine.tiling import cut
from gramophone_server.models.layers import STYLE_LAYERS
from gramophone_server.models.vgg import VGG19_LAYERS, position, vgg

_FLOAT = 4
_CHANNELS = 3


@dataclass(frozen=True)
class Traffic:
    """Bytes that the busiest machine sends in a step.

    Attributes:
        statistics: for the sums of the Gram matrices.
        gradient: for the sum of the gradient of the whole canvas.
        halos: for the halos and their gradients, if each machine has only its tile.
    """

    statistics: float
    gradient: float
    halos: float


def vgg19() -> Architecture:
    """Returns the architecture of VGG-19 up to the deepest style layer, from the shapes of its weights alone."""
    widths = {1: 64, 2: 128, 3: 256, 4: 512, 5: 512}
    weights, inputs = {}, 3
    for layer in VGG19_LAYERS:
        outputs = widths[position(layer)[0]]
        shapes = (outputs, inputs, 3, 3), (outputs,)
        weights[layer] = tuple(np.broadcast_to(np.float32(0), shape) for shape in shapes)
        inputs = outputs
    return vgg(weights).upto(STYLE_LAYERS)  # type: ignore[arg-type]


def traffic(architecture: Architecture, side: int, rows: int) -> Traffic:
    """Returns the traffic of a square canvas in rows x rows tiles, one on each machine.

    Args:
        architecture: the network up to its deepest layer in use.
        side: side of the canvas in pixels.
        rows: number of tiles along each axis.
    """
    machines = rows**2
    ring = 2 * (machines - 1) / machines
    tiles = cut(side, side, -(-side // rows), stride=architecture.grid, radius=architecture.radius)
    assert len(tiles) == machines
    seen = (tile.rows.seen_pixels * tile.columns.seen_pixels for tile in tiles)
    inner = ((t.rows.end - t.rows.start) * (t.columns.end - t.columns.start) for t in tiles)
    halo = max(all_of_it - interior for all_of_it, interior in zip(seen, inner, strict=True))
    # What a machine receives as a halo, another one sends; the gradient goes the other way.
    return Traffic(
        statistics=ring * _FLOAT * sum(channels(architecture, layer) ** 2 for layer in STYLE_LAYERS),
        gradient=ring * _FLOAT * _CHANNELS * side**2,
        halos=2 * _FLOAT * _CHANNELS * halo,
    )


def extra_work(architecture: Architecture, side: int, rows: int) -> float:
    """Returns the pixels that the busiest machine computes, relative to its share of the canvas."""
    tiles = cut(side, side, -(-side // rows), stride=architecture.grid, radius=architecture.radius)
    return max(t.rows.seen_pixels * t.columns.seen_pixels for t in tiles) * rows**2 / side**2


def channels(architecture: Architecture, layer: str) -> int:
    """Returns the number of channels of a convolution."""
    operation = architecture[layer]
    assert isinstance(operation, Convolution)
    return operation.outputs
