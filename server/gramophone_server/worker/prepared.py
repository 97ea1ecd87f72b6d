"""From a job's spec to what the engine needs: network, levels, canvas, optimizer; and from its canvas to a picture."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..engine import canvas as canvases
from ..engine import color
from ..engine.device import has_native_bfloat16, lean_memory, release_free_memory
from ..engine.objective import Objective, Term
from ..engine.optimizers.adam import Adam
from ..engine.optimizers.lbfgs import LBFGS
from ..engine.optimizers.optimizer import Optimizer
from ..engine.synthesis import Frame, Level, Plateau, Synthesis, climbed
from ..engine.tiling import cut
from ..engine.vgg import TruncatedVGG
from ..messages.events import LossTerm
from ..messages.options import JobKind
from ..messages.spec import JobSpec, LevelSpec
from ..models.loading import load_network
from ..models.model import Model
from .margin import with_margin, without_margin
from .pace import PACED_EVERY
from .pictures import canvas_of
from .targets import Targets
from .terms import Terms

# Strong noise has the colors of a texture within its reach from the start. In a content reconstruction it would stay
# wherever a layer is nearly blind, in fine color above all: conv1_2 comes back at 34 dB from 0.01, 22 from 0.15.
_NOISE: dict[JobKind, float] = {"style": 0.15, "content": 0.01, "transfer": 0.15}
# Added on the way up the pyramid where a picture grows from noise: a quarter off the time to a given loss.
_DETAIL: dict[JobKind, float] = {"style": 0.05, "content": 0.0, "transfer": 0.0}
# Judging keeps nothing for a gradient, so tiles can be larger than those of a job.
JUDGING_TILE = 512


@dataclass(frozen=True)
class Judged:
    """A finished picture (H, W, 3), uint8 or uint16, its loss in float32 and the terms of that, its margin included.

    Attributes:
        moved: whether it differs from the picture that the job began with.
    """

    picture: np.ndarray
    loss: float
    terms: tuple[LossTerm, ...]
    moved: bool = True


class PreparedJob:
    """A job made ready to run.

    Args:
        tile: side of the tiles in which the gradient is computed; None for the whole canvas at once.
        host_history: keep the curvature pairs of L-BFGS in the host's memory.

    Attributes:
        synthesis: the optimization.
        precision: "float32" or "bfloat16", as chosen.

    Raises:
        ValueError: a picture is too small for the deepest layer.
        ModelError: the model's file is not what its manifest says.
    """

    def __init__(
        self,
        spec: JobSpec,
        model: Model,
        targets: Targets,
        device: torch.device,
        *,
        tile: int | None = None,
        host_history: bool = False,
    ) -> None:
        self._asked = spec
        spec = self._spec = with_margin(spec)
        self._model = model
        self._device = device
        self._tile = tile
        self._terms = Terms(spec, model, targets, device)
        self._content = (
            canvas_of(spec.content).to(device) if spec.content and spec.options.color == "luminance" else None
        )
        self.precision = precision_of(spec, device)
        self._network = self._network_in(torch.bfloat16 if self.precision == "bfloat16" else torch.float32)
        levels = [self._level(level, number) for number, level in enumerate(spec.levels)]
        self.synthesis = Synthesis(
            levels,
            self._start(spec.levels[0]).to(device),
            _optimizer(spec, host_history=host_history),
            report_every=spec.options.report_every or PACED_EVERY,
            averaging=spec.options.averaging,
            plateau=Plateau(spec.options.plateau) if spec.options.plateau else None,
        )

    def resume(self, state: dict[str, Any]) -> None:
        """Goes on from the state of a synthesis of the same job; its tensors may be anywhere."""
        self.synthesis.load(_moved(state, self._device))

    def close(self) -> None:
        """Lets go of the synthesis at once: its levels refer back here, so that a collector would have to find it."""
        if hasattr(self, "synthesis"):
            del self.synthesis

    def preview(self, frame: Frame) -> np.ndarray:
        """The 8-bit picture (H, W, 3) of a frame."""
        return without_margin(canvases.to_pictures(self._painted(frame.canvas))[0], self._asked)

    def finish(self, frame: Frame) -> Judged:
        """The picture of the last frame, at full size; of a closed job, too.

        It is the averaged iterate if that was asked for; else the last iterate, or the best one if the last update made
        things worse.
        """
        # Memory that the steps have freed is given back now, or it would add to what loading and judging take.
        with lean_memory():
            judged = self._finish(frame)
            moved = not np.array_equal(judged.picture, self._unmoved())
            return replace(judged, picture=without_margin(judged.picture, self._asked), moved=moved)

    def _finish(self, frame: Frame) -> Judged:
        terms = self._terms.at(self._spec.levels[-1])
        network = self._network if self.precision == "float32" else self._network_in(torch.float32)
        exact = self._objective(network, terms, self._spec.levels[-1], min(self._tile or JUDGING_TILE, JUDGING_TILE))
        if frame.average is not None:
            return self._judge(exact, frame.average)
        last = self._judge(exact, frame.canvas)
        # Not <: a loss that is no number is worse than any. A coarser level's losses cannot be compared.
        if frame.level == len(self._spec.levels) - 1 and last.loss <= self._terms.stated(frame.best.loss.item()):
            return last
        return min(last, self._judge(exact, frame.best.canvas), key=lambda judged: judged.loss)

    def loss(self, frame: Frame) -> float:
        """A frame's loss, in the units of the request."""
        return self._terms.stated(frame.loss.item())

    def loss_terms(self, frame: Frame) -> tuple[LossTerm, ...]:
        """The terms of a frame's loss, named."""
        return _named(self._current, frame.terms)

    def _unmoved(self) -> np.ndarray:
        """The picture of a job whose updates change nothing."""
        canvas = self._start(self._spec.levels[0]).to(self._device)
        for number, level in list(enumerate(self._spec.levels))[1:]:
            canvas = climbed(canvas, level.height, level.width, self._detail(level, number))
        return self._picture(canvas)

    def _picture(self, canvas: Tensor) -> np.ndarray:
        """The picture of a canvas of full size, as the result has it."""
        picture: np.ndarray = canvases.to_pictures(
            self._painted(canvas), bit_depth=self._spec.options.result.bit_depth
        )[0]
        return picture

    def _judge(self, exact: Objective, canvas: Tensor) -> Judged:
        size = self._spec.height, self._spec.width
        if canvas.shape[2:] != size:
            # The time was up at a coarse level.
            canvas = canvases.resized(canvas, *size)
        picture = self._picture(canvas)
        with torch.no_grad():
            terms = exact.losses(canvases.from_pictures([picture]).to(canvas.device))
        return Judged(picture, self._terms.stated(exact.total(terms).item()), _named(exact.terms, terms))

    def _painted(self, canvas: Tensor) -> Tensor:
        """The canvas with the colors it is to have."""
        if self._content is None:
            return canvas
        content = self._content
        if content.shape[2:] != canvas.shape[2:]:
            content = canvases.resized(content, canvas.shape[2], canvas.shape[3])
        return color.with_luminance(content, color.luminance(canvas))

    def _level(self, level: LevelSpec, number: int) -> Level:
        detail = self._detail(level, number)
        return Level(level.height, level.width, level.iterations, partial(self._open, level), detail)

    def _detail(self, level: LevelSpec, number: int) -> Tensor | None:
        deviation = _DETAIL[self._spec.kind] if number and self._spec.options.init == "noise" else 0.0
        if not deviation:
            return None
        detail = canvases.fine_detail([self._spec.options.seed], level.height, level.width, deviation=deviation)
        return detail.to(self._device)

    def _open(self, level: LevelSpec) -> Objective:
        if level is not self._spec.levels[0]:
            # What was kept for steps at one size leaves gaps at another.
            release_free_memory()
        terms = self._terms.at(level)
        self._current: tuple[Term, ...] = tuple(terms)
        return self._objective(self._network, terms, level, self._tile)

    def _objective(self, network: TruncatedVGG, terms: list[Term], level: LevelSpec, tile: int | None) -> Objective:
        tiles = None
        if tile is not None:
            tiles = cut(level.height, level.width, tile, stride=network.grid, radius=network.radius)
        view = color.gray if self._spec.options.color == "luminance" else None
        return Objective(network, terms, tiles=tiles, view=view)

    def _network_in(self, dtype: torch.dtype) -> TruncatedVGG:
        spec = self._spec
        order, scale, shift = self._model.manifest.preprocessing.affine
        layers = [layer.layer for layer in (*spec.style_layers, *spec.content_layers)]
        parameters = load_network(self._model)
        return TruncatedVGG(
            parameters.weights, layers, heads=parameters.heads, order=order, scale=scale, shift=shift,
            pool=spec.options.pooling, padding=spec.map_padding, dtype=dtype, device=self._device,
        )  # fmt: skip

    def _start(self, level: LevelSpec) -> Tensor:
        """The canvas of the first level; pictures are scaled down to it."""
        spec, seeds, size = self._spec, [self._spec.options.seed], (level.height, level.width)
        noise = partial(canvases.noise, seeds, *size)
        blended = spec.content or (spec.styles[0].picture if spec.styles else None)
        match spec.options.init:
            case "content" if spec.content is not None:
                return canvases.resized(canvas_of(spec.content), *size)
            case "image" if spec.init_image is not None:
                return canvases.resized(canvas_of(spec.init_image), *size)
            case "blend" if blended is not None:
                picture = canvases.resized(canvas_of(blended), *size)
                return picture.lerp(noise(), spec.options.init_noise)
            case "style_statistics":
                statistics = [color.color_statistics(canvas_of(style.picture)) for style in self._terms.styles]
                shares = [style.share for style in self._terms.styles]
                mean = torch.stack([s * m for s, (m, _) in zip(shares, statistics, strict=True)]).sum(0)
                covariance = torch.stack([s * c for s, (_, c) in zip(shares, statistics, strict=True)]).sum(0)
                return canvases.colored_noise(seeds, *size, mean, covariance)
            case _:
                return noise(deviation=_NOISE[spec.kind])


def precision_of(spec: JobSpec, device: torch.device) -> str:
    """The precision that a job's convolutions run in on a device: "float32" or "bfloat16", where it has that."""
    # Where it is not native it is no choice: torch's fallback takes a hundred times as long as float32.
    return "bfloat16" if spec.options.precision != "float32" and has_native_bfloat16(device) else "float32"


def _moved(value: Any, device: torch.device) -> Any:
    """A state with its tensors on a device."""
    match value:
        case Tensor():
            return value.to(device)
        case dict():
            return {key: _moved(item, device) for key, item in value.items()}
        case list() | tuple():
            return type(value)(_moved(item, device) for item in value)
        case _:
            return value


def _named(terms: tuple[Term, ...], values: Tensor) -> tuple[LossTerm, ...]:
    return tuple(
        LossTerm(term.kind, term.layer, value, _stated(term), term.region)
        for term, value in zip(terms, values[0].tolist(), strict=True)
    )


def _stated(term: Term) -> float:
    weight: float = term.weight[0].item() if term.stated is None else term.stated
    return weight


def _optimizer(spec: JobSpec, *, host_history: bool) -> Optimizer:
    if spec.options.optimizer == "adam":
        return Adam(spec.options.learning_rate)
    return LBFGS(spec.options.learning_rate, history=spec.options.lbfgs_history, host=host_history)
