"""Converts weights to a model in a store, with a check that ONNX Runtime and torch compute the same features."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from gramophone_server.models.graph import INPUT, build_vgg, kernel_stride
from gramophone_server.models.layers import LossScaleName, PoolingName, position, stride
from gramophone_server.models.manifest import LBFGS_HISTORY, Layer, Manifest, Preprocessing
from gramophone_server.models.model import Model
from gramophone_server.models.store import write_model

TOLERANCE = 1e-4
"""Maximum relative error of a layer, ONNX Runtime against torch, for a model to be accepted."""
SIZES = ((64, 64), (97, 131), (48, 112))
"""Heights and widths of the comparison; some are odd, because pooling drops the odd row."""

Weights = Mapping[str, tuple[np.ndarray, np.ndarray]]
Heads = Mapping[str, np.ndarray]


class ParityError(Exception):
    """ONNX Runtime and torch disagree on a model."""


def convert(
    root: Path,
    weights: Weights,
    *,
    name: str,
    preprocessing: Preprocessing,
    description: str,
    source: str,
    license: str,
    pooling: PoolingName = "max",
    half: bool = False,
    heads: Heads | None = None,
    loss_scale: LossScaleName = "paper",
    lbfgs_history: int = LBFGS_HISTORY,
    tv_weight: float = 0.0,
) -> Model:
    """Writes a model into a folder of models and returns it.

    Args:
        root: the folder of models.
        weights: kernel and bias of each layer, as from `read_weights`.
        name: name of the model.
        preprocessing: the preprocessing that the network expects.
        description: one sentence for users.
        source: origin of the weights.
        license: license of the weights.
        pooling: default pooling of the model.
        half: store the weights as float16.
        heads: head (C_l, C_l) of each layer that has one; `build_vgg` explains heads.
        loss_scale: default loss scale of the model.
        lbfgs_history: default number of curvature pairs of the model.
        tv_weight: default weight of the total variation for jobs with content.

    Raises:
        ParityError: ONNX Runtime and torch differ by more than TOLERANCE at a layer.
        ValueError: the name cannot be used.
    """
    heads = heads or {}
    if half:
        # Round first: the comparison must use the stored weights.
        weights = {n: (k.astype(np.float16), b.astype(np.float16)) for n, (k, b) in weights.items()}
        heads = {name: head.astype(np.float16) for name, head in heads.items()}
    graph = build_vgg(weights, heads, half=half)
    parity = measure_parity(graph, weights, preprocessing, heads=heads)
    worst = max(parity, key=lambda layer: parity[layer])
    if not parity[worst] <= TOLERANCE:
        raise ParityError(
            f"ONNX Runtime and torch differ by {parity[worst]:.1e} at {worst}, which is more than {TOLERANCE:g}; "
            "the model was not written"
        )
    names = sorted(weights, key=position)
    first = kernel_stride(weights[names[0]][0])
    layers = tuple(Layer(layer, weights[layer][0].shape[0], stride(layer, first), layer in heads) for layer in names)
    manifest = Manifest(
        name, layers, preprocessing, "", description, source, license, pooling, loss_scale, parity, lbfgs_history,
        tv_weight,
    )  # fmt: skip
    return write_model(root, manifest, graph.SerializeToString(deterministic=True))


def measure_parity(
    graph: onnx.ModelProto,
    weights: Weights,
    preprocessing: Preprocessing,
    sizes: tuple[tuple[int, int], ...] = SIZES,
    heads: Heads | None = None,
) -> dict[str, float]:
    """Returns the relative error ‖ONNX − torch‖ / ‖torch‖ of each layer, the maximum over `sizes`; batches of two."""
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    names = sorted(weights, key=position)
    indices, scale, shift = preprocessing.affine
    worst = dict.fromkeys(names, 0.0)
    for height, width in sizes:
        rgb = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
        x = rgb[:, list(indices)] * torch.tensor(scale).view(1, 3, 1, 1) + torch.tensor(shift).view(1, 3, 1, 1)
        expected = torch_activations(weights, x, heads)
        for name, ours in zip(names, session.run(names, {INPUT: x.numpy()}), strict=True):
            theirs = expected[name].numpy()
            error = float(np.linalg.norm(ours - theirs) / max(float(np.linalg.norm(theirs)), 1e-30))
            worst[name] = max(worst[name], error)
    return worst


def torch_activations(weights: Weights, x: torch.Tensor, heads: Heads | None = None) -> dict[str, torch.Tensor]:
    """Returns every layer's activation after ReLU, times its head if it has one, computed by plain torch modules.

    Args:
        weights: kernel and bias of each layer.
        x: preprocessed input (N, 3, H, W).
        heads: head (C_l, C_l) of each layer that has one.

    Returns:
        (N, C_l, H_l, W_l) of each layer, float32.
    """
    heads = heads or {}
    activations: dict[str, torch.Tensor] = {}
    reached = 1
    with torch.no_grad():
        for name in sorted(weights, key=position):
            kernel, bias = (torch.tensor(part, dtype=torch.float32) for part in weights[name])
            step = kernel_stride(weights[name][0])
            if stride(name) > step * reached:
                x = nn.MaxPool2d(2, 2)(x)
            reached = max(step * reached, stride(name))
            convolution = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[2], step, padding=step)
            convolution.load_state_dict({"weight": kernel, "bias": bias})
            x = activations[name] = nn.ReLU()(convolution(x))
            if name in heads:
                head = torch.tensor(heads[name], dtype=torch.float32)
                activations[name] = torch.einsum("oc,nchw->nohw", head, x)
    return activations
