"""Random, normalized weights for any architecture.

Random filters represent textures surprisingly well (Ustyuzhaninov et al. 2016; He, Wang & Hopcroft 2016), if every
filter has the same mean activation over pictures and positions, as in the network of Gatys et al.: then every layer
contributes to the loss.
"""

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from gramophone_server.engine.architecture import INPUT, Architecture, Convolution, Pooling, Sum, Window

from .catalog import TORCHVISION

ACTIVATION = 30.0
"""Mean activation of every filter; about that of VGG-19, so that the paper's weights of content and style fit."""


def normalized_weights(architecture: Architecture, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns kernel and bias of each convolution: orthogonal random filters, normalized per layer on drawn pictures.

    Before ReLU, each filter is normalized to mean 0 and standard deviation 1: otherwise the constant part of the
    previous layer's activations would dominate. After ReLU, it is scaled to a mean of ACTIVATION. The filters of
    convolutions without ReLU have a standard deviation of ACTIVATION. The input is preprocessed like torchvision's.
    """
    rng = np.random.default_rng(seed)
    pictures = np.stack([dead_leaves(rng, max(128, architecture.least)) for _ in range(6)])
    _, scale, shift = TORCHVISION.affine
    rgb = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    maps = {INPUT: rgb * torch.tensor(scale).view(1, 3, 1, 1) + torch.tensor(shift).view(1, 3, 1, 1)}
    weights: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for operation in architecture.operations:
        match operation:
            case Pooling():
                y = _pooled(maps[operation.source], operation.window)
            case Sum():
                y = maps[operation.sources[0]] + maps[operation.sources[1]]
                y = y.relu() if operation.relu else y
            case Convolution():
                kernel, bias = _filters(operation, maps[operation.source], rng)
                y = _convolved(operation, maps[operation.source], kernel, bias)
                y = y.relu() if operation.relu else y
                weights[operation.name] = kernel.numpy(), bias.numpy()
        maps[operation.name] = y
    return weights


def _filters(operation: Convolution, x: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Returns the normalized kernel and bias of a convolution of x."""
    side, inputs = operation.window.side, operation.inputs // operation.groups
    filters = orthogonal(rng, operation.outputs, inputs * side**2)
    kernel = torch.from_numpy(filters.reshape(operation.outputs, inputs, side, side))
    linear = _convolved(operation, x, kernel, None)
    deviation, mean = torch.std_mean(linear, (0, 2, 3))
    activation = torch.ones_like(mean)
    if operation.relu:
        activation = ((linear - mean.view(-1, 1, 1)) / deviation.view(-1, 1, 1)).relu().mean((0, 2, 3))
    factor = _rounded(ACTIVATION / (activation * deviation))
    return kernel * factor.view(-1, 1, 1, 1), _rounded(-mean * factor)


def _convolved(operation: Convolution, x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    window, zeros = operation.window, operation.window.before
    if window.before != window.after:
        x, zeros = F.pad(x, (window.before, window.after, window.before, window.after)), 0
    return F.conv2d(x, kernel, bias, window.stride, zeros, window.dilation, operation.groups)


def _pooled(x: Tensor, window: Window) -> Tensor:
    x = F.pad(x, (window.before, window.after, window.before, window.after), value=-torch.inf)
    return F.max_pool2d(x, window.side, window.stride, ceil_mode=window.ceil)


def _rounded(values: torch.Tensor) -> torch.Tensor:
    # Round to three digits, so that every machine computes the same filters despite different rounding.
    return torch.tensor([float(f"{value:.3g}") for value in values.tolist()])


def dead_leaves(rng: np.random.Generator, size: int = 128) -> np.ndarray:
    """Returns a uint8 RGB picture (size, size, 3) of overlapping discs of all sizes.

    Its statistics resemble those of photographs: this is the dead leaves model of Lee, Mumford & Huang 2001.
    """
    image = Image.new("RGB", (2 * size, 2 * size))
    draw = ImageDraw.Draw(image)
    for _ in range(1500):
        radius = min(4 / np.sqrt(rng.uniform(1e-3, 1)), 80)
        x, y = rng.uniform(0, 2 * size, 2)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), tuple(rng.integers(0, 256, 3).tolist()))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def orthogonal(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Returns a random matrix with orthonormal rows, or orthonormal columns if it has more rows than columns."""
    q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
    q *= np.sign(np.diag(r))
    return (q if rows > columns else q.T).astype(np.float32)
