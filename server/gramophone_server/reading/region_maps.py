"""Matches the colors of a canvas's map with those of the styles' maps."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..decoding.messages import Region, Regions
from ..rpc.violations import Checker

# Distance in RGB within which two colors are the same color of a map: files of JPEG change colors slightly.
_ALIKE = 40
# Number of colors that an error message lists.
_SHOWN = 5

CANVAS_MAP = "options.canvas_map"
"""Path of the canvas's map in a request."""


@dataclass(frozen=True)
class RegionStyle:
    """A style of a region of the canvas.

    Attributes:
        style: index of the style.
        region: index of the region in the canvas's map.
        source: index of the region in the style's map.
        share: weight of the style in the job: the area of the region, shared among its styles by their weights.
    """

    style: int
    region: int
    source: int
    share: float


def match_regions(
    canvas: Regions, maps: Sequence[Regions], weights: Sequence[float], check: Checker, *, keep: bool
) -> list[RegionStyle]:
    """Returns the styles of all regions, region by region; adds violations to `check`.

    Each region counts by its area, so that it is painted as strongly as a canvas without regions.

    Args:
        canvas: the regions of the canvas.
        maps: the regions of each style's picture.
        weights: the weight of each style.
        keep: whether a region of the canvas may be in no style's map: it keeps the content.
    """
    pairs = [_pairs(canvas.regions, own.regions) for own in maps]
    for i, (found, own) in enumerate(zip(pairs, maps, strict=True)):
        if not found:
            reason = f"has the colors {_list(own.regions)}, and none of them is in {CANVAS_MAP}, which has"
            check.add(f"styles[{i}].source_map", f"{reason} {_list(canvas.regions)}")
    matched: list[RegionStyle] = []
    for number, region in enumerate(canvas.regions):
        styles = [i for i, found in enumerate(pairs) if number in found]
        total = sum(weights[i] for i in styles)
        if not styles and not keep:
            reason = f"has the color {region.color}, {region.area:.2g} of its area, which is in no style's map; draw it"
            check.add(CANVAS_MAP, f"{reason} there, or set options.outside to OUTSIDE_KEEP to keep the content there")
        for i in styles:
            share = region.area * weights[i] / total if total else 0.0
            matched.append(RegionStyle(i, number, pairs[i][number], share))
    return matched


def _pairs(canvas: Sequence[Region], own: Sequence[Region]) -> dict[int, int]:
    """Returns the index of the most similar own region of each region of the canvas; each is used once at most."""
    distances = sorted(
        (_distance(region.color, other.color), i, j) for i, region in enumerate(canvas) for j, other in enumerate(own)
    )
    pairs: dict[int, int] = {}
    for distance, i, j in distances:
        if distance <= _ALIKE**2 and i not in pairs and j not in pairs.values():
            pairs[i] = j
    return pairs


def _distance(color: str, other: str) -> int:
    """Returns the squared distance of two colors "#rrggbb"."""
    first, second = bytes.fromhex(color[1:]), bytes.fromhex(other[1:])
    return sum((a - b) ** 2 for a, b in zip(first, second, strict=True))


def _list(regions: Sequence[Region]) -> str:
    """Returns the colors of the largest regions, for a message."""
    shown = [region.color for region in regions[:_SHOWN]]
    return ", ".join([*shown, "…"] if len(regions) > _SHOWN else shown)
