"""Creates the built-in model vgg19-random: `python -m gramophone_export.random_vgg`.

Random filters in VGG-19's topology represent textures surprisingly well (Ustyuzhaninov et al. 2016; He, Wang & Hopcroft
2016), so this model needs no download and no training. It has a quarter of VGG-19's channels. Like the network of Gatys
et al., it is normalized: every filter has the same mean activation over pictures and positions, so that every layer
contributes to the loss.
"""

from itertools import pairwise

import numpy as np

from gramophone_server.models.graph import Parameters
from gramophone_server.models.store import BUILTIN_ROOT
from gramophone_server.models.vgg import VGG19_LAYERS, position, vgg

from .catalog import TORCHVISION
from .convert import convert
from .random_weights import normalized_weights

NAME = "vgg19-random"
SEED = 19
CHANNELS = (16, 32, 64, 128, 128)
LAYERS = VGG19_LAYERS[: VGG19_LAYERS.index("conv5_2") + 1]
DESCRIPTION = (
    "VGG-19's topology at a quarter of its width, with random filters, normalized: "
    "nothing was trained, it is for trying things out."
)


def random_weights(seed: int = SEED) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns kernel and bias of each layer; see `normalized_weights`."""
    widths = [CHANNELS[position(layer)[0] - 1] for layer in LAYERS]
    shapes = [(width, before, 3, 3) for before, width in pairwise([3, *widths])]
    # Only the shapes matter.
    parts = ((np.empty(shape, bool), np.empty(shape[0], bool)) for shape in shapes)
    return normalized_weights(vgg(dict(zip(LAYERS, parts, strict=True))), seed)


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
