"""Makes the built-in model vgg19-random: `python -m gramophone_export.random_vgg`.

Random filters in VGG-19's topology carry texture surprisingly well (Ustyuzhaninov et al. 2016; He, Wang & Hopcroft
2016), so this model needs no download and no training. It is a quarter as wide as VGG-19. Like the network of Gatys et
al., it is normalised: every filter has a mean activation of 1 over pictures and positions, so that every layer carries
weight.
"""

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw

from gramophone_server.models.graph import INPUT, build_vgg
from gramophone_server.models.layers import VGG19_LAYERS, position
from gramophone_server.models.store import BUILTIN_MODEL, BUILTIN_ROOT

from .catalogue import TORCHVISION
from .convert import convert

SEED = 19
CHANNELS = (16, 32, 64, 128, 128)
LAYERS = VGG19_LAYERS[: VGG19_LAYERS.index("conv5_2") + 1]
DESCRIPTION = (
    "VGG-19's topology at a quarter of its width, with random filters, normalised: "
    "nothing was trained, it is for trying things out."
)


def random_weights(seed: int = SEED) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Kernel and bias of each layer: orthogonal random filters, scaled to a mean activation of 1 on drawn pictures."""
    rng = np.random.default_rng(seed)
    pictures = np.stack([dead_leaves(rng) for _ in range(6)]).transpose(0, 3, 1, 2).astype(np.float32) / 255
    _, scale, shift = TORCHVISION.affine
    x = pictures * np.array(scale, np.float32).reshape(1, 3, 1, 1) + np.array(shift, np.float32).reshape(1, 3, 1, 1)
    weights: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    channels = 3
    for layer in LAYERS:
        width = CHANNELS[position(layer)[0] - 1]
        kernel = _orthogonal(rng, width, channels * 9).reshape(width, channels, 3, 3)
        bias = np.zeros(width, np.float32)
        mean = _mean_activation(weights | {layer: (kernel, bias)}, layer, x)
        # Three digits, so that another machine's rounding gives the same filters.
        factor = np.array([float(f"{1 / max(m, 1e-6):.3g}") for m in mean], np.float32)
        weights[layer] = (kernel * factor.reshape(-1, 1, 1, 1), bias)
        channels = width
    return weights


def dead_leaves(rng: np.random.Generator, size: int = 128) -> np.ndarray:
    """A uint8 RGB picture (size, size, 3) of overlapping discs of all sizes, as natural pictures are."""
    image = Image.new("RGB", (2 * size, 2 * size))
    draw = ImageDraw.Draw(image)
    for _ in range(1500):
        radius = min(4 / np.sqrt(rng.uniform(1e-3, 1)), 80)
        x, y = rng.uniform(0, 2 * size, 2)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), tuple(rng.integers(0, 256, 3).tolist()))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def _orthogonal(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Rows of unit length, at right angles to one another as far as there is room."""
    q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
    q *= np.sign(np.diag(r))
    return (q if rows > columns else q.T).astype(np.float32)


def _mean_activation(weights: dict[str, tuple[np.ndarray, np.ndarray]], layer: str, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(build_vgg(weights).SerializeToString(), providers=["CPUExecutionProvider"])
    (activation,) = session.run([layer], {INPUT: x})
    mean: np.ndarray = activation.mean((0, 2, 3))
    return mean


def main() -> None:
    """Writes the model into the package."""
    model = convert(
        BUILTIN_ROOT,
        random_weights(),
        name=BUILTIN_MODEL,
        preprocessing=TORCHVISION,
        description=DESCRIPTION,
        source=f"gramophone_export.random_vgg, seed {SEED}",
        licence="MIT",
        half=True,
    )
    print(f"{model.path}: {model.path.stat().st_size / 1e6:.1f} MB, SHA-256 {model.manifest.sha256}")


if __name__ == "__main__":
    main()
