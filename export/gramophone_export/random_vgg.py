"""Creates the built-in model vgg19-random: `python -m gramophone_export.random_vgg`.

Random filters in VGG-19's topology represent textures surprisingly well (Ustyuzhaninov et al. 2016; He, Wang & Hopcroft
2016), so this model needs no download and no training. It has a quarter of VGG-19's channels. Like the network of Gatys
et al., it is normalized: every filter has the same mean activation over pictures and positions, so that every layer
contributes to the loss.
"""

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch.nn import functional as F

from gramophone_server.models.graph import Parameters
from gramophone_server.models.store import BUILTIN_ROOT
from gramophone_server.models.vgg import VGG19_LAYERS, position

from .catalog import TORCHVISION
from .convert import convert

NAME = "vgg19-random"
SEED = 19
ACTIVATION = 30.0
"""Mean activation of every filter; about that of VGG-19, so that the paper's weights of content and style fit."""
CHANNELS = (16, 32, 64, 128, 128)
LAYERS = VGG19_LAYERS[: VGG19_LAYERS.index("conv5_2") + 1]
DESCRIPTION = (
    "VGG-19's topology at a quarter of its width, with random filters, normalized: "
    "nothing was trained, it is for trying things out."
)


def random_weights(seed: int = SEED) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns kernel and bias of each layer: orthogonal random filters, normalized per layer on synthetic pictures.

    Before ReLU, each filter is normalized to mean 0 and standard deviation 1: otherwise the constant part of the
    previous layer's activations would dominate. After ReLU, it is scaled to a mean of ACTIVATION.
    """
    rng = np.random.default_rng(seed)
    pictures = np.stack([dead_leaves(rng) for _ in range(6)])
    _, scale, shift = TORCHVISION.affine
    rgb = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    x = rgb * torch.tensor(scale).view(1, 3, 1, 1) + torch.tensor(shift).view(1, 3, 1, 1)
    weights: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    block = 1
    for layer in LAYERS:
        if position(layer)[0] != block:
            block = position(layer)[0]
            x = F.max_pool2d(x, 2)
        width = CHANNELS[block - 1]
        kernel = torch.from_numpy(_orthogonal(rng, width, x.shape[1] * 9).reshape(width, x.shape[1], 3, 3))
        linear = F.conv2d(x, kernel, padding=1)
        deviation, mean = torch.std_mean(linear, (0, 2, 3))
        activation = ((linear - mean.view(-1, 1, 1)) / deviation.view(-1, 1, 1)).relu().mean((0, 2, 3))
        factor = _rounded(ACTIVATION / (activation * deviation))
        kernel, bias = kernel * factor.view(-1, 1, 1, 1), _rounded(-mean * factor)
        x = F.conv2d(x, kernel, bias, padding=1).relu()
        weights[layer] = (kernel.numpy(), bias.numpy())
    return weights


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


def _orthogonal(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Returns a random matrix with orthonormal rows, or orthonormal columns if it has more rows than columns."""
    q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
    q *= np.sign(np.diag(r))
    return (q if rows > columns else q.T).astype(np.float32)


def main() -> None:
    """Writes the model into the package."""
    model = convert(
        BUILTIN_ROOT,
        Parameters.of_vgg(random_weights()),
        name=NAME,
        preprocessing=TORCHVISION,
        description=DESCRIPTION,
        source=f"gramophone_export.random_vgg, seed {SEED}",
        license="MIT",
        # The filters are normalized with max pooling but used with average pooling, which reduces the influence of the
        # deep layers: this gives the best pictures.
        pooling="average",
        half=True,
    )
    print(f"{model.path}: {model.path.stat().st_size / 1e6:.1f} MB, SHA-256 {model.manifest.sha256}")


if __name__ == "__main__":
    main()
