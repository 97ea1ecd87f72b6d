"""Finds the regions of a color-coded map: its main colors, and the color that each pixel belongs to.

A map is drawn in flat colors, but its file often has others too: antialiased edges, and the noise of a JPEG. So only
flat parts, whose pixels equal their neighbors, define colors, and every other pixel gets the most similar color of
those around it. An edge between red and blue never becomes a line of purple, even if purple is a color of the map.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from .messages import PictureError, Region, Regions
from .output import write_blob

MAX_REGIONS = 16
"""Maximum number of colors of a map."""
MAX_SIDE = 1024
"""Longer side in pixels at which a larger map is read."""
# Largest difference of a channel between neighbors of a flat part, in levels.
_FLAT = 2
# Distance in RGB within which flat colors are one color: more than the noise of a JPEG.
_ALIKE = 24
# Minimum part of a map's pixels that a color of its own has, and that all flat parts have together.
_LEAST, _LEAST_FLAT = 0.001, 0.5
# Distance within which a pixel has the color of its region in spite of a JPEG's noise, and the minimum part of the flat
# pixels for which that holds: shaded pictures have fewer.
_SAME, _LEAST_SAME = 10, 0.8
# Pixels to each side that count as around a pixel.
_REACH = 2
# Steps by which regions grow into parts that are not flat; what is still farther away gets the most similar color.
_ROUNDS = 8
_UNKNOWN = 255


def find_regions(image: Image.Image, width: int, height: int) -> tuple[np.ndarray, list[Region]]:
    """Returns the number of each pixel's region (height, width), uint8, and the regions by descending area.

    Args:
        image: the map, RGB.
        width, height: size in pixels that the regions are scaled to, with smooth outlines.

    Raises:
        PictureError: the picture is no map: it has too many colors, or hardly any flat part.
    """
    factor = min(1.0, MAX_SIDE / max(width, height, 1))
    size = tuple(max(1, min(own, round(side * factor))) for own, side in zip(image.size, (width, height), strict=True))
    # The nearest pixel: any other method would mix colors.
    pixels = np.asarray(image.resize((size[0], size[1]), Image.Resampling.NEAREST)).astype(np.int16)
    flat = _flat_parts(pixels)
    colors = _main_colors(pixels[flat], flat.size)
    labels = _scaled(_labels(pixels, flat, colors), len(colors), width, height)
    areas = np.array([np.count_nonzero(labels == number) for number in range(len(colors))]) / labels.size
    order = np.argsort(-areas, kind="stable")
    rank = np.empty(len(colors), np.uint8)
    rank[order] = np.arange(len(colors))
    regions = [Region("#{:02x}{:02x}{:02x}".format(*colors[n].tolist()), float(areas[n])) for n in order]
    return rank[labels], regions


def write_regions(image: Image.Image, width: int, height: int, folder: Path, *, durable: bool, warning: str) -> Regions:
    """Writes the number of each pixel's region to a file in a folder, one byte per pixel, named by its SHA-256.

    Raises:
        PictureError: as `find_regions`.
        OSError: the disk is full, or cannot be written.
    """
    labels, regions = find_regions(image, width, height)
    blob = write_blob(folder, [labels.tobytes()], durable=durable)
    return Regions(blob, tuple(regions), warning)


def _flat_parts(pixels: np.ndarray) -> np.ndarray:
    """Returns which pixels (H, W) have about the color of their neighbors."""
    flat = np.ones(pixels.shape[:2], bool)
    same = np.abs(np.diff(pixels, axis=0)).max(2, initial=0) <= _FLAT
    flat[1:] &= same
    flat[:-1] &= same
    same = np.abs(np.diff(pixels, axis=1)).max(2, initial=0) <= _FLAT
    flat[:, 1:] &= same
    flat[:, :-1] &= same
    return flat


def _main_colors(flat: np.ndarray, total: int) -> np.ndarray:
    """Returns the colors (K, 3) of a map's flat pixels (N, 3), of `total` pixels: the most frequent of each cluster."""
    if len(flat) < _LEAST_FLAT * total:
        reason = f"only {len(flat) / total:.0%} of its pixels are in flat parts"
        raise PictureError(f"is not a map of regions in flat colors: {reason}; draw each region in one color")
    packed, counts = np.unique(flat.astype(np.int64) @ (1 << 16, 1 << 8, 1), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    known, counts = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=1)[order], counts[order]
    found: list[np.ndarray] = []
    same = 0
    while len(counts) and len(found) <= MAX_REGIONS:
        distance = np.square(known - known[0]).sum(1)
        own = distance <= _ALIKE**2
        if counts[own].sum() >= _LEAST * total:
            found.append(known[0])
        same += int(counts[distance <= _SAME**2].sum())
        known, counts = known[~own], counts[~own]
    if not 1 <= len(found) <= MAX_REGIONS:
        raise PictureError(
            f"has more than {MAX_REGIONS} colors, but a map has one color per region and at most {MAX_REGIONS}; draw "
            "it in fewer flat colors"
        )
    if same < _LEAST_SAME * len(flat):
        raise PictureError("is shaded like a photo, but a map has flat colors; draw each region in one color")
    return np.stack(found)


def _labels(pixels: np.ndarray, flat: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Returns the number of each pixel's color (H, W): of a flat pixel the most similar, of others that around them."""
    everywhere = np.ones(len(colors), bool)
    labels, distance = _nearest(pixels, colors, everywhere)
    labels[~(flat & (distance <= _ALIKE**2))] = _UNKNOWN
    for _ in range(_ROUNDS):
        unknown = labels == _UNKNOWN
        if not unknown.any():
            return labels
        around = np.stack([_dilated(labels == number)[unknown] for number in range(len(colors))])
        labels[unknown] = np.where(around.any(0), _nearest(pixels[unknown], colors, around)[0], _UNKNOWN)
    unknown = labels == _UNKNOWN
    labels[unknown] = _nearest(pixels[unknown], colors, everywhere)[0]
    return labels


def _nearest(pixels: np.ndarray, colors: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the number of the most similar color of each pixel, uint8, and its squared distance.

    Args:
        pixels: (..., 3).
        allowed: (K,) or (K, ...), the colors that may be chosen.
    """
    best = np.full(pixels.shape[:-1], np.iinfo(np.int32).max, np.int32)
    labels = np.zeros(pixels.shape[:-1], np.uint8)
    for number, color in enumerate(colors.astype(np.int32)):
        closer = (distance := np.square(pixels - color).sum(-1)) < best
        closer &= allowed[number]
        best[closer], labels[closer] = distance[closer], number
    return labels, best


def _dilated(region: np.ndarray) -> np.ndarray:
    """Returns a region (H, W), bool, grown by `_REACH` pixels to all sides."""
    for axis in (0, 1):
        grown = region.copy()
        for shift in range(1, _REACH + 1):
            ahead = [slice(None), slice(None)]
            behind = [slice(None), slice(None)]
            ahead[axis], behind[axis] = slice(shift, None), slice(None, -shift)
            grown[tuple(ahead)] |= region[tuple(behind)]
            grown[tuple(behind)] |= region[tuple(ahead)]
        region = grown
    return region


def _scaled(labels: np.ndarray, count: int, width: int, height: int) -> np.ndarray:
    """Returns labels (H, W) scaled to (height, width): at each pixel the label with the largest interpolated share."""
    if labels.shape == (height, width):
        return labels
    best, scaled = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
    for number in range(count):
        region = Image.fromarray(np.where(labels == number, np.uint8(255), np.uint8(0)))
        share = np.asarray(region.resize((width, height), Image.Resampling.BILINEAR))
        larger = share > best
        best[larger], scaled[larger] = share[larger], number
    return scaled
