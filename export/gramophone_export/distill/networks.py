"""The student network, which is trained, and the teacher network, which it approximates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gramophone_server.engine.device import has_native_bfloat16
from gramophone_server.engine.kernels.gram import gram_matrix
from gramophone_server.engine.network import Network
from gramophone_server.models.layers import CONTENT_LAYERS, STYLE_LAYERS
from gramophone_server.models.vgg import position, vgg

from ..catalog import CAFFE, TORCHVISION

STUDENT_INPUT = TORCHVISION
GRAM_LAYERS = (*STYLE_LAYERS, *CONTENT_LAYERS)
"""The layers whose Gram matrices the student learns."""
STEM = STYLE_LAYERS[0]
"""The student's first layer, which has one position for four of the teacher's."""
_BLOCKS = {1: 64, 2: 128, 3: 256, 4: 512, 5: 512}
"""Channels of the teacher, by block."""


def fast_dtype() -> torch.dtype:
    """Returns the faster type for convolutions on this machine's CPU, bfloat16 or float32."""
    return torch.bfloat16 if has_native_bfloat16(torch.device("cpu")) else torch.float32


class Student(nn.Module):
    """Convolutions with ReLU, in blocks with max pooling between them, and for each layer a map to the teacher.

    The first convolution is 6x6 with stride 2: its receptive field is that of the input of the teacher's second block,
    and no feature map is as large as the picture. All other convolutions are 3x3.

    Args:
        layers: names of the convolutions.
        widths: number of channels by block.
        generator: draws the initial parameters.

    Attributes:
        layers: names of the convolutions, in order.
        kernels: for each layer (C_out, C_in, k, k).
        biases: for each layer (C_out,).
        maps: for each layer the map P, (C_t, C_s), from the student's activations to the teacher's; those are in units
            of their root mean square.
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
            # Initialization of He et al. 2015.
            kernel = torch.randn(width, inputs, side, side, generator=generator) * (2 / (side**2 * inputs)) ** 0.5
            self.kernels[name] = nn.Parameter(kernel.contiguous(memory_format=torch.channels_last))
            self.biases[name] = nn.Parameter(torch.zeros(width))
            self.maps[name] = nn.Parameter(torch.randn(channels, width, generator=generator) * width**-0.5)
            inputs = width
        _, scale, shift = STUDENT_INPUT.affine
        self._scale, self._shift = (torch.tensor(values).view(1, 3, 1, 1) for values in (scale, shift))

    def groups(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Returns the parameter groups of kernels and maps, and those of biases.

        `deviation` of each group is the standard deviation of the initial values (0.1 for the biases, which start at
        0); it scales the group's step size.
        """
        matrices: list[dict[str, Any]] = []
        for name in self.layers:
            fan = self.kernels[name][0].numel()
            matrices.append({"params": [self.kernels[name]], "deviation": (2 / fan) ** 0.5})
            matrices.append({"params": [self.maps[name]], "deviation": self.maps[name].shape[1] ** -0.5})
        return matrices, [{"params": [self.biases[name]], "deviation": 0.1} for name in self.layers]

    @staticmethod
    def stride(layer: str) -> int:
        """Returns the stride of a layer's feature map: canvas pixels per position, along each axis."""
        return max(2, 1 << (position(layer)[0] - 1))

    def forward(self, canvas: Tensor, silence: list[Tensor] | None = None) -> dict[str, Tensor]:
        """Returns the activations after ReLU, before the maps, of a canvas.

        Args:
            canvas: (N, 3, H, W) with values of 0 to 1.
            silence: list to which one loss per layer with dead channels (0 at all positions of the batch) is appended:
                the sum over these channels of how far the largest value before ReLU is below 0. None to skip this.
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
        """Returns kernel and bias of each layer."""
        return {n: (self.kernels[n].detach().numpy(), self.biases[n].detach().numpy()) for n in self.layers}

    def heads(self, scales: Mapping[str, float]) -> dict[str, np.ndarray]:
        """Returns for each layer the head R (C_s, C_s), which maps activations to features in the teacher's units.

        With K = PᵀP = R², ‖P D Pᵀ‖² = tr(K D K D) = ‖R D R‖². So distances of Gram matrices, and of features, can be
        computed without expanding to the teacher's C_t channels. R includes the factor √(C_s/C_t), so that equation 4,
        whose factor is 1 / 4 C_s² for the student, gives the value with the teacher's 1 / 4 C_t².

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

    def network(self, layers: Sequence[str], scales: Mapping[str, float], dtype: torch.dtype | None = None) -> Network:
        """Returns the student as a network of the engine, in `fast_dtype` by default."""
        order, scale, shift = STUDENT_INPUT.affine
        return Network(
            vgg(self.weights()), self.weights(), layers, heads=self.heads(scales), order=order, scale=scale,
            shift=shift, dtype=dtype or fast_dtype(),
        )  # fmt: skip


class Teacher:
    """VGG-19 with the paper's weights; it returns features in units of their root mean square on photographs.

    Args:
        weights: kernel and bias of each layer, as from `read_weights`.
        layers: names of the layers whose features are needed.
        pictures: pictures (3, H, W) on which the root mean squares are measured.

    Attributes:
        network: the teacher as a network of the engine.
        scales: the root mean square of each layer's features.
    """

    def __init__(
        self, weights: Mapping[str, tuple[np.ndarray, np.ndarray]], layers: Sequence[str], pictures: Sequence[Tensor]
    ) -> None:
        order, scale, shift = CAFFE.affine
        self.network = Network(vgg(weights), weights, layers, order=order, scale=scale, shift=shift, dtype=fast_dtype())
        squares = dict.fromkeys(layers, 0.0)
        with torch.no_grad():
            for picture in pictures:
                for name, value in self.network(picture[None]).items():
                    squares[name] += value.float().square().mean().item() / len(pictures)
        self.scales = {name: square**0.5 for name, square in squares.items()}

    def features(self, canvas: Tensor) -> dict[str, Tensor]:
        """Returns the activations after ReLU of a canvas (N, 3, H, W), divided by the layer's root mean square."""
        with torch.no_grad():
            return {name: value.float() / self.scales[name] for name, value in self.network(canvas).items()}

    def targets(self, picture: Tensor) -> dict[str, "LayerTargets"]:
        """Returns the training targets that a picture (3, H, W) gives at each layer."""
        targets = {}
        for name, value in self.features(picture[None]).items():
            gram = gram_matrix(value)[0].to(torch.bfloat16) if name in GRAM_LAYERS else None
            targets[name] = LayerTargets(
                positions(value, self.network.architecture.stride(name), name)[0].to(torch.bfloat16), gram
            )
        return targets

    def gradient(self, picture: Tensor, style: Mapping[str, "LayerTargets"]) -> Tensor:
        """Returns the gradient ∂/∂x Σ_l ‖G_l(x) − A_l‖² / ‖A_l‖² over the style layers, (3, H, W).

        Args:
            picture: (3, H, W), the point x at which the gradient is evaluated.
            style: the targets of the style picture, with its Gram matrices A_l.
        """
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
class LayerTargets:
    """The training targets that a picture gives at one layer, computed by the teacher.

    Attributes:
        features: (M, C_t), the features at the layer's `positions`, bfloat16.
        gram: (C_t, C_t), the averaged Gram matrix over all positions, bfloat16; None if it is not learned.
    """

    features: Tensor
    gram: Tensor | None


def positions(features: Tensor, stride: int, layer: str) -> Tensor:
    """Returns the feature vectors (N, M, C) that are compared position by position.

    In the first two blocks, which have many positions, this is one in four of the teacher's positions. In the first
    block these are all positions of the student.

    Args:
        features: (N, C, H, W), the features of a layer.
        stride: their stride in canvas pixels.
        layer: name of the layer.
    """
    step = (2, 4)[position(layer)[0] - 1] // stride if position(layer)[0] <= 2 else 1
    return features[:, :, ::step, ::step].permute(0, 2, 3, 1).flatten(1, 2)
