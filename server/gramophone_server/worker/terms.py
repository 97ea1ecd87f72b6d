"""The terms of a job's loss at one level of its pyramid."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..engine.objective import Term
from ..messages.spec import JobSpec, LevelSpec, Mask, Picture, StylePicture
from ..models.features import shares
from ..models.layers import position
from ..models.model import Model
from .magnitude import NOTHING, Magnitude, shifted, unit_of
from .pictures import in_content_colors, in_gray, region, scaled, scaled_style
from .targets import Targets

_UNWEIGHED = torch.ones(1)
# What total variation is of a canvas of noise, roughly, in squared levels.
_ROUGHNESS = 4096.0


@dataclass(frozen=True)
class _Draft:
    """A term that is not weighed yet: its weight in the units of the request, and its loss of a blank canvas."""

    term: Term
    weight: Magnitude
    size: Magnitude


class Terms:
    """Makes the terms of a job: extracts its targets and weighs them.

    The weights are those of the request in another unit, see `magnitude`.

    Args:
        spec: the job.
        device: where the constants go.
    """

    def __init__(self, spec: JobSpec, model: Model, targets: Targets, device: torch.device) -> None:
        self._spec = spec
        self._model = model
        self._targets = targets
        self._device = device
        self._divisor = _divisor(spec)
        self._unit: int | None = None
        self.styles = spec.styles
        self._content = spec.content
        if spec.content is not None and spec.options.color != "style":
            self.styles = tuple(in_content_colors(style, spec.content, spec.options.color) for style in spec.styles)
            if spec.options.color == "luminance":
                self._content = in_gray(spec.content)

    def at(self, level: LevelSpec) -> list[Term]:
        """The terms at a level.

        Raises:
            ValueError: a picture is too small for the deepest layer.
        """
        drafts, first = self._drafts(level), self._spec.levels[0]
        if self._unit is None:
            # Of one level for all: what an optimizer has learned goes from one to the next.
            sizes = [draft.size for draft in (drafts if level == first else self._drafts(first))]
            self._unit = unit_of(size.over(self._divisor) for size in sizes)
        return [self._weighed(draft, self._unit) for draft in drafts]

    def stated(self, loss: float) -> float:
        """A loss that was optimized, in the units of the request."""
        return shifted(loss * self._divisor.mantissa, self._divisor.exponent - (self._unit or 0))

    def _weighed(self, draft: _Draft, unit: int) -> Term:
        counts = draft.size.over(self._divisor).exponent + unit > NOTHING
        weight = draft.weight.over(self._divisor).times_two_to(unit) if counts else 0.0
        tensor = torch.tensor([weight], device=self._device)
        return replace(draft.term, weight=tensor, stated=draft.weight.times_two_to(0))

    def _drafts(self, level: LevelSpec) -> list[_Draft]:
        drafts = []
        for number, styles in self._regions().items():
            drafts += self._style(level, styles, number)
        if self._content is not None and self._spec.content_layers:
            drafts += self._content_terms(level, self._content)
        if self._spec.options.tv_weight:
            weight, size = (
                Magnitude.of(self._spec.options.tv_weight),
                Magnitude.of(self._spec.options.tv_weight, _ROUGHNESS),
            )
            drafts.append(_Draft(Term("total_variation", "", None, _UNWEIGHED), weight, size))
        return drafts

    def _regions(self) -> dict[int | None, list[StylePicture]]:
        """The styles of each region, by the number of its first source; None for those of the whole canvas."""
        regions: dict[int | None, list[StylePicture]] = {}
        numbers: dict[str, int] = {}
        for i, style in enumerate(self.styles):
            number = None if style.mask is None else numbers.setdefault(style.mask.sha256, i)
            regions.setdefault(number, []).append(style)
        return regions

    def _style(self, level: LevelSpec, styles: Sequence[StylePicture], number: int | None) -> list[_Draft]:
        """The terms of a region, its styles' Gram matrices mixed by their shares."""
        spec = self._spec
        total = sum(style.share for style in styles)
        if not total:
            return []
        layers = [w.layer for w in spec.style_layers]
        least = self._model.manifest.stride(max(layers, key=position))
        mixed: dict[str, np.ndarray] = {}
        for style in styles:
            small = scaled_style(style, level.width / spec.width, least)
            matrices = self._targets.grams(
                self._model, small.picture, layers, spec.options.pooling, spec.map_padding, small.source_mask
            )
            for layer, matrix in matrices.items():
                mixed[layer] = mixed.get(layer, 0) + np.float32(style.share / total) * matrix
        drafts = []
        for w in spec.style_layers:
            share = _share(styles[0].mask, level, self._model.manifest.stride(w.layer))
            if share is not None and not share.any():
                continue  # The region is smaller than a position of this layer.
            tensor = None if share is None else torch.from_numpy(share)[None].to(self._device)
            target = torch.from_numpy(mixed[w.layer])[None].to(self._device)
            term = Term("style", w.layer, target, _UNWEIGHED, tensor, number)
            drafts.append(self._draft(term, mixed[w.layer], spec.style_weight, w.weight, total))
        return drafts

    def _content_terms(self, level: LevelSpec, content: Picture) -> list[_Draft]:
        spec = self._spec
        small = scaled(content, level.width, level.height)
        layers = [w.layer for w in spec.content_layers]
        maps = self._targets.maps(self._model, small, layers, spec.options.pooling, spec.map_padding)
        drafts = []
        for w in spec.content_layers:
            term = Term("content", w.layer, torch.from_numpy(maps[w.layer])[None].to(self._device), _UNWEIGHED)
            drafts.append(self._draft(term, maps[w.layer], spec.content_weight, w.weight))
        return drafts

    def _draft(self, term: Term, target: np.ndarray, *weights: float) -> _Draft:
        """A term whose loss of a blank canvas is its target's sum of squares over a divisor, or 1 if it is relative."""
        divisor = 4 * len(target) ** 2 if term.kind == "style" else 2
        if self._spec.options.loss_scale == "relative":
            squares = float(np.square(target, dtype=np.float64).sum()) or 1.0
            return _Draft(term, Magnitude.of(*weights, divisor / squares), Magnitude.of(*weights))
        squares = float(np.vdot(target, target)) or 1.0
        return _Draft(term, Magnitude.of(*weights), Magnitude.of(*weights, squares / divisor))


def _divisor(spec: JobSpec) -> Magnitude:
    """What all weights are divided by: the content's, or else the styles', unless it is of the order of the default."""
    content = next((w.weight for w in spec.content_layers if w.weight), 0.0)
    style = next((w.weight for w in spec.style_layers if w.weight), 0.0)
    if content and spec.content_weight:
        return Magnitude.of(_unusual(spec.content_weight, 10), _unusual(content, 10))
    if style and spec.style_weight:
        return Magnitude.of(_unusual(spec.style_weight, 1e4), _unusual(style, 10))
    return Magnitude.of(_unusual(spec.options.tv_weight, 10) or 1.0)


def _unusual(weight: float, most: float) -> float:
    """The weight, or 1 for one between a tenth and `most`."""
    return 1.0 if 0.1 < weight < most else weight


def _share(mask: Mask | None, level: LevelSpec, stride: int) -> np.ndarray | None:
    return None if mask is None else shares(region(mask), level.height // stride, level.width // stride)
