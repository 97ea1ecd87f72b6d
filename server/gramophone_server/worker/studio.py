"""From a job's spec to what the engine needs: network, targets, canvas, optimiser."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ..engine import canvas as canvases
from ..engine.device import has_native_bfloat16
from ..engine.objective import Objective, Term, TermKind
from ..engine.optimizers import LBFGS, Adam, Optimizer
from ..engine.synthesis import Frame, optimise
from ..engine.vgg import TruncatedVGG
from ..jobs.events import LossTerm
from ..jobs.spec import JobSpec, Kind, LayerWeight
from ..models.graph import load_weights
from ..models.store import Model
from .targets import Targets, pixels

# Strong noise has the colours of a texture within its reach from the start. In a content reconstruction it would stay
# wherever a layer is nearly blind, in fine colour above all: conv1_2 comes back at 34 dB from 0.01, at 22 dB from 0.15.
_NOISE: dict[Kind, float] = {"style": 0.15, "content": 0.01, "transfer": 0.15}

_weights = lru_cache(maxsize=2)(load_weights)


@dataclass(frozen=True)
class Synthesis:
    """A job made ready to run.

    Attributes:
        frames: the running optimisation.
        objective: what it optimises, in the precision it optimises in.
        exact: the same objective in float32, for judging the result.
        precision: "float32" or "bfloat16", as chosen.
    """

    frames: Iterator[Frame]
    objective: Objective
    exact: Objective
    precision: str

    def finish(self, frame: Frame) -> tuple[np.ndarray, float, tuple[LossTerm, ...]]:
        """The 8-bit picture (H, W, 3) of the last frame, its loss and the terms of that, in float32.

        It is the last iterate, or the best one if the last update made things worse.
        """
        last = self._judge(frame.canvas)
        # Not <: a loss that is no number is worse than any.
        if last[1] <= frame.best.loss.item():
            return last
        return min(last, self._judge(frame.best.canvas), key=lambda judged: judged[1])

    def _judge(self, canvas: Tensor) -> tuple[np.ndarray, float, tuple[LossTerm, ...]]:
        picture = canvases.to_pictures(canvas)[0]
        with torch.no_grad():
            terms = self.exact.losses(canvases.from_pictures([picture]).to(canvas.device))
        return picture, self.exact.total(terms).item(), self.loss_terms(terms)

    def loss_terms(self, terms: Tensor) -> tuple[LossTerm, ...]:
        """The terms (1, T) of a canvas, named."""
        values = terms[0].tolist()
        return tuple(
            LossTerm(term.kind, term.layer, value, term.weight[0].item())
            for term, value in zip(self.objective.terms, values, strict=True)
        )


def prepare(spec: JobSpec, model: Model, targets: Targets, device: torch.device) -> Synthesis:
    """Extracts a job's targets and sets its optimisation up.

    Raises:
        ValueError: a picture is too small for the deepest layer.
        KeyError: the model lacks a layer.
    """
    terms = _terms(spec, model, targets, device)
    order, scale, shift = model.manifest.preprocessing.affine
    layers = [layer.layer for layer in (*spec.style_layers, *spec.content_layers)]

    def objective(dtype: torch.dtype) -> Objective:
        network = TruncatedVGG(
            _weights(model.path), layers,
            order=order, scale=scale, shift=shift, pool=spec.pooling, dtype=dtype, device=device,
        )  # fmt: skip
        return Objective(network, terms)

    reduced = spec.precision == "bfloat16" or (spec.precision == "auto" and has_native_bfloat16(device))
    exact = objective(torch.float32)
    chosen = objective(torch.bfloat16) if reduced else exact
    frames = optimise(
        chosen, _start(spec).to(device), _optimizer(spec),
        iterations=spec.iterations, report_every=spec.report_every,
    )  # fmt: skip
    return Synthesis(frames, chosen, exact, "bfloat16" if reduced else "float32")


def _terms(spec: JobSpec, model: Model, targets: Targets, device: torch.device) -> list[Term]:
    def term(kind: TermKind, layer: str, target: np.ndarray | None, weight: float) -> Term:
        constant = None if target is None else torch.from_numpy(target)[None].to(device)
        return Term(kind, layer, constant, torch.tensor([weight], device=device))

    def names(layers: tuple[LayerWeight, ...]) -> list[str]:
        return [layer.layer for layer in layers]

    terms = []
    if spec.style_layers:
        grams = targets.style(model, spec.styles, names(spec.style_layers), spec.pooling)
        terms += [term("style", w.layer, grams[w.layer], spec.style_weight * w.weight) for w in spec.style_layers]
    if spec.content_layers and spec.content is not None:
        maps = targets.features(model, spec.content, names(spec.content_layers), spec.pooling, grams=False)
        terms += [term("content", w.layer, maps[w.layer], spec.content_weight * w.weight) for w in spec.content_layers]
    if spec.tv_weight:
        terms.append(term("total_variation", "", None, spec.tv_weight))
    return terms


def _start(spec: JobSpec) -> Tensor:
    picture = {"noise": None, "content": spec.content, "image": spec.init_image}[spec.init]
    if picture is None:
        return canvases.noise([spec.seed], spec.height, spec.width, deviation=_NOISE[spec.kind])
    return canvases.from_pictures([pixels(picture)])


def _optimizer(spec: JobSpec) -> Optimizer:
    return Adam(spec.learning_rate) if spec.optimizer == "adam" else LBFGS(spec.learning_rate)
