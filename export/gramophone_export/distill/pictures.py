"""Training pictures: photographs, crops of them, and perturbed versions of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F


def list_photos(folder: Path, held_out: int) -> tuple[list[Path], list[Path]]:
    """Returns the photographs for training and those held out for evaluation: one in `held_out`, sorted by name."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    held_back = paths[held_out // 2 :: held_out]
    return [path for path in paths if path not in held_back], held_back


def load(path: Path) -> Image.Image:
    """Returns a photograph as an RGB image."""
    return Image.open(path).convert("RGB")


def tensor(image: Image.Image) -> Tensor:
    """Returns an image as a tensor (3, H, W), 0 to 1."""
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255


def crop(image: Image.Image, side: int, generator: torch.Generator) -> Tensor:
    """Returns a random square crop (3, side, side), at a random scale, mirrored half of the time.

    The scale is between the whole shorter side of the photograph and its original resolution.
    """
    shortest = min(image.size)
    zoom, across, down, mirrored = torch.rand(4, generator=generator).tolist()
    window = round(min(side, shortest) * (shortest / min(side, shortest)) ** zoom)
    left, top = int(across * (image.width - window + 1)), int(down * (image.height - window + 1))
    box = (left, top, left + window, top + window)
    picture = tensor(image.resize((side, side), Image.Resampling.BILINEAR, box=box))
    return picture.flip(2) if mirrored < 0.5 else picture


def perturbed(picture: Tensor, other: Tensor, generator: torch.Generator) -> Tensor:
    """Returns a random perturbation (3, S, S) of a picture, similar to what occurs during an optimization.

    The picture is blurred, noisy, mixed with `other` (3, S, S), repeated, recolored, or replaced by noise.
    """
    amount, choice = torch.rand(2, generator=generator).tolist()
    noise = torch.randn(picture.shape, generator=generator)
    side = picture.shape[-1]
    result: Tensor
    match int(8 * choice):
        case 0:
            result = picture + 0.3 * amount * noise
        case 1:
            small = max(4, int(side * (0.06 + 0.6 * amount)))
            result = _resized(_resized(picture, small), side)
        case 2:
            result = picture.lerp(other, amount)
        case 3:
            result = picture.lerp(0.5 + 0.15 * noise, amount)
        case 4:
            cell = side // (2 + int(3 * amount))
            result = picture[:, :cell, :cell].repeat(1, 5, 5)[:, :side, :side]
        case 5:
            matrix = torch.eye(3) + 0.6 * amount * torch.randn(3, 3, generator=generator)
            mean = picture.mean((1, 2), keepdim=True)
            shift = 0.2 * torch.randn(3, 1, 1, generator=generator)
            result = torch.einsum("ij,jhw->ihw", matrix, picture - mean) + mean + shift
        case 6:
            # Noise with equal power at each of five scales.
            scales = [_resized(torch.randn(3, s, s, generator=generator), side) for s in (4, 8, 16, 32, side)]
            result = 0.5 + 0.4 * amount * torch.stack(scales).mean(0)
        case _:
            result = torch.rand(picture.shape, generator=generator) * (0.3 + 0.7 * amount)
    return result.clamp(0, 1)


def _resized(picture: Tensor, side: int) -> Tensor:
    return F.interpolate(picture[None], (side, side), mode="bilinear", antialias=True)[0]


class Photos:
    """Draws random crops from photographs, which are decoded only once.

    Args:
        paths: files of the photographs.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._images = [load(path) for path in paths]

    def crop(self, side: int, generator: torch.Generator) -> Tensor:
        """Returns a random crop (3, side, side) of a random photograph."""
        number = int(torch.randint(len(self._images), (1,), generator=generator))
        return crop(self._images[number], side, generator)
