"""Counts the operations of a job's style losses, which the count of the network's convolutions does not contain."""

from collections import defaultdict
from collections.abc import Mapping

from ..engine.losses import style_loss
from ..messages.spec import JobSpec, LevelSpec
from ..models.manifest import Manifest
from .margin import with_margin

# Channels and stride of the canvas itself.
_CANVAS = 3, 1


def job_operations(spec: JobSpec, manifest: Manifest, others: Mapping[str, Manifest] | None = None) -> dict[str, float]:
    """Returns the operations of all iterations of a job for each of its style losses, by name.

    Args:
        others: the manifests of the models of levels that use another one, by name.
    """
    manifests = {"": manifest, **(others or {})}
    found: defaultdict[str, float] = defaultdict(float)
    for level in with_margin(spec).levels:
        for name, operations in iteration_operations(spec, manifests[level.model], level).items():
            found[name] += level.iterations * operations
    return dict(found)


def iteration_operations(spec: JobSpec, manifest: Manifest, level: LevelSpec) -> dict[str, float]:
    """Returns the operations of one iteration at a level of the pyramid for each style loss, by name."""
    found: defaultdict[str, float] = defaultdict(float)
    for pixels in _style_pixels(spec, level):
        for w in spec.style_layers:
            channels, stride = _CANVAS
            if w.layer:
                layer = manifest.layer(w.layer)
                channels, stride = layer.channels, layer.stride
            positions = (level.height // stride) * (level.width // stride)
            found[w.loss] += style_loss(w.loss).operations(channels, positions, pixels // stride**2)
    return dict(found)


def _style_pixels(spec: JobSpec, level: LevelSpec) -> list[int]:
    """Returns the pixels of the styles of each region at a level; the whole canvas is one region."""
    pixels: defaultdict[str, int] = defaultdict(int)
    for style in spec.styles:
        pixels[style.mask.key if style.mask else ""] += style.picture.width * style.picture.height
    # The styles are scaled with the canvas.
    return [round(count * (level.width / spec.levels[-1].width) ** 2) for count in pixels.values()]
