"""Builds the weighted terms of a job's loss at one level of its pyramid."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..engine.losses import CONTENT, TOTAL_VARIATION, Loss, style_loss
from ..engine.term import WeightedTerm
from ..engine.transfer import upload
from ..messages.spec import JobSpec, LayerWeight, LevelSpec, Mask, Picture, StylePicture
from ..models.features import coverage, shares
from ..models.loading import load_architecture
from ..models.model import Model
from .magnitude import NEGLIGIBLE, Magnitude, times_power_of_two, unit_exponent
from .pictures import in_content_colors, in_gray, region, scaled, scaled_style
from .targets import Targets
from .transparency import both, filled, visible_part, visible_source

_NO_TARGET = np.empty(0, np.float32)
_PLACEHOLDER_WEIGHT = torch.ones(1)


@dataclass(frozen=True)
class _Draft:
    """A term before its final weight.

    Attributes:
        term: the term, with a placeholder as its weight.
        share: product of the weights that the request gives it.
        weight: its weight in the units of the request.
        size: approximate size of the weighted term: its value for a blank canvas.
    """

    term: WeightedTerm
    share: Magnitude
    weight: Magnitude
    size: Magnitude

    def of_size(self, size: Magnitude) -> "_Draft":
        """Returns the draft with the weight that gives it another size; unchanged if its size is 0."""
        if not self.size.mantissa:
            return self
        return replace(self, weight=self.weight.times(size.divided_by(self.size)), size=size)


class TermBuilder:
    """Builds the weighted terms of a job: extracts its targets and computes the weights.

    The weights are those of the request in another unit; `magnitude` explains it.

    Args:
        spec: the job, with the pixels of its pictures, whose transparent pixels are filled.
        model: the model that the job uses.
        targets: extracts and caches the targets.
        device: device of the targets.
        like: builder of the same job with another model, whose layers have the same names. The terms of each kind then
            have the same sum for a blank canvas as those of that builder, and shares of it by the request's weights.

    Attributes:
        styles: the styles of the job, in the colors of the content if the job asks for it.
    """

    def __init__(
        self,
        spec: JobSpec,
        model: Model,
        targets: Targets,
        device: torch.device,
        *,
        like: "TermBuilder | None" = None,
    ) -> None:
        self._spec = spec
        self._model = model
        self._targets = targets
        self._device = device
        self._like = like
        self._divisor = _divisor(spec)
        self._unit: int | None = None
        self.styles = spec.styles
        self._content = spec.content
        self._visible = visible_part(spec.content)
        if spec.content is not None and spec.options.color != "style":
            styles = [in_content_colors(style, spec.content, spec.options.color) for style in spec.styles]
            self.styles = tuple(replace(style, picture=filled(style.picture)) for style in styles)
            if spec.options.color == "luminance":
                self._content = in_gray(spec.content)

    def at(self, level: LevelSpec) -> list[WeightedTerm]:
        """Returns the terms at a level of the pyramid.

        Raises:
            ValueError: a picture is too small for the deepest layer.
        """
        drafts, first = self._drafts(level), self._spec.levels[0]
        if self._unit is None:
            # All levels use the unit of the first one, because the optimizer's state is carried from level to level.
            sizes = [draft.size for draft in (drafts if level == first else self._drafts(first))]
            self._unit = unit_exponent(size.divided_by(self._divisor) for size in sizes)
        return [self._weighted(draft, self._unit) for draft in drafts]

    def in_request_units(self, loss: float) -> float:
        """Converts a loss from the unit of the optimization to the units of the request."""
        return times_power_of_two(loss * self._divisor.mantissa, self._divisor.exponent - (self._unit or 0))

    def _weighted(self, draft: _Draft, unit: int) -> WeightedTerm:
        counts = draft.size.divided_by(self._divisor).exponent + unit > NEGLIGIBLE
        weight = draft.weight.divided_by(self._divisor).to_float(unit) if counts else 0.0
        tensor = torch.tensor([weight], device=self._device)
        return replace(draft.term, weight=tensor, reported_weight=draft.weight.to_float(0))

    def _drafts(self, level: LevelSpec) -> list[_Draft]:
        drafts = self._own_drafts(level)
        if self._like is None:
            return drafts
        return _balanced(drafts, self._like._drafts(level))

    def _own_drafts(self, level: LevelSpec) -> list[_Draft]:
        drafts = []
        for number, styles in self._regions().items():
            for name in self._spec.style_losses:
                layers = [w for w in self._spec.style_layers if w.loss == name]
                drafts += self._style(level, style_loss(name), layers, styles, number)
        if self._content is not None and self._spec.content_layers:
            drafts += self._content_terms(level, self._content)
        if self._spec.options.tv_weight:
            weight, loss = self._spec.options.tv_weight, TOTAL_VARIATION
            term = WeightedTerm(loss, "", None, _PLACEHOLDER_WEIGHT, self._visible_pixels(level))
            size = Magnitude.of(weight, loss.blank(_NO_TARGET))
            drafts.append(_Draft(term, Magnitude.of(weight), Magnitude.of(weight), size))
        return drafts

    def _regions(self) -> dict[int | None, list[StylePicture]]:
        """Returns the styles of each region by the index of the region's first style; None is the whole canvas."""
        regions: dict[int | None, list[StylePicture]] = {}
        numbers: dict[str, int] = {}
        for i, style in enumerate(self.styles):
            number = None if style.mask is None else numbers.setdefault(style.mask.key, i)
            regions.setdefault(number, []).append(style)
        return regions

    def _style(
        self,
        level: LevelSpec,
        loss: Loss,
        weights: Sequence[LayerWeight],
        styles: Sequence[StylePicture],
        number: int | None,
    ) -> list[_Draft]:
        """Returns the terms of a loss in a region; their targets are those of its styles, averaged by their shares."""
        spec = self._spec
        total = sum(style.share for style in styles)
        if not total:
            return []
        layers = [w.layer for w in weights]
        least = self._model.manifest.min_side(w.layer for w in spec.style_layers if w.layer)
        found: dict[str, list[np.ndarray]] = {layer: [] for layer in layers}
        for style in styles:
            small = scaled_style(style, level.width / spec.width, least)
            targets = self._targets.of(
                loss,
                self._model,
                small.picture,
                layers,
                spec.options.pooling,
                spec.style_padding,
                visible_source(small),
            )
            for layer, target in targets.items():
                found[layer].append(target)
        parts = [style.share / total for style in styles]
        mixed = {layer: loss.mixed(targets, parts) for layer, targets in found.items()}
        drafts = []
        for w in weights:
            share = self._share(both(styles[0].mask, self._visible), level, w.layer)
            if share is not None and not share.any():
                continue  # The region is too small to cover a position of this layer.
            term = self._term(loss, w.layer, mixed[w.layer], share, number)
            drafts.append(self._draft(term, mixed[w.layer], spec.style_weight, w.weight, total))
        return drafts

    def _content_terms(self, level: LevelSpec, content: Picture) -> list[_Draft]:
        spec = self._spec
        small = scaled(content, level.width, level.height, spec.wraps)
        layers = [w.layer for w in spec.content_layers]
        maps = self._targets.of(
            CONTENT, self._model, small, layers, spec.options.pooling, spec.map_padding, wraps=spec.wraps
        )
        drafts = []
        for w in spec.content_layers:
            target, share = maps[w.layer], None
            if self._visible is not None:
                share = coverage(region(self._visible), *target.shape[1:])
            term = self._term(CONTENT, w.layer, target, share)
            # Only what is visible counts in the size of the loss, too.
            counted = target if share is None else target * np.sqrt(share)
            drafts.append(self._draft(term, counted, spec.content_weight, w.weight))
        return drafts

    def _visible_pixels(self, level: LevelSpec) -> torch.Tensor | None:
        """Returns the visible part of each pixel of a level, (1, H, W), summing to 1; None for an opaque content."""
        if self._visible is None:
            return None
        visible = torch.from_numpy(coverage(region(self._visible), level.height, level.width))[None]
        return upload(visible / visible.sum(), self._device)

    def _term(
        self, loss: Loss, layer: str, target: np.ndarray, share: np.ndarray | None, region: int | None = None
    ) -> WeightedTerm:
        weights = None if share is None else upload(torch.from_numpy(share)[None], self._device)
        return WeightedTerm(loss, layer, self._constant(target), _PLACEHOLDER_WEIGHT, weights, region)

    def _draft(self, term: WeightedTerm, target: np.ndarray, *weights: float) -> _Draft:
        """Returns the draft of a term with the product of `weights` as its weight.

        If losses are relative, the loss of a blank canvas is 1.
        """
        blank, share = term.loss.blank(target), Magnitude.of(*weights)
        if self._spec.options.loss_scale == "relative":
            return _Draft(term, share, Magnitude.of(*weights, 1 / blank), share)
        return _Draft(term, share, share, Magnitude.of(*weights, blank))

    def _share(self, mask: Mask | None, level: LevelSpec, layer: str) -> np.ndarray | None:
        if mask is None:
            return None
        size = level.height, level.width
        if layer:
            size = load_architecture(self._model).size(layer, *size, self._spec.wraps)
        return shares(region(mask), *size)

    def _constant(self, target: np.ndarray) -> torch.Tensor:
        return upload(torch.from_numpy(target)[None], self._device)


def _balanced(drafts: list[_Draft], like: list[_Draft]) -> list[_Draft]:
    """Returns drafts whose sizes have, for each kind of loss, the sum of the sizes of `like`.

    Each draft gets a part of the sum by its share: a loss whose layers have about equal sizes falls faster in its first
    iterations than one with the layers' own sizes, which differ a thousandfold (starry_night, 224 px: 0.8 times the
    loss after the same time).
    """
    balanced = []
    for draft in drafts:
        total = Magnitude.sum(other.size for other in like if other.term.loss.kind == draft.term.loss.kind)
        shares = Magnitude.sum(other.share for other in drafts if other.term.loss.kind == draft.term.loss.kind)
        balanced.append(draft.of_size(total.times(draft.share).divided_by(shares)) if shares.mantissa else draft)
    return balanced


def _divisor(spec: JobSpec) -> Magnitude:
    """Returns the divisor of all weights: the content's weight, or the styles' if the content has none.

    A weight that has about the size of its default is not divided out.
    """
    content = next((w.weight for w in spec.content_layers if w.weight), 0.0)
    style = next((w.weight for w in spec.style_layers if w.weight), 0.0)
    if content and spec.content_weight:
        return Magnitude.of(_one_if_usual(spec.content_weight, 10), _one_if_usual(content, 10))
    if style and spec.style_weight:
        return Magnitude.of(_one_if_usual(spec.style_weight, 1e4), _one_if_usual(style, 10))
    return Magnitude.of(_one_if_usual(spec.options.tv_weight, 10) or 1.0)


def _one_if_usual(weight: float, most: float) -> float:
    """Returns the weight, or 1 if the weight is between 0.1 and `most`."""
    return 1.0 if 0.1 < weight < most else weight
