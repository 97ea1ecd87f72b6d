"""Creates the network, levels, canvas and optimizer from a job's spec, and a picture from its final canvas."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..engine import canvas as canvases
from ..engine import color
from ..engine.device import has_native_bfloat16, lean_memory, release_free_memory
from ..engine.devices import Devices
from ..engine.graphs import Evaluator, GraphRecorder
from ..engine.kernels.padding import Paddings
from ..engine.losses import style_loss
from ..engine.network import Network
from ..engine.objective import Objective
from ..engine.optimizers.adam import Adam
from ..engine.optimizers.lbfgs import LBFGS
from ..engine.optimizers.optimizer import Optimizer
from ..engine.partition import in_tiles, partition
from ..engine.synthesis import Frame, Level, Plateau, Synthesis
from ..engine.term import WeightedTerm
from ..engine.tiling import Partition
from ..engine.transfer import download_beside
from ..messages.events import LossTerm
from ..messages.spec import JobSpec, LevelSpec, Mask
from ..models.model import Model
from ..models.networks import kept_network, open_network
from .margin import with_margin, without_margin
from .outside import Outside
from .pace import PACED_EVERY
from .pictures import canvas_of, is_gray, levels_of, scaled_mask
from .seamless import without_jumps
from .start import added_detail, initial_canvas
from .targets import Targets
from .terms import TermBuilder
from .transparency import visible_part, with_filled_pictures

# Side of the tiles in which the loss of the finished picture is computed. Without a gradient, they can be larger than
# the tiles of the job.
_EVALUATION_TILE = 512


@dataclass(frozen=True)
class FinishedPicture:
    """A finished picture and its loss.

    Attributes:
        picture: (H, W, 3), uint8 or uint16 RGB, or (H, W, 4) RGBA if the content has alpha.
        loss: total loss, computed in float32 from the rounded picture with its margin, in the units of the request.
        terms: the terms of the loss.
        changed: whether the picture differs from the job's initial picture.
    """

    picture: np.ndarray
    loss: float
    terms: tuple[LossTerm, ...]
    changed: bool = True


class PreparedJob:
    """A job that is ready to run.

    Args:
        spec: the job, with the pixels of its pictures.
        model: the model that it uses.
        others: the models of levels that use another one, by name; their layers have the same names and strides.
        targets: extracts and caches the targets.
        device: device of the optimization.
        tile: side in pixels of the tiles in which the gradient is computed; None for the whole canvas at once.
        host_history: keep the curvature pairs of L-BFGS in the host's memory.
        graphs: record the steps as CUDA graphs, on a GPU.
        share: returns what evaluates a level's objective together with those of other jobs; None to run alone.
        attention: called after each update; returns whether the synthesis yields a frame at once, besides its reports.
        devices: the devices among which a large picture is divided, of which `device` is the first; None for one.

    Attributes:
        synthesis: the optimization.
        precision: precision of the convolutions: "float32" or "bfloat16".

    Raises:
        ValueError: a picture is too small for the deepest layer.
        ModelError: the model's file does not match its manifest.
    """

    def __init__(
        self,
        spec: JobSpec,
        model: Model,
        targets: Targets,
        device: torch.device,
        *,
        others: Mapping[str, Model] | None = None,
        tile: int | None = None,
        host_history: bool = False,
        graphs: bool = False,
        share: Callable[[Objective], Evaluator] | None = None,
        attention: Callable[[], bool] = lambda: False,
        devices: Devices | None = None,
    ) -> None:
        self._asked = spec
        self._devices = devices
        self._share = share
        self._visible = visible_part(spec.content)
        spec = with_margin(spec)
        own, spec = spec.content, without_jumps(with_filled_pictures(spec))
        self._spec = spec
        self._models = {"": model, **(others or {})}
        self._device = device
        self._tile = tile
        self._terms = TermBuilder(spec, model, targets, device)
        self._networks: dict[str, Network] = {}
        self._builders = {"": self._terms}
        for name, other in (others or {}).items():
            self._builders[name] = TermBuilder(spec, other, targets, device, like=self._terms)
        self._content = (
            canvas_of(spec.content).to(device) if spec.content and spec.options.color == "luminance" else None
        )
        self._gray = self._has_no_color()
        keeps = own is not None and (own.alpha or spec.options.outside == "keep")
        self._outside = Outside(spec, own, device) if own is not None and keeps else None
        self.precision = precision_of(spec, device)
        levels = [self._level(level, number) for number, level in enumerate(spec.levels)]
        self.synthesis = Synthesis(
            levels,
            self._restored(initial_canvas(spec, self._terms.styles).to(device)),
            _optimizer(spec, device, host_history=host_history),
            report_every=spec.options.report_every or PACED_EVERY,
            attention=attention,
            averaging=spec.options.averaging,
            plateau=Plateau(spec.options.plateau) if spec.options.plateau else None,
            recorder=partial(GraphRecorder, device) if graphs else None,
            evaluates_apart=share is not None,
        )

    def resume(self, state: dict[str, Any]) -> None:
        """Resumes from the state of a synthesis of the same job; its tensors may be on any device."""
        self.synthesis.load(_on_device(state, self._device))

    def close(self) -> None:
        """Frees the synthesis at once.

        The synthesis and this object refer to each other: without `close`, the memory is freed only by the garbage
        collector.
        """
        if hasattr(self, "synthesis"):
            del self.synthesis

    def preview(self, frame: Frame) -> Callable[[], np.ndarray]:
        """Begins to make the picture of a frame; on a GPU, beside the next updates.

        Returns:
            A function that waits for the uint8 picture, (H, W, 3), or (H, W, 4) if the content has alpha, and returns
            it. Another thread may call it.
        """
        levels = download_beside(lambda canvas: canvases.to_levels(self._recolored(canvas)), frame.canvas)
        # The function must not keep this job alive.
        asked, visible = self._asked, self._visible
        return lambda: _cropped(levels()[0].numpy(), asked, visible)

    def finish(self, frame: Frame) -> FinishedPicture:
        """Returns the finished picture of the last frame, at full size; works also after `close`.

        With averaging it is the averaged iterate. Otherwise it is the last iterate, or the best iterate if the last
        update increased the loss.
        """
        # Return the memory that the steps have freed; otherwise it adds to the memory of loading and evaluating.
        with lean_memory():
            finished = self._finish(frame)
            changed = not np.array_equal(finished.picture, self._initial_picture())
            return replace(finished, picture=_cropped(finished.picture, self._asked, self._visible), changed=changed)

    def _finish(self, frame: Frame) -> FinishedPicture:
        terms = self._terms.at(self._spec.levels[-1])
        network = self._network() if self.precision == "float32" else self._network_in(torch.float32)
        full, side = self._spec.levels[-1], evaluation_tile(self._spec, self._tile)
        tiles = in_tiles(network.architecture, full.height, full.width, side, wraps=self._spec.wraps)
        exact = self._objective(network, terms, full, tiles)
        if frame.average is not None:
            return self._evaluate(exact, frame.average)
        last = self._evaluate(exact, frame.canvas)
        # If the last loss is NaN, both comparisons are false and the best canvas wins. Losses of coarser levels are not
        # comparable.
        best_loss = self._terms.in_request_units(frame.numbers.best[0])
        if frame.level == len(self._spec.levels) - 1 and last.loss <= best_loss:
            return last
        best = self._evaluate(exact, frame.best.canvas)
        return last if last.loss <= best.loss else best

    def loss(self, frame: Frame) -> float:
        """Returns a frame's loss, in the units of the request."""
        return self._terms.in_request_units(frame.numbers.loss[0])

    def loss_terms(self, frame: Frame) -> tuple[LossTerm, ...]:
        """Returns the terms of a frame's loss, with their names and weights."""
        return _reported_terms(self._current, frame.numbers.terms[0])

    def _initial_picture(self) -> np.ndarray:
        """Returns the picture that results if no update changes the canvas."""
        canvas = self._restored(initial_canvas(self._spec, self._terms.styles).to(self._device))
        for number, level in list(enumerate(self._spec.levels))[1:]:
            canvas = self._level(level, number).enlarged(canvas)
        return self._picture(canvas)

    def _picture(self, canvas: Tensor) -> np.ndarray:
        """Returns the picture (H, W, 3) of a canvas of full size, with the bit depth of the result."""
        picture: np.ndarray = canvases.to_pictures(
            self._recolored(canvas), bit_depth=self._spec.options.result.bit_depth
        )[0]
        return picture

    def _evaluate(self, exact: Objective, canvas: Tensor) -> FinishedPicture:
        size = self._spec.height, self._spec.width
        if canvas.shape[2:] != size:
            # The time limit ended the job at a coarse level.
            canvas = canvases.resized(canvas, *size, self._spec.wraps)
        picture = self._picture(canvas)
        rounded = canvases.from_pictures([picture]).to(canvas.device)
        if self._outside is not None:
            rounded = self._outside.with_unseen(rounded, canvas)
        with torch.no_grad():
            terms = exact.losses(rounded)
        return FinishedPicture(
            picture,
            self._terms.in_request_units(exact.total(terms).item()),
            _reported_terms(exact.terms, terms[0].tolist()),
        )

    def _has_no_color(self) -> bool:
        """Returns whether all pictures of the job are gray: then so is its result."""
        styles = [style.picture for style in self._terms.styles]
        return all(is_gray(picture) for picture in (*styles, self._spec.content, self._spec.init_image) if picture)

    def _recolored(self, canvas: Tensor) -> Tensor:
        """Returns the canvas with its final colors."""
        if self._content is not None:
            content = self._content
            if content.shape[2:] != canvas.shape[2:]:
                content = canvases.resized(content, canvas.shape[2], canvas.shape[3], self._spec.wraps)
            canvas = color.with_luminance(content, color.luminance(canvas))
        elif self._gray:
            canvas = color.gray(canvas)
        return canvas if self._outside is None else self._outside.blended(canvas)

    def _restored(self, canvas: Tensor) -> Tensor:
        """Returns the canvas with the content's pixels where the job keeps them."""
        return canvas if self._outside is None else self._outside.restored(canvas)

    def _level(self, level: LevelSpec, number: int) -> Level:
        detail = added_detail(self._spec, number)
        project = None if self._outside is None else self._outside.restored
        opened = partial(self._opened, level)
        fresh = level.model != self._spec.levels[max(number - 1, 0)].model
        return Level(
            level.height, level.width, level.iterations, opened, None if detail is None else detail.to(self._device),
            project, self._spec.wraps, fresh,
        )  # fmt: skip

    def _opened(self, level: LevelSpec) -> Evaluator:
        objective = self._open(level)
        return objective if self._share is None else self._share(objective)

    def _open(self, level: LevelSpec) -> Objective:
        if level is not self._spec.levels[0]:
            # Return the heap's freed memory: blocks kept from steps at another size would leave gaps.
            release_free_memory()
        terms = self._builders[level.model].at(level)
        self._current: tuple[WeightedTerm, ...] = tuple(terms)
        network = self._network(level.model)
        parts = partition(
            network.architecture, level.height, level.width, self._tile, wraps=self._spec.wraps,
            summed=has_sums(self._spec), devices=devices_of(self._spec, len(self._devices) if self._devices else 1),
        )  # fmt: skip
        copies: list[Network] = []
        if self._devices is not None and len(parts.tiles) > 1:
            copies = [self._copy(level.model, device) for device in self._devices.all[1:]]
        return self._objective(network, terms, level, parts, copies)

    def _objective(
        self, network: Network, terms: list[WeightedTerm], level: LevelSpec, parts: Partition,
        copies: Sequence[Network] = (),
    ) -> Objective:  # fmt: skip
        """Returns the objective of a level; with a copy of the network for each further device, on all devices."""
        view = color.gray if self._gray or self._spec.options.color == "luminance" else None
        fixed = None if self._outside is None else self._outside.kept(level.height, level.width)
        return Objective(
            network, terms, tiles=parts.tiles, cut=parts.cut, view=view, fixed=fixed,
            devices=self._devices if copies else None, copies=copies,
        )  # fmt: skip

    def _network(self, model: str = "") -> Network:
        """Returns the network of a model of a level, in the precision of the job."""
        if model not in self._networks:
            # The next job probably uses the own network, which takes long to open, and not only the small one.
            opened = open_network if model else kept_network
            self._networks[model] = self._network_in(getattr(torch, self.precision), model, opened)
        return self._networks[model]

    def _copy(self, model: str, device: torch.device) -> Network:
        """Returns the network of a model of a level on a further device; on a CPU, the same network."""
        if device == self._device:
            return self._network(model)
        return self._network_in(getattr(torch, self.precision), model, device=device)

    def _network_in(
        self, dtype: torch.dtype, model: str = "", opened: Callable[..., Network] = open_network,
        device: torch.device | None = None,
    ) -> Network:  # fmt: skip
        spec = self._spec
        return opened(
            self._models[model], spec.layers, pooling=spec.options.pooling, paddings=_paddings(spec), dtype=dtype,
            device=device or self._device,
        )  # fmt: skip


def _cropped(picture: np.ndarray, asked: JobSpec, visible: Mask | None) -> np.ndarray:
    """Returns a picture (H, W, 3) without its margin, and with alpha if the visible part of the content is given."""
    picture = without_margin(picture, asked)
    if visible is None:
        return picture
    alpha = levels_of(scaled_mask(visible, picture.shape[1], picture.shape[0])).astype(picture.dtype)
    return np.dstack([picture, alpha * (np.iinfo(picture.dtype).max // 255)])


def evaluation_tile(spec: JobSpec, tile: int | None) -> int | None:
    """Returns the side of the tiles in which the loss of the finished picture is computed; None for the whole canvas.

    Args:
        tile: side of the tiles of the job.
    """
    if needs_whole_canvas(spec):
        return None
    return min(tile or _EVALUATION_TILE, _EVALUATION_TILE)


def has_sums(spec: JobSpec) -> bool:
    """Returns whether one of a job's losses is a function of a statistic that is summed over tiles."""
    return any(style_loss(name).tiling == "statistic" for name in spec.style_losses)


def needs_whole_canvas(spec: JobSpec) -> bool:
    """Returns whether one of a job's losses cannot be computed in tiles."""
    return any(style_loss(name).tiling is None for name in spec.style_losses)


def devices_of(spec: JobSpec, devices: int) -> int:
    """Returns the number of devices, of those of a worker, among which the picture of a job can be divided."""
    return 1 if needs_whole_canvas(spec) else devices


def precision_of(spec: JobSpec, device: torch.device) -> str:
    """Returns the precision of a job's convolutions on a device: "float32" or "bfloat16"."""
    # Use bfloat16 only where the device supports it: torch's fallback is 100 times slower than float32.
    return "bfloat16" if spec.options.precision != "float32" and has_native_bfloat16(device) else "float32"


def _paddings(spec: JobSpec) -> Paddings:
    rows, columns = spec.wraps
    return "circular" if rows else spec.map_padding, "circular" if columns else spec.map_padding


def _on_device(value: Any, device: torch.device) -> Any:
    """Returns a state with its tensors moved to a device, except curvature pairs, which the optimizer places."""
    match value:
        case Tensor():
            return value.to(device)
        case dict():
            return {key: item if key == "blocks" else _on_device(item, device) for key, item in value.items()}
        case list() | tuple():
            return type(value)(_on_device(item, device) for item in value)
        case _:
            return value


def _reported_terms(terms: tuple[WeightedTerm, ...], values: Sequence[float]) -> tuple[LossTerm, ...]:
    return tuple(
        LossTerm(
            term.loss.kind,
            term.layer,
            value,
            _reported_weight(term),
            term.region,
            term.loss.name if term.loss.kind == "style" else "",
        )
        for term, value in zip(terms, values, strict=True)
    )


def _reported_weight(term: WeightedTerm) -> float:
    weight: float = term.weight[0].item() if term.reported_weight is None else term.reported_weight
    return weight


def _optimizer(spec: JobSpec, device: torch.device, *, host_history: bool) -> Optimizer:
    options = spec.options
    if options.optimizer == "adam":
        return Adam(options.learning_rate)
    if device.type == "cpu" or host_history:
        return LBFGS(options.learning_rate, history=options.lbfgs_history, host=host_history)
    pairs = max(1, min(options.lbfgs_history, max(level.iterations for level in spec.levels) - 1))
    return LBFGS(options.learning_rate, history=pairs, fixed=True)
