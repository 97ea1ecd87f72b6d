"""The student that is trained, and the teacher that it learns from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gramophone_server.engine.device import has_native_bfloat16
from gramophone_server.engine.kernels.gram import gram_matrix
from gramophone_server.engine.vgg import TruncatedVGG
from gramophone_server.models.layers import CONTENT_LAYERS, STYLE_LAYERS, position, stride

from ..catalogue import CAFFE, TORCHVISION

STUDENT_INPUT = TORCHVISION
GRAM_LAYERS = (*STYLE_LAYERS, *CONTENT_LAYERS)
"""The layers whose Gram matrices are learned."""
STEM = STYLE_LAYERS[0]
"""The student's first layer, which has a position for four of the teacher's."""
_BLOCKS = {1: 64, 2: 128, 3: 256, 4: 512, 5: 512}
"""Channels of the teacher's blocks."""


def fast_dtype() -> torch.dtype:
    """The faster arithmetic of this machine's convolutions."""
    return torch.bfloat16 if has_native_bfloat16(torch.device("cpu")) else torch.float32


class Student(nn.Module):
    """Convolutions and ReLUs in blocks between which the maximum is pooled, and for each a map to the teacher.

    The first is of 6x6 pixels and has a stride of 2: it sees what a position of the teacher's second block does, and no
    map is as large as the picture. All others are of 3x3.

    Args:
        layers: names of the convolutions.
        widths: channels by block.

    Attributes:
        maps: for each layer P, (C_t, C_s), from activations to the teacher's in units of their root mean square.
    """

    def __init__(self, layers: Sequence[str], widths: Mapping[int, int], generator: torch.Generator) -> None:
        super().__init__()
        self.layers = tuple(sorted(layers, key=position))
        self.kernels, self.biases, self.maps = nn.ParameterDict(), nn.ParameterDict(), nn.ParameterDict()
        inputs = 3
        for name in self.layers:
            block = position(name)[0]
            width, channels = widths[block], _BLOCKS[block]
            side = 6 if name == STEM else 3
            # He et al. 2015.
            kernel = torch.randn(width, inputs, side, side, generator=generator) * (2 / (side**2 * inputs)) ** 0.5
            self.kernels[name] = nn.Parameter(kernel.contiguous(memory_format=torch.channels_last))
            self.biases[name] = nn.Parameter(torch.zeros(width))
            self.maps[name] = nn.Parameter(torch.randn(channels, width, generator=generator) * width**-0.5)
            inputs = width
        _, scale, shift = STUDENT_INPUT.affine
        self._scale, self._shift = (torch.tensor(values).view(1, 3, 1, 1) for values in (scale, shift))

    def groups(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Kernels and maps, and biases, for optimizers; each with the `deviation` that it was drawn with."""
        matrices: list[dict[str, Any]] = []
        for name in self.layers:
            fan = self.kernels[name][0].numel()
            matrices.append({"params": [self.kernels[name]], "deviation": (2 / fan) ** 0.5})
            matrices.append({"params": [self.maps[name]], "deviation": self.maps[name].shape[1] ** -0.5})
        return matrices, [{"params": [self.biases[name]], "deviation": 0.1} for name in self.layers]

    @staticmethod
    def stride(layer: str) -> int:
        """Pixels of the canvas per position of a layer, along each axis."""
        return stride(layer, first=2)

    def forward(self, canvas: Tensor, silence: list[Tensor] | None = None) -> dict[str, Tensor]:
        """Activations after ReLU, before the maps, of a canvas (N, 3, H, W) of 0 to 1.

        Args:
            silence: takes in, for each layer that has some, how far all channels that are 0 everywhere are from not
                being so.
        """
        x = (canvas * self._scale + self._shift).contiguous(memory_format=torch.channels_last)
        activations, reached = {}, 1
        for name in self.layers:
            kernel, bias = self.kernels[name], self.biases[name]
            if name == STEM:
                linear = F.conv2d(x, kernel, bias, stride=2, padding=2)
            else:
                linear = F.conv2d(x if reached == self.stride(name) else F.max_pool2d(x, 2), kernel, bias, padding=1)
            reached = self.stride(name)
            x = activations[name] = linear.relu()
            if silence is not None and (silent := x.detach().amax((0, 2, 3)) == 0).any():
                silence.append(-linear[:, silent].amax((0, 2, 3)).float().sum())
        return activations

    def weights(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Kernel and bias of each layer."""
        return {n: (self.kernels[n].detach().numpy(), self.biases[n].detach().numpy()) for n in self.layers}

    def heads(self, scales: Mapping[str, float]) -> dict[str, np.ndarray]:
        """For each layer a matrix (C_s, C_s) that takes its activations to features in the teacher's units.

        ‖P D Pᵀ‖² = tr(K D K D) = ‖R D R‖² with K = PᵀP = R²: the teacher's channels are not needed to compare Gram
        matrices, nor to compare features. With √(C_s/C_t) in R, equation 4 with its 1 / 4 C_s² gives 1 / 4 C_t².

        Args:
            scales: the teacher's root mean square at each layer.
        """
        heads = {}
        for name in self.layers:
            p = self.maps[name].detach().double() * scales[name]
            values, vectors = torch.linalg.eigh(p.T @ p)
            root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
            heads[name] = (root * (p.shape[1] / p.shape[0]) ** 0.5).float().numpy()
        return heads

    def network(
        self, layers: Sequence[str], scales: Mapping[str, float], dtype: torch.dtype | None = None
    ) -> TruncatedVGG:
        """The student as the engine runs it, in `fast_dtype` by default."""
        order, scale, shift = STUDENT_INPUT.affine
        return TruncatedVGG(
            self.weights(), layers, heads=self.heads(scales), order=order, scale=scale, shift=shift,
            dtype=dtype or fast_dtype(),
        )  # fmt: skip


class Teacher:
    """VGG-19 with the paper's weights, whose features are returned in units of their root mean square on photographs.

    Attributes:
        network: it, as the engine runs it.
        scales: the root mean square of each layer.
    """

    def __init__(
        self, weights: Mapping[str, tuple[np.ndarray, np.ndarray]], layers: Sequence[str], pictures: Sequence[Tensor]
    ) -> None:
        order, scale, shift = CAFFE.affine
        self.network = TruncatedVGG(weights, layers, order=order, scale=scale, shift=shift, dtype=fast_dtype())
        squares = dict.fromkeys(layers, 0.0)
        with torch.no_grad():
            for picture in pictures:
                for name, value in self.network(picture[None]).items():
                    squares[name] += value.float().square().mean().item() / len(pictures)
        self.scales = {name: square**0.5 for name, square in squares.items()}

    def features(self, canvas: Tensor) -> dict[str, Tensor]:
        """Activations after ReLU of a canvas (N, 3, H, W), each divided by its layer's root mean square."""
        with torch.no_grad():
            return {name: value.float() / self.scales[name] for name, value in self.network(canvas).items()}

    def lesson(self, picture: Tensor) -> dict[str, "Lesson"]:
        """What is to be known of a picture (3, H, W), layer by layer."""
        lessons = {}
        for name, value in self.features(picture[None]).items():
            gram = gram_matrix(value)[0].to(torch.bfloat16) if name in GRAM_LAYERS else None
            lessons[name] = Lesson(positions(value, self.network.stride(name), name)[0].to(torch.bfloat16), gram)
        return lessons

    def gradient(self, picture: Tensor, style: Mapping[str, "Lesson"]) -> Tensor:
        """∂/∂x Σ_l ‖G_l(x) − A_l‖² / ‖A_l‖² over the style layers, (3, H, W), at a picture and for a style's lesson."""
        canvas = picture[None].requires_grad_()
        features = self.network(canvas)
        errors = []
        for name in STYLE_LAYERS:
            target = style[name].gram
            assert target is not None
            target = target.float()
            gram = gram_matrix(features[name] / self.scales[name])[0]
            errors.append((gram - target).square().sum() / target.square().sum())
        (gradient,) = torch.autograd.grad(torch.stack(errors).sum(), canvas)
        return gradient[0]


@dataclass(frozen=True)
class Lesson:
    """The teacher's features at a layer's `positions`, (M, C_t), and their Gram matrix over all of them, (C_t, C_t)."""

    features: Tensor
    gram: Tensor | None


def positions(features: Tensor, stride: int, layer: str) -> Tensor:
    """The vectors (N, M, C) of a layer's features (N, C, H, W), of that stride, that are compared one by one.

    Of the many of the first two blocks that is one in four of the teacher's, which at the first are the student's all.
    """
    step = (2, 4)[position(layer)[0] - 1] // stride if position(layer)[0] <= 2 else 1
    return features[:, :, ::step, ::step].permute(0, 2, 3, 1).flatten(1, 2)
