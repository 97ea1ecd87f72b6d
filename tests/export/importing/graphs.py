"""ONNX files like those of other programs, and the torch networks that they come from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn


class FiveLayers(nn.Module):
    """Five convolutions with odd windows; the names of the outputs are a to e."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.a = nn.Conv2d(3, 16, 7, stride=2, padding=2)
        self.b = nn.Conv2d(16, 24, 5, padding=2, groups=4)
        self.c = nn.Conv2d(24, 32, 3, padding=2, dilation=2)
        self.d = nn.Conv2d(32, 32, 3)
        self.e = nn.Conv2d(32, 40, 1)
        self.first = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.second = nn.MaxPool2d(3, 2, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Returns the activations of all layers."""
        a = self.a(x).relu()
        b = self.b(self.first(a)).relu()
        c = self.c(b).relu()
        d = self.d(self.second(c)).relu()
        return a, b, c, d, self.e(d).relu()


class Residual(nn.Module):
    """A small residual network with batch normalization, in ResNet-18's order of operations."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.start = nn.Sequential(nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.main1 = self._branch(width, width, 1)
        self.main2 = self._branch(width, 2 * width, 2)
        self.down2 = nn.Sequential(nn.Conv2d(width, 2 * width, 1, 2, bias=False), nn.BatchNorm2d(2 * width))
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                for values in (module.weight.data, module.running_var):
                    assert values is not None
                    values.uniform_(0.5, 2)
                for values in (module.bias.data, module.running_mean):
                    assert values is not None
                    values.normal_(0, 0.2)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the activation of the last sum."""
        x = self.pool(self.start(x))
        x = (self.main1(x) + x).relu()
        last: Tensor = (self.main2(x) + self.down2(x)).relu()
        return last

    @staticmethod
    def _branch(before: int, width: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip


def export(network: nn.Module, path: Path, outputs: Sequence[str] = (), side: int = 96, **options: Any) -> Path:
    """Exports a network with a fixed size of pictures, as torch's users do; returns the path."""
    names: dict[str, Any] = {"output_names": list(outputs)} if outputs else {}
    torch.onnx.export(network.eval(), (torch.rand(1, 3, side, side),), path, dynamo=False, **names, **options)
    return path


def node(kind: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    """Returns a node; `inputs` has the names of its inputs with spaces between them."""
    return helper.make_node(kind, inputs.split(), [output], **{"name": f"node of {output}", **attributes})


def model(
    nodes: Sequence[onnx.NodeProto],
    outputs: str,
    shape: Sequence[int | str] = ("n", 3, "h", "w"),
    *,
    opset: int = 17,
    **weights: Any,
) -> onnx.ModelProto:
    """Returns a model with the input x; `outputs` has the names of its outputs with spaces between them."""
    made = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs.split()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def kernel(outputs: int, inputs: int, side: int, seed: int = 0) -> np.ndarray:
    """Returns a random kernel, float32, that keeps the magnitude of activations."""
    rng = np.random.default_rng(seed)
    array: np.ndarray = rng.normal(0, (2 / (inputs * side**2)) ** 0.5, (outputs, inputs, side, side)).astype(np.float32)
    return array
