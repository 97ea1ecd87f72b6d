"""The terms of a job's loss at one level of its pyramid."""

from collections.abc import Sequence

import numpy as np
import torch

from ..engine.objective import Term
from ..jobs.spec import JobSpec, LevelSpec, Mask, Picture, StylePicture
from ..models.features import shares
from ..models.layers import position
from ..models.model import Model
from .pictures import in_content_colors, in_grey, region, scaled, scaled_style
from .targets import Targets


class Terms:
    """Makes the terms of a job: extracts its targets and weighs them.

    Args:
        spec: the job.
        device: where the constants go.
    """

    def __init__(self, spec: JobSpec, model: Model, targets: Targets, device: torch.device) -> None:
        self._spec = spec
        self._model = model
        self._targets = targets
        self._device = device
        self.styles = spec.styles
        self._content = spec.content
        if spec.content is not None and spec.color != "style":
            self.styles = tuple(in_content_colors(style, spec.content, spec.color) for style in spec.styles)
            if spec.color == "luminance":
                self._content = in_grey(spec.content)

    def at(self, level: LevelSpec) -> list[Term]:
        """The terms at a level.

        Raises:
            ValueError: a picture is too small for the deepest layer.
        """
        terms = []
        for number, styles in self._regions().items():
            terms += self._style(level, styles, number)
        if self._content is not None and self._spec.content_layers:
            terms += self._content_terms(level, self._content)
        if self._spec.tv_weight:
            terms.append(Term("total_variation", "", None, self._weight(self._spec.tv_weight)))
        return terms

    def _regions(self) -> dict[int | None, list[StylePicture]]:
        """The styles of each region, by the number of its first source; None for those of the whole canvas."""
        regions: dict[int | None, list[StylePicture]] = {}
        numbers: dict[str, int] = {}
        for i, style in enumerate(self.styles):
            number = None if style.mask is None else numbers.setdefault(style.mask.sha256, i)
            regions.setdefault(number, []).append(style)
        return regions

    def _style(self, level: LevelSpec, styles: Sequence[StylePicture], number: int | None) -> list[Term]:
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
                self._model, small.picture, layers, spec.pooling, spec.padding, small.source_mask
            )
            for layer, matrix in matrices.items():
                mixed[layer] = mixed.get(layer, 0) + np.float32(style.share / total) * matrix
        terms = []
        for w in spec.style_layers:
            share = _share(styles[0].mask, level, self._model.manifest.stride(w.layer))
            if share is not None and not share.any():
                continue  # The region is smaller than a position of this layer.
            weight = spec.style_weight * w.weight * total * self._scale(mixed[w.layer], "style")
            tensor = None if share is None else torch.from_numpy(share)[None].to(self._device)
            target = torch.from_numpy(mixed[w.layer])[None].to(self._device)
            terms.append(Term("style", w.layer, target, self._weight(weight), tensor, number))
        return terms

    def _content_terms(self, level: LevelSpec, content: Picture) -> list[Term]:
        spec = self._spec
        small = scaled(content, level.width, level.height)
        layers = [w.layer for w in spec.content_layers]
        maps = self._targets.maps(self._model, small, layers, spec.pooling, spec.padding)
        return [
            Term(
                "content",
                w.layer,
                torch.from_numpy(maps[w.layer])[None].to(self._device),
                self._weight(spec.content_weight * w.weight * self._scale(maps[w.layer], "content")),
            )
            for w in spec.content_layers
        ]

    def _scale(self, target: np.ndarray, kind: str) -> float:
        """1, or what makes a loss relative to its target's sum of squares."""
        if self._spec.loss_scale == "paper":
            return 1.0
        squares = float(np.square(target, dtype=np.float64).sum()) or 1.0
        return (4 * len(target) ** 2 if kind == "style" else 2) / squares

    def _weight(self, value: float) -> torch.Tensor:
        return torch.tensor([value], device=self._device)


def _share(mask: Mask | None, level: LevelSpec, stride: int) -> np.ndarray | None:
    return None if mask is None else shares(region(mask), level.height // stride, level.width // stride)
